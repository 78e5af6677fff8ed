// GGUF's blocks of 256 weights, the "K" types and IQ4_XS. Groups have 32 or 16 weights; a group's scale is an integer times
// the block's scale.
#ifndef OB_WEIGHTS_BLOCKS_256_H
#define OB_WEIGHTS_BLOCKS_256_H

#include "blocks_32.h"

struct BlockQ4_K {
    enum { columns = 256, group = 32 };
    half d, m;
    uchar scales[12];
    ushort q[64];  // 32 bytes hold two groups, one in the low halves and one in the high halves
};

struct BlockQ5_K {
    enum { columns = 256, group = 32 };
    half d, m;
    uchar scales[12];
    ushort high[16];  // bit g of byte i is the fifth bit of weight i of group g
    ushort q[64];
};

struct BlockQ6_K {
    enum { columns = 256, group = 16 };
    ushort low[64];    // per half block, 64 bytes hold the low four bits: weights 0 to 63, then 64 to 127
    ushort high[32];   // per half block, byte i holds two bits each of weights i, i + 32, i + 64 and i + 96
    uchar scales[16];  // signed
    half d;
};

struct BlockQ2_K {
    enum { columns = 256, group = 16 };
    uchar scales[16];  // four bits of scale, then four of minimum
    ushort q[32];      // per half block, byte i holds two bits each of weights i, i + 32, i + 64 and i + 96
    half d, m;
};

struct BlockQ3_K {
    enum { columns = 256, group = 16 };
    ushort high[16];  // bit g of byte i is the third bit of weight 32 · g + i
    ushort q[32];     // as in Q2_K
    uchar scales
        [12];  // byte i has the low four bits of scales i and i + 8, byte 8 + i the rest of i, i + 4, i + 8, i + 12
    half d;
};

struct BlockIQ4_XS {
    enum { columns = 256, group = 32 };
    half d;
    ushort high;   // two bits of each group's scale
    uchar low[4];  // four bits of each
    ushort q[64];  // per group as in IQ4_NL
};

static_assert(sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210 &&
                  sizeof(BlockQ2_K) == 84 && sizeof(BlockQ3_K) == 110 && sizeof(BlockIQ4_XS) == 136,
              "GGUF's blocks of 256");

// Returns the scale and the minimum of group g, six bits each. The first four groups have bytes of their own; the upper
// two bits of these bytes belong to the other four groups.
METAL_FUNC GroupScale six_bit_scale(float d, float m, device const uchar *p, uint g) {
    uint i = g & 3, scale = p[i], least = p[i + 4], rest = p[i + 8];
    uint a = g < 4 ? scale & 63 : (rest & 15) | (scale >> 6) << 4;
    uint b = g < 4 ? least & 63 : rest >> 4 | (least >> 6) << 4;
    return {d * float(a), -(m * float(b))};
}

METAL_FUNC GroupScale block_scale(device const BlockQ4_K *b, uint g) {
    return six_bit_scale(stored_value(b->d), stored_value(b->m), b->scales, g);
}

METAL_FUNC GroupScale block_scale(device const BlockQ5_K *b, uint g) {
    return six_bit_scale(stored_value(b->d), stored_value(b->m), b->scales, g);
}

METAL_FUNC GroupScale block_scale(device const BlockQ6_K *b, uint g) {
    return {stored_value(b->d) * float(int(b->scales[g] ^ 128) - 128), 0};
}

METAL_FUNC GroupScale block_scale(device const BlockQ2_K *b, uint g) {
    uint both = b->scales[g];
    return {stored_value(b->d) * float(both & 15), -(stored_value(b->m) * float(both >> 4))};
}

METAL_FUNC GroupScale block_scale(device const BlockQ3_K *b, uint g) {
    uint low = b->scales[g % 8] >> g / 8 * 4 & 15, high = b->scales[8 + g % 4] >> g / 4 * 2 & 3;
    return {stored_value(b->d) * float(int(low | high << 4) - 32), 0};
}

METAL_FUNC GroupScale block_scale(device const BlockIQ4_XS *b, uint g) {
    uint low = b->low[g / 2] >> g % 2 * 4 & 15, high = b->high >> 2 * g & 3;
    return {stored_value(b->d) * float(int(low | high << 4) - 32), 0};
}

