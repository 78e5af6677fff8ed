// GGUF's blocks whose bits number entries of a codebook (see shaders/weights/blocks_coded.h).
#ifndef OB_NATIVE_BLOCK_FORMATS_CODED_H
#define OB_NATIVE_BLOCK_FORMATS_CODED_H

#include "block_formats_256.h"

#define constant static constexpr
typedef unsigned short ushort;
#include "weights/codebook_iq2_s.h"
#include "weights/codebook_iq3_s.h"
#undef constant

namespace OB_NAMESPACE {

// The entries with a byte for each weight.
template <typename Word, uint32_t count>
struct Codebook {
    Word entries[count];

    constexpr Codebook(const ushort (&packed)[count], int bits, const uint8_t *magnitudes) : entries() {
        for (uint32_t i = 0; i < count; i++) {
            for (uint32_t byte = 0; byte < sizeof(Word); byte++) {
                Word number = packed[i] >> byte * bits & ((1 << bits) - 1);
                entries[i] |= (Word)magnitudes[number] << 8 * byte;
            }
        }
    }
};

static constexpr uint8_t odd_magnitudes[8] = {1, 3, 5, 7, 9, 11, 13, 15}, three_magnitudes[4] = {8, 25, 43, 0};
static constexpr Codebook<uint32_t, 512> iq3_s(codebook_iq3_s, 3, odd_magnitudes);
static constexpr Codebook<uint64_t, 1024> iq2_s(codebook_iq2_s, 2, three_magnitudes);

// Magnitudes with the signs of 32 bits, and `more` so that none is negative.
OB_INLINE __m256i with_signs(__m256i magnitudes, const uint8_t *signs, int more) {
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201),
                  spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    int32_t bits;
    memcpy(&bits, signs, 4);
    __m256i set = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread), bit);
    __m256i negative = _mm256_cmpeq_epi8(set, bit);
    __m256i integers = _mm256_sub_epi8(_mm256_xor_si256(magnitudes, negative), negative);
    return _mm256_add_epi8(integers, _mm256_set1_epi8((char)more));
}

// An odd integer 2 n + 1, times the f16 number at p.
OB_INLINE __m256 odd_scales(__m256i n, const uint8_t *p) {
    return scaled_by(_mm256_add_epi32(_mm256_add_epi32(n, n), _mm256_set1_epi32(1)), p);
}

struct BlockIQ3_S : BlockFormat<256, 110, 32, NATURAL> {
    OB_INLINE __m256i group(const uint8_t *block, uint32_t g) {
        const __m256i shifts = _mm256_setr_epi32(8, 7, 6, 5, 4, 3, 2, 1);
        __m256i low = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(block + 2 + 8 * g)));
        __m256i high = _mm256_sllv_epi32(_mm256_set1_epi32(block[66 + g]), shifts);
        __m256i entry = _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi32(256)));
        __m256i magnitudes = _mm256_i32gather_epi32((const int *)iq3_s.entries, entry, 4);
        return with_signs(magnitudes, block + 74 + 4 * g, 15);
    }
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) {
        a = group(at.block, 2 * i), b = group(at.block, 2 * i + 1);
    }
    OB_BYTE_FORMAT(BlockIQ3_S)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        int32_t four;
        memcpy(&four, at.block + 106, 4);
        __m256i n = _mm256_srlv_epi32(_mm256_set1_epi32(four), _mm256_setr_epi32(0, 8, 16, 24, 4, 12, 20, 28));
        scale = odd_scales(_mm256_and_si256(n, _mm256_set1_epi32(15)), at.block);
        bias = times(scale, -15);
    }
};

struct BlockIQ2_S : BlockFormat<256, 82, 16, NATURAL> {
    // 32 columns.
    OB_INLINE __m256i part(const uint8_t *block, uint32_t p) {
        int32_t low;
        memcpy(&low, block + 2 + 4 * p, 4);
        __m128i high = _mm_sllv_epi32(_mm_set1_epi32(block[66 + p]), _mm_setr_epi32(8, 6, 4, 2));
        __m128i entry =
            _mm_or_si128(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(low)), _mm_and_si128(high, _mm_set1_epi32(0x300)));
        __m256i magnitudes = _mm256_i32gather_epi64((const long long *)iq2_s.entries, entry, 8);
        return with_signs(magnitudes, block + 34 + 4 * p, 43);
    }
    OB_INLINE void columns(Place at, uint32_t i, __m256i &a, __m256i &b) {
        a = part(at.block, 4 * at.half + 2 * i), b = part(at.block, 4 * at.half + 2 * i + 1);
    }
    OB_BYTE_FORMAT(BlockIQ2_S)
    OB_INLINE void scales(Place at, __m256 &scale, __m256 &bias) {
        int32_t four;
        memcpy(&four, at.block + 74 + 4 * at.half, 4);
        __m256i n = _mm256_srlv_epi32(_mm256_set1_epi32(four), _mm256_setr_epi32(0, 8, 16, 24, 4, 12, 20, 28));
        scale = times(odd_scales(_mm256_and_si256(n, _mm256_set1_epi32(15)), at.block), 0.125f);
        bias = times(scale, -43);
    }
};

}  // namespace OB_NAMESPACE

#endif
