// How each of GGUF's blocks is read: its integers as pairs of 16 bits, its scales as floats. A format F has
//
//   COLUMNS, BYTES     of a block;  GROUP: columns that share a scale;  OCTETS: eights of groups in a block of several
//   OCTET_BYTES        of eight groups;  ORDER: of columns in pairs();  BIASED: whether biases are other than 0
//   pairs(b, h, i, n)  columns 64 i … of the octet: four vectors of sixteen integers
//   products(…, x, v)  their products with activations in the same order, added up as octet_dots (blocks.h) wants them
//   scales(b, h, …)    scales and biases of the octet's groups, by slot: w = integer · scale + bias
//
// b is where the octet's first block begins, h which half of that block it is.
#ifndef OB_NATIVE_BLOCK_FORMATS_H
#define OB_NATIVE_BLOCK_FORMATS_H

#include "matvec.h"

namespace OB_NAMESPACE {

// Of two groups A and B of 32 columns, what the four vectors have. HALVES, of sixteen bytes with two columns each: A's
// eight in the low half and B's in the high half; even columns below 16, even ones from 16 on, odd ones below 16, odd
// ones from 16 on. NATURAL, of a byte a column: even columns of A, of B, odd columns of A, of B.
enum Order { HALVES, NATURAL };

template <uint32_t columns, uint32_t bytes, uint32_t group, Order order, bool biased>
struct BlockFormat {
    static constexpr uint32_t COLUMNS = columns, BYTES = bytes;  // of a block
    static constexpr uint32_t GROUP = group;                     // columns that share a scale
    static constexpr uint32_t OCTETS = columns < 8 * group ? 1 : columns / (8 * group);  // in a block, if it has several groups
    static constexpr uint32_t OCTET_BYTES = columns < 8 * group ? 8 * bytes : bytes / OCTETS;
    static constexpr Order ORDER = order;    // of columns in pairs()
    static constexpr bool BIASED = biased;   // whether biases are other than 0
};

OB_INLINE __m256i load_bytes(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
OB_INLINE __m128i load_half(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)p); }
OB_INLINE __m256i load_blocks(const uint8_t *a, const uint8_t *b) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(load_half(a)), load_half(b), 1);
}

// f16 numbers of eight blocks, `step` bytes apart, by slot: each is read where it comes to stand in its place.
template <int step>
OB_INLINE __m256 eight_halves(const uint8_t *p) {
    __m128i all = load_half(p);
    all = _mm_blend_epi16(all, load_half(p + 2 * step - 2), 1 << 1);
    all = _mm_blend_epi16(all, load_half(p + 4 * step - 4), 1 << 2);
    all = _mm_blend_epi16(all, load_half(p + 6 * step - 6), 1 << 3);
    all = _mm_blend_epi16(all, load_half(p + 1 * step - 8), 1 << 4);
    all = _mm_blend_epi16(all, load_half(p + 3 * step - 10), 1 << 5);
    all = _mm_blend_epi16(all, load_half(p + 5 * step - 12), 1 << 6);
    all = _mm_blend_epi16(all, load_half(p + 7 * step - 14), 1 << 7);
    return _mm256_cvtph_ps(all);
}

OB_INLINE __m256 half_at(const uint8_t *p) { return _mm256_cvtph_ps(_mm_set1_epi16(*(const int16_t *)p)); }
OB_INLINE __m256 times(__m256 x, float y) { return _mm256_mul_ps(x, _mm256_set1_ps(y)); }

// Eight bytes by slot.
OB_INLINE __m128i by_slot(__m128i bytes) {
    return _mm_shuffle_epi8(bytes, _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, -1, -1, -1, -1, -1, -1, -1, -1));
}