// Reads all scales of a block at once. The twelve bytes are three words, and the four bytes of a word are handled
// alike.
METAL_FUNC void six_bit_scales(float d, float m, device const uchar *p, thread GroupScale *out) {
    device const ushort *q = (device const ushort *)p;
    uint low = q[0] | uint(q[1]) << 16, least = q[2] | uint(q[3]) << 16, rest = q[4] | uint(q[5]) << 16;
    uint high = (rest & 0x0F0F0F0Fu) | (low >> 6 & 0x03030303u) << 4,
         most = (rest >> 4 & 0x0F0F0F0Fu) | (least >> 6 & 0x03030303u) << 4;
    ulong scales = (low & 0x3F3F3F3Fu) | ulong(high) << 32, minima = (least & 0x3F3F3F3Fu) | ulong(most) << 32;
    float values[16];
    lanes_store(values, lanes_convert(lanes_spread<8>(scales, minima)));
    for (uint g = 0; g < 8; g++) out[g] = {d * values[g], -(m * values[g + 8])};
}

METAL_FUNC void block_scales(device const BlockQ4_K *b, thread GroupScale *out) {
    six_bit_scales(stored_value(b->d), stored_value(b->m), b->scales, out);
}

METAL_FUNC void block_scales(device const BlockQ5_K *b, thread GroupScale *out) {
    six_bit_scales(stored_value(b->d), stored_value(b->m), b->scales, out);
}

METAL_FUNC void block_scales(device const BlockQ6_K *b, thread GroupScale *out) {
    float values[16], d = stored_value(b->d);
    lanes_store(values, lanes_convert(lanes_bytes(b->scales)));
    for (uint g = 0; g < 16; g++) out[g] = {d * values[g], 0};
}

METAL_FUNC Lanes block_lanes(device const BlockQ4_K *b, uint chunk, GroupScale s) {
    uint g = chunk / 2;
    LanesBytes q = lanes_field(lanes_bytes(b->q + 16 * (g / 2) + 8 * (chunk % 2)), 4 * (g % 2), 15);
    return scaled_and_biased(lanes_convert(q), s);
}

METAL_FUNC Lanes block_lanes(device const BlockQ5_K *b, uint chunk, GroupScale s) {
    uint g = chunk / 2;
    LanesBytes q = lanes_field(lanes_bytes(b->q + 16 * (g / 2) + 8 * (chunk % 2)), 4 * (g % 2), 15);
    LanesBytes high = lanes_field(lanes_bytes(b->high + 8 * (chunk % 2)), g, 1);
    return scaled_and_biased(lanes_convert(lanes_join(q, high)), s);
}

METAL_FUNC Lanes block_lanes(device const BlockQ6_K *b, uint chunk, GroupScale s) {
    uint part = chunk / 8, c = chunk % 8;  // the half of the block, and the chunk within it
    LanesBytes low = lanes_field(lanes_bytes(b->low + 32 * part + 8 * (c % 4)), c / 4 * 4, 15);
    LanesBytes high = lanes_field(lanes_bytes(b->high + 16 * part + 8 * (c % 2)), c / 2 * 2, 3);
    return scaled(lanes_convert(lanes_less_by(lanes_join(low, high), 32)), s);
}

// Two bits of each weight of a chunk, of Q2_K and Q3_K.
METAL_FUNC LanesBytes two_bits(device const ushort *q, uint chunk) {
    return lanes_field(lanes_bytes(q + 16 * (chunk / 8) + 8 * (chunk % 2)), chunk % 8 / 2 * 2, 3);
}

METAL_FUNC Lanes block_lanes(device const BlockQ2_K *b, uint chunk, GroupScale s) {
    return scaled_and_biased(lanes_convert(two_bits(b->q, chunk)), s);
}

METAL_FUNC Lanes block_lanes(device const BlockQ3_K *b, uint chunk, GroupScale s) {
    LanesBytes high = lanes_field(lanes_bytes(b->high + 8 * (chunk % 2)), chunk / 2, 1);
    return scaled(lanes_convert(lanes_less_by(lanes_join<2>(two_bits(b->q, chunk), high), 4)), s);
}

METAL_FUNC Lanes block_lanes(device const BlockIQ4_XS *b, uint chunk, GroupScale s) {
    LanesBytes codes = lanes_field(lanes_bytes(b->q + 8 * (chunk / 2)), chunk % 2 * 4, 15);
    return scaled(lanes_convert(four_bit_levels(codes)), s);
}

#endif
