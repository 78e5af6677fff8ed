// Layer norm (Ba et al. 2016): norm(x) = (x - mean(x)) / √(mean((x - mean(x))²) + ε), alone or after a residual addition.
#include "norm.h"

using namespace metal;

// y = norm(x) · weight + bias for the row of `input`, which is read three times; a row whose sum is wanted goes to it.
template <typename I>
METAL_FUNC void layer_norm_row(I input, device const float *weight, device const float *bias, device float *sum,
                               device float *y, constant NormArgs &args, threadgroup float *partial, Place place) {
    uint first = OB_PIECE * place.thread_index, step = OB_PIECE * place.threads, dim = args.dim;
    PieceSum numbers = piece_sum_of_none(), squares = piece_sum_of_none();
    for (uint i = first; i < dim; i += step) {
        numbers.block = piece_add(numbers.block, input.template at<false>(i, dim));
        piece_sum_count(numbers);
    }
    float mean = threadgroup_sum(piece_sum_total(numbers), partial, place) / float(dim);
    Piece back = piece_splat(-mean);
    for (uint i = first; i < dim; i += step) {
        Piece v = piece_add(input.template at<false>(i, dim), back);
        squares.block = piece_fma(v, v, squares.block);
        piece_sum_count(squares);
    }
    uint absent = (dim + OB_PIECE - 1) / OB_PIECE * OB_PIECE - dim;  // elements of the last piece that were taken as 0
    float total = threadgroup_sum(piece_sum_total(squares), partial, place) - float(absent) * mean * mean;
    Piece scale = piece_splat(inverse_root(max(total, 0.0f), args));
    if (total != total) scale = piece_splat(total);
    for (uint i = first; i < dim; i += step) {
        Piece v = input.template at<false>(i, dim);
        if (args.write_sum) piece_write<false>(sum, i, dim, v);
        Piece normed = piece_mul(piece_add(v, back), scale);
        normed = piece_fma(normed, piece_read<false>(weight, i, dim), piece_read<false>(bias, i, dim));
        piece_write<false>(y, i, dim, normed);
    }
}

// y = norm(x) · weight + bias. x, y [rows, dim]; weight, bias [dim]. One threadgroup per row. Step `layer_norm`.
[[max_total_threads_per_threadgroup(OB_NORM_THREADS)]] kernel void layer_norm(
    device const float *x [[buffer(0)]], device const float *weight [[buffer(1)]],
    device const float *bias [[buffer(2)]], device float *y [[buffer(3)]], constant NormArgs &args [[buffer(4)]],
    uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    if (at.y >= args.rows) return;
    ulong row = ulong(at.y) * args.dim;
    layer_norm_row(Input<float, false>{x + row, x + row}, weight, bias, y + row, y + row, args, partial, OB_PLACE);
}

// sum = residual + x; y = norm(sum) · weight + bias. residual, x, sum, y [rows, dim]; weight, bias [dim].
// One threadgroup per row. Step `residual_layer_norm`.
[[max_total_threads_per_threadgroup(OB_NORM_THREADS)]] kernel void residual_layer_norm(
    device const float *residual [[buffer(0)]], device const float *x [[buffer(1)]],
    device const float *weight [[buffer(2)]], device const float *bias [[buffer(3)]], device float *sum [[buffer(4)]],
    device float *y [[buffer(5)]], constant NormArgs &args [[buffer(6)]], uint3 at [[threadgroup_position_in_grid]],
    OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    if (at.y >= args.rows) return;
    ulong row = ulong(at.y) * args.dim;
    Input<float, true> input = {residual + row, x + row};
    layer_norm_row(input, weight, bias, sum + row, y + row, args, partial, OB_PLACE);
}
