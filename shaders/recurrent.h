// The rows of a sequence in one run, and what the kernels of recurrent layers share.
#ifndef OB_RECURRENT_H
#define OB_RECURRENT_H

#include "args.h"
#include "epilogue.h"
#include "pieces.h"

// links [rows, 2] u32: the rows of the positions before and behind a row's own in its sequence, OB_NONE where the run has
// none. A row that fails has itself before it, and none behind it.
METAL_FUNC uint row_before(device const uint *links, uint row) { return links[2 * row]; }
METAL_FUNC uint row_behind(device const uint *links, uint row) { return links[2 * row + 1]; }

// Whether a threadgroup of this row works on the rows of the sequence from here on: it has the first one, or one that
// fails.
METAL_FUNC bool row_leads(device const uint *links, uint row) {
    uint before = row_before(links, row);
    return before == OB_NONE || before == row;
}
METAL_FUNC bool row_fails(device const uint *links, uint row) { return row_before(links, row) == row; }

METAL_FUNC Piece piece_silu(Piece x) {
#ifdef __METAL_CPU__
    float gate[OB_PIECE], power[OB_PIECE];
    lanes_store(gate, x);
    lanes_store(power, lanes_exp(lanes_mul(x, lanes_splat(-1.0f))));
    for (uint i = 0; i < OB_PIECE; i++) gate[i] /= 1.0f + power[i];
    return lanes_load(gate);
#else
    return Piece(gated(x.x, x.x), gated(x.y, x.y), gated(x.z, x.z), gated(x.w, x.w));
#endif
}

METAL_FUNC float piece_dot(Piece a, Piece b) {
#ifdef __METAL_CPU__
    return lanes_sum(lanes_mul(a, b));
#else
    return piece_total(a * b);
#endif
}

METAL_FUNC float piece_sum(Piece a) {
#ifdef __METAL_CPU__
    return lanes_sum(a);
#else
    return piece_total(a);
#endif
}

// Returns ln(1 + e^x), x itself above 20 as torch does.
METAL_FUNC float softplus(float x) {
    if (x > 20) return x;
    float power = metal::exp(x), sum = 1 + power;
    return sum == 1 ? power : metal::log(sum) * (power / (sum - 1));
}

#endif
