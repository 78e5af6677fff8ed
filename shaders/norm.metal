// RMS norm (Zhang & Sennrich 2019): norm(x) = x / √(mean(x²) + ε), alone, after a residual addition, or before one.
//
// Activations are T (float or bfloat); they are computed in float and rounded where they are stored. Weights and
// scalars are W (float, half or bfloat). One threadgroup per row; rows and dim may have any size.
#include "args.h"
#include "pieces.h"
#include "reduce.h"

using namespace metal;

// The normed value: x, or residual + x. The sum is not rounded to T before it is normed.
template <typename T, bool add>
struct Input {
    device const T *residual, *x;

    METAL_FUNC bool aligned() const { return pieces_aligned(x) && pieces_aligned(residual); }
    template <bool whole>
    METAL_FUNC Piece at(uint i, uint dim) const {
        Piece v = piece_read<whole>(x, i, dim);
        return add ? piece_add(piece_read<whole>(residual, i, dim), v) : v;
    }
};

// Multiplies each element by its scalar.
template <typename W>
struct Scaled {
    device const W *scalar;
    uint element;

    Scaled(device const W *scalar_, uint row, constant NormArgs &args)
        : scalar(scalar_ + ulong(row) * args.scalar_row), element(args.scalar_element) {}

    METAL_FUNC bool aligned() const { return !element || pieces_aligned(scalar); }
    template <bool whole>
    METAL_FUNC Piece factor(uint i, uint dim) const {
        return element ? piece_read<whole>(scalar, i, dim) : piece_splat(float(scalar[0]));
    }
    METAL_FUNC Piece times(Piece v, Piece factor) const { return piece_mul(v, factor); }
};

struct Unscaled {
    METAL_FUNC bool aligned() const { return true; }
    template <bool whole>
    METAL_FUNC Piece factor(uint, uint) const {
        return piece_splat(1);
    }
    METAL_FUNC Piece times(Piece v, Piece) const { return v; }
};

template <typename W>
METAL_FUNC bool weight_aligned(device const W *weight, constant NormArgs &args) {
    return !args.has_weight || pieces_aligned(weight);
}

template <bool whole, typename W>
METAL_FUNC Piece norm_weight(device const W *weight, uint i, constant NormArgs &args) {
    Piece offset = piece_splat(args.weight_offset);
    return args.has_weight ? piece_add(offset, piece_read<whole>(weight, i, args.dim)) : offset;
}

// What becomes of a row: each of the following has `read`, which gives the factors of a piece, and `write`, which takes
// the piece of the input, 1 / √(mean(x²) + ε) in every element, and these factors.

// y = norm(x) · weight
template <typename T, typename W>
struct Norm {
    device const W *weight;
    device T *y;
    typedef Piece Factors;

    METAL_FUNC bool aligned(constant NormArgs &args) const { return pieces_aligned(y) && weight_aligned(weight, args); }
    template <bool whole>
    METAL_FUNC Factors read(uint i, constant NormArgs &args) const {
        return norm_weight<whole>(weight, i, args);
    }
    template <bool whole>
    METAL_FUNC void write(uint i, Piece v, Piece scale, Factors factors, constant NormArgs &args) const {
        piece_write<whole>(y, i, args.dim, piece_mul(piece_mul(v, scale), factors));
    }
};

// y_i = norm(x) · weight_i, i = 0, 1, 2
template <typename T, typename W>
struct Norm3 {
    device const W *weight0, *weight1, *weight2;
    device T *y0, *y1, *y2;
    struct Factors {
        Piece w0, w1, w2;
    };

    METAL_FUNC bool aligned(constant NormArgs &args) const {
        return pieces_aligned(y0) && pieces_aligned(y1) && pieces_aligned(y2) && weight_aligned(weight0, args) &&
               weight_aligned(weight1, args) && weight_aligned(weight2, args);
    }
    template <bool whole>
    METAL_FUNC Factors read(uint i, constant NormArgs &args) const {
        return {norm_weight<whole>(weight0, i, args), norm_weight<whole>(weight1, i, args),
                norm_weight<whole>(weight2, i, args)};
    }
    template <bool whole>
    METAL_FUNC void write(uint i, Piece v, Piece scale, Factors factors, constant NormArgs &args) const {
        v = piece_mul(v, scale);
        piece_write<whole>(y0, i, args.dim, piece_mul(v, factors.w0));
        piece_write<whole>(y1, i, args.dim, piece_mul(v, factors.w1));
        piece_write<whole>(y2, i, args.dim, piece_mul(v, factors.w2));
    }
};

