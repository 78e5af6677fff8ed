#include <metal_stdlib>
using namespace metal;

// One kernel per function: y[i] = f(x[i]) for i < n, as a loop inside one threadgroup.
#define UNARY(f)                                                                             \
    kernel void f##_float(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], \
                          constant uint &n [[buffer(2)]],                                     \
                          uint lane [[thread_index_in_threadgroup]],                          \
                          uint lanes [[threads_per_threadgroup]]) {                           \
        for (uint i = lane; i < n; i += lanes) y[i] = metal::f(x[i]);                         \
    }
UNARY(exp)
UNARY(exp2)
UNARY(exp10)
UNARY(log)
UNARY(log2)
UNARY(log10)
UNARY(sin)
UNARY(cos)
UNARY(tan)
UNARY(tanh)
UNARY(sqrt)
UNARY(rsqrt)
UNARY(floor)
UNARY(ceil)
UNARY(trunc)
UNARY(rint)
UNARY(round)
UNARY(fract)

#define BINARY(f)                                                                            \
    kernel void f##_float(device const float *x [[buffer(0)]], device const float *z [[buffer(1)]], \
                          device float *y [[buffer(2)]], constant uint &n [[buffer(3)]]) {    \
        for (uint i = 0; i < n; ++i) y[i] = metal::f(x[i], z[i]);                             \
    }
BINARY(pow)
BINARY(min)
BINARY(max)
BINARY(fmod)
BINARY(atan2)

kernel void fma_float(device const float *x [[buffer(0)]], device const float *z [[buffer(1)]],
                      device const float *w [[buffer(2)]], device float *y [[buffer(3)]],
                      constant uint &n [[buffer(4)]]) {
    for (uint i = 0; i < n; ++i) y[i] = fma(x[i], z[i], w[i]);
}

template <typename From, typename To>
kernel void convert(device const From *x [[buffer(0)]], device To *y [[buffer(1)]],
                    constant uint &n [[buffer(2)]]) {
    for (uint i = 0; i < n; ++i) y[i] = To(x[i]);
}
#define CONVERT(From, To)                                                                  \
    template [[host_name(#From "_to_" #To)]] kernel void convert<From, To>(                \
        device const From *x [[buffer(0)]], device To *y [[buffer(1)]], constant uint &n [[buffer(2)]]);
CONVERT(half, float)
CONVERT(float, half)
CONVERT(bfloat, float)
CONVERT(float, bfloat)
