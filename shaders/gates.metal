// Gates on the outputs of attention and of recurrent layers.
#include "recurrent.h"

using namespace metal;

// y = norm(x) · weight · silu(gate), or norm(x · silu(gate)) · weight, norm(v) = v / √(mean(v²) + eps), head by head.
// x, y [rows, heads, dim], weight [dim] or [heads, dim], gate [rows, gate_row] (args.h).
// Grid: tiles of OB_GATED_HEADS heads × rows; one simdgroup per head. Step `gated_norm`.
[[max_total_threads_per_threadgroup(OB_GATED_THREADS)]] kernel void gated_norm(
    device const float *x [[buffer(0)]], device const float *weight [[buffer(1)]],
    device const float *gate [[buffer(2)]], device float *y [[buffer(3)]], constant NormGateArgs &args [[buffer(4)]],
    uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    Place place = OB_PLACE;
    uint row = at.y, dim = args.dim;
    if (row >= args.rows) return;
    bool before = args.gates_inputs != 0;
    uint first = OB_PIECE * place.lane, step = OB_PIECE * place.width;
    uint end = min((at.x + 1) * OB_GATED_HEADS, args.heads);
    for (uint head = at.x * OB_GATED_HEADS + place.group; head < end; head += place.groups) {
        ulong own = (ulong(row) * args.heads + head) * dim;
        device const float *scales = weight + head * args.weight_step;
        device const float *gates = gate + ulong(row) * args.gate_row + args.gate_first +
                                    head / args.gate_group * args.gate_step + head % args.gate_group * dim;
        PieceSum squares = piece_sum_of_none();
        for (uint i = first; i < dim; i += step) {
            Piece v = piece_read<false>(x + own, i, dim);
            if (before) v = piece_mul(v, piece_silu(piece_read<false>(gates, i, dim)));
            squares.block = piece_fma(v, v, squares.block);
            piece_sum_count(squares);
        }
        float scale = rsqrt(simd_sum(piece_sum_total(squares)) / float(dim) + args.eps);
        for (uint i = first; i < dim; i += step) {
            Piece v = piece_mul(piece_read<false>(x + own, i, dim), piece_splat(scale));
            v = piece_mul(v, piece_read<false>(scales, i, dim));
            piece_write<false>(y + own, i, dim, piece_mul(v, piece_silu(piece_read<false>(gates, i, dim))));
        }
    }
}

// y = x · σ(gate), or x · gate. x [rows, x_row], gate [rows, gate_row] (args.h), y [rows, heads, dim].
// Grid: tiles of OB_GATED_HEADS heads × rows; one simdgroup per head. Steps `sigmoid_gate` and `gate`.
[[max_total_threads_per_threadgroup(OB_GATED_THREADS)]] kernel void gate_heads(
    device const float *x [[buffer(0)]], device const float *gate [[buffer(1)]], device float *y [[buffer(2)]],
    constant GateArgs &args [[buffer(3)]], uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    Place place = OB_PLACE;
    uint row = at.y;
    if (row >= args.rows) return;
    uint end = min((at.x + 1) * OB_GATED_HEADS, args.heads);
    for (uint head = at.x * OB_GATED_HEADS + place.group; head < end; head += place.groups) {
        device const float *from = x + ulong(row) * args.x_row + args.x_first + head * args.x_step;
        device const float *gates = gate + ulong(row) * args.gate_row + args.gate_first + head * args.gate_step;
        device float *to = y + (ulong(row) * args.heads + head) * args.dim;
        for (uint i = place.lane; i < args.dim; i += place.width)
            to[i] = args.sigmoid != 0 ? gated(from[i], gates[i]) : from[i] * gates[i];
    }
}
