// One row of activations times rows of weights, each read from its beginning to its end as it lies.
//
// A row's float sum has eight parts: group g goes to part g mod 8, in order, and in the end the parts are
// added up from the first to the last. That order holds for many rows too (matmul.h): the same bits.
#ifndef OB_NATIVE_MATVEC_H
#define OB_NATIVE_MATVEC_H

#include "packed.h"

namespace OB_NAMESPACE {

enum { PARTS = 8, PREFETCH = 2048 };  // bytes ahead: a row of weights is too short for the processor to foresee the next

// A block's weights times its pairs: 32-bit sums in the order of its words.
//
// With 4 bits and AVX2 in assembly: GCC 12 keeps neither sums in place nor pairs in memory, for a third more
// instructions.
template <int bits>
OB_INLINE __m256i block_products(const uint8_t *words, const int32_t *pairs) {
    const __m256i *x = (const __m256i *)pairs;
    __m256i v = _mm256_loadu_si256((const __m256i *)words), sum = _mm256_setzero_si256();
    if (bits == 8) {
        __m256i u = _mm256_loadu_si256((const __m256i *)words + 1);
        sum = dot_pairs(sum, bytes<0>(v), _mm256_loadu_si256(x));
        sum = dot_pairs(sum, bytes<1>(v), _mm256_loadu_si256(x + 1));
        sum = dot_pairs(sum, bytes<0>(u), _mm256_loadu_si256(x + 2));
        return dot_pairs(sum, bytes<1>(u), _mm256_loadu_si256(x + 3));
    }
#ifdef __AVX512F__
    sum = dot_pairs(sum, nibbles<0>(v), _mm256_loadu_si256(x));
    sum = dot_pairs(sum, nibbles<1>(v), _mm256_loadu_si256(x + 1));
    sum = dot_pairs(sum, nibbles<2>(v), _mm256_loadu_si256(x + 2));
    return dot_pairs(sum, nibbles<3>(v), _mm256_loadu_si256(x + 3));
#else
    struct Pairs {
        int32_t pairs[BLOCK_PAIRS];
    };
    __m256i t, u;
    __asm__("vpand %[low], %[v], %[sum]\n\t"
            "vpsrlw $4, %[v], %[u]\n\t"
            "vpmaddwd (%[x]), %[sum], %[sum]\n\t"
            "vpand %[low], %[u], %[u]\n\t"
            "vpsrlw $8, %[v], %[t]\n\t"
            "vpmaddwd 32(%[x]), %[u], %[u]\n\t"
            "vpand %[low], %[t], %[t]\n\t"
            "vpaddd %[u], %[sum], %[sum]\n\t"
            "vpmaddwd 64(%[x]), %[t], %[t]\n\t"
            "vpsrlw $12, %[v], %[u]\n\t"
            "vpmaddwd 96(%[x]), %[u], %[u]\n\t"
            "vpaddd %[u], %[t], %[t]\n\t"
            "vpaddd %[t], %[sum], %[sum]"
            : [sum] "=&x"(sum), [t] "=&x"(t), [u] "=&x"(u)
            : [v] "x"(v), [x] "r"(pairs), [low] "x"(_mm256_set1_epi16(15)), "m"(*(const Pairs *)pairs));
    return sum;
#endif
}

// The same for a group of 32 columns, which is half a block.
template <int bits>
OB_INLINE __m256i half_products(const uint8_t *words, const int32_t *pairs, uint32_t half) {
    __m256i sum = _mm256_setzero_si256();
    if (bits == 8) {
        const __m256i *x = (const __m256i *)pairs + 2 * half;
        __m256i v = _mm256_loadu_si256((const __m256i *)words);
        return dot_pairs(dot_pairs(sum, bytes<0>(v), _mm256_loadu_si256(x)), bytes<1>(v), _mm256_loadu_si256(x + 1));
    }
    const __m128i *x = (const __m128i *)pairs + half;
    __m256i v = _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)words));
    sum = dot_pairs(sum, nibbles<0>(v), _mm256_zextsi128_si256(_mm_loadu_si128(x)));
    sum = dot_pairs(sum, nibbles<1>(v), _mm256_zextsi128_si256(_mm_loadu_si128(x + 2)));
    sum = dot_pairs(sum, nibbles<2>(v), _mm256_zextsi128_si256(_mm_loadu_si128(x + 4)));
    return dot_pairs(sum, nibbles<3>(v), _mm256_zextsi128_si256(_mm_loadu_si128(x + 6)));
}

