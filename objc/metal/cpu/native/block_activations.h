// Activations in the orders in which GGUF's blocks are unpacked (block_format.h), a scale for each 32 columns.
#ifndef OB_NATIVE_BLOCK_ACTIVATIONS_H
#define OB_NATIVE_BLOCK_ACTIVATIONS_H

#include "block_format.h"

namespace OB_NAMESPACE {

// Where group g of a row stands among its scales: eight by eight, even ones first.
OB_INLINE uint32_t slot(uint32_t g) { return g / 8 * 8 + g % 2 * 4 + g % 8 / 2; }

// The pair of a block, by its place in the order of pairs(), that is the at-th when the pairs of each group follow each other.
template <typename F>
OB_INLINE int group_pair(int at) {
    int vector = at / 8, four = at / 4 % 2, part = vector / 2, of_b = F::LANES ? four : vector % 2;
    if (F::LANES) return 16 * of_b + 4 * vector + at % 4;
    if (F::GROUP == 32) return 16 * of_b + 8 * part + at % 8;
    return 16 * of_b + 8 * four + 4 * part + at % 4;
}

// 32 columns in order: even ones below 16, from 16 on, odd ones below 16, from 16 on.
OB_INLINE void by_two(__m256i a, __m256i b, __m128i out[4]) {
    const __m256i even_first = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0, 1, 4, 5, 8, 9,
                                                12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    a = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(a, even_first), 0xD8);
    b = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(b, even_first), 0xD8);
    out[0] = _mm256_castsi256_si128(a), out[1] = _mm256_castsi256_si128(b);
    out[2] = _mm256_extracti128_si256(a, 1), out[3] = _mm256_extracti128_si256(b, 1);
}

// 32 columns, in order, of group A (half 0) or B (half 1) of a block: as pairs() leaves them, or for many rows with each
// group's together.
template <typename F>
OB_INLINE void store_order(int32_t *block, int half, bool together, __m256i a, __m256i b) {
    __m128i fours[4];
    if (F::ORDER == WORDS) by_four(a, b, fours);
    else by_two(a, b, fours);
    for (int i = 0; i < 4; i++) {
        int at = F::LANES ? 8 * i + 4 * half : 16 * (i / 2) + 8 * half + 4 * (i % 2);
        _mm_storeu_si128((__m128i *)(block + (together ? group_pair<F>(at) : at)), fours[i]);
    }
}

// Quantises x [inputs] into row `row`, for blocks F; false where an element is inf or NaN.
template <typename F>
static bool quantise_for(const Activations &to, uint32_t row, const float *x) {
    for (uint32_t g = to.groups / 8 * 8; g < (to.groups + 7) / 8 * 8; g++) {
        to.scales[to.scale_at(g, row)] = to.sums[to.scale_at(g, row)] = 0;
    }
    for (uint32_t column = 0; column < to.inputs; column += 32, x += 32) {
        Quantiser q;
        if (!q.start(x, 32)) return false;
        __m256i low = _mm256_setzero_si256(), high = low;
        __m256i a = q.sixteen(x, low), b = q.sixteen(x + 16, high);
        int32_t *block = to.at(column / BLOCK, row);
        if (to.planes) store_planes<F::ORDER == WORDS ? 4 : 8>(block, column % BLOCK != 0, a, b);
        else store_order<F>(block, column % BLOCK != 0, !to.apart, a, b);
        for (uint32_t i = 0; i < 32 / F::GROUP; i++) {
            __m256i total = F::GROUP == 32 ? _mm256_add_epi32(low, high) : i == 0 ? low : high;
            size_t at = to.scale_at(slot(column / F::GROUP + i), row);
            to.scales[at] = q.scale;
            to.sums[at] = q.scale * (float)sum(total);
        }
    }
    return true;
}

}  // namespace OB_NAMESPACE

#endif
