// RMS norm (Zhang & Sennrich 2019): norm(x) = x / √(mean(x²) + ε), alone, after a residual addition, or before one.
//
// Activations are T (float or bfloat); they are computed in float and rounded where they are stored. Weights and
// scalars are W (float, half or bfloat). One threadgroup per row; rows and dim may have any size.
#include "args.h"
#include "reduce.h"

using namespace metal;

// The normed value: x, or residual + x. The sum is computed again wherever it is needed and is not stored in between:
// so it is not rounded to T, and no dim is too long for threadgroup memory.
template <typename T, bool add>
struct Input {
    device const T *residual, *x;

    METAL_FUNC Lanes at(uint i, uint dim) const {
        Lanes v = lanes_read(x, i, dim);
        return add ? lanes_add(lanes_read(residual, i, dim), v) : v;
    }
};

// Multiplies each element by its scalar.
template <typename W>
struct Scaled {
    device const W *scalar;
    uint element;

    Scaled(device const W *scalar_, uint row, constant NormArgs &args)
        : scalar(scalar_ + ulong(row) * args.scalar_row), element(args.scalar_element) {}

    METAL_FUNC Lanes at(Lanes v, uint i, uint dim) const {
        return lanes_mul(v, element ? lanes_read(scalar, i, dim) : lanes_splat(float(scalar[0])));
    }
};

struct Unscaled {
    METAL_FUNC Lanes at(Lanes v, uint, uint) const { return v; }
};

// Returns 1 / sqrt(mean(input²) + eps).
template <typename I>
METAL_FUNC float inverse_rms(I input, constant NormArgs &args, threadgroup float *partial, Place place) {
    LaneSum squares = lane_sum_of_none();
    for (uint i = 16 * place.thread_index; i < args.dim; i += 16 * place.threads) {
        Lanes v = input.at(i, args.dim);
        squares.block = lanes_fma(v, v, squares.block);
        lane_sum_count(squares);
    }
    float sum = threadgroup_sum(lane_sum_total(squares), partial, place);
    return rsqrt(sum / float(args.dim) + args.eps);
}

template <typename W>
METAL_FUNC Lanes norm_weight(device const W *weight, uint i, constant NormArgs &args) {
    Lanes offset = lanes_splat(args.weight_offset);
    return args.has_weight ? lanes_add(offset, lanes_read(weight, i, args.dim)) : offset;
}

// y = norm(x) · weight. x, y [rows, dim]; weight [dim]. Step `rms_norm`.
template <typename T, typename W>
kernel void rms_norm(device const T *x [[buffer(0)]], device const W *weight [[buffer(1)]], device T *y [[buffer(2)]],
                     constant NormArgs &args [[buffer(3)]], uint3 at [[threadgroup_position_in_grid]],
                     OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    if (at.y >= args.rows) return;
    Place place = OB_PLACE;
    ulong row = ulong(at.y) * args.dim;
    Input<T, false> input = {x + row, x + row};
    Lanes scale = lanes_splat(inverse_rms(input, args, partial, place));
    for (uint i = 16 * place.thread_index; i < args.dim; i += 16 * place.threads) {
        Lanes normed = lanes_mul(lanes_mul(input.at(i, args.dim), scale), norm_weight(weight, i, args));
        lanes_write(y + row, i, args.dim, normed);
    }
}

// y_i = norm(x) · weight_i, i = 0, 1, 2: one input for each branch of a layer. x, y_i [rows, dim]; weight_i [dim].
// Step `rms_norm3`.
template <typename T, typename W>
kernel void rms_norm3(device const T *x [[buffer(0)]], device const W *weight0 [[buffer(1)]],
                      device const W *weight1 [[buffer(2)]], device const W *weight2 [[buffer(3)]],
                      device T *y0 [[buffer(4)]], device T *y1 [[buffer(5)]], device T *y2 [[buffer(6)]],
                      constant NormArgs &args [[buffer(7)]], uint3 at [[threadgroup_position_in_grid]],
                      OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    if (at.y >= args.rows) return;
    Place place = OB_PLACE;
    ulong row = ulong(at.y) * args.dim;
    Input<T, false> input = {x + row, x + row};
    Lanes scale = lanes_splat(inverse_rms(input, args, partial, place));
    for (uint i = 16 * place.thread_index; i < args.dim; i += 16 * place.threads) {
        Lanes v = lanes_mul(input.at(i, args.dim), scale);
        lanes_write(y0 + row, i, args.dim, lanes_mul(v, norm_weight(weight0, i, args)));
        lanes_write(y1 + row, i, args.dim, lanes_mul(v, norm_weight(weight1, i, args)));
        lanes_write(y2 + row, i, args.dim, lanes_mul(v, norm_weight(weight2, i, args)));
    }
}

// One row of sum = residual + x, y = norm(sum) · weight · scalar. `sum` may be the same memory as residual or x:
// the thread that writes an element is the only one that reads it.
template <typename T, typename W, typename S>
METAL_FUNC void residual_norm_row(Input<T, true> input, device const W *weight, S scalar, device T *sum, device T *y,
                                  constant NormArgs &args, threadgroup float *partial, Place place) {
    Lanes scale = lanes_splat(inverse_rms(input, args, partial, place));
    for (uint i = 16 * place.thread_index; i < args.dim; i += 16 * place.threads) {
        Lanes v = input.at(i, args.dim);
        if (args.write_sum) lanes_write(sum, i, args.dim, v);
        Lanes normed = lanes_mul(lanes_mul(v, scale), norm_weight(weight, i, args));
        lanes_write(y, i, args.dim, scalar.at(normed, i, args.dim));
    }
}

