// Gates on the outputs of attention and of recurrent layers.
#include "recurrent.h"

using namespace metal;

// y = norm(x) · weight · silu(gate), norm(v) = v / √(mean(v²) + eps), head by head.
// x, y [rows, heads, dim], weight [dim], gate [rows, gate_row] (args.h).
// Grid: tiles of OB_GATED_HEADS heads × rows; one simdgroup per head. Step `gated_norm`.
[[max_total_threads_per_threadgroup(OB_GATED_THREADS)]] kernel void gated_norm(
    device const float *x [[buffer(0)]], device const float *weight [[buffer(1)]],
    device const float *gate [[buffer(2)]], device float *y [[buffer(3)]], constant GatedNormArgs &args [[buffer(4)]],
    uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    Place place = OB_PLACE;
    uint row = at.y, dim = args.dim;
    if (row >= args.rows) return;
    uint first = OB_PIECE * place.lane, step = OB_PIECE * place.width;
    uint end = min((at.x + 1) * OB_GATED_HEADS, args.heads);
    for (uint head = at.x * OB_GATED_HEADS + place.group; head < end; head += place.groups) {
        ulong own = (ulong(row) * args.heads + head) * dim;
        device const float *gates = gate + ulong(row) * args.gate_row + args.gate_first +
                                    head / args.gate_group * args.gate_step + head % args.gate_group * dim;
        PieceSum squares = piece_sum_of_none();
        for (uint i = first; i < dim; i += step) {
            Piece v = piece_read<false>(x + own, i, dim);
            squares.block = piece_fma(v, v, squares.block);
            piece_sum_count(squares);
        }
        float scale = rsqrt(simd_sum(piece_sum_total(squares)) / float(dim) + args.eps);
        for (uint i = first; i < dim; i += step) {
            Piece v = piece_mul(piece_read<false>(x + own, i, dim), piece_splat(scale));
            v = piece_mul(v, piece_read<false>(weight, i, dim));
            piece_write<false>(y + own, i, dim, piece_mul(v, piece_silu(piece_read<false>(gates, i, dim))));
        }
    }
}

// y = x · σ(gate). x, y [rows, heads, dim], gate [rows, gate_row] (args.h).
// Grid: tiles of OB_GATED_HEADS heads × rows; one simdgroup per head. Step `sigmoid_gate`.
[[max_total_threads_per_threadgroup(OB_GATED_THREADS)]] kernel void sigmoid_gate(
    device const float *x [[buffer(0)]], device const float *gate [[buffer(1)]], device float *y [[buffer(2)]],
    constant SigmoidGateArgs &args [[buffer(3)]], uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    Place place = OB_PLACE;
    uint row = at.y;
    if (row >= args.rows) return;
    uint end = min((at.x + 1) * OB_GATED_HEADS, args.heads);
    for (uint head = at.x * OB_GATED_HEADS + place.group; head < end; head += place.groups) {
        ulong own = (ulong(row) * args.heads + head) * args.dim;
        device const float *gates = gate + ulong(row) * args.gate_row + args.gate_first + head * args.gate_step;
        for (uint i = place.lane; i < args.dim; i += place.width) y[own + i] = gated(x[own + i], gates[i]);
    }
}
