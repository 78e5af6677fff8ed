// Sixteen rows of weights in vectors of 512 bits: lanes 0 to 7 are rows first[0] … of a matrix, 8 to 15 first[1] ….
#ifndef OB_NATIVE_WIDE_H
#define OB_NATIVE_WIDE_H

#include "matvec.h"

#if OB_HAS_512

namespace OB_NAMESPACE {

OB_INLINE __m512i join(__m256i low, __m256i high) { return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1); }

// Eight words of each of sixteen rows become a vector for each word, with a lane for each row. Of each eight
// rows v has i and i + 4 in one vector.
OB_INLINE void transpose(__m512i v[8]) {
    __m512i t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        u[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        u[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        u[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        v[i] = _mm512_shuffle_i32x4(u[i], u[i + 4], 0x88);
        v[i + 4] = _mm512_shuffle_i32x4(u[i], u[i + 4], 0xDD);
    }
}

// `size` bytes of each row, 16 or 32; of the words behind the sixteenth byte nothing is said then.
template <int size>
OB_INLINE void load_words(const uint8_t *const sides[2], size_t stride, __m512i words[8]) {
    auto load = [&](int row) {
        const uint8_t *p = sides[row / 8] + (row % 8) * stride;
        if (size == 32) return _mm256_loadu_si256((const __m256i *)p);
        return _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)p));
    };
    for (int i = 0; i < 4; i++) {
        words[i] = join(load(i), load(i + 4));
        words[i + 4] = join(load(8 + i), load(12 + i));
    }
    transpose(words);
}

// Eight scales or biases of a row and of another.
OB_INLINE __m512i widen_two(const float *a, const float *b) {
    return join(_mm256_loadu_si256((const __m256i *)a), _mm256_loadu_si256((const __m256i *)b));
}
OB_INLINE __m256i halves_of_two(const void *a, const void *b) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)a)),
                                   _mm_loadu_si128((const __m128i *)b), 1);
}
OB_INLINE __m512i widen_two(const half *a, const half *b) {
    return _mm512_castps_si512(_mm512_cvtph_ps(halves_of_two(a, b)));
}
OB_INLINE __m512i widen_two(const bfloat *a, const bfloat *b) {
    return _mm512_slli_epi32(_mm512_cvtepu16_epi32(halves_of_two(a, b)), 16);
}

// Scales or biases of the eight groups from `from` on, as they lie in all rows of `groups`: out[group].
template <typename S>
OB_INLINE void load_scales(const S *all, const uint32_t first[2], uint32_t groups, uint32_t from, __m512 out[8]) {
    auto row = [&](int i) { return all + ((size_t)first[i / 8] + i % 8) * groups + from; };
    __m512i v[8];
    if (groups >= 8) {
        for (int i = 0; i < 4; i++) v[i] = widen_two(row(i), row(i + 4)), v[i + 4] = widen_two(row(8 + i), row(12 + i));
    } else {
        __m256i part[16];
        for (int i = 0; i < 16; i++) part[i] = _mm256_castps_si256(widen_part(row(i), groups));
        for (int i = 0; i < 4; i++) v[i] = join(part[i], part[i + 4]), v[i + 4] = join(part[8 + i], part[12 + i]);
    }
    transpose(v);
    for (int i = 0; i < 8; i++) out[i] = _mm512_castsi512_ps(v[i]);
}

// As for eight outputs: the same bits.
OB_INLINE __m512 add_group(__m512 sum, __m512i dots, __m512 scale, __m512 bias, __m512 x_scale, __m512 x_sum) {
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), _mm512_mul_ps(scale, x_scale), sum);
    return _mm512_fmadd_ps(bias, x_sum, sum);
}

// y[0][i] += y[1][i] … y[parts - 1][i], from the first to the last, of n each.
OB_INLINE void add_parts(float *y, uint32_t parts, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        __m512 sum = _mm512_load_ps(y + i);
        for (uint32_t p = 1; p < parts; p++) sum = _mm512_add_ps(sum, _mm512_load_ps(y + p * n + i));
        _mm512_store_ps(y + i, sum);
    }
}

}  // namespace OB_NAMESPACE

#endif
#endif