// Unsigned bytes a and b, or signed ones: n of even and odd columns.
OB_INLINE void byte_pairs(__m256i a, __m256i b, __m256i n[4]) {
    n[0] = bytes<0>(a), n[1] = bytes<0>(b), n[2] = bytes<1>(a), n[3] = bytes<1>(b);
}
OB_INLINE void signed_pairs(__m256i a, __m256i b, __m256i n[4]) {
    n[0] = _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8), n[1] = _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8);
    n[2] = _mm256_srai_epi16(a, 8), n[3] = _mm256_srai_epi16(b, 8);
}
OB_INLINE void nibble_pairs(__m256i v, __m256i n[4]) {
    n[0] = nibbles<0>(v), n[1] = nibbles<1>(v), n[2] = nibbles<2>(v), n[3] = nibbles<3>(v);
}

OB_INLINE __m256i two_products(__m256i a, __m256i b, const __m256i *x, int i, int j) {
    return dot_pairs(dot_pairs(_mm256_setzero_si256(), a, _mm256_loadu_si256(x + i)), b, _mm256_loadu_si256(x + j));
}

// Where pairs() are multiplied as they are.
template <typename F>
OB_INLINE void pair_products(const uint8_t *block, uint32_t half, uint32_t i, const int32_t *pairs, __m256i *v) {
    const __m256i *x = (const __m256i *)pairs;
    __m256i n[4];
    F::pairs(block, half, i, n);
    __m256i a = two_products(n[0], n[2], x, 0, 2), b = two_products(n[1], n[3], x, 1, 3);
    if (F::GROUP == 16) v[0] = a, v[1] = b;
    else v[0] = F::ORDER == HALVES ? _mm256_add_epi32(a, b) : join_fours(a, b);
}

#define OB_PAIR_PRODUCTS(F)                                                                                \
    OB_INLINE void products(const uint8_t *b, uint32_t h, uint32_t i, const int32_t *x, __m256i *v) {     \
        pair_products<F>(b, h, i, x, v);                                                                   \
    }

// Sixteen bytes of two blocks with two columns each, from byte Q of the block on.
template <int bytes, int Q>
OB_INLINE __m256i block_nibbles(const uint8_t *b, uint32_t i) {
    b += i * 2 * bytes + Q;
    return load_blocks(b, b + bytes);
}

struct BlockQ4_0 : BlockFormat<32, 18, 32, HALVES, true> {
    OB_INLINE void pairs(const uint8_t *b, uint32_t, uint32_t i, __m256i n[4]) { nibble_pairs(block_nibbles<BYTES, 2>(b, i), n); }
    OB_INLINE void products(const uint8_t *b, uint32_t, uint32_t i, const int32_t *x, __m256i *v) {
        *v = nibble_products(block_nibbles<BYTES, 2>(b, i), x);
    }
    OB_INLINE void scales(const uint8_t *b, uint32_t, __m256 &scale, __m256 &bias) {
        scale = eight_halves<BYTES>(b);
        bias = times(scale, -8);
    }
};

struct BlockQ4_1 : BlockFormat<32, 20, 32, HALVES, true> {
    OB_INLINE void pairs(const uint8_t *b, uint32_t, uint32_t i, __m256i n[4]) { nibble_pairs(block_nibbles<BYTES, 4>(b, i), n); }
    OB_INLINE void products(const uint8_t *b, uint32_t, uint32_t i, const int32_t *x, __m256i *v) {
        *v = nibble_products(block_nibbles<BYTES, 4>(b, i), x);
    }
    OB_INLINE void scales(const uint8_t *b, uint32_t, __m256 &scale, __m256 &bias) {
        scale = eight_halves<BYTES>(b);
        bias = eight_halves<BYTES>(b + 2);
    }
};

