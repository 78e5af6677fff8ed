// LanesBytes are sixteen bytes as one value, beside the floats of lanes.h. They unpack weights of a few bits.
//
// A standard library that knows the processor's registers brings its own LanesBytes (metal_lanes_bytes).
#ifndef OB_LANES_BYTES_H
#define OB_LANES_BYTES_H

#include "lanes.h"

#if __has_include(<metal_lanes_bytes>)
#include <metal_lanes_bytes>
#else

struct LanesBytes {
    metal::uchar4 v[4];
};

METAL_FUNC LanesBytes lanes_bytes(device const uchar *p) {
    LanesBytes r;
    for (uint i = 0; i < 4; i++) r.v[i] = metal::uchar4(p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]);
    return r;
}

METAL_FUNC LanesBytes lanes_bytes(device const ushort *p) {
    LanesBytes r;
    for (uint i = 0; i < 4; i++) {
        ushort a = p[2 * i], b = p[2 * i + 1];
        r.v[i] = metal::uchar4(a & 255, a >> 8, b & 255, b >> 8);
    }
    return r;
}

// Byte i becomes the `bits` bits of `low` from bit i · bits on, for i < 8; bytes 8 to 15 come from `high` in the same
// way.
template <uint bits>
METAL_FUNC LanesBytes lanes_spread(ulong low, ulong high) {
    LanesBytes r;
    for (uint i = 0; i < 16; i++)
        r.v[i / 4][i % 4] = uchar((i < 8 ? low : high) >> (i % 8 * bits)) & ((1u << bits) - 1);
    return r;
}

// Returns the sixteen 4-bit integers of two words, lowest bits first.
METAL_FUNC LanesBytes lanes_nibbles(device const uint *p) { return lanes_spread<4>(p[0], p[1]); }

// Returns (a >> shift) & mask per byte, mask < 2^(8 - shift).
METAL_FUNC LanesBytes lanes_field(LanesBytes a, uint shift, uint mask) {
    for (uint i = 0; i < 16; i++) a.v[i / 4][i % 4] = (a.v[i / 4][i % 4] >> shift) & mask;
    return a;
}

// Returns low + 2^bits · high per byte, low < 2^bits and high < 16.
template <uint bits>
METAL_FUNC LanesBytes lanes_join(LanesBytes low, LanesBytes high) {
    for (uint i = 0; i < 16; i++) low.v[i / 4][i % 4] = uchar(low.v[i / 4][i % 4] + (high.v[i / 4][i % 4] << bits));
    return low;
}
METAL_FUNC LanesBytes lanes_join(LanesBytes low, LanesBytes high) { return lanes_join<4>(low, high); }

// Returns a - b per byte; a result below 0 is meant as a signed byte.
METAL_FUNC LanesBytes lanes_less_by(LanesBytes a, uint b) {
    for (uint i = 0; i < 16; i++) a.v[i / 4][i % 4] = uchar(a.v[i / 4][i % 4] - b);
    return a;
}

// Returns twice the value of E2M1 codes (OCP Microscaling Formats 1.0, 5.3.3), which have one bit of sign, two of
// exponent and one of mantissa.
METAL_FUNC LanesBytes lanes_e2m1(LanesBytes a) {
    for (uint i = 0; i < 16; i++) {
        uint code = a.v[i / 4][i % 4], size = code & 7;
        uint twice = size < 2 ? size : (2 + (size & 1)) << (size / 2 - 1);
        a.v[i / 4][i % 4] = uchar(code & 8 ? 0 - twice : twice);
    }
    return a;
}

// Returns byte a of the eight bytes `low` for a < 8, and of the eight bytes `high` for a from 8 to 15.
METAL_FUNC LanesBytes lanes_lookup(LanesBytes a, ulong low, ulong high) {
    for (uint i = 0; i < 16; i++) {
        uint code = a.v[i / 4][i % 4];
        a.v[i / 4][i % 4] = uchar((code < 8 ? low : high) >> code % 8 * 8);
    }
    return a;
}

// Returns signed bytes as floats.
METAL_FUNC Lanes lanes_convert(LanesBytes a) {
    Lanes r;
    for (uint i = 0; i < 4; i++) r.v[i] = metal::float4(metal::as_type<metal::char4>(a.v[i]));
    return r;
}

#endif
#endif