// A weight and a scalar per element.
struct WeightScalar {
    Piece weight, scalar;
};

// sum = x; y = norm(x) · weight · scalar
template <typename T, typename W, typename S>
struct SumNorm {
    device const W *weight;
    S scalar;
    device T *sum, *y;
    typedef WeightScalar Factors;

    METAL_FUNC bool aligned(constant NormArgs &args) const {
        return pieces_aligned(y) && pieces_aligned(sum) && weight_aligned(weight, args) && scalar.aligned();
    }
    template <bool whole>
    METAL_FUNC Factors read(uint i, constant NormArgs &args) const {
        return {norm_weight<whole>(weight, i, args), scalar.template factor<whole>(i, args.dim)};
    }
    template <bool whole>
    METAL_FUNC void write(uint i, Piece v, Piece scale, Factors factors, constant NormArgs &args) const {
        if (args.write_sum) piece_write<whole>(sum, i, args.dim, v);
        Piece normed = piece_mul(piece_mul(v, scale), factors.weight);
        piece_write<whole>(y, i, args.dim, scalar.times(normed, factors.scalar));
    }
};

// y = (residual + norm(x) · weight) · scalar
template <typename T, typename W, typename S>
struct NormAdd {
    device const T *residual;
    device const W *weight;
    S scalar;
    device T *y;
    struct Factors {
        Piece weight, scalar, residual;
    };

    METAL_FUNC bool aligned(constant NormArgs &args) const {
        return pieces_aligned(y) && pieces_aligned(residual) && weight_aligned(weight, args) && scalar.aligned();
    }
    template <bool whole>
    METAL_FUNC Factors read(uint i, constant NormArgs &args) const {
        return {norm_weight<whole>(weight, i, args), scalar.template factor<whole>(i, args.dim),
                piece_read<whole>(residual, i, args.dim)};
    }
    template <bool whole>
    METAL_FUNC void write(uint i, Piece v, Piece scale, Factors factors, constant NormArgs &args) const {
        v = piece_fma(piece_mul(v, scale), factors.weight, factors.residual);
        piece_write<whole>(y, i, args.dim, scalar.times(v, factors.scalar));
    }
};

METAL_FUNC float inverse_root(float sum, constant NormArgs &args) { return rsqrt(sum / float(args.dim) + args.eps); }

// A row of any length, which is read twice: no dim is too long for registers.
template <typename I, typename O>
METAL_FUNC void norm_any_row(I input, O output, constant NormArgs &args, threadgroup float *partial, Place place) {
    PieceSum squares = piece_sum_of_none();
    uint first = OB_PIECE * place.thread_index, step = OB_PIECE * place.threads;
    for (uint i = first; i < args.dim; i += step) {
        Piece v = input.template at<false>(i, args.dim);
        squares.block = piece_fma(v, v, squares.block);
        piece_sum_count(squares);
    }
    float sum = threadgroup_sum(piece_sum_total(squares), partial, place);
    Piece scale = piece_splat(inverse_root(sum, args));
    for (uint i = first; i < args.dim; i += step) {
        Piece v = input.template at<false>(i, args.dim);
        output.template write<false>(i, v, scale, output.template read<false>(i, args), args);
    }
}

