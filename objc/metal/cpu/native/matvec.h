// One row of activations times rows of weights, each read from its beginning to its end as it lies.
//
// A row's float sum has eight parts: group g goes to part g mod 8, in order, and in the end the parts are
// added up from the first to the last. That order holds for many rows too (matmul.h): the same bits.
#ifndef OB_NATIVE_MATVEC_H
#define OB_NATIVE_MATVEC_H

#include "packed.h"

namespace OB_NAMESPACE {

enum { PREFETCH = 2048 };  // bytes ahead: a row of weights is too short for the processor to foresee the next

// Sixteen words of four nibbles times pairs in the order of nibbles<0> to nibbles<3>, the first and third added up and
// the second and fourth: 32-bit sums in the order of words.
//
// With AVX2 in assembly: GCC 12 keeps neither sums in place nor pairs in memory, for a third more instructions.
OB_INLINE void nibble_sums(__m256i v, const int32_t *pairs, __m256i &even, __m256i &odd) {
#if OB_HAS_512
    const __m256i *x = (const __m256i *)pairs, none = _mm256_setzero_si256();
    even = dot_pairs(dot_pairs(none, nibbles<0>(v), _mm256_loadu_si256(x)), nibbles<2>(v), _mm256_loadu_si256(x + 2));
    odd =
        dot_pairs(dot_pairs(none, nibbles<1>(v), _mm256_loadu_si256(x + 1)), nibbles<3>(v), _mm256_loadu_si256(x + 3));
#else
    struct Pairs {
        int32_t pairs[BLOCK_PAIRS];
    };
    __m256i t;
    __asm__(
        "vpand %[low], %[v], %[s]\n\t"
        "vpsrlw $4, %[v], %[u]\n\t"
        "vpmaddwd (%[x]), %[s], %[s]\n\t"
        "vpand %[low], %[u], %[u]\n\t"
        "vpsrlw $8, %[v], %[t]\n\t"
        "vpmaddwd 32(%[x]), %[u], %[u]\n\t"
        "vpand %[low], %[t], %[t]\n\t"
        "vpmaddwd 64(%[x]), %[t], %[t]\n\t"
        "vpaddd %[t], %[s], %[s]\n\t"
        "vpsrlw $12, %[v], %[t]\n\t"
        "vpmaddwd 96(%[x]), %[t], %[t]\n\t"
        "vpaddd %[t], %[u], %[u]"
        : [s] "=&x"(even), [t] "=&x"(t), [u] "=&x"(odd)
        : [v] "x"(v), [x] "r"(pairs), [low] "x"(_mm256_set1_epi16(15)), "m"(*(const Pairs *)pairs));
#endif
}

OB_INLINE __m256i nibble_products(__m256i v, const int32_t *pairs) {
    __m256i even, odd;
    nibble_sums(v, pairs, even, odd);
    return _mm256_add_epi32(even, odd);
}

// A block's weights times its pairs: 32-bit sums in the order of its words.
template <int bits>
OB_INLINE __m256i block_products(const uint8_t *words, const int32_t *pairs) {
    __m256i v = _mm256_loadu_si256((const __m256i *)words);
    if (bits == 4) return nibble_products(v, pairs);
    const __m256i *x = (const __m256i *)pairs;
    __m256i u = _mm256_loadu_si256((const __m256i *)words + 1), sum = _mm256_setzero_si256();
    sum = dot_pairs(sum, bytes<0>(v), _mm256_loadu_si256(x));
    sum = dot_pairs(sum, bytes<1>(v), _mm256_loadu_si256(x + 1));
    sum = dot_pairs(sum, bytes<0>(u), _mm256_loadu_si256(x + 2));
    return dot_pairs(sum, bytes<1>(u), _mm256_loadu_si256(x + 3));
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

// The products to add up for the i-th group behind a group of even number, whose words and pairs are given.
template <int bits, int group>
OB_INLINE __m256i group_products(const uint8_t *words, const int32_t *pairs, uint32_t i) {
    words += i * (group * bits / 8);
    if (group == 32) return half_products<bits>(words, pairs + i / 2 * BLOCK_PAIRS, i % 2);
    pairs += i * (group / BLOCK * BLOCK_PAIRS);
    __m256i sum = block_products<bits>(words, pairs);
    if (group == 64) return sum;
    return _mm256_add_epi32(sum, block_products<bits>(words + BLOCK * bits / 8, pairs + BLOCK_PAIRS));
}

// Dot products of groups 0 to 3 at two places, in order.
template <int bits, int group>
OB_INLINE __m256i two_fours(const uint8_t *words, const int32_t *pairs, const uint8_t *words_b,
                            const int32_t *pairs_b) {
    __m256i v[4];
    for (uint32_t i = 0; i < 4; i++) v[i] = group_products<bits, group>(words, pairs, i);
    __m256i a = sum_fours(v);
    for (uint32_t i = 0; i < 4; i++) v[i] = group_products<bits, group>(words_b, pairs_b, i);
    return join_fours(a, sum_fours(v));
}

// Eight groups of 32 columns and 4 bits at a time: a group is half of a block's vector.
static void eight_rows_of_halves(const uint8_t *words, uint32_t groups, const int32_t *x, int32_t *out) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (uint32_t r = 0; r < 8; r++) {
        const int32_t *pairs = x;
        for (uint32_t g = 0; g < groups; g += 8, words += 8 * 32 / 2, pairs += 4 * BLOCK_PAIRS, out += 8) {
            __m256i v[4];
            for (uint32_t line = 0; line < 128; line += 64)
                _mm_prefetch((const char *)words + PREFETCH + line, _MM_HINT_T0);
            for (uint32_t i = 0; i < 4; i++) v[i] = block_products<4>(words + 32 * i, pairs + i * BLOCK_PAIRS);
            _mm256_storeu_si256((__m256i *)out, _mm256_permutevar8x32_epi32(sum_fours(v), order));
        }
    }
}

#if OB_HAS_VNNI
template <int j>
OB_INLINE __m512i nibbles(__m512i words) {
    if (j == 3) return _mm512_srli_epi16(words, 12);
    return _mm512_and_si512(j == 0 ? words : _mm512_srli_epi16(words, 4 * j), _mm512_set1_epi16(15));
}

// The four lanes of each 128 bits added up: v[0] to v[3] in order.
OB_INLINE __m512i sum_fours(const __m512i v[4]) {
    __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
    __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

// A block of four rows of 4 bits, two to a vector, times its pairs.
OB_INLINE void four_rows_block(const uint8_t *words, size_t stride, const int32_t *pairs, __m512i &a, __m512i &b) {
    auto load = [&](int row) { return _mm256_loadu_si256((const __m256i *)(words + row * stride)); };
    __m512i w = _mm512_inserti64x4(_mm512_castsi256_si512(load(0)), load(1), 1),
            u = _mm512_inserti64x4(_mm512_castsi256_si512(load(2)), load(3), 1), x[4];
    for (int j = 0; j < 4; j++) x[j] = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)pairs + j));
    const __m512i none = _mm512_set1_epi32(0);
    a = _mm512_dpwssd_epi32(none, nibbles<0>(w), x[0]), b = _mm512_dpwssd_epi32(none, nibbles<0>(u), x[0]);
    a = _mm512_dpwssd_epi32(a, nibbles<1>(w), x[1]), b = _mm512_dpwssd_epi32(b, nibbles<1>(u), x[1]);
    a = _mm512_dpwssd_epi32(a, nibbles<2>(w), x[2]), b = _mm512_dpwssd_epi32(b, nibbles<2>(u), x[2]);
    a = _mm512_dpwssd_epi32(a, nibbles<3>(w), x[3]), b = _mm512_dpwssd_epi32(b, nibbles<3>(u), x[3]);
}

