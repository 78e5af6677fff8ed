// Builtins of Apple's compiler that published shaders name.
#pragma once

#define __METAL_MAYBE_FAST_MATH__ true
#define __METAL_FAST_MATH__ true
#define __METAL_PRECISE_MATH__ false
#define __METAL_MEMORY_SCOPE_DEVICE__ 2
#define __METAL_MEMORY_SCOPE_SYSTEM__ 3
#define coherent(scope)

uint __metal_get_thread_index_in_simdgroup(ushort);
uint __metal_get_simdgroup_size(ushort);

#define STRICT_BUILTIN(name)             \
    template <typename T, typename... A> \
    T __metal_##name(T, A...);
STRICT_BUILTIN(acos)
STRICT_BUILTIN(acosh)
STRICT_BUILTIN(asin)
STRICT_BUILTIN(asinh)
STRICT_BUILTIN(atan)
STRICT_BUILTIN(atanh)
STRICT_BUILTIN(ceil)
STRICT_BUILTIN(cos)
STRICT_BUILTIN(cosh)
STRICT_BUILTIN(cospi)
STRICT_BUILTIN(exp)
STRICT_BUILTIN(exp2)
STRICT_BUILTIN(exp10)
STRICT_BUILTIN(fabs)
STRICT_BUILTIN(floor)
STRICT_BUILTIN(fract)
STRICT_BUILTIN(log)
STRICT_BUILTIN(log2)
STRICT_BUILTIN(log10)
STRICT_BUILTIN(rint)
STRICT_BUILTIN(round)
STRICT_BUILTIN(rsqrt)
STRICT_BUILTIN(sin)
STRICT_BUILTIN(sinh)
STRICT_BUILTIN(sinpi)
STRICT_BUILTIN(sqrt)
STRICT_BUILTIN(tan)
STRICT_BUILTIN(tanh)
STRICT_BUILTIN(tanpi)
STRICT_BUILTIN(trunc)
STRICT_BUILTIN(atan2)
STRICT_BUILTIN(divide)
STRICT_BUILTIN(fdim)
STRICT_BUILTIN(fmax)
STRICT_BUILTIN(fmax3)
STRICT_BUILTIN(fma)
STRICT_BUILTIN(fmedian3)
STRICT_BUILTIN(fmin)
STRICT_BUILTIN(fmin3)
STRICT_BUILTIN(fmod)
STRICT_BUILTIN(frexp)
STRICT_BUILTIN(ldexp)
STRICT_BUILTIN(nextafter)
STRICT_BUILTIN(pow)
STRICT_BUILTIN(powr)
STRICT_BUILTIN(copysign)
STRICT_BUILTIN(sincos)
STRICT_BUILTIN(modf)
#undef STRICT_BUILTIN
#define STRICT_BUILTIN(name)             \
    template <typename T, typename... A> \
    T __metal_simd_##name(T, A...);      \
    template <typename T, typename... A> \
    T __metal_quad_##name(T, A...);
STRICT_BUILTIN(sum)
STRICT_BUILTIN(product)
STRICT_BUILTIN(min)
STRICT_BUILTIN(max)
STRICT_BUILTIN(and)
STRICT_BUILTIN(or)
STRICT_BUILTIN(xor)
STRICT_BUILTIN(prefix_inclusive_sum)
STRICT_BUILTIN(prefix_inclusive_product)
STRICT_BUILTIN(prefix_exclusive_sum)
STRICT_BUILTIN(prefix_exclusive_product)
STRICT_BUILTIN(broadcast)
STRICT_BUILTIN(broadcast_first)
STRICT_BUILTIN(shuffle)
STRICT_BUILTIN(shuffle_xor)
STRICT_BUILTIN(shuffle_up)
STRICT_BUILTIN(shuffle_down)
STRICT_BUILTIN(shuffle_rotate_up)
STRICT_BUILTIN(shuffle_rotate_down)
STRICT_BUILTIN(shuffle_and_fill_up)
STRICT_BUILTIN(shuffle_and_fill_down)
#undef STRICT_BUILTIN
#define STRICT_BUILTIN(name)             \
    template <typename T, typename... A> \
    bool __metal_##name(T, A...);
STRICT_BUILTIN(isfinite)
STRICT_BUILTIN(isinf)
STRICT_BUILTIN(isnan)
STRICT_BUILTIN(isnormal)
STRICT_BUILTIN(signbit)
#undef STRICT_BUILTIN
