// How each of GGUF's blocks is read: its integers as pairs of 16 bits, its scales as floats. A format F has
// what BlockFormat says, and
//
//   pairs(at, i, n)        columns 64 i … of the octet at `at`: four vectors of sixteen integers
//   products(at, i, x, v)  their products with activations in the same order, added up as octet_dots (blocks.h) wants them
//   scales(at, …)          scales and biases of the octet's groups, by slot: w = integer · scale + bias
#ifndef OB_NATIVE_BLOCK_FORMATS_H
#define OB_NATIVE_BLOCK_FORMATS_H

#include "matvec.h"

namespace OB_NAMESPACE {

// Of two groups A and B of 32 columns, what the four vectors have. NATURAL, of a byte a column: even columns of A, of B,
// odd columns of A, of B. The others, of two columns a byte, have A's eight in the low half and B's in the high half:
// HALVES, of columns 16 apart: even ones below 16, even ones from 16 on, odd ones below 16, odd ones from 16 on; WORDS, of
// neighbours: those that are 0, 1, 2 and 3 modulo 4.
enum Order { NATURAL, HALVES, WORDS };

// Where an octet begins.
struct Place {
    const uint8_t *block;
    uint32_t half;          // of the block, where one has two octets
    const uint8_t *scales;  // where they are stored apart
};

// An octet is eight groups (blocks.h).
template <uint32_t columns, uint32_t bytes, uint32_t group, Order order, bool apart = false>
struct BlockFormat {
    static constexpr uint32_t COLUMNS = columns, BYTES = bytes;  // of a block
    static constexpr uint32_t GROUP = group;                     // columns that share a scale
    static constexpr uint32_t OCTETS = columns < 8 * group ? 1 : columns / (8 * group);  // in a block, where one has any
    static constexpr uint32_t OCTET_BYTES = columns < 8 * group ? 8 * bytes : bytes / OCTETS;
    static constexpr Order ORDER = order;                        // of columns in pairs()
    static constexpr bool LANES = order != NATURAL;              // whether halves of vectors are groups
    static constexpr bool APART = apart;                         // scales are bytes in an array of their own
};

OB_INLINE __m256i load_bytes(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
OB_INLINE __m128i load_half(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)p); }
OB_INLINE __m256i load_blocks(const uint8_t *a, const uint8_t *b) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(load_half(a)), load_half(b), 1);
}

// Two bytes each of eight blocks, `step` bytes apart, by slot: each is read where it comes to stand in its place.
template <int step>
OB_INLINE __m128i eight_words(const uint8_t *p) {
    __m128i all = load_half(p);
    all = _mm_blend_epi16(all, load_half(p + 2 * step - 2), 1 << 1);
    all = _mm_blend_epi16(all, load_half(p + 4 * step - 4), 1 << 2);
    all = _mm_blend_epi16(all, load_half(p + 6 * step - 6), 1 << 3);
    all = _mm_blend_epi16(all, load_half(p + 1 * step - 8), 1 << 4);
    all = _mm_blend_epi16(all, load_half(p + 3 * step - 10), 1 << 5);
    all = _mm_blend_epi16(all, load_half(p + 5 * step - 12), 1 << 6);
    return _mm_blend_epi16(all, load_half(p + 7 * step - 14), 1 << 7);
}

// The same as f16 numbers.
template <int step>
OB_INLINE __m256 eight_halves(const uint8_t *p) {
    return _mm256_cvtph_ps(eight_words<step>(p));
}

OB_INLINE __m256 half_at(const uint8_t *p) { return _mm256_cvtph_ps(_mm_set1_epi16(*(const int16_t *)p)); }
OB_INLINE __m256 times(__m256 x, float y) { return _mm256_mul_ps(x, _mm256_set1_ps(y)); }

// Eight bytes by slot.
OB_INLINE __m128i by_slot(__m128i bytes) {
    return _mm_shuffle_epi8(bytes, _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, -1, -1, -1, -1, -1, -1, -1, -1));
}

// Even and odd columns of bytes a and b.
OB_INLINE void byte_pairs(__m256i a, __m256i b, __m256i n[4]) {
    n[0] = bytes<0>(a), n[1] = bytes<0>(b), n[2] = bytes<1>(a), n[3] = bytes<1>(b);
}
OB_INLINE void nibble_pairs(__m256i v, __m256i n[4]) {
    n[0] = nibbles<0>(v), n[1] = nibbles<1>(v), n[2] = nibbles<2>(v), n[3] = nibbles<3>(v);
}