// sum = residual + x; y = norm(sum) · weight. residual, x, sum, y [rows, dim]; weight [dim]. Without args.write_sum,
// `sum` is bound but not written. Step `fused_residual_norm`.
template <typename T, typename W>
kernel void fused_residual_norm(device const T *residual [[buffer(0)]], device const T *x [[buffer(1)]],
                                device const W *weight [[buffer(2)]], device T *sum [[buffer(3)]],
                                device T *y [[buffer(4)]], constant NormArgs &args [[buffer(5)]],
                                uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    if (at.y >= args.rows) return;
    ulong row = ulong(at.y) * args.dim;
    Input<T, true> input = {residual + row, x + row};
    residual_norm_row(input, weight, Unscaled{}, sum + row, y + row, args, partial, OB_PLACE);
}

// sum = residual + x; y = norm(sum) · weight · scalar. residual, x, sum, y [rows, dim]; weight [dim]; scalar [1], [dim]
// or [rows, dim]. Step `fused_residual_norm_scalar`.
template <typename T, typename W>
kernel void fused_residual_norm_scalar(device const T *residual [[buffer(0)]], device const T *x [[buffer(1)]],
                                       device const W *weight [[buffer(2)]], device const W *scalar [[buffer(3)]],
                                       device T *sum [[buffer(4)]], device T *y [[buffer(5)]],
                                       constant NormArgs &args [[buffer(6)]], uint3 at [[threadgroup_position_in_grid]],
                                       OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    if (at.y >= args.rows) return;
    ulong row = ulong(at.y) * args.dim;
    Input<T, true> input = {residual + row, x + row};
    residual_norm_row(input, weight, Scaled<W>(scalar, at.y, args), sum + row, y + row, args, partial, OB_PLACE);
}

// One row of y = (residual + norm(x) · weight) · scalar.
template <typename T, typename W, typename S>
METAL_FUNC void norm_add_row(device const T *residual, device const T *x, device const W *weight, S scalar, device T *y,
                             constant NormArgs &args, threadgroup float *partial, Place place) {
    Input<T, false> input = {x, x};
    Lanes scale = lanes_splat(inverse_rms(input, args, partial, place));
    for (uint i = 16 * place.thread_index; i < args.dim; i += 16 * place.threads) {
        Lanes normed = lanes_mul(input.at(i, args.dim), scale);
        Lanes v = lanes_fma(normed, norm_weight(weight, i, args), lanes_read(residual, i, args.dim));
        lanes_write(y, i, args.dim, scalar.at(v, i, args.dim));
    }
}

// y = residual + norm(x) · weight. residual, x, y [rows, dim]; weight [dim]. Step `fused_norm_add`.
template <typename T, typename W>
kernel void fused_norm_add(device const T *residual [[buffer(0)]], device const T *x [[buffer(1)]],
                           device const W *weight [[buffer(2)]], device T *y [[buffer(3)]],
                           constant NormArgs &args [[buffer(4)]], uint3 at [[threadgroup_position_in_grid]],
                           OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    if (at.y >= args.rows) return;
    ulong row = ulong(at.y) * args.dim;
    norm_add_row(residual + row, x + row, weight, Unscaled{}, y + row, args, partial, OB_PLACE);
}

// y = (residual + norm(x) · weight) · scalar. residual, x, y [rows, dim]; weight [dim]; scalar [1], [dim] or
// [rows, dim]. Step `fused_norm_add_scalar`.
template <typename T, typename W>
kernel void fused_norm_add_scalar(device const T *residual [[buffer(0)]], device const T *x [[buffer(1)]],
                                  device const W *weight [[buffer(2)]], device const W *scalar [[buffer(3)]],
                                  device T *y [[buffer(4)]], constant NormArgs &args [[buffer(5)]],
                                  uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    if (at.y >= args.rows) return;
    ulong row = ulong(at.y) * args.dim;
    norm_add_row(residual + row, x + row, weight, Scaled<W>(scalar, at.y, args), y + row, args, partial, OB_PLACE);
}

#define OB_INSTANTIATE_KERNEL(kernel_name, types, T, W) \
    template [[host_name(#kernel_name "_" types)]] kernel decltype(kernel_name<T, W>) kernel_name<T, W>;
#define OB_INSTANTIATE(types, T, W)                                \
    OB_INSTANTIATE_KERNEL(rms_norm, types, T, W)                   \
    OB_INSTANTIATE_KERNEL(rms_norm3, types, T, W)                  \
    OB_INSTANTIATE_KERNEL(fused_residual_norm, types, T, W)        \
    OB_INSTANTIATE_KERNEL(fused_residual_norm_scalar, types, T, W) \
    OB_INSTANTIATE_KERNEL(fused_norm_add, types, T, W)             \
    OB_INSTANTIATE_KERNEL(fused_norm_add_scalar, types, T, W)
OB_INSTANTIATE("f32_f32", float, float)
OB_INSTANTIATE("f32_f16", float, half)
OB_INSTANTIATE("f32_bf16", float, bfloat)
OB_INSTANTIATE("bf16_f32", bfloat, float)
OB_INSTANTIATE("bf16_f16", bfloat, half)
OB_INSTANTIATE("bf16_bf16", bfloat, bfloat)
