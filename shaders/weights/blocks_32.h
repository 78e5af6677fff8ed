// GGUF's blocks of 32 weights with one scale; Q4_1 and Q5_1 also have a bias. The low halves of the sixteen bytes q
// hold the first sixteen weights, the high halves hold the others. The fifth bits are stored apart. The four bits of MXFP4
// and IQ4_NL are codes.
#ifndef OB_WEIGHTS_BLOCKS_32_H
#define OB_WEIGHTS_BLOCKS_32_H

#include "scale.h"

struct BlockQ4_0 {
    enum { columns = 32, group = 32 };
    half d;
    ushort q[8];
};

struct BlockQ4_1 {
    enum { columns = 32, group = 32 };
    half d, m;
    ushort q[8];
};

struct BlockQ5_0 {
    enum { columns = 32, group = 32 };
    half d;
    ushort high[2];
    ushort q[8];
};

struct BlockQ5_1 {
    enum { columns = 32, group = 32 };
    half d, m;
    ushort high[2];
    ushort q[8];
};

struct BlockQ8_0 {
    enum { columns = 32, group = 32 };
    half d;
    ushort q[16];
};

struct BlockMXFP4 {
    enum { columns = 32, group = 32 };
    uchar e;
    uchar q[16];
};

struct BlockIQ4_NL {
    enum { columns = 32, group = 32 };
    half d;
    ushort q[8];
};

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22 &&
                  sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockMXFP4) == 17 &&
                  sizeof(BlockIQ4_NL) == 18,
              "GGUF's blocks of 32");

METAL_FUNC GroupScale block_scale(device const BlockQ4_0 *b, uint) { return {stored_value(b->d), 0}; }
METAL_FUNC GroupScale block_scale(device const BlockQ4_1 *b, uint) { return {stored_value(b->d), stored_value(b->m)}; }
METAL_FUNC GroupScale block_scale(device const BlockQ5_0 *b, uint) { return {stored_value(b->d), 0}; }
METAL_FUNC GroupScale block_scale(device const BlockQ5_1 *b, uint) { return {stored_value(b->d), stored_value(b->m)}; }
METAL_FUNC GroupScale block_scale(device const BlockQ8_0 *b, uint) { return {stored_value(b->d), 0}; }
METAL_FUNC GroupScale block_scale(device const BlockMXFP4 *b, uint) { return {half_power(b->e), 0}; }
METAL_FUNC GroupScale block_scale(device const BlockIQ4_NL *b, uint) { return {stored_value(b->d), 0}; }

// Joins the four low bits of a chunk with its sixteen fifth bits.
METAL_FUNC LanesBytes five_bits(device const ushort *q, device const ushort *high, uint chunk) {
    uint bits = high[chunk];
    return lanes_join(lanes_field(lanes_bytes(q), 4 * chunk, 15), lanes_spread<1>(bits & 255, bits >> 8));
}

METAL_FUNC Lanes block_lanes(device const BlockQ4_0 *b, uint chunk, GroupScale s) {
    return scaled(lanes_convert(lanes_less_by(lanes_field(lanes_bytes(b->q), 4 * chunk, 15), 8)), s);
}

METAL_FUNC Lanes block_lanes(device const BlockQ4_1 *b, uint chunk, GroupScale s) {
    return scaled_and_biased(lanes_convert(lanes_field(lanes_bytes(b->q), 4 * chunk, 15)), s);
}

METAL_FUNC Lanes block_lanes(device const BlockQ5_0 *b, uint chunk, GroupScale s) {
    return scaled(lanes_convert(lanes_less_by(five_bits(b->q, b->high, chunk), 16)), s);
}

METAL_FUNC Lanes block_lanes(device const BlockQ5_1 *b, uint chunk, GroupScale s) {
    return scaled_and_biased(lanes_convert(five_bits(b->q, b->high, chunk)), s);
}

METAL_FUNC Lanes block_lanes(device const BlockQ8_0 *b, uint chunk, GroupScale s) {
    return scaled(lanes_convert(lanes_bytes(b->q + 8 * chunk)), s);
}

METAL_FUNC Lanes block_lanes(device const BlockMXFP4 *b, uint chunk, GroupScale s) {
    return scaled(lanes_convert(lanes_e2m1(lanes_field(lanes_bytes(b->q), 4 * chunk, 15))), s);
}

// Returns the integers that the codes of IQ4_NL and IQ4_XS stand for: -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25,
// 38, 53, 69, 89 and 113.
METAL_FUNC LanesBytes four_bit_levels(LanesBytes codes) {
    return lanes_lookup(codes, 0xF6EADDCFBFAD9881ul, 0x7159453526190D01ul);
}

METAL_FUNC Lanes block_lanes(device const BlockIQ4_NL *b, uint chunk, GroupScale s) {
    return scaled(lanes_convert(four_bit_levels(lanes_field(lanes_bytes(b->q), 4 * chunk, 15))), s);
}

#endif
