// GGUF's blocks of weights of one or two bits without a codebook: signs, and the numbers -1, 0, 1 and 2.
#ifndef OB_WEIGHTS_BLOCKS_TERNARY_H
#define OB_WEIGHTS_BLOCKS_TERNARY_H

#include "blocks_256.h"

struct BlockTQ1_0 {
    enum { columns = 256, group = 256 };
    ushort q[26];  // five numbers in a byte: 32 bytes, 16 bytes, then four bytes of four numbers
    half d;
};

struct BlockTQ2_0 {
    enum { columns = 256, group = 256 };
    ushort q[32];  // as in Q2_K
    half d;
};

struct BlockQ1_0 {
    enum { columns = 128, group = 128 };
    half d;
    ushort q[8];  // a bit is 1 for d, 0 for -d
};

struct BlockQ2_0 {
    enum { columns = 64, group = 64 };
    half d;
    ushort q[8];  // two bits of eight weights, one after the other
};

static_assert(sizeof(BlockTQ1_0) == 54 && sizeof(BlockTQ2_0) == 66 && sizeof(BlockQ1_0) == 18 &&
                  sizeof(BlockQ2_0) == 18,
              "GGUF's blocks of one or two bits");

METAL_FUNC GroupScale block_scale(device const BlockTQ1_0 *b, uint) { return {stored_value(b->d), 0}; }
METAL_FUNC GroupScale block_scale(device const BlockTQ2_0 *b, uint) { return {stored_value(b->d), 0}; }
METAL_FUNC GroupScale block_scale(device const BlockQ1_0 *b, uint) { return {stored_value(b->d), 0}; }
METAL_FUNC GroupScale block_scale(device const BlockQ2_0 *b, uint) { return {stored_value(b->d), 0}; }

// Number `place` of each of eight bytes. A byte is a fraction, in 256ths, whose digits to the base of three the numbers
// are.
METAL_FUNC ulong base_three_digits(ulong bytes, uint place) {
    const ulong even = 0x00FF00FF00FF00FFul;
    const uint powers[5] = {1, 3, 9, 27, 81};
    ulong a = (bytes & even) * powers[place] & even, b = (bytes >> 8 & even) * powers[place] & even;
    return (a * 3 >> 8 & even) | (b * 3 & ~even);
}

METAL_FUNC Lanes block_lanes(device const BlockTQ1_0 *b, uint chunk, GroupScale s) {
    ulong low, high;
    if (chunk < 15) {
        device const ushort *q = b->q + (chunk < 10 ? chunk % 2 * 8 : 16);
        uint place = chunk < 10 ? chunk / 2 : chunk - 10;
        low = base_three_digits(eight_bytes(q), place), high = base_three_digits(eight_bytes(q + 4), place);
    } else {  // four numbers of each of four bytes
        ulong q = four_bytes(b->q + 24);
        low = base_three_digits(q, 0) | base_three_digits(q, 1) << 32;
        high = base_three_digits(q, 2) | base_three_digits(q, 3) << 32;
    }
    return scaled(lanes_convert(lanes_less_by(lanes_spread<8>(low, high), 1)), s);
}

METAL_FUNC Lanes block_lanes(device const BlockTQ2_0 *b, uint chunk, GroupScale s) {
    return scaled(lanes_convert(lanes_less_by(two_bits(b->q, chunk), 1)), s);
}

METAL_FUNC Lanes block_lanes(device const BlockQ1_0 *b, uint chunk, GroupScale s) {
    uint bits = b->q[chunk];
    return scaled(lanes_convert(lanes_lookup(lanes_spread<1>(bits & 255, bits >> 8), 0x01FF, 0)), s);
}

METAL_FUNC Lanes block_lanes(device const BlockQ2_0 *b, uint chunk, GroupScale s) {
    LanesBytes q = lanes_spread<2>(b->q[2 * chunk], b->q[2 * chunk + 1]);
    return scaled(lanes_convert(lanes_less_by(q, 1)), s);
}

#endif