// Dot products of four groups of 64 columns of each of four rows.
OB_INLINE __m512i four_rows_by_four(const uint8_t *words, size_t stride, const int32_t *x) {
    __m512i a[4], b[4];
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t line = 0; line < 128; line += 64)
            _mm_prefetch((const char *)words + (8 + i) * stride + line, _MM_HINT_T0);
        four_rows_block(words + i * (BLOCK / 2), stride, x + i * BLOCK_PAIRS, a[i], b[i]);
    }
    __m512i low = sum_fours(a), high = sum_fours(b);
    return _mm512_add_epi32(_mm512_shuffle_i32x4(low, high, 0x88), _mm512_shuffle_i32x4(low, high, 0xDD));
}

// Four rows and eight groups of 64 columns at a time. What is stored together is what the floats load together, or the
// processor waits for the stores.
static __attribute__((noinline, unused)) void eight_rows_by_four(const uint8_t *words, uint32_t groups,
                                                                 const int32_t *x, int32_t *out) {
    const size_t stride = (size_t)groups * BLOCK / 2;
    for (uint32_t r = 0; r < 8; r += 4, words += 4 * stride, out += 4 * groups) {
        for (uint32_t g = 0; g < groups; g += 8) {
            const uint8_t *at = words + g * (BLOCK / 2);
            const int32_t *pairs = x + (size_t)g * BLOCK_PAIRS;
            __m512i low = four_rows_by_four(at, stride, pairs),
                    high = four_rows_by_four(at + 4 * (BLOCK / 2), stride, pairs + 4 * BLOCK_PAIRS);
            __m512i even = _mm512_shuffle_i32x4(low, high, 0x88), odd = _mm512_shuffle_i32x4(low, high, 0xDD);
            even = _mm512_shuffle_i32x4(even, even, 0xD8), odd = _mm512_shuffle_i32x4(odd, odd, 0xD8);
            _mm256_storeu_si256((__m256i *)(out + g), _mm512_castsi512_si256(even));
            _mm256_storeu_si256((__m256i *)(out + groups + g), _mm512_castsi512_si256(odd));
            _mm256_storeu_si256((__m256i *)(out + 2 * groups + g), _mm512_extracti64x4_epi64(even, 1));
            _mm256_storeu_si256((__m256i *)(out + 3 * groups + g), _mm512_extracti64x4_epi64(odd, 1));
        }
    }
}
#endif

