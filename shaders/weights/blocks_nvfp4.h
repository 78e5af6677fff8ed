// GGUF's NVFP4: blocks of 64 weights. Each sixteen are E2M1 codes, in the low halves of eight bytes and then in the high
// ones, with an E4M3 number as scale. A scale has no sign: its upper bit does not count, and 127, which would be no number,
// is 0.
#ifndef OB_WEIGHTS_BLOCKS_NVFP4_H
#define OB_WEIGHTS_BLOCKS_NVFP4_H

#include "scale.h"

struct BlockNVFP4 {
    enum { columns = 64, group = 16 };
    uchar scales[4];
    ushort q[16];
};

static_assert(sizeof(BlockNVFP4) == 36, "GGUF's block of NVFP4");

// Half the scale, for integers that are twice a value.
METAL_FUNC GroupScale block_scale(device const BlockNVFP4 *b, uint g) {
    uint bits = b->scales[g] & 127, exponent = bits >> 3, mantissa = bits & 7;
    if (b->scales[g] == 127) return {0, 0};
    if (exponent == 0) return {float(mantissa) * 0x1p-10f, 0};
    return {metal::as_type<float>((exponent + 119) << 23 | mantissa << 20), 0};
}

METAL_FUNC Lanes block_lanes(device const BlockNVFP4 *b, uint chunk, GroupScale s) {
    const ulong low = 0x0F0F0F0F0F0F0F0Ful;
    ulong q = eight_bytes(b->q + 4 * chunk);
    return scaled(lanes_convert(lanes_e2m1(lanes_spread<8>(q & low, q >> 4 & low))), s);
}

#endif