// With the fifth bits of two blocks' 32 columns, four bytes each from byte HIGH of the block on.
template <int bytes, int HIGH>
OB_INLINE void five_bit_pairs(const uint8_t *b, uint32_t i, __m256i n[4]) {
    const __m256i low = _mm256_set1_epi8(15), bit = _mm256_set1_epi64x((int64_t)0x8040201008040201), sixteen = _mm256_set1_epi8(16);
    const __m256i first = _mm256_setr_epi64x(0, 0x0101010101010101, 0, 0x0101010101010101);
    __m256i v = block_nibbles<bytes, HIGH + 4>(b, i);
    int32_t a, c;
    memcpy(&a, b + 2 * bytes * i + HIGH, 4), memcpy(&c, b + 2 * bytes * i + bytes + HIGH, 4);
    __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_set1_epi32(a)), _mm_set1_epi32(c), 1);
    __m256i parts[2] = {_mm256_and_si256(v, low), _mm256_and_si256(_mm256_srli_epi16(v, 4), low)};
    for (int half = 0; half < 2; half++) {
        __m256i spread = _mm256_shuffle_epi8(high, _mm256_add_epi8(first, _mm256_set1_epi8((char)(2 * half))));
        __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
        parts[half] = _mm256_or_si256(parts[half], _mm256_and_si256(set, sixteen));
    }
    byte_pairs(parts[0], parts[1], n);
}

struct BlockQ5_0 : BlockFormat<32, 22, 32, HALVES, true> {
    OB_INLINE void pairs(const uint8_t *b, uint32_t, uint32_t i, __m256i n[4]) { five_bit_pairs<BYTES, 2>(b, i, n); }
    OB_PAIR_PRODUCTS(BlockQ5_0)
    OB_INLINE void scales(const uint8_t *b, uint32_t, __m256 &scale, __m256 &bias) {
        scale = eight_halves<BYTES>(b);
        bias = times(scale, -16);
    }
};

struct BlockQ5_1 : BlockFormat<32, 24, 32, HALVES, true> {
    OB_INLINE void pairs(const uint8_t *b, uint32_t, uint32_t i, __m256i n[4]) { five_bit_pairs<BYTES, 4>(b, i, n); }
    OB_PAIR_PRODUCTS(BlockQ5_1)
    OB_INLINE void scales(const uint8_t *b, uint32_t, __m256 &scale, __m256 &bias) {
        scale = eight_halves<BYTES>(b);
        bias = eight_halves<BYTES>(b + 2);
    }
};

struct BlockQ8_0 : BlockFormat<32, 34, 32, NATURAL, false> {
    OB_INLINE void pairs(const uint8_t *b, uint32_t, uint32_t i, __m256i n[4]) {
        b += 2 * BYTES * i + 2;
        signed_pairs(load_bytes(b), load_bytes(b + BYTES), n);
    }
    OB_PAIR_PRODUCTS(BlockQ8_0)
    OB_INLINE void scales(const uint8_t *b, uint32_t, __m256 &scale, __m256 &bias) {
        scale = eight_halves<BYTES>(b);
        bias = _mm256_setzero_ps();
    }
};

// Floats of four bits, doubled; their scale is a power of two.
struct BlockMXFP4 : BlockFormat<32, 17, 32, HALVES, false> {
    OB_INLINE void pairs(const uint8_t *b, uint32_t, uint32_t i, __m256i n[4]) {
        const __m256i low = _mm256_set1_epi8(15);
        const __m256i twice = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12));
        __m256i v = block_nibbles<BYTES, 1>(b, i);
        __m256i first = _mm256_shuffle_epi8(twice, _mm256_and_si256(v, low));
        signed_pairs(first, _mm256_shuffle_epi8(twice, _mm256_and_si256(_mm256_srli_epi16(v, 4), low)), n);
    }
    OB_PAIR_PRODUCTS(BlockMXFP4)
    // 2^(e - 128), of which the first two are below the normal numbers.
    OB_INLINE void scales(const uint8_t *b, uint32_t, __m256 &scale, __m256 &bias) {
        const __m256i e = _mm256_setr_epi32(b[0], b[2 * BYTES], b[4 * BYTES], b[6 * BYTES], b[BYTES], b[3 * BYTES], b[5 * BYTES], b[7 * BYTES]);
        __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
        __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
        scale = _mm256_castsi256_ps(_mm256_blendv_epi8(normal, small, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
        bias = _mm256_setzero_ps();
    }
};

// Six bits each of scale and minimum of eight groups, in twelve bytes behind the two f16 numbers that they are times of:
// of the first four groups in bytes of their own, whose upper two bits belong to the other four.
OB_INLINE void six_bit_scales(const uint8_t *b, __m256 &scale, __m256 &bias) {
    const __m128i nibble = _mm_set1_epi8(15);
    __m128i all = load_half(b + 4);
    __m128i first = _mm_and_si128(all, _mm_set1_epi8(63)), upper = _mm_and_si128(_mm_srli_epi16(all, 2), _mm_set1_epi8(0x30));
    __m128i rest = _mm_and_si128(_mm_srlv_epi32(_mm_shuffle_epi32(all, 0xAA), _mm_setr_epi32(0, 4, 0, 0)), nibble);
    // Scales 0 to 3, minima 0 to 3, scales 4 to 7, minima 4 to 7.
    __m128i bytes = _mm_unpacklo_epi64(first, _mm_or_si128(rest, upper));
    const __m128i order = _mm_setr_epi8(0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15);
    bytes = _mm_shuffle_epi8(bytes, order);
    scale = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)), half_at(b));
    __m256 least = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)));
    bias = _mm256_xor_ps(_mm256_mul_ps(least, half_at(b + 2)), _mm256_set1_ps(-0.0f));
}