// Dot products of all groups of eight rows, row by row. Floats come after this loop and not in it: their
// chains of additions are long, and the processor has registers for little more than one turn of it.
template <int bits, int group>
static __attribute__((noinline)) void eight_rows_dots(const uint8_t *words, uint32_t groups, const int32_t *x,
                                                      int32_t *out) {
    const uint32_t four_bytes = 4 * group * bits / 8, four_pairs = 4 * group / BLOCK * BLOCK_PAIRS;
    if (group == 32 && bits == 4 && groups % 8 == 0) return eight_rows_of_halves(words, groups, x, out);
#if OB_HAS_VNNI
    if (group == 64 && bits == 4 && groups % 8 == 0) return eight_rows_by_four(words, groups, x, out);
#endif
    if (groups % 4 == 0) {
        const int32_t *end = x + groups / 4 * four_pairs, *at = x;
        for (uint32_t left = groups; left > 0; left--, words += 2 * four_bytes, out += 8) {
            for (uint32_t line = 0; line < 2 * four_bytes; line += 64)
                _mm_prefetch((const char *)words + PREFETCH + line, _MM_HINT_T0);
            const int32_t *next = at + four_pairs == end ? x : at + four_pairs;
            _mm256_storeu_si256((__m256i *)out, two_fours<bits, group>(words, at, words + four_bytes, next));
            at = next + four_pairs == end ? x : next + four_pairs;
        }
        return;
    }
    if (groups == 2) {
        for (int row = 0; row < 8; row += 4, out += 8) {
            __m256i v[8];
            for (uint32_t i = 0; i < 8; i++, words += i % 2 == 0 ? four_bytes / 2 : 0)
                v[i] = group_products<bits, group>(words, x, i % 2);
            _mm256_storeu_si256((__m256i *)out, join_fours(sum_fours(v), sum_fours(v + 4)));
        }
        return;
    }
    for (uint32_t r = 0; r < 8; r++, words += (size_t)groups * group * bits / 8) {
        for (uint32_t g = 0; g < groups; g += 8) {
            __m256i v[8];
            for (uint32_t i = 0; i < 8; i++) {
                v[i] = _mm256_setzero_si256();
                if (g + i < groups) v[i] = group_products<bits, group>(words, x, g + i);
            }
            // The last stores write beyond this row; the next row's values overwrite that.
            _mm256_storeu_si256((__m256i *)(out + r * groups + g), join_fours(sum_fours(v), sum_fours(v + 4)));
        }
    }
}

// The two lines that say how a group's floats are added up, here and for many rows.
OB_INLINE __m256 add_group(__m256 sum, __m256i dots, __m256 scale, __m256 bias, __m256 x_scale, __m256 x_sum) {
    sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), _mm256_mul_ps(scale, x_scale), sum);
    return _mm256_fmadd_ps(bias, x_sum, sum);
}

// The parts of eight rows' sums, from their dot products.
template <typename S>
OB_INLINE void eight_rows_parts(const int32_t *dots, const S *scales, const S *biases, const Activations &x,
                                __m256 parts[8]) {
    const uint32_t groups = x.groups, rest = groups % 8;
    for (uint32_t r = 0; r < 8; r++, dots += groups, scales += groups, biases += groups) {
        __m256 sum = _mm256_setzero_ps();
        uint32_t g = 0;
        for (; g + 8 <= groups; g += 8) {
            sum = add_group(sum, _mm256_loadu_si256((const __m256i *)(dots + g)), widen(scales + g), widen(biases + g),
                            _mm256_loadu_ps(x.scales + g), _mm256_loadu_ps(x.sums + g));
        }
        if (rest != 0) {
            __m256i part = _mm256_maskload_epi32(dots + g, lanes_below((int)rest));
            sum = add_group(sum, part, widen_part(scales + g, rest), widen_part(biases + g, rest),
                            _mm256_loadu_ps(x.scales + g), _mm256_loadu_ps(x.sums + g));
        }
        parts[r] = sum;
    }
}