// Products of even and odd columns of A and of B, each added up. With AVX2 in assembly, as in nibble_products.
OB_INLINE void byte_products(__m256i a, __m256i b, const int32_t *pairs, __m256i &of_a, __m256i &of_b) {
#if OB_HAS_512
    const __m256i *x = (const __m256i *)pairs;
    __m256i n[4], none = _mm256_setzero_si256();
    byte_pairs(a, b, n);
    of_a = dot_pairs(dot_pairs(none, n[0], _mm256_loadu_si256(x)), n[2], _mm256_loadu_si256(x + 2));
    of_b = dot_pairs(dot_pairs(none, n[1], _mm256_loadu_si256(x + 1)), n[3], _mm256_loadu_si256(x + 3));
#else
    struct Pairs {
        int32_t pairs[BLOCK_PAIRS];
    };
    __m256i t, u;
    __asm__("vpand %[low], %[a], %[s]\n\t"
            "vpsrlw $8, %[a], %[t]\n\t"
            "vpmaddwd (%[x]), %[s], %[s]\n\t"
            "vpand %[low], %[b], %[u]\n\t"
            "vpmaddwd 64(%[x]), %[t], %[t]\n\t"
            "vpmaddwd 32(%[x]), %[u], %[u]\n\t"
            "vpaddd %[t], %[s], %[s]\n\t"
            "vpsrlw $8, %[b], %[t]\n\t"
            "vpmaddwd 96(%[x]), %[t], %[t]\n\t"
            "vpaddd %[t], %[u], %[u]"
            : [s] "=&x"(of_a), [t] "=&x"(t), [u] "=&x"(u)
            : [a] "x"(a), [b] "x"(b), [x] "r"(pairs), [low] "x"(_mm256_set1_epi16(255)), "m"(*(const Pairs *)pairs));
    of_b = u;
#endif
}

// What octet_dots wants of the sums of A and of B.
template <typename F>
OB_INLINE void store_sums(__m256i a, __m256i b, __m256i *v) {
    if (F::GROUP == 16) v[0] = a, v[1] = b;
    else v[0] = F::LANES ? _mm256_add_epi32(a, b) : join_fours(a, b);
}

// Products of a format whose integers are bytes without a sign, F::columns(at, i, a, b), and its pairs.
#define OB_BYTE_FORMAT(F)                                                               \
    OB_INLINE void pairs(Place at, uint32_t i, __m256i n[4]) {                          \
        __m256i a, b;                                                                   \
        columns(at, i, a, b);                                                           \
        byte_pairs(a, b, n);                                                            \
    }                                                                                   \
    OB_INLINE void products(Place at, uint32_t i, const int32_t *x, __m256i *v) {       \
        __m256i a, b;                                                                   \
        columns(at, i, a, b);                                                           \
        byte_products(a, b, x, a, b);                                                   \
        store_sums<F>(a, b, v);                                                         \
    }

// Sixteen bytes of two blocks with two columns each, from byte Q of the block on.
template <int bytes, int Q>
OB_INLINE __m256i block_nibbles(const uint8_t *b, uint32_t i) {
    b += i * 2 * bytes + Q;
    return load_blocks(b, b + bytes);
}

struct BlockQ4_0 : BlockFormat<32, 18, 32, HALVES> {
    OB_INLINE void pairs(Place at, uint32_t i, __m256i n[4]) { nibble_pairs(block_nibbles<BYTES, 2>(at.block, i), n); }
    OB_INLINE void products(Place at, uint32_t i, const int32_t *x, __m256i *v) {
        *v = nibble_products(block_nibbles<BYTES, 2>(at.block, i), x);
    }
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        scale = eight_halves<BYTES>(at.block);
        bias = times(scale, -8);
    }
};

struct BlockQ4_1 : BlockFormat<32, 20, 32, HALVES> {
    OB_INLINE void pairs(Place at, uint32_t i, __m256i n[4]) { nibble_pairs(block_nibbles<BYTES, 4>(at.block, i), n); }
    OB_INLINE void products(Place at, uint32_t i, const int32_t *x, __m256i *v) {
        *v = nibble_products(block_nibbles<BYTES, 4>(at.block, i), x);
    }
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        scale = eight_halves<BYTES>(at.block);
        bias = eight_halves<BYTES>(at.block + 2);
    }
};

// With the fifth bits of two blocks' 32 columns, four bytes each from byte HIGH of the block on.
template <int bytes, int HIGH>
OB_INLINE void five_bits(const uint8_t *b, uint32_t i, __m256i &first16, __m256i &last16) {
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
    first16 = parts[0], last16 = parts[1];
}

struct BlockQ5_0 : BlockFormat<32, 22, 32, HALVES> {
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) {
        five_bits<BYTES, 2>(at.block, i, a, b);
    }
    OB_BYTE_FORMAT(BlockQ5_0)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        scale = eight_halves<BYTES>(at.block);
        bias = times(scale, -16);
    }
};

struct BlockQ5_1 : BlockFormat<32, 24, 32, HALVES> {
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) {
        five_bits<BYTES, 4>(at.block, i, a, b);
    }
    OB_BYTE_FORMAT(BlockQ5_1)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        scale = eight_halves<BYTES>(at.block);
        bias = eight_halves<BYTES>(at.block + 2);
    }
};