struct BlockQ4_K : BlockFormat<256, 144, 32, NATURAL, true> {
    OB_INLINE void pairs(const uint8_t *b, uint32_t, uint32_t i, __m256i n[4]) { nibble_pairs(load_bytes(b + 16 + 32 * i), n); }
    OB_PAIR_PRODUCTS(BlockQ4_K)
    OB_INLINE void scales(const uint8_t *b, uint32_t, __m256 &scale, __m256 &bias) { six_bit_scales(b, scale, bias); }
};

struct BlockQ5_K : BlockFormat<256, 176, 32, NATURAL, true> {
    OB_INLINE void pairs(const uint8_t *b, uint32_t, uint32_t i, __m256i n[4]) {
        const __m256i low = _mm256_set1_epi8(15), sixteen = _mm256_set1_epi8(16);
        __m256i v = load_bytes(b + 48 + 32 * i), high = _mm256_srli_epi16(load_bytes(b + 16), 2 * (int)i);
        __m256i a = _mm256_or_si256(_mm256_and_si256(v, low), _mm256_and_si256(_mm256_slli_epi16(high, 4), sixteen));
        __m256i c = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
        byte_pairs(a, _mm256_or_si256(c, _mm256_and_si256(_mm256_slli_epi16(high, 3), sixteen)), n);
    }
    OB_PAIR_PRODUCTS(BlockQ5_K)
    OB_INLINE void scales(const uint8_t *b, uint32_t, __m256 &scale, __m256 &bias) { six_bit_scales(b, scale, bias); }
};

// Half a block has 64 bytes of low halves and 32 of upper two bits; see shaders/weights/blocks_256.h.
struct BlockQ6_K : BlockFormat<256, 210, 16, NATURAL, true> {
    OB_INLINE void pairs(const uint8_t *b, uint32_t half, uint32_t i, __m256i n[4]) {
        const __m256i low = _mm256_set1_epi8(15), upper = _mm256_set1_epi8(0x30);
        __m256i high = _mm256_srli_epi16(load_bytes(b + 128 + 32 * half), 4 * (int)i), part[2];
        for (uint32_t c = 0; c < 2; c++) {
            __m256i v = _mm256_srli_epi16(load_bytes(b + 64 * half + 32 * c), 4 * (int)i);
            __m256i bits = _mm256_slli_epi16(high, c == 0 ? 4 : 2);
            part[c] = _mm256_or_si256(_mm256_and_si256(v, low), _mm256_and_si256(bits, upper));
        }
        byte_pairs(part[0], part[1], n);
    }
    OB_PAIR_PRODUCTS(BlockQ6_K)
    OB_INLINE void scales(const uint8_t *b, uint32_t half, __m256 &scale, __m256 &bias) {
        __m128i bytes = _mm_loadl_epi64((const __m128i *)(b + 192 + 8 * half));
        scale = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(by_slot(bytes))), half_at(b + 208));
        bias = times(scale, -32);
    }
};

}  // namespace OB_NAMESPACE

#endif
