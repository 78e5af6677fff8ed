// The kernels of norm.metal share this code: what is normed, what becomes of it, and how the threads of a threadgroup
// share a row.
#ifndef OB_NORM_H
#define OB_NORM_H

#include "args.h"
#include "early.h"
#include "pieces.h"
#include "reduce.h"
#include "squares.h"

#define OB_NORM_PIECES 4  // of a thread, at most
#define OB_NORM_PARTIAL 64
static_assert(OB_NORM_PARTIAL >= OB_NORM_PIECES * OB_NORM_THREADS / 32, "a number per simdgroup and piece");

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

METAL_FUNC float inverse_root(float sum, constant NormArgs &args) {
    return metal::rsqrt(sum / float(args.dim) + args.eps);
}

// A row of any length, which is read twice: no dim is too long for registers.
template <typename I, typename O>
METAL_FUNC void norm_any_row(I input, O output, constant NormArgs &args, threadgroup float *partial, Place place) {
    wait_for_kernels();
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
// The sum of the squares of N pieces per thread. CUDA's is a tree: neighbours are added, then neighbours among these sums,
// and so on; squares.h makes the same sum of the sums of sixteen.
template <uint N>
METAL_FUNC float sum_of_squares(thread const Piece *v, threadgroup float *partial, Place place) {
#ifdef __METAL_CUDA__
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    OB_UNROLL
    for (uint n = 0; n < N; n++) {
        float sum = tree_over<32>(metal::metallib_product(v[n].x, v[n].x) + metal::metallib_product(v[n].y, v[n].y) +
                                  (metal::metallib_product(v[n].z, v[n].z) + metal::metallib_product(v[n].w, v[n].w)));
        if (place.lane == 0) partial[n * place.groups + place.group] = sum;
    }
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    float sums[4] = {};
    OB_UNROLL
    for (uint n = 0; n < N; n++)
        sums[n] = tree_over<32>(place.lane < place.groups ? partial[n * place.groups + place.lane] : 0);
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
#else
    Piece squares = piece_splat(0);
    OB_UNROLL
    for (uint n = 0; n < N; n++) squares = piece_fma(v[n], v[n], squares);
    return threadgroup_sum(piece_total(squares), partial, place);
#endif
}

// A row of whole pieces, at most N per thread. Everything is read before the sum is known, weights first: a kernel whose
// factors are weights alone reads them early.
template <uint N, bool aligned, typename I, typename O>
METAL_FUNC void norm_pieces(I input, O output, constant NormArgs &args, threadgroup float *partial, Place place) {
    Piece v[N];
    typename O::Factors factors[N];
    uint first = OB_PIECE * place.thread_index, step = OB_PIECE * place.threads;
    OB_UNROLL
    for (uint n = 0; n < N; n++) {
        if (first + n * step < args.dim) factors[n] = output.template read<aligned>(first + n * step, args);
    }
    wait_for_kernels();
    OB_UNROLL
    for (uint n = 0; n < N; n++) {
        v[n] = piece_splat(0);
        if (first + n * step < args.dim) v[n] = input.template at<aligned>(first + n * step, args.dim);
    }
    float sum = sum_of_squares<N>(v, partial, place);
    Piece scale = piece_splat(inverse_root(sum, args));
    OB_UNROLL
    for (uint n = 0; n < N; n++) {
        uint i = first + n * step;
        if (i < args.dim) output.template write<aligned>(i, v[n], scale, factors[n], args);
    }
}

template <typename I, typename O>
METAL_FUNC void norm_row(I input, O output, constant NormArgs &args, threadgroup float *partial, Place place) {
    uint pieces = (args.dim / OB_PIECE + place.threads - 1) / place.threads;
    if (args.dim % OB_PIECE != 0 || pieces > OB_NORM_PIECES) {
        norm_any_row(input, output, args, partial, place);
    } else if (!input.aligned() || !output.aligned(args)) {
        norm_pieces<OB_NORM_PIECES, false>(input, output, args, partial, place);
    } else if (pieces <= 1) {
        norm_pieces<1, true>(input, output, args, partial, place);
    } else if (pieces == 2) {
        norm_pieces<2, true>(input, output, args, partial, place);
    } else {
        norm_pieces<OB_NORM_PIECES, true>(input, output, args, partial, place);
    }
}
#endif

#endif
