// GGUF's blocks of 256 weights (see shaders/weights/blocks_256.h).
#ifndef OB_NATIVE_BLOCK_FORMATS_256_H
#define OB_NATIVE_BLOCK_FORMATS_256_H

#include "block_formats_32.h"

namespace OB_NAMESPACE {

// Six bits each of scale and minimum of eight groups, in twelve bytes behind the two f16 numbers that they are times of:
// of the first four groups in bytes of their own, whose upper two bits belong to the other four.
OB_INLINE void six_bit_scales(const uint8_t *b, __m256 &scale, __m256 &bias) {
    const __m128i nibble = _mm_set1_epi8(15);
    __m128i all = load_half(b + 4);
    __m128i first = _mm_and_si128(all, _mm_set1_epi8(63)),
            upper = _mm_and_si128(_mm_srli_epi16(all, 2), _mm_set1_epi8(0x30));
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
    OB_INLINE __m256i words(Place at, uint32_t i) { return load_bytes(at.block + 16 + 32 * i); }
    OB_NIBBLE_FORMAT(BlockQ4_K)
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

// The integers a, each as a number times the f16 number at p.
OB_INLINE __m256 scaled_by(__m256i a, const uint8_t *p) { return _mm256_mul_ps(_mm256_cvtepi32_ps(a), half_at(p)); }

// Half a block has 32 bytes with two bits of four groups of 32 columns each.
OB_INLINE void two_bits(const uint8_t *p, uint32_t i, __m256i &a, __m256i &b) {
    const __m256i three = _mm256_set1_epi8(3);
    __m256i v = _mm256_srli_epi16(load_bytes(p), 4 * (int)i);
    a = _mm256_and_si256(v, three), b = _mm256_and_si256(_mm256_srli_epi16(v, 2), three);
}

struct BlockQ2_K : BlockFormat<256, 84, 16, NATURAL> {
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) {
        two_bits(at.block + 16 + 32 * at.half, i, a, b);
    }
    OB_BYTE_FORMAT(BlockQ2_K)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        __m256i both = _mm256_cvtepu8_epi32(by_slot(_mm_loadl_epi64((const __m128i *)(at.block + 8 * at.half))));
        scale = scaled_by(_mm256_and_si256(both, _mm256_set1_epi32(15)), at.block + 80);
        bias = _mm256_xor_ps(scaled_by(_mm256_srli_epi32(both, 4), at.block + 82), _mm256_set1_ps(-0.0f));
    }
};

struct BlockQ3_K : BlockFormat<256, 110, 16, NATURAL> {
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) {
        two_bits(at.block + 32 + 32 * at.half, i, a, b);
        __m256i high = _mm256_srli_epi16(load_bytes(at.block), (int)(4 * at.half + 2 * i));
        a = _mm256_or_si256(a, _mm256_slli_epi16(_mm256_and_si256(high, _mm256_set1_epi8(1)), 2));
        b = _mm256_or_si256(b, _mm256_slli_epi16(_mm256_and_si256(high, _mm256_set1_epi8(2)), 1));
    }
    OB_BYTE_FORMAT(BlockQ3_K)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        uint64_t low;
        uint32_t rest;
        memcpy(&low, at.block + 96, 8), memcpy(&rest, at.block + 104, 4);
        low = low >> 4 * at.half & 0x0F0F0F0F0F0F0F0F, rest >>= 4 * at.half;
        uint64_t high = (rest & 0x03030303) | (uint64_t)(rest >> 2 & 0x03030303) << 32;
        __m128i six = by_slot(_mm_cvtsi64_si128((int64_t)(low | high << 4)));
        scale = scaled_by(_mm256_sub_epi32(_mm256_cvtepu8_epi32(six), _mm256_set1_epi32(32)), at.block + 108);
        bias = times(scale, -4);
    }
};

// Each group as a block of IQ4_NL; a scale has four bits in four bytes and two in two bytes.
struct BlockIQ4_XS : BlockFormat<256, 136, 32, HALVES> {
    static constexpr bool SMALL = false;
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) {
        four_bit_levels(load_bytes(at.block + 8 + 32 * i), a, b);
    }
    OB_BYTE_FORMAT(BlockIQ4_XS)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        int32_t low;
        uint16_t high;
        memcpy(&low, at.block + 4, 4), memcpy(&high, at.block + 2, 2);
        __m256i of_low = _mm256_srlv_epi32(_mm256_set1_epi32(low), _mm256_setr_epi32(0, 8, 16, 24, 4, 12, 20, 28));
        __m256i of_high = _mm256_srlv_epi32(_mm256_set1_epi32(high), _mm256_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14));
        of_low = _mm256_and_si256(of_low, _mm256_set1_epi32(15));
        of_high = _mm256_slli_epi32(_mm256_and_si256(of_high, _mm256_set1_epi32(3)), 4);
        scale = scaled_by(_mm256_sub_epi32(_mm256_or_si256(of_low, of_high), _mm256_set1_epi32(32)), at.block);
        bias = times(scale, -127);
    }
};

}  // namespace OB_NAMESPACE

#endif