#ifdef __METAL_CPU__
template <typename I, typename O>
METAL_FUNC void norm_row(I input, O output, constant NormArgs &args, threadgroup float *partial, Place place) {
    norm_any_row(input, output, args, partial, place);
}
#else
// A row of whole, aligned pieces, at most N per thread. Everything is read before the sum is known.
template <uint N, typename I, typename O>
METAL_FUNC void norm_pieces(I input, O output, constant NormArgs &args, threadgroup float *partial, Place place) {
    Piece v[N];
    typename O::Factors factors[N];
    uint first = OB_PIECE * place.thread_index, step = OB_PIECE * place.threads;
    OB_UNROLL
    for (uint n = 0; n < N; n++) {
        v[n] = piece_splat(0);
        if (first + n * step < args.dim) v[n] = input.template at<true>(first + n * step, args.dim);
    }
    OB_UNROLL
    for (uint n = 0; n < N; n++) {
        if (first + n * step < args.dim) factors[n] = output.template read<true>(first + n * step, args);
    }
    Piece squares = piece_splat(0);
    OB_UNROLL
    for (uint n = 0; n < N; n++) squares = piece_fma(v[n], v[n], squares);
    float sum = threadgroup_sum(piece_total(squares), partial, place);
    Piece scale = piece_splat(inverse_root(sum, args));
    OB_UNROLL
    for (uint n = 0; n < N; n++) {
        uint i = first + n * step;
        if (i < args.dim) output.template write<true>(i, v[n], scale, factors[n], args);
    }
}

template <typename I, typename O>
METAL_FUNC void norm_row(I input, O output, constant NormArgs &args, threadgroup float *partial, Place place) {
    uint pieces = (args.dim / OB_PIECE + place.threads - 1) / place.threads;
    if (args.dim % OB_PIECE != 0 || pieces > 4 || !input.aligned() || !output.aligned(args)) {
        norm_any_row(input, output, args, partial, place);
    } else if (pieces <= 1) {
        norm_pieces<1>(input, output, args, partial, place);
    } else if (pieces == 2) {
        norm_pieces<2>(input, output, args, partial, place);
    } else {
        norm_pieces<4>(input, output, args, partial, place);
    }
}
#endif

#define OB_NORM_KERNEL [[max_total_threads_per_threadgroup(OB_NORM_THREADS)]] kernel void

// y = norm(x) · weight. x, y [rows, dim]; weight [dim]. Step `rms_norm`.
template <typename T, typename W>
OB_NORM_KERNEL rms_norm(device const T *x [[buffer(0)]], device const W *weight [[buffer(1)]],
                        device T *y [[buffer(2)]], constant NormArgs &args [[buffer(3)]],
                        uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    if (at.y >= args.rows) return;
    ulong row = ulong(at.y) * args.dim;
    norm_row(Input<T, false>{x + row, x + row}, Norm<T, W>{weight, y + row}, args, partial, OB_PLACE);
}

// y_i = norm(x) · weight_i, i = 0, 1, 2: one input for each branch of a layer. x, y_i [rows, dim]; weight_i [dim].
// Step `rms_norm3`.
template <typename T, typename W>
OB_NORM_KERNEL rms_norm3(device const T *x [[buffer(0)]], device const W *weight0 [[buffer(1)]],
                         device const W *weight1 [[buffer(2)]], device const W *weight2 [[buffer(3)]],
                         device T *y0 [[buffer(4)]], device T *y1 [[buffer(5)]], device T *y2 [[buffer(6)]],
                         constant NormArgs &args [[buffer(7)]], uint3 at [[threadgroup_position_in_grid]],
                         OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    if (at.y >= args.rows) return;
    ulong row = ulong(at.y) * args.dim;
    Norm3<T, W> output = {weight0, weight1, weight2, y0 + row, y1 + row, y2 + row};
    norm_row(Input<T, false>{x + row, x + row}, output, args, partial, OB_PLACE);
}

// sum = residual + x; y = norm(sum) · weight. residual, x, sum, y [rows, dim]; weight [dim]. Without args.write_sum,
// `sum` is bound but not written. It may be the same memory as residual or x: the thread that writes an element is the
// only one that reads it. Step `fused_residual_norm`.
template <typename T, typename W>
OB_NORM_KERNEL fused_residual_norm(device const T *residual [[buffer(0)]], device const T *x [[buffer(1)]],
                                   device const W *weight [[buffer(2)]], device T *sum [[buffer(3)]],
                                   device T *y [[buffer(4)]], constant NormArgs &args [[buffer(5)]],
                                   uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
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
    threadgroup float partial[32];
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
    threadgroup float partial[32];
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
    threadgroup float partial[32];
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
