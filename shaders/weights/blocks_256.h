// GGUF's blocks of 256 weights, the "K" types: groups of 32 or 16 have scales that are integers times the block's.
#ifndef OB_WEIGHTS_BLOCKS_256_H
#define OB_WEIGHTS_BLOCKS_256_H

#include "scale.h"

struct BlockQ4_K {
    enum { columns = 256, group = 32 };
    half d, m;
    uchar scales[12];
    ushort q[64];  // 32 bytes are the low and high halves of two groups
};

struct BlockQ5_K {
    enum { columns = 256, group = 32 };
    half d, m;
    uchar scales[12];
    ushort high[16];  // bit g of byte i: the fifth bit of weight i of group g
    ushort q[64];
};

struct BlockQ6_K {
    enum { columns = 256, group = 16 };
    ushort low[64];   // 64 bytes are the low halves of weights 0 to 63 and 64 to 127 of half a block
    ushort high[32];  // two bits for weights i, i + 32, i + 64 and i + 96 of half a block
    uchar scales[16]; // signed
    half d;
};

static_assert(sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210, "GGUF's blocks of 256");

// Six bits each of scale and minimum g: of the first four groups in bytes of their own, whose upper two bits
// belong to the other four.
METAL_FUNC GroupScale six_bit_scale(float d, float m, device const uchar *p, uint g) {
    uint i = g & 3, scale = p[i], least = p[i + 4], rest = p[i + 8];
    uint a = g < 4 ? scale & 63 : (rest & 15) | (scale >> 6) << 4;
    uint b = g < 4 ? least & 63 : rest >> 4 | (least >> 6) << 4;
    return group_scale(d * float(a), -(m * float(b)));
}

METAL_FUNC GroupScale block_scale(device const BlockQ4_K *b, uint g) {
    return six_bit_scale(float(b->d), float(b->m), b->scales, g);
}

METAL_FUNC GroupScale block_scale(device const BlockQ5_K *b, uint g) {
    return six_bit_scale(float(b->d), float(b->m), b->scales, g);
}

METAL_FUNC GroupScale block_scale(device const BlockQ6_K *b, uint g) {
    return group_scale(float(b->d) * float(int(b->scales[g] ^ 128) - 128), 0);
}

METAL_FUNC Lanes block_lanes(device const BlockQ4_K *b, uint chunk, GroupScale s) {
    uint g = chunk / 2;
    LanesBytes q = lanes_field(lanes_bytes(b->q + 16 * (g / 2) + 8 * (chunk % 2)), 4 * (g % 2), 15);
    return lanes_fma(lanes_convert(q), s.scale, s.bias);
}

METAL_FUNC Lanes block_lanes(device const BlockQ5_K *b, uint chunk, GroupScale s) {
    uint g = chunk / 2;
    LanesBytes q = lanes_field(lanes_bytes(b->q + 16 * (g / 2) + 8 * (chunk % 2)), 4 * (g % 2), 15);
    LanesBytes high = lanes_field(lanes_bytes(b->high + 8 * (chunk % 2)), g, 1);
    return lanes_fma(lanes_convert(lanes_join(q, high)), s.scale, s.bias);
}

METAL_FUNC Lanes block_lanes(device const BlockQ6_K *b, uint chunk, GroupScale s) {
    uint part = chunk / 8, c = chunk % 8;  // half of the block, chunk of it
    LanesBytes low = lanes_field(lanes_bytes(b->low + 32 * part + 8 * (c % 4)), c / 4 * 4, 15);
    LanesBytes high = lanes_field(lanes_bytes(b->high + 16 * part + 8 * (c % 2)), c / 2 * 2, 3);
    return lanes_mul(lanes_convert(lanes_less_by(lanes_join(low, high), 32)), s.scale);
}

#endif
