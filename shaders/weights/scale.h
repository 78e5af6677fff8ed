// The rows of all formats share this code: scales, and the rows of activations that they are multiplied by.
#ifndef OB_WEIGHTS_SCALE_H
#define OB_WEIGHTS_SCALE_H

#include "../lanes_bytes.h"

// The scale of a group of weights: w = integer · scale + bias.
struct GroupScale {
    float scale, bias;
};

METAL_FUNC Lanes scaled(Lanes integers, GroupScale s) { return lanes_mul(integers, lanes_splat(s.scale)); }
METAL_FUNC Lanes scaled_and_biased(Lanes integers, GroupScale s) {
    return lanes_fma(integers, lanes_splat(s.scale), lanes_splat(s.bias));
}

METAL_FUNC float stored_value(float x) { return x; }
METAL_FUNC float stored_value(half x) { return lanes_value(x); }
METAL_FUNC float stored_value(bfloat x) { return float(x); }

// Returns 2^(e - 128), half of the stored scale, for integers that are twice a value. For e < 2 the result is
// subnormal.
METAL_FUNC float half_power(uint e) { return metal::as_type<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23); }

// Return four and eight bytes at an even address.
METAL_FUNC uint four_bytes(device const ushort *p) { return p[0] | uint(p[1]) << 16; }
METAL_FUNC ulong eight_bytes(device const ushort *p) { return four_bytes(p) | ulong(four_bytes(p + 2)) << 32; }

// R rows of activations, each at any address.
template <uint R>
struct Inputs {
    device const float *row[R];
};

// Returns R rows that are `stride` elements apart.
template <uint R>
METAL_FUNC Inputs<R> inputs_of(device const float *x, ulong stride) {
    Inputs<R> result;
    for (uint r = 0; r < R; r++) result.row[r] = x + r * stride;
    return result;
}

#endif
