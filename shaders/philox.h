// Counter-based random bits: Philox 4×32-10 (Salmon et al. 2011). What a draw gives depends on its
// key and counter only, so not on batch place, thread count or device.
#ifndef OB_PHILOX_H
#define OB_PHILOX_H

#include <metal_stdlib>

METAL_FUNC metal::uint4 philox(metal::uint4 counter, metal::uint2 key) {
    for (uint round = 0; round < 10; round++) {
        uint low0 = 0xD2511F53u * counter.x, high0 = metal::mulhi(0xD2511F53u, counter.x);
        uint low1 = 0xCD9E8D57u * counter.z, high1 = metal::mulhi(0xCD9E8D57u, counter.z);
        counter = metal::uint4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
        key = metal::uint2(key.x + 0x9E3779B9u, key.y + 0xBB67AE85u);
    }
    return counter;
}

// -log(-log(u)) for u = (bits + ½) / 2³². Near 1, where the noise is large, 1 - u is what float can
// hold exactly, so the upper tail reaches 22.9 and nothing is infinite.
METAL_FUNC float gumbel(uint bits) {
    float e;
    if (bits >= 0x80000000u) {
        float v = (float(~bits) + 0.5f) * 0x1p-32f;  // 1 - u
        e = v < 0x1p-6f ? v * (1.0f + v * (0.5f + v * (1.0f / 3.0f + v * 0.25f))) : -metal::log(1.0f - v);
    } else {
        e = -metal::log((float(bits) + 0.5f) * 0x1p-32f);
    }
    return -metal::log(e);
}

#endif
