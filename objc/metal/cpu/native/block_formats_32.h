// GGUF's blocks of 32 weights (see shaders/weights/blocks_32.h), and MLX's mxfp4.
#ifndef OB_NATIVE_BLOCK_FORMATS_32_H
#define OB_NATIVE_BLOCK_FORMATS_32_H

#include "block_format.h"

namespace OB_NAMESPACE {

// Sixteen bytes of two blocks with two columns each, from byte Q of the block on.
template <int bytes, int Q>
OB_INLINE __m256i block_nibbles(const uint8_t *b, uint32_t i) {
    b += i * 2 * bytes + Q;
    return load_blocks(b, b + bytes);
}

struct BlockQ4_0 : BlockFormat<32, 18, 32, HALVES> {
    OB_INLINE __m256i words(Place at, uint32_t i) { return block_nibbles<BYTES, 2>(at.block, i); }
    OB_NIBBLE_FORMAT(BlockQ4_0)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        scale = eight_halves<BYTES>(at.block);
        bias = times(scale, -8);
    }
};

struct BlockQ4_1 : BlockFormat<32, 20, 32, HALVES> {
    OB_INLINE __m256i words(Place at, uint32_t i) { return block_nibbles<BYTES, 4>(at.block, i); }
    OB_NIBBLE_FORMAT(BlockQ4_1)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        scale = eight_halves<BYTES>(at.block);
        bias = eight_halves<BYTES>(at.block + 2);
    }
};

// With the fifth bits of two blocks' 32 columns, four bytes each from byte HIGH of the block on.
template <int bytes, int HIGH>
OB_INLINE void five_bits(const uint8_t *b, uint32_t i, __m256i &first16, __m256i &last16) {
    const __m256i low = _mm256_set1_epi8(15), bit = _mm256_set1_epi64x((int64_t)0x8040201008040201),
                  sixteen = _mm256_set1_epi8(16);
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
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) { five_bits<BYTES, 2>(at.block, i, a, b); }
    OB_BYTE_FORMAT(BlockQ5_0)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        scale = eight_halves<BYTES>(at.block);
        bias = times(scale, -16);
    }
};

struct BlockQ5_1 : BlockFormat<32, 24, 32, HALVES> {
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) { five_bits<BYTES, 4>(at.block, i, a, b); }
    OB_BYTE_FORMAT(BlockQ5_1)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        scale = eight_halves<BYTES>(at.block);
        bias = eight_halves<BYTES>(at.block + 2);
    }
};

// Integers with a sign, and 128 more so that none is negative.
struct BlockQ8_0 : BlockFormat<32, 34, 32, NATURAL> {
    static constexpr bool SMALL = false;
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
    const __m256i values =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
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
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) {
        four_bit_floats(block_nibbles<BYTES, 1>(at.block, i), a, b);
    }
    OB_BYTE_FORMAT(BlockMXFP4)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        power_scales(_mm256_cvtepu16_epi32(_mm_and_si128(eight_words<BYTES>(at.block), _mm_set1_epi16(255))), scale,
                     bias);
    }
};

// Codes of four bits for integers with a sign, and 127 more so that none is negative.
OB_INLINE void four_bit_levels(__m256i v, __m256i &low, __m256i &high) {
    const __m256i mask = _mm256_set1_epi8(15);
    const __m256i values =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 23, 44, 62, 78, 92, 105, 117, (char)128, (char)140, (char)152,
                                                  (char)165, (char)180, (char)196, (char)216, (char)240));
    low = _mm256_shuffle_epi8(values, _mm256_and_si256(v, mask));
    high = _mm256_shuffle_epi8(values, _mm256_and_si256(_mm256_srli_epi16(v, 4), mask));
}

struct BlockIQ4_NL : BlockFormat<32, 18, 32, HALVES> {
    static constexpr bool SMALL = false;
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) {
        four_bit_levels(block_nibbles<BYTES, 2>(at.block, i), a, b);
    }
    OB_BYTE_FORMAT(BlockIQ4_NL)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        scale = eight_halves<BYTES>(at.block);
        bias = times(scale, -127);
    }
};

// MLX's: words and scales are arrays of their own (see shaders/weights/affine.h).
struct WordsMXFP4 : BlockFormat<32, 16, 32, WORDS, true> {
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) {
        four_bit_floats(load_bytes(at.block + 32 * i), a, b);
    }
    OB_BYTE_FORMAT(WordsMXFP4)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        power_scales(_mm256_cvtepu8_epi32(by_slot(_mm_loadl_epi64((const __m128i *)at.scales))), scale, bias);
    }
};

}  // namespace OB_NAMESPACE

#endif
