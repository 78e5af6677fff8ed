// Mathematics in metal::, metal::precise:: and metal::fast::. As in Metal each function is overloaded for
// float, half and their vectors, so an integer argument is ambiguous and a scalar joins a vector.
#pragma once

namespace strict {
template <typename... A>
using if_bfloat = metal::enable_if_t<((metal::is_same_v<A, bfloat> || ...) && (metal::is_arithmetic_v<A> && ...)), int>;
}

#define STRICT_WIDTHS(EACH, T, name) \
    EACH(T, name)                    \
    EACH(T##2, name)                 \
    EACH(T##3, name)                 \
    EACH(T##4, name)
#define STRICT_FLOATS(EACH, name)    \
    STRICT_WIDTHS(EACH, float, name) \
    STRICT_WIDTHS(EACH, half, name)
#define STRICT_1_OF(T, name) \
    constexpr T name(T a) { return a; }
#define STRICT_2_OF(T, name) \
    constexpr T name(T a, T) { return a; }
#define STRICT_3_OF(T, name) \
    constexpr T name(T a, T, T) { return a; }
// bfloat has no functions of its own and counts as float. Where a shader defines such a function, that one is chosen.
#define STRICT_1(name)                              \
    STRICT_FLOATS(STRICT_1_OF, name)                \
    template <typename A, strict::if_bfloat<A> = 0> \
    constexpr float name(A a) {                     \
        return a;                                   \
    }
#define STRICT_2(name)                                             \
    STRICT_FLOATS(STRICT_2_OF, name)                               \
    template <typename A, typename B, strict::if_bfloat<A, B> = 0> \
    constexpr float name(A a, B) {                                 \
        return a;                                                  \
    }
#define STRICT_3(name)                                                            \
    STRICT_FLOATS(STRICT_3_OF, name)                                              \
    template <typename A, typename B, typename C, strict::if_bfloat<A, B, C> = 0> \
    constexpr float name(A a, B, C) {                                             \
        return a;                                                                 \
    }

#define STRICT_MATH      \
    STRICT_1(acos)       \
    STRICT_1(acosh)      \
    STRICT_1(asin)       \
    STRICT_1(asinh)      \
    STRICT_1(atan)       \
    STRICT_1(atanh)      \
    STRICT_1(ceil)       \
    STRICT_1(cos)        \
    STRICT_1(cosh)       \
    STRICT_1(cospi)      \
    STRICT_1(exp)        \
    STRICT_1(exp2)       \
    STRICT_1(exp10)      \
    STRICT_1(fabs)       \
    STRICT_1(floor)      \
    STRICT_1(fract)      \
    STRICT_1(log)        \
    STRICT_1(log2)       \
    STRICT_1(log10)      \
    STRICT_1(rint)       \
    STRICT_1(round)      \
    STRICT_1(rsqrt)      \
    STRICT_1(sin)        \
    STRICT_1(sinh)       \
    STRICT_1(sinpi)      \
    STRICT_1(sqrt)       \
    STRICT_1(tan)        \
    STRICT_1(tanh)       \
    STRICT_1(tanpi)      \
    STRICT_1(trunc)      \
    STRICT_1(saturate)   \
    STRICT_1(sign)       \
    STRICT_2(atan2)      \
    STRICT_2(copysign)   \
    STRICT_2(divide)     \
    STRICT_2(fdim)       \
    STRICT_2(fmax)       \
    STRICT_2(fmin)       \
    STRICT_2(fmod)       \
    STRICT_2(nextafter)  \
    STRICT_2(pow)        \
    STRICT_2(powr)       \
    STRICT_2(step)       \
    STRICT_3(fma)        \
    STRICT_3(fmax3)      \
    STRICT_3(fmin3)      \
    STRICT_3(fmedian3)   \
    STRICT_3(mix)        \
    STRICT_3(smoothstep) \
    STRICT_2(min)        \
    STRICT_2(max)        \
    STRICT_3(min3)       \
    STRICT_3(max3)       \
    STRICT_3(median3)    \
    STRICT_3(clamp)      \
    STRICT_1(abs)        \
    STRICT_FLOATS(STRICT_PARTS, )

#define STRICT_PARTS(T, unused) \
    T sincos(T, __private T &); \
    T modf(T, __private T &);

namespace metal {
STRICT_MATH

#define STRICT_EXPONENT(F, I)  \
    F frexp(F, __private I &); \
    F ldexp(F, I);             \
    I ilogb(F);
STRICT_EXPONENT(float, int)
STRICT_EXPONENT(float2, int2)
STRICT_EXPONENT(float3, int3)
STRICT_EXPONENT(float4, int4)
STRICT_EXPONENT(half, int)
STRICT_EXPONENT(half2, int2)
STRICT_EXPONENT(half3, int3)
STRICT_EXPONENT(half4, int4)
#undef STRICT_EXPONENT

#define STRICT_COMMON_OF(T, unused)              \
    constexpr T min(T a, T) { return a; }        \
    constexpr T max(T a, T) { return a; }        \
    constexpr T min3(T a, T, T) { return a; }    \
    constexpr T max3(T a, T, T) { return a; }    \
    constexpr T median3(T a, T, T) { return a; } \
    constexpr T clamp(T a, T, T) { return a; }   \
    constexpr T abs(T a) { return a; }
#define STRICT_COMMON(T) STRICT_WIDTHS(STRICT_COMMON_OF, T, )
STRICT_EVERY_INTEGER(STRICT_COMMON)
#undef STRICT_COMMON
#undef STRICT_COMMON_OF

#define STRICT_GEOMETRY(T, N)       \
    T dot(T##N, T##N);              \
    T length(T##N);                 \
    T length_squared(T##N);         \
    T distance(T##N, T##N);         \
    T distance_squared(T##N, T##N); \
    T##N normalize(T##N);           \
    T##N reflect(T##N, T##N);       \
    T##N refract(T##N, T##N, T);    \
    T##N faceforward(T##N, T##N, T##N);
#define STRICT_GEOMETRIES(T) STRICT_GEOMETRY(T, 2) STRICT_GEOMETRY(T, 3) STRICT_GEOMETRY(T, 4) T##3 cross(T##3, T##3);
STRICT_EVERY_FLOAT(STRICT_GEOMETRIES)
#undef STRICT_GEOMETRIES
#undef STRICT_GEOMETRY

#define STRICT_GEOMETRIC                                                                              \
    using metal::dot, metal::length, metal::length_squared, metal::distance, metal::distance_squared, \
        metal::normalize, metal::reflect, metal::refract, metal::cross, metal::faceforward;
namespace precise {
STRICT_MATH
STRICT_GEOMETRIC
}  // namespace precise
namespace fast {
STRICT_MATH
STRICT_GEOMETRIC
}  // namespace fast
#undef STRICT_GEOMETRIC
}  // namespace metal
#undef STRICT_MATH
#undef STRICT_PARTS
#undef STRICT_1
#undef STRICT_2
#undef STRICT_3
