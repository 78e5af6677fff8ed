// Counter-based random bits: Philox 4×32-10 (Salmon et al. 2011). What a draw gives depends on its
// key and counter only, so not on batch place, thread count or device.
#ifndef OB_PHILOX_H
#define OB_PHILOX_H

#include "lanes_bits.h"

// The ten rounds on words in the low halves of 64-bit values: one counter (ulong), or many in lanes.
template <typename W>
METAL_FUNC void philox_rounds(thread W &x, thread W &y, thread W &z, thread W &w, metal::uint2 key) {
    for (uint round = 0; round < 10; round++) {
        W a = wide_product(x, 0xD2511F53u), b = wide_product(z, 0xCD9E8D57u);
        x = (b >> 32) ^ y ^ ulong(key.x);
        z = (a >> 32) ^ w ^ ulong(key.y);
        y = b;
        w = a;
        key = metal::uint2(key.x + 0x9E3779B9u, key.y + 0xBB67AE85u);
    }
}

METAL_FUNC metal::uint4 philox(metal::uint4 counter, metal::uint2 key) {
    ulong x = counter.x, y = counter.y, z = counter.z, w = counter.w;
    philox_rounds(x, y, z, w, key);
    return metal::uint4(uint(x), uint(y), uint(z), uint(w));
}

// The 32 words of counters (block, step, 0, 0) to (block + 7, step, 0, 0).
METAL_FUNC void philox_lanes(uint block, uint step, metal::uint2 key, thread LanesBits *bits) {
#if __has_include(<metal_lanes_bits>)
    enum { count = 8 / lanes_wide_width };
    lanes_wide x[count], y[count], z[count], w[count];
    lanes_uint words[2 * count];
    for (int i = 0; i < count; i++) {
        x[i] = wide_counters(block + i * lanes_wide_width);
        y[i] = lanes_wide{} + step;
        z[i] = w[i] = lanes_wide{};
        philox_rounds(x[i], y[i], z[i], w[i], key);
        wide_words(x[i], y[i], z[i], w[i], words + 2 * i);
    }
    for (int i = 0; i < 2 * count; i++) bits[i / lanes_count].v[i % lanes_count] = words[i];
#else
    for (uint i = 0; i < 8; i++) bits[i / 4].v[i % 4] = philox(metal::uint4(block + i, step, 0, 0), key);
#endif
}

// -log(-log(u)) for u = (bits + ½) / 2³². Near 1, where the noise is large, 1 - u is what float can
// hold exactly, so the upper tail reaches 22.9 and nothing is infinite.
METAL_FUNC Lanes gumbel(LanesBits bits) {
    LanesBits upper = lanes_sign(bits);
    Lanes one = lanes_splat(1.0f);
    Lanes s = lanes_fma(lanes_convert(lanes_xor(bits, upper)), lanes_splat(0x1p-32f), lanes_splat(0x1p-33f));  // min(u, 1 - u)
    Lanes series = lanes_fma(s, lanes_splat(0.25f), lanes_splat(1.0f / 3.0f));
    series = lanes_mul(s, lanes_fma(s, lanes_fma(s, series, lanes_splat(0.5f)), one));  // -log(1 - s)
    Lanes u = lanes_select(upper, lanes_fma(s, lanes_splat(-1.0f), one), s);
    LanesBits tail = lanes_and(upper, lanes_greater(lanes_splat(0x1p-6f), s));
    Lanes e = lanes_select(tail, series, lanes_mul(lanes_log(u), lanes_splat(-1.0f)));
    return lanes_mul(lanes_log(e), lanes_splat(-1.0f));
}

// The largest noise that there is, rounded up.
#define OB_GUMBEL_MAX 23.0f

#endif