// What has to be added up for the i-th group behind a group of even number, whose words and pairs are given.
template <int bits, int group>
OB_INLINE __m256i group_products(const uint8_t *words, const int32_t *pairs, uint32_t i) {
    words += i * (group * bits / 8);
    if (group == 32) return half_products<bits>(words, pairs + i / 2 * BLOCK_PAIRS, i % 2);
    pairs += i * (group / BLOCK * BLOCK_PAIRS);
    __m256i sum = block_products<bits>(words, pairs);
    if (group == 64) return sum;
    return _mm256_add_epi32(sum, block_products<bits>(words + BLOCK * bits / 8, pairs + BLOCK_PAIRS));
}

// Each vector's sum, in its lane.
OB_INLINE __m256i sums_of(const __m256i v[8]) {
    __m256i low, high;
    sum_halves(v, low, high);
    return _mm256_add_epi32(low, high);
}

// Dot products of eight groups.
template <int bits, int group>
OB_INLINE __m256i eight_dots(const uint8_t *words, const int32_t *pairs) {
    if (group == 32 && bits == 4) {  // two groups to a vector
        __m256i v[4];
        for (uint32_t i = 0; i < 4; i++) v[i] = group_products<4, 64>(words, pairs, i);
        __m256i sums = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
        return _mm256_permutevar8x32_epi32(sums, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    }
    __m256i v[8];
    for (uint32_t i = 0; i < 8; i++) v[i] = group_products<bits, group>(words, pairs, i);
    return sums_of(v);
}

// The two lines that say how a group's floats are added up, here and for many rows.
OB_INLINE __m256 add_group(__m256 sum, __m256i dots, __m256 scale, __m256 bias, __m256 x_scale, __m256 x_sum) {
    sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), _mm256_mul_ps(scale, x_scale), sum);
    return _mm256_fmadd_ps(bias, x_sum, sum);
}

// The parts of a row's sum.
template <int bits, typename S, int group>
OB_INLINE __m256 row_parts(const Packed<bits, S> &w, uint32_t row, const Activations &x) {
    uint32_t groups = w.groups(), rest = groups % 8;
    const uint8_t *words = w.words + row * w.row_bytes();
    const S *scales = w.scales + (size_t)row * groups, *biases = w.biases + (size_t)row * groups;
    const float *x_scales = x.scales, *x_sums = x.sums, *end = x.scales + (groups - rest);
    const int32_t *pairs = x.pairs;
    __m256 parts = _mm256_setzero_ps();
    for (; x_scales < end; x_scales += 8, x_sums += 8, scales += 8, biases += 8) {
        for (int line = 0; line < group * bits; line += 64) _mm_prefetch((const char *)words + PREFETCH + line, _MM_HINT_T0);
        parts = add_group(parts, eight_dots<bits, group>(words, pairs), widen(scales), widen(biases),
                          _mm256_loadu_ps(x_scales), _mm256_loadu_ps(x_sums));
        words += group * bits, pairs += group / 32 * (8 * BLOCK_PAIRS / 2);
    }
    if (rest == 0) return parts;
    __m256i v[8];
    for (uint32_t i = 0; i < 8; i++) v[i] = i < rest ? group_products<bits, group>(words, pairs, i) : _mm256_setzero_si256();
    return add_group(parts, sums_of(v), widen_part(scales, rest), widen_part(biases, rest), _mm256_loadu_ps(x_scales),
                     _mm256_loadu_ps(x_sums));
}

