// Counter-based random bits: Philox 4×32-10 (Salmon et al. 2011). A draw depends only on its key and its counter, not
// on the place in the batch, the number of threads or the device.
#ifndef OB_PHILOX_H
#define OB_PHILOX_H

#include "lanes_bits.h"

// The keys of the ten rounds, computed when a round needs them.
struct PhiloxKey {
    metal::uint2 key;
    METAL_FUNC ulong x(uint round) const { return key.x + round * 0x9E3779B9u; }
    METAL_FUNC ulong y(uint round) const { return key.y + round * 0xBB67AE85u; }
};

// Runs the ten rounds on words in the low halves of 64-bit values: for one counter (ulong), or for many in lanes.
template <typename W, typename Keys>
METAL_FUNC void philox_rounds(thread W &x, thread W &y, thread W &z, thread W &w, const thread Keys &keys) {
    for (uint round = 0; round < 10; round++) {
        W a = wide_product(x, 0xD2511F53u), b = wide_product(z, 0xCD9E8D57u);
        x = (b >> 32) ^ (y ^ keys.x(round));
        z = (a >> 32) ^ (w ^ keys.y(round));
        y = b;
        w = a;
    }
}

METAL_FUNC metal::uint4 philox(metal::uint4 counter, metal::uint2 key) {
    ulong x = counter.x, y = counter.y, z = counter.z, w = counter.w;
    PhiloxKey keys = {key};
    philox_rounds(x, y, z, w, keys);
    return metal::uint4(uint(x), uint(y), uint(z), uint(w));
}

#if __has_include(<metal_lanes_bits>)

// The keys of the ten rounds, computed once for many draws.
struct PhiloxLanes {
    lanes_wide xs[10], ys[10];
    METAL_FUNC const lanes_wide &x(uint round) const { return xs[round]; }
    METAL_FUNC const lanes_wide &y(uint round) const { return ys[round]; }
};

METAL_FUNC PhiloxLanes philox_keys(metal::uint2 key) {
    PhiloxLanes keys;
    for (uint round = 0; round < 10; round++) {
        keys.xs[round] = lanes_wide{} + PhiloxKey{key}.x(round);
        keys.ys[round] = lanes_wide{} + PhiloxKey{key}.y(round);
    }
    return keys;
}

// Computes the 32 words of counters (block, step, 0, 0) to (block + 7, step, 0, 0).
METAL_FUNC void philox_lanes(uint block, uint step, const thread PhiloxLanes &keys, thread LanesBits *bits) {
    enum { count = 8 / lanes_wide_width };
    lanes_uint words[2 * count];
    for (int i = 0; i < count; i++) {
        lanes_wide x = wide_counters(block + i * lanes_wide_width), y = lanes_wide{} + step, z = {}, w = {};
        philox_rounds(x, y, z, w, keys);
        wide_words(x, y, z, w, words + 2 * i);
    }
    for (int i = 0; i < 2 * count; i++) bits[i / lanes_count].v[i % lanes_count] = words[i];
}

#else

METAL_FUNC PhiloxKey philox_keys(metal::uint2 key) { return {key}; }

METAL_FUNC void philox_lanes(uint block, uint step, PhiloxKey keys, thread LanesBits *bits) {
    for (uint i = 0; i < 8; i++) bits[i / 4].v[i % 4] = philox(metal::uint4(block + i, step, 0, 0), keys.key);
}

#endif

// Returns -log(-log(u)) for u = (bits + ½) / 2³². Near u = 1, where the noise is large, the code works with 1 - u,
// which a float holds exactly; so the upper tail reaches 22.9 and nothing is infinite.
METAL_FUNC Lanes gumbel(LanesBits bits) {
    LanesBits upper = lanes_sign(bits);
    Lanes one = lanes_splat(1.0f);
    Lanes s = lanes_fma(lanes_convert(lanes_xor(bits, upper)), lanes_splat(0x1p-32f),
                        lanes_splat(0x1p-33f));  // min(u, 1 - u)
    Lanes series = lanes_fma(s, lanes_splat(0.25f), lanes_splat(1.0f / 3.0f));
    series = lanes_mul(s, lanes_fma(s, lanes_fma(s, series, lanes_splat(0.5f)), one));  // -log(1 - s)
    Lanes u = lanes_select(upper, lanes_fma(s, lanes_splat(-1.0f), one), s);
    LanesBits tail = lanes_and(upper, lanes_greater(lanes_splat(0x1p-6f), s));
    Lanes e = lanes_select(tail, series, lanes_mul(lanes_log(u), lanes_splat(-1.0f)));
    return lanes_mul(lanes_log(e), lanes_splat(-1.0f));
}

// The noise is always between -OB_GUMBEL_LEAST and OB_GUMBEL_MAX.
#define OB_GUMBEL_MAX 23.0f
#define OB_GUMBEL_LEAST 3.2f

#endif
