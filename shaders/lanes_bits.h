// LanesBits are sixteen 32-bit integers or masks as one value, beside the floats of lanes.h. Sampling needs them for
// comparison, selection, counting and logarithms.
//
// In a mask, a lane has all bits set or none. A standard library that knows the processor's registers brings its own
// LanesBits (metal_lanes_bits).
#ifndef OB_LANES_BITS_H
#define OB_LANES_BITS_H

#include "lanes.h"

#if __has_include(<metal_lanes_bits>)
#include <metal_lanes_bits>
#else

struct LanesBits {
    metal::uint4 v[4];
};

METAL_FUNC LanesBits lanes_bits(uint x) {
    LanesBits r;
    for (uint i = 0; i < 4; i++) r.v[i] = metal::uint4(x);
    return r;
}

// Returns first, first + 1, … first + 15.
METAL_FUNC LanesBits lanes_range(uint first) {
    LanesBits r;
    for (uint i = 0; i < 4; i++) r.v[i] = metal::uint4(0, 1, 2, 3) + (first + 4 * i);
    return r;
}

METAL_FUNC LanesBits lanes_and(LanesBits a, LanesBits b) {
    for (uint i = 0; i < 4; i++) a.v[i] = a.v[i] & b.v[i];
    return a;
}

METAL_FUNC LanesBits lanes_or(LanesBits a, LanesBits b) {
    for (uint i = 0; i < 4; i++) a.v[i] = a.v[i] | b.v[i];
    return a;
}

METAL_FUNC LanesBits lanes_xor(LanesBits a, LanesBits b) {
    for (uint i = 0; i < 4; i++) a.v[i] = a.v[i] ^ b.v[i];
    return a;
}

METAL_FUNC LanesBits lanes_less(LanesBits a, LanesBits b) {
    for (uint i = 0; i < 4; i++) a.v[i] = metal::select(metal::uint4(0), metal::uint4(~0u), a.v[i] < b.v[i]);
    return a;
}

// Returns a > b per lane; false where either is NaN, as in lanes_equal.
METAL_FUNC LanesBits lanes_greater(Lanes a, Lanes b) {
    LanesBits r;
    for (uint i = 0; i < 4; i++) r.v[i] = metal::select(metal::uint4(0), metal::uint4(~0u), a.v[i] > b.v[i]);
    return r;
}

METAL_FUNC LanesBits lanes_equal(Lanes a, Lanes b) {
    LanesBits r;
    for (uint i = 0; i < 4; i++) r.v[i] = metal::select(metal::uint4(0), metal::uint4(~0u), a.v[i] == b.v[i]);
    return r;
}

// Returns a where the mask is set, else b.
METAL_FUNC Lanes lanes_select(LanesBits mask, Lanes a, Lanes b) {
    for (uint i = 0; i < 4; i++) a.v[i] = metal::select(b.v[i], a.v[i], mask.v[i] != metal::uint4(0));
    return a;
}

METAL_FUNC LanesBits lanes_select(LanesBits mask, LanesBits a, LanesBits b) {
    for (uint i = 0; i < 4; i++) a.v[i] = (a.v[i] & mask.v[i]) | (b.v[i] & ~mask.v[i]);
    return a;
}

METAL_FUNC bool lanes_any(LanesBits a) {
    metal::uint4 u = (a.v[0] | a.v[1]) | (a.v[2] | a.v[3]);
    return ((u.x | u.y) | (u.z | u.w)) != 0;
}

// Returns count + 1 where the mask is set, else count.
METAL_FUNC LanesBits lanes_tally(LanesBits count, LanesBits mask) {
    for (uint i = 0; i < 4; i++) count.v[i] = count.v[i] - mask.v[i];
    return count;
}

METAL_FUNC uint lanes_bits_sum(LanesBits a) {
    metal::uint4 u = (a.v[0] + a.v[1]) + (a.v[2] + a.v[3]);
    return (u.x + u.y) + (u.z + u.w);
}

METAL_FUNC uint lanes_bits_at(LanesBits a, uint i) { return a.v[i / 4][i % 4]; }
METAL_FUNC float lanes_at(Lanes a, uint i) { return a.v[i / 4][i % 4]; }

// Sets all bits of a lane to its highest bit.
METAL_FUNC LanesBits lanes_sign(LanesBits a) {
    for (uint i = 0; i < 4; i++) a.v[i] = metal::uint4(0) - (a.v[i] >> 31);
    return a;
}

// Returns integers below 2³¹ as floats.
METAL_FUNC Lanes lanes_convert(LanesBits a) {
    Lanes r;
    for (uint i = 0; i < 4; i++) r.v[i] = metal::float4(a.v[i]);
    return r;
}

// Returns log(x) for positive, normal x.
METAL_FUNC Lanes lanes_log(Lanes a) {
    for (uint i = 0; i < 4; i++) a.v[i] = metal::log(a.v[i]);
    return a;
}

// Returns the product of a's low half and m.
METAL_FUNC ulong wide_product(ulong a, uint m) { return ulong(uint(a)) * m; }

// Returns 2^x for x ≤ 0; exactly 0 from -127 down and for NaN.
METAL_FUNC Lanes lanes_exp2_down(Lanes a) {
    for (uint i = 0; i < 16; i++) {
        float x = a.v[i / 4][i % 4];
        a.v[i / 4][i % 4] = x > -127.0f ? metal::exp2(x) : 0.0f;
    }
    return a;
}

// Returns 2^(x · scale - whole) for a whole number and |x · scale| below 2²¹; at least 2^-126, also for NaN.
// `whole` changes only the exponent, so sums with different values of it agree to the bit.
METAL_FUNC Lanes lanes_power(Lanes a, float scale, float whole) {
    for (uint i = 0; i < 16; i++) {
        float x = a.v[i / 4][i % 4], nearest = metal::rint(x * scale), exponent = nearest - whole;
        float power = metal::exp2(metal::fma(x, scale, -nearest));
        a.v[i / 4][i % 4] = exponent > -126.0f ? metal::ldexp(power, int(exponent)) : 0x1p-126f;
    }
    return a;
}

// Sets the lanes where 1 - u, u = (bits + ½) / 2³², may be below 2^(x · scale + offset), which is less than 2^100.
// It never misses a lane, and it sets a few too many.
METAL_FUNC LanesBits lanes_chance(LanesBits bits, Lanes a, float scale, float offset) {
    for (uint i = 0; i < 16; i++) {
        float power = metal::exp2(metal::fma(a.v[i / 4][i % 4], scale, offset + 0.01f));
        bits.v[i / 4][i % 4] = float(~bits.v[i / 4][i % 4]) * 0x1p-32f - 1e-6f < power ? ~0u : 0u;
    }
    return bits;
}

#endif

METAL_FUNC Lanes lanes_shift(Lanes a, float b) { return lanes_add(a, lanes_splat(b)); }

// Returns the first n < 16 logits at p, then -inf.
inline Lanes lanes_head(device const float *p, uint n) {
    float part[16];
    for (uint i = 0; i < 16; i++) part[i] = i < n ? p[i] : -INFINITY;
    return lanes_load(part);
}

#endif