// Two rows of four groups.
template <int bits, typename S, int group>
OB_INLINE __m256 two_rows_of_four(const Packed<bits, S> &w, uint32_t row, const Activations &x) {
    __m256i v[8];
    for (int i = 0; i < 8; i++) v[i] = group_products<bits, group>(w.words + (row + i / 4) * w.row_bytes(), x.pairs, i % 4);
    __m256 x_scales = _mm256_broadcast_ps((const __m128 *)x.scales), x_sums = _mm256_broadcast_ps((const __m128 *)x.sums);
    return add_group(_mm256_setzero_ps(), sums_of(v), widen(w.scales + (size_t)row * 4), widen(w.biases + (size_t)row * 4),
                     x_scales, x_sums);
}

// Four rows of two groups.
template <int bits, typename S, int group>
OB_INLINE __m256 four_rows_of_two(const Packed<bits, S> &w, uint32_t row, const Activations &x) {
    __m256i v[8];
    for (int i = 0; i < 8; i++) v[i] = group_products<bits, group>(w.words + (row + i / 2) * w.row_bytes(), x.pairs, i % 2);
    __m256 x_scales = _mm256_castpd_ps(_mm256_broadcast_sd((const double *)x.scales));
    __m256 x_sums = _mm256_castpd_ps(_mm256_broadcast_sd((const double *)x.sums));
    return add_group(_mm256_setzero_ps(), sums_of(v), widen(w.scales + (size_t)row * 2), widen(w.biases + (size_t)row * 2),
                     x_scales, x_sums);
}

// Products of rows `first` to `first` + 7 of w with x, which has one row; a lane each.
template <int bits, typename S, int group>
OB_INLINE __m256 eight_rows(const Packed<bits, S> &w, uint32_t first, const Activations &x) {
    uint32_t groups = w.groups();
    if (groups == 2) {
        __m256 a = four_rows_of_two<bits, S, group>(w, first, x), b = four_rows_of_two<bits, S, group>(w, first + 4, x);
        __m256 sums = _mm256_hadd_ps(a, b);  // rows 0 1 4 5 2 3 6 7
        return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(sums), 0xD8));
    }
    __m256 parts[8];
    if (groups == 4) {
        __m256 t[4], u[4];
        for (int i = 0; i < 4; i++) t[i] = two_rows_of_four<bits, S, group>(w, first + 2 * i, x);
        // Rows 0 2 4 6 in the low halves, 1 3 5 7 in the high ones.
        u[0] = _mm256_unpacklo_ps(t[0], t[1]), u[1] = _mm256_unpackhi_ps(t[0], t[1]);
        u[2] = _mm256_unpacklo_ps(t[2], t[3]), u[3] = _mm256_unpackhi_ps(t[2], t[3]);
        __m256 p0 = _mm256_shuffle_ps(u[0], u[2], 0x44), p1 = _mm256_shuffle_ps(u[0], u[2], 0xEE);
        __m256 p2 = _mm256_shuffle_ps(u[1], u[3], 0x44), p3 = _mm256_shuffle_ps(u[1], u[3], 0xEE);
        __m256 sum = _mm256_add_ps(_mm256_add_ps(_mm256_add_ps(p0, p1), p2), p3);
        return _mm256_permutevar8x32_ps(sum, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    }
    for (int i = 0; i < 8; i++) parts[i] = row_parts<bits, S, group>(w, first + i, x);
    transpose((__m256i *)parts);
    __m256 sum = parts[0];
    for (int i = 1; i < 8; i++) sum = _mm256_add_ps(sum, parts[i]);
    return sum;
}

template <int bits, typename S>
static __attribute__((noinline)) __m256 matvec(const Packed<bits, S> &w, uint32_t first, const Activations &x) {
    if (w.group == 64) return eight_rows<bits, S, 64>(w, first, x);
    if (w.group == 32) return eight_rows<bits, S, 32>(w, first, x);
    return eight_rows<bits, S, 128>(w, first, x);
}

}  // namespace OB_NAMESPACE

#endif
