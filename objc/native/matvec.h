// One row of activations times eight rows of weights, read where they lie.
#ifndef OB_NATIVE_MATVEC_H
#define OB_NATIVE_MATVEC_H

#include "packed.h"

namespace OB_NAMESPACE {

// Integer dot products of a group, a lane for each of eight rows that lie `stride` bytes apart.
template <int bits>
OB_INLINE __m256i group_dots(const uint8_t *words, size_t stride, const int32_t *x, uint32_t group) {
    if (bits == 4) {
        __m256i sums[4] = {};
        for (uint32_t c = 0; c < group; c += 32, words += 16, x += 16) {
            __m256i x0 = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)x));
            __m256i x1 = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)x + 1));
            __m256i x2 = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)x + 2));
            __m256i x3 = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)x + 3));
            for (int i = 0; i < 4; i++) {
                __m256i v = load_two(words + i * stride, stride);
                sums[i] = dot_pairs(sums[i], nibbles<0>(v), x0);
                sums[i] = dot_pairs(sums[i], nibbles<1>(v), x1);
                sums[i] = dot_pairs(sums[i], nibbles<2>(v), x2);
                sums[i] = dot_pairs(sums[i], nibbles<3>(v), x3);
            }
        }
        return _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
    }
    __m256i sums[8] = {}, low, high;
    for (uint32_t c = 0; c < group; c += 32, words += 32, x += 16) {
        __m256i x0 = _mm256_loadu_si256((const __m256i *)x), x1 = _mm256_loadu_si256((const __m256i *)x + 1);
        for (int i = 0; i < 8; i++) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(words + i * stride));
            sums[i] = dot_pairs(sums[i], bytes<0>(v), x0);
            sums[i] = dot_pairs(sums[i], bytes<1>(v), x1);
        }
    }
    sum_halves(sums, low, high);
    return _mm256_add_epi32(low, high);
}

// Σ over groups, in order: the two lines that say how floats are added up, here and for many rows.
OB_INLINE __m256 add_group(__m256 sum, __m256i dots, __m256 scale, __m256 bias, float x_scale, float x_sum) {
    sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), _mm256_mul_ps(scale, _mm256_set1_ps(x_scale)), sum);
    return _mm256_fmadd_ps(bias, _mm256_set1_ps(x_sum), sum);
}

// Products of rows `first` to `first` + 7 of w with row `row` of x, a lane each.
template <int bits, typename S, int group>
OB_INLINE __m256 matvec_groups(const Packed<bits, S> &w, uint32_t first, const Activations &x, uint32_t row) {
    size_t stride = w.row_bytes();
    uint32_t groups = w.groups();
    const uint8_t *words = w.words + first * stride;
    const S *scales = w.scales + (size_t)first * groups, *biases = w.biases + (size_t)first * groups;
    __m256 sum = _mm256_setzero_ps();
    for (uint32_t g = 0; g < groups; g += 8) {
        uint32_t count = least(8, groups - g);
        __m256 scale[8], bias[8];
        load_scales(scales + g, groups, count, scale);
        load_scales(biases + g, groups, count, bias);
        for (uint32_t i = 0; i < count; i++, words += group * bits / 8) {
            size_t at = (size_t)(g + i) * x.rows + row;
            __m256i dots = group_dots<bits>(words, stride, x.at(g + i, row), group);
            sum = add_group(sum, dots, scale[i], bias[i], x.scales[at], x.sums[at]);
        }
    }
    return sum;
}

template <int bits, typename S>
static __attribute__((noinline)) __m256 matvec(const Packed<bits, S> &w, uint32_t first, const Activations &x,
                                               uint32_t row) {
    if (w.group == 64) return matvec_groups<bits, S, 64>(w, first, x, row);
    if (w.group == 32) return matvec_groups<bits, S, 32>(w, first, x, row);
    return matvec_groups<bits, S, 128>(w, first, x, row);
}

}  // namespace OB_NAMESPACE

#endif
