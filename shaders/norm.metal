// RMS norm (Zhang & Sennrich 2019): norm(x) = x / √(mean(x²) + ε), alone, after a residual addition, or before one.
//
// Activations are T (float or bfloat); they are computed in float and rounded where they are stored. Weights and
// scalars are W (float, half or bfloat). One threadgroup per row; rows and dim may have any size.
#include "norm.h"

using namespace metal;

#define OB_NORM_KERNEL [[max_total_threads_per_threadgroup(OB_NORM_THREADS)]] kernel void
#define OB_EARLY_NORM_KERNEL(names) \
    [[max_total_threads_per_threadgroup(OB_NORM_THREADS), user_annotation("early: " names)]] kernel void

// y = norm(x) · weight. x, y [rows, dim]; weight [dim]. Step `rms_norm`.
template <typename T, typename W>
OB_EARLY_NORM_KERNEL("weight")
rms_norm(device const T *x [[buffer(0)]], device const W *weight [[buffer(1)]], device T *y [[buffer(2)]],
         constant NormArgs &args [[buffer(3)]], uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[OB_NORM_PARTIAL];
    if (at.y >= args.rows) return;
    ulong row = ulong(at.y) * args.dim;
    norm_row(Input<T, false>{x + row, x + row}, Norm<T, W>{weight, y + row}, args, partial, OB_PLACE);
}

// y_i = norm(x) · weight_i, i = 0, 1, 2: one input for each branch of a layer. x, y_i [rows, dim]; weight_i [dim].
// Step `rms_norm3`.
template <typename T, typename W>
OB_EARLY_NORM_KERNEL("weight0, weight1, weight2")
rms_norm3(device const T *x [[buffer(0)]], device const W *weight0 [[buffer(1)]], device const W *weight1 [[buffer(2)]],
          device const W *weight2 [[buffer(3)]], device T *y0 [[buffer(4)]], device T *y1 [[buffer(5)]],
          device T *y2 [[buffer(6)]], constant NormArgs &args [[buffer(7)]], uint3 at [[threadgroup_position_in_grid]],
          OB_PLACE_PARAMETERS) {
    threadgroup float partial[OB_NORM_PARTIAL];
    if (at.y >= args.rows) return;
    ulong row = ulong(at.y) * args.dim;
    Norm3<T, W> output = {weight0, weight1, weight2, y0 + row, y1 + row, y2 + row};
    norm_row(Input<T, false>{x + row, x + row}, output, args, partial, OB_PLACE);
}

// sum = residual + x; y = norm(sum) · weight. residual, x, sum, y [rows, dim]; weight [dim]. Without args.write_sum,
// `sum` is bound but not written. It may be the same memory as residual or x: the thread that writes an element is the
// only one that reads it. Step `fused_residual_norm`.
template <typename T, typename W>
OB_EARLY_NORM_KERNEL("weight")
fused_residual_norm(device const T *residual [[buffer(0)]], device const T *x [[buffer(1)]],
                    device const W *weight [[buffer(2)]], device T *sum [[buffer(3)]], device T *y [[buffer(4)]],
                    constant NormArgs &args [[buffer(5)]], uint3 at [[threadgroup_position_in_grid]],
                    OB_PLACE_PARAMETERS) {
    threadgroup float partial[OB_NORM_PARTIAL];
    if (at.y >= args.rows) return;
    ulong row = ulong(at.y) * args.dim;
    SumNorm<T, W, Unscaled> output = {weight, Unscaled{}, sum + row, y + row};
    norm_row(Input<T, true>{residual + row, x + row}, output, args, partial, OB_PLACE);
}

// sum = residual + x; y = norm(sum) · weight · scalar. residual, x, sum, y [rows, dim]; weight [dim]; scalar [1], [dim]
// or [rows, dim]. Step `fused_residual_norm_scalar`.
template <typename T, typename W>
OB_NORM_KERNEL fused_residual_norm_scalar(device const T *residual [[buffer(0)]], device const T *x [[buffer(1)]],
                                          device const W *weight [[buffer(2)]], device const W *scalar [[buffer(3)]],
                                          device T *sum [[buffer(4)]], device T *y [[buffer(5)]],
                                          constant NormArgs &args [[buffer(6)]],
                                          uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[OB_NORM_PARTIAL];
    if (at.y >= args.rows) return;
    ulong row = ulong(at.y) * args.dim;
    SumNorm<T, W, Scaled<W>> output = {weight, Scaled<W>(scalar, at.y, args), sum + row, y + row};
    norm_row(Input<T, true>{residual + row, x + row}, output, args, partial, OB_PLACE);
}

// y = residual + norm(x) · weight. residual, x, y [rows, dim]; weight [dim]. Step `fused_norm_add`.
template <typename T, typename W>
OB_NORM_KERNEL fused_norm_add(device const T *residual [[buffer(0)]], device const T *x [[buffer(1)]],
                              device const W *weight [[buffer(2)]], device T *y [[buffer(3)]],
                              constant NormArgs &args [[buffer(4)]], uint3 at [[threadgroup_position_in_grid]],
                              OB_PLACE_PARAMETERS) {
    threadgroup float partial[OB_NORM_PARTIAL];
    if (at.y >= args.rows) return;
    ulong row = ulong(at.y) * args.dim;
    NormAdd<T, W, Unscaled> output = {residual + row, weight, Unscaled{}, y + row};
    norm_row(Input<T, false>{x + row, x + row}, output, args, partial, OB_PLACE);
}

// y = (residual + norm(x) · weight) · scalar. residual, x, y [rows, dim]; weight [dim]; scalar [1], [dim] or
// [rows, dim]. Step `fused_norm_add_scalar`.
template <typename T, typename W>
OB_NORM_KERNEL fused_norm_add_scalar(device const T *residual [[buffer(0)]], device const T *x [[buffer(1)]],
                                     device const W *weight [[buffer(2)]], device const W *scalar [[buffer(3)]],
                                     device T *y [[buffer(4)]], constant NormArgs &args [[buffer(5)]],
                                     uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[OB_NORM_PARTIAL];
    if (at.y >= args.rows) return;
    ulong row = ulong(at.y) * args.dim;
    NormAdd<T, W, Scaled<W>> output = {residual + row, weight, Scaled<W>(scalar, at.y, args), y + row};
    norm_row(Input<T, false>{x + row, x + row}, output, args, partial, OB_PLACE);
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