// Four groups: a vector has parts 0 to 3 of two rows, which are added up.
template <typename S>
OB_INLINE __m256 eight_rows_of_four(const int32_t *dots, const S *scales, const S *biases, const Activations &x) {
    const __m256 x_scales = _mm256_broadcast_ps((const __m128 *)x.scales),
                 x_sums = _mm256_broadcast_ps((const __m128 *)x.sums);
    __m256 t[4];
    for (int i = 0; i < 4; i++) {
        t[i] = add_group(_mm256_setzero_ps(), _mm256_loadu_si256((const __m256i *)(dots + 8 * i)),
                         widen(scales + 8 * i), widen(biases + 8 * i), x_scales, x_sums);
    }
    // Rows 0 2 4 6 in the low halves, 1 3 5 7 in the high ones.
    __m256 a = _mm256_unpacklo_ps(t[0], t[1]), b = _mm256_unpackhi_ps(t[0], t[1]);
    __m256 c = _mm256_unpacklo_ps(t[2], t[3]), d = _mm256_unpackhi_ps(t[2], t[3]);
    __m256 p0 = _mm256_shuffle_ps(a, c, 0x44), p1 = _mm256_shuffle_ps(a, c, 0xEE);
    __m256 p2 = _mm256_shuffle_ps(b, d, 0x44), p3 = _mm256_shuffle_ps(b, d, 0xEE);
    __m256 sum = _mm256_add_ps(_mm256_add_ps(_mm256_add_ps(p0, p1), p2), p3);
    return _mm256_permutevar8x32_ps(sum, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// Two groups: a vector has parts 0 and 1 of four rows.
template <typename S>
OB_INLINE __m256 eight_rows_of_two(const int32_t *dots, const S *scales, const S *biases, const Activations &x) {
    const __m256 x_scales = _mm256_castpd_ps(_mm256_broadcast_sd((const double *)x.scales));
    const __m256 x_sums = _mm256_castpd_ps(_mm256_broadcast_sd((const double *)x.sums));
    __m256 t[2];
    for (int i = 0; i < 2; i++) {
        t[i] = add_group(_mm256_setzero_ps(), _mm256_loadu_si256((const __m256i *)(dots + 8 * i)),
                         widen(scales + 8 * i), widen(biases + 8 * i), x_scales, x_sums);
    }
    __m256 sums = _mm256_hadd_ps(t[0], t[1]);  // rows 0 1 4 5 2 3 6 7
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(sums), 0xD8));
}

// Eight rows' sums from their dot products with one row of activations, a lane each.
template <int bits, typename S>
OB_INLINE __m256 eight_rows_sums(const Packed<bits, S> &w, uint32_t first, const Activations &x, const int32_t *dots) {
    const S *scales = w.scales + (size_t)first * w.groups, *biases = w.biases + (size_t)first * w.groups;
    if (w.groups == 2) return eight_rows_of_two(dots, scales, biases, x);
    if (w.groups == 4) return eight_rows_of_four(dots, scales, biases, x);
    __m256 parts[8];
    eight_rows_parts(dots, scales, biases, x, parts);
    transpose((__m256i *)parts);
    __m256 sum = parts[0];
    for (int i = 1; i < 8; i++) sum = _mm256_add_ps(sum, parts[i]);
    return sum;
}

// As in WeightFormat.
template <int bits, typename S>
OB_INLINE __m256 matvec(const Packed<bits, S> &w, uint32_t first, const Activations &x) {
    int32_t dots[8 * MOST_GROUPS + 8] __attribute__((aligned(32)));
    const uint8_t *words = w.words + first * w.row_bytes();
    w.prefetch_scales(first, 8);  // they are needed behind all the words
    if (w.group == 64) eight_rows_dots<bits, 64>(words, w.groups, x.pairs, dots);
    else if (w.group == 32) eight_rows_dots<bits, 32>(words, w.groups, x.pairs, dots);
    else eight_rows_dots<bits, 128>(words, w.groups, x.pairs, dots);
    return eight_rows_sums(w, first, x, dots);
}

template <int bits, typename S>
OB_INLINE void few_rows(const Packed<bits, S> &w, uint32_t first, const Activations &x, __m256 y[MOST_FEW]) {
    for (uint32_t r = 0; r < x.rows; r++) y[r] = matvec(w, first, x.one(r));
}

}  // namespace OB_NAMESPACE

#endif