// Integers with a sign, and 128 more so that none is negative.
struct BlockQ8_0 : BlockFormat<32, 34, 32, NATURAL> {
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) {
        const __m256i sign = _mm256_set1_epi8(-128);
        const uint8_t *first = at.block + 2 * BYTES * i + 2;
        a = _mm256_xor_si256(load_bytes(first), sign), b = _mm256_xor_si256(load_bytes(first + BYTES), sign);
    }
    OB_BYTE_FORMAT(BlockQ8_0)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        scale = eight_halves<BYTES>(at.block);
        bias = times(scale, -128);
    }
};

// Floats of four bits, doubled, and 12 more so that none is negative.
OB_INLINE void four_bit_floats(__m256i v, __m256i &low, __m256i &high) {
    const __m256i mask = _mm256_set1_epi8(15);
    const __m256i values = _mm256_broadcastsi128_si256(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
    low = _mm256_shuffle_epi8(values, _mm256_and_si256(v, mask));
    high = _mm256_shuffle_epi8(values, _mm256_and_si256(_mm256_srli_epi16(v, 4), mask));
}

// Their scales 2^(e - 128), of which the first two are below the normal numbers.
OB_INLINE void power_scales(__m256i e, __m256 &scale, __m256 &bias) {
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    scale = _mm256_castsi256_ps(_mm256_blendv_epi8(normal, small, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
    bias = times(scale, -12);
}

struct BlockMXFP4 : BlockFormat<32, 17, 32, HALVES> {
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) { four_bit_floats(block_nibbles<BYTES, 1>(at.block, i), a, b); }
    OB_BYTE_FORMAT(BlockMXFP4)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        power_scales(_mm256_cvtepu16_epi32(_mm_and_si128(eight_words<BYTES>(at.block), _mm_set1_epi16(255))), scale, bias);
    }
};

// MLX's: words and scales are arrays of their own (see shaders/weights/affine.h).
struct WordsMXFP4 : BlockFormat<32, 16, 32, WORDS, true> {
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) { four_bit_floats(load_bytes(at.block + 32 * i), a, b); }
    OB_BYTE_FORMAT(WordsMXFP4)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        power_scales(_mm256_cvtepu8_epi32(by_slot(_mm_loadl_epi64((const __m128i *)at.scales))), scale, bias);
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

struct BlockQ4_K : BlockFormat<256, 144, 32, NATURAL> {
    OB_INLINE void pairs(Place at, uint32_t i, __m256i n[4]) { nibble_pairs(load_bytes(at.block + 16 + 32 * i), n); }
    OB_INLINE void products(Place at, uint32_t i, const int32_t *x, __m256i *v) {
        __m256i even, odd;
        nibble_sums(load_bytes(at.block + 16 + 32 * i), x, even, odd);
        store_sums<BlockQ4_K>(even, odd, v);
    }
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) { six_bit_scales(at.block, scale, bias); }
};

struct BlockQ5_K : BlockFormat<256, 176, 32, NATURAL> {
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) {
        const __m256i low = _mm256_set1_epi8(15), sixteen = _mm256_set1_epi8(16);
        __m256i v = load_bytes(at.block + 48 + 32 * i), high = _mm256_srli_epi16(load_bytes(at.block + 16), 2 * (int)i);
        a = _mm256_or_si256(_mm256_and_si256(v, low), _mm256_and_si256(_mm256_slli_epi16(high, 4), sixteen));
        b = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
        b = _mm256_or_si256(b, _mm256_and_si256(_mm256_slli_epi16(high, 3), sixteen));
    }
    OB_BYTE_FORMAT(BlockQ5_K)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) { six_bit_scales(at.block, scale, bias); }
};

// Half a block has 64 bytes of low halves and 32 of upper two bits; see shaders/weights/blocks_256.h.
struct BlockQ6_K : BlockFormat<256, 210, 16, NATURAL> {
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) {
        const __m256i low = _mm256_set1_epi8(15), upper = _mm256_set1_epi8(0x30);
        __m256i high = _mm256_srli_epi16(load_bytes(at.block + 128 + 32 * at.half), 4 * (int)i);
        a = _mm256_srli_epi16(load_bytes(at.block + 64 * at.half), 4 * (int)i);
        b = _mm256_srli_epi16(load_bytes(at.block + 64 * at.half + 32), 4 * (int)i);
        a = _mm256_or_si256(_mm256_and_si256(a, low), _mm256_and_si256(_mm256_slli_epi16(high, 4), upper));
        b = _mm256_or_si256(_mm256_and_si256(b, low), _mm256_and_si256(_mm256_slli_epi16(high, 2), upper));
    }
    OB_BYTE_FORMAT(BlockQ6_K)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        __m128i bytes = _mm_loadl_epi64((const __m128i *)(at.block + 192 + 8 * at.half));
        scale = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(by_slot(bytes))), half_at(at.block + 208));
        bias = times(scale, -32);
    }
};

}  // namespace OB_NAMESPACE

#endif
