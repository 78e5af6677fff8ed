// GGUF's blocks of 256 weights whose bits number entries of a codebook: the IQ types of one to three bits. An entry has
// eight weights (IQ3: four); their signs are stored apart. A group's scale is an odd integer times the block's.
#ifndef OB_WEIGHTS_BLOCKS_CODED_H
#define OB_WEIGHTS_BLOCKS_CODED_H

#include "codebook_iq1_s.h"
#include "codebook_iq2_s.h"
#include "codebook_iq2_xs.h"
#include "codebook_iq2_xxs.h"
#include "codebook_iq3_s.h"
#include "codebook_iq3_xxs.h"
#include "scale.h"

struct BlockIQ2_XXS {
    enum { columns = 256, group = 32 };
    half d;
    ushort q[32];  // per group four bytes, the entries; then 32 bits: four times seven of signs, four of scale
};

struct BlockIQ2_XS {
    enum { columns = 256, group = 16 };
    half d;
    ushort q[32];     // nine bits of entry, seven of signs
    uchar scales[8];  // four bits each
};

struct BlockIQ2_S {
    enum { columns = 256, group = 16 };
    half d;
    uchar low[32];  // of the entries
    uchar signs[32];
    uchar high[8];  // two bits of each entry
    uchar scales[8];
};

struct BlockIQ3_XXS {
    enum { columns = 256, group = 32 };
    half d;
    uchar q[64];
    ushort rest[16];  // per group 32 bits of signs and scale, as in IQ2_XXS
};

struct BlockIQ3_S {
    enum { columns = 256, group = 32 };
    half d;
    uchar low[64];
    uchar high[8];  // a bit of each entry
    uchar signs[32];
    uchar scales[4];
};

struct BlockIQ1_S {
    enum { columns = 256, group = 32 };
    half d;
    uchar low[32];
    ushort rest[8];  // per group four times three bits of entry, three of scale, one of shift
};

struct BlockIQ1_M {
    enum { columns = 256, group = 16 };
    uchar low[32];
    uchar rest[16];    // four bits for each entry: three of it, one of its shift
    ushort scales[4];  // four times three bits of scale; the upper four bits are the block's scale, lowest first
};

static_assert(sizeof(BlockIQ2_XXS) == 66 && sizeof(BlockIQ2_XS) == 74 && sizeof(BlockIQ2_S) == 82 &&
                  sizeof(BlockIQ3_XXS) == 98 && sizeof(BlockIQ3_S) == 110 && sizeof(BlockIQ1_S) == 50 &&
                  sizeof(BlockIQ1_M) == 56,
              "GGUF's blocks with a codebook");

// The eight signs that seven bits stand for: an even number of weights is negative.
METAL_FUNC uint even_signs(uint seven) { return seven | (metal::popcount(seven) & 1) << 7; }

// An odd integer of four bits more, times a part of the block's scale.
METAL_FUNC GroupScale odd_scale(half d, uint bits, float part) {
    return {stored_value(d) * (float(2 * bits + 1) * part), 0};
}

METAL_FUNC GroupScale block_scale(device const BlockIQ2_XXS *b, uint g) {
    return odd_scale(b->d, b->q[4 * g + 3] >> 12, 0.125f);
}

METAL_FUNC GroupScale block_scale(device const BlockIQ2_XS *b, uint g) {
    return odd_scale(b->d, b->scales[g / 2] >> g % 2 * 4 & 15, 0.125f);
}

METAL_FUNC GroupScale block_scale(device const BlockIQ2_S *b, uint g) {
    return odd_scale(b->d, b->scales[g / 2] >> g % 2 * 4 & 15, 0.125f);
}

METAL_FUNC GroupScale block_scale(device const BlockIQ3_XXS *b, uint g) {
    return odd_scale(b->d, b->rest[2 * g + 1] >> 12, 0.25f);
}

METAL_FUNC GroupScale block_scale(device const BlockIQ3_S *b, uint g) {
    return odd_scale(b->d, b->scales[g / 2] >> g % 2 * 4 & 15, 1);
}

METAL_FUNC GroupScale block_scale(device const BlockIQ1_S *b, uint g) {
    return odd_scale(b->d, b->rest[g] >> 12 & 7, 0.125f);
}

METAL_FUNC GroupScale block_scale(device const BlockIQ1_M *b, uint g) {
    device const ushort *s = b->scales;
    ushort d = ushort(s[0] >> 12 | (s[1] >> 12) << 4 | (s[2] >> 12) << 8 | (s[3] >> 12) << 12);
    return odd_scale(metal::as_type<half>(d), s[g / 4] >> g % 4 * 3 & 7, 0.125f);
}

// Sixteen weights of two entries, as 8, 25 or 43 with the signs' bits.
METAL_FUNC Lanes two_bit_entries(uint first, uint second, uint signs, uint more_signs, GroupScale s) {
    LanesBytes codes = lanes_join<2>(lanes_spread<2>(first, second), lanes_spread<1>(signs, more_signs));
    return scaled(lanes_convert(lanes_lookup(codes, 0x00D5E7F8002B1908ul, 0)), s);
}

