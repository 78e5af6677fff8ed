// How blocks of weights, GGUF's and MLX's mxfp4, are read: integers as pairs of 16 bits, scales as floats. A format F
// has what BlockFormat says, and
//
//   raw(at, i, v)          columns 64 i … of the octet at `at`: RAW vectors of words
//   pairs(v, n)            what they are, word by word: four vectors of sixteen integers
//   products(at, i, x, v)  their products with activations in the same order, added up as octet_dots (blocks.h) wants them
//   scales(at, …)          scales and biases of the octet's groups, by slot: w = integer · scale + bias
#ifndef OB_NATIVE_BLOCK_FORMAT_H
#define OB_NATIVE_BLOCK_FORMAT_H

#include "matvec.h"

namespace OB_NAMESPACE {

// Four vectors hold two groups A and B of 32 columns. NATURAL, with one byte per column: even columns of A, of B,
// odd columns of A, of B. The others, with two columns per byte, have A's eight in the low half and B's in the high half:
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
    static constexpr uint32_t OCTETS =
        columns < 8 * group ? 1 : columns / (8 * group);  // in a block, where one has any
    static constexpr uint32_t OCTET_BYTES = columns < 8 * group ? 8 * bytes : bytes / OCTETS;
    static constexpr Order ORDER = order;            // of columns in pairs()
    static constexpr bool LANES = order != NATURAL;  // whether halves of vectors are groups
    static constexpr bool APART = apart;             // scales are bytes in an array of their own
    static constexpr bool SMALL = true;              // integers below 128: bytes with a sign or without, as it suits
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

// Products of a block that is unpacked, those of A and those of B added up.
OB_INLINE void pair_sums(const __m256i n[4], const int32_t *pairs, __m256i &of_a, __m256i &of_b) {
    const __m256i *x = (const __m256i *)pairs, none = _mm256_setzero_si256();
    of_a = dot_pairs(dot_pairs(none, n[0], _mm256_loadu_si256(x)), n[2], _mm256_loadu_si256(x + 2));
    of_b = dot_pairs(dot_pairs(none, n[1], _mm256_loadu_si256(x + 1)), n[3], _mm256_loadu_si256(x + 3));
}

// The same from bytes a and b. With AVX2 in assembly, as in nibble_products.
OB_INLINE void byte_products(__m256i a, __m256i b, const int32_t *pairs, __m256i &of_a, __m256i &of_b) {
#if OB_HAS_512
    __m256i n[4];
    byte_pairs(a, b, n);
    pair_sums(n, pairs, of_a, of_b);
#else
    struct Pairs {
        int32_t pairs[BLOCK_PAIRS];
    };
    __m256i t, u;
    __asm__(
        "vpand %[low], %[a], %[s]\n\t"
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

// Stores the sums of A and of B as octet_dots wants them.
template <typename F>
OB_INLINE void store_sums(__m256i a, __m256i b, __m256i *v) {
    if (F::GROUP == 16) v[0] = a, v[1] = b;
    else v[0] = F::LANES ? _mm256_add_epi32(a, b) : join_fours(a, b);
}

// For a format with words(at, i), sixteen of four nibbles each.
#define OB_NIBBLE_FORMAT(F)                                                         \
    static constexpr int RAW = 1;                                                   \
    OB_INLINE void raw(Place at, uint32_t i, __m256i v[1]) { v[0] = words(at, i); } \
    OB_INLINE void pairs(const __m256i v[1], __m256i n[4]) {                        \
        n[0] = nibbles<0>(v[0]), n[1] = nibbles<1>(v[0]);                           \
        n[2] = nibbles<2>(v[0]), n[3] = nibbles<3>(v[0]);                           \
    }                                                                               \
    OB_INLINE void products(Place at, uint32_t i, const int32_t *x, __m256i *v) {   \
        __m256i a, b;                                                               \
        nibble_sums(words(at, i), x, a, b);                                         \
        store_sums<F>(a, b, v);                                                     \
    }

// For a format with columns(at, i, a, b), integers that are bytes without a sign.
#define OB_BYTE_FORMAT(F)                                                                  \
    static constexpr int RAW = 2;                                                          \
    OB_INLINE void raw(Place at, uint32_t i, __m256i v[2]) { columns(at, i, v[0], v[1]); } \
    OB_INLINE void pairs(const __m256i v[2], __m256i n[4]) { byte_pairs(v[0], v[1], n); }  \
    OB_INLINE void products(Place at, uint32_t i, const int32_t *x, __m256i *v) {          \
        __m256i a, b;                                                                      \
        columns(at, i, a, b);                                                              \
        byte_products(a, b, x, a, b);                                                      \
        store_sums<F>(a, b, v);                                                            \
    }

}  // namespace OB_NAMESPACE

#endif
