// RMS norm (Zhang & Sennrich 2019), alone and after a residual addition.
#include "args.h"
#include "reduce.h"

using namespace metal;

// Σ x² over this thread's part of a row.
METAL_FUNC float square_sum(device const float *x, uint dim, Place place) {
    Lanes acc = lanes_splat(0);
    for (uint chunk = place.thread_index; chunk < dim / 16; chunk += place.threads) {
        Lanes v = lanes_load(x + 16 * chunk);
        acc = lanes_fma(v, v, acc);
    }
    float sum = lanes_sum(acc);
    for (uint i = dim / 16 * 16 + place.thread_index; i < dim; i += place.threads) sum += x[i] * x[i];
    return sum;
}

// y = x / sqrt(mean(x²) + eps) · weight
template <typename T>
METAL_FUNC void normalise(device const float *x, device const T *weight, device float *y, constant NormArgs &args,
                          float sum, Place place) {
    float scale = rsqrt(sum / float(args.dim) + args.eps);
    for (uint i = place.thread_index; i < args.dim; i += place.threads) {
        y[i] = x[i] * scale * (args.has_weight ? float(weight[i]) : 1.0f);
    }
}

// x, y [rows, dim]; weight [dim]. One threadgroup a row.
template <typename T>
kernel void rms_norm(device const float *x [[buffer(0)]], device const T *weight [[buffer(1)]],
                     device float *y [[buffer(2)]], constant NormArgs &args [[buffer(3)]],
                     uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    if (at.y >= args.rows) return;
    Place place = OB_PLACE;
    ulong row = ulong(at.y) * args.dim;
    float sum = threadgroup_sum(square_sum(x + row, args.dim, place), partial, place);
    normalise(x + row, weight, y + row, args, sum, place);
}

// sum = residual + x; y = rms_norm(sum) · weight. All [rows, dim]; sum may be residual itself: each
// element is read and written by one thread. One threadgroup a row.
template <typename T>
kernel void residual_norm(device const float *residual [[buffer(0)]], device const float *x [[buffer(1)]],
                          device const T *weight [[buffer(2)]], device float *sum [[buffer(3)]],
                          device float *y [[buffer(4)]], constant NormArgs &args [[buffer(5)]],
                          uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    if (at.y >= args.rows) return;
    Place place = OB_PLACE;
    ulong row = ulong(at.y) * args.dim;
    for (uint i = place.thread_index; i < args.dim; i += place.threads) sum[row + i] = residual[row + i] + x[row + i];
    // Other threads' sums are device memory, so the barrier must order that too.
    threadgroup_barrier(mem_flags::mem_device);
    float squares = threadgroup_sum(square_sum(sum + row, args.dim, place), partial, place);
    normalise(sum + row, weight, y + row, args, squares, place);
}

#define OB_INSTANTIATE(name, T)                                                          \
    template [[host_name("rms_norm_" #name)]] kernel decltype(rms_norm<T>) rms_norm<T>;  \
    template [[host_name("residual_norm_" #name)]] kernel decltype(residual_norm<T>) residual_norm<T>;
OB_INSTANTIATE(f32, float)
OB_INSTANTIATE(f16, half)
OB_INSTANTIATE(bf16, bfloat)