METAL_FUNC Lanes block_lanes(device const BlockIQ2_XXS *b, uint chunk, GroupScale s) {
    device const ushort *q = b->q + 4 * (chunk / 2);
    uint entries = q[chunk % 2], signs = four_bytes(q + 2) >> chunk % 2 * 14;
    return two_bit_entries(codebook_iq2_xxs[entries & 255], codebook_iq2_xxs[entries >> 8], even_signs(signs & 127),
                           even_signs(signs >> 7 & 127), s);
}

METAL_FUNC Lanes block_lanes(device const BlockIQ2_XS *b, uint chunk, GroupScale s) {
    uint first = b->q[2 * chunk], second = b->q[2 * chunk + 1];
    return two_bit_entries(codebook_iq2_xs[first & 511], codebook_iq2_xs[second & 511], even_signs(first >> 9),
                           even_signs(second >> 9), s);
}

METAL_FUNC Lanes block_lanes(device const BlockIQ2_S *b, uint chunk, GroupScale s) {
    uint high = b->high[chunk / 2] >> chunk % 2 * 4;
    uint first = b->low[2 * chunk] | (high & 3) << 8, second = b->low[2 * chunk + 1] | (high >> 2 & 3) << 8;
    return two_bit_entries(codebook_iq2_s[first], codebook_iq2_s[second], b->signs[2 * chunk], b->signs[2 * chunk + 1],
                           s);
}

// Sixteen numbers of magnitudes of four entries, with the signs' bits as fourth ones.
METAL_FUNC LanesBytes three_bit_entries(uint a, uint b, uint c, uint d, uint signs, uint more_signs) {
    return lanes_join<3>(lanes_spread<3>(a | b << 12, c | d << 12), lanes_spread<1>(signs, more_signs));
}

METAL_FUNC Lanes block_lanes(device const BlockIQ3_XXS *b, uint chunk, GroupScale s) {
    device const uchar *q = b->q + 4 * chunk;
    uint signs = four_bytes(b->rest + chunk / 2 * 2) >> chunk % 2 * 14;
    LanesBytes codes = three_bit_entries(codebook_iq3_xxs[q[0]], codebook_iq3_xxs[q[1]], codebook_iq3_xxs[q[2]],
                                         codebook_iq3_xxs[q[3]], even_signs(signs & 127), even_signs(signs >> 7 & 127));
    return scaled(lanes_convert(lanes_lookup(codes, 0x3E342C241C140C04ul, 0xC2CCD4DCE4ECF4FCul)), s);
}

METAL_FUNC Lanes block_lanes(device const BlockIQ3_S *b, uint chunk, GroupScale s) {
    device const uchar *q = b->low + 4 * chunk;
    uint high = b->high[chunk / 2] >> chunk % 2 * 4;
    LanesBytes codes =
        three_bit_entries(codebook_iq3_s[q[0] | (high & 1) << 8], codebook_iq3_s[q[1] | (high >> 1 & 1) << 8],
                          codebook_iq3_s[q[2] | (high >> 2 & 1) << 8], codebook_iq3_s[q[3] | (high >> 3 & 1) << 8],
                          b->signs[2 * chunk], b->signs[2 * chunk + 1]);
    return scaled(lanes_convert(lanes_lookup(codes, 0x0F0D0B0907050301ul, 0xF1F3F5F7F9FBFDFFul)), s);
}

// Sixteen weights of two entries, in eighths: -8, 0 or 8, and 1 more, or where an entry is shifted down 1 less.
METAL_FUNC Lanes ternary_entries(uint first, uint second, bool down, bool second_down, GroupScale s) {
    LanesBytes shifts = lanes_spread<1>(down ? 255 : 0, second_down ? 255 : 0);
    LanesBytes codes = lanes_join<2>(lanes_spread<2>(codebook_iq1_s[first], codebook_iq1_s[second]), shifts);
    return scaled(lanes_convert(lanes_lookup(codes, 0x0007FFF7000901F9ul, 0)), s);
}

METAL_FUNC Lanes block_lanes(device const BlockIQ1_S *b, uint chunk, GroupScale s) {
    uint rest = b->rest[chunk / 2], high = rest >> chunk % 2 * 6;
    bool down = rest >> 15;
    return ternary_entries(b->low[2 * chunk] | (high & 7) << 8, b->low[2 * chunk + 1] | (high >> 3 & 7) << 8, down,
                           down, s);
}

METAL_FUNC Lanes block_lanes(device const BlockIQ1_M *b, uint chunk, GroupScale s) {
    uint rest = b->rest[chunk];
    return ternary_entries(b->low[2 * chunk] | (rest & 7) << 8, b->low[2 * chunk + 1] | (rest >> 4 & 7) << 8,
                           rest >> 3 & 1, rest >> 7, s);
}

#endif
