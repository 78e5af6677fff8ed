// Activations as 16-bit integers: of each group of columns x = q · scale, |q| ≤ 32,767.
//
// With 4- or 8-bit weights the dot product of a group is then an exact 32-bit integer, so results do
// not depend on how the work is cut or on the instruction set; what rounding costs is about 2⁻¹⁶ of
// the group's largest element. (8-bit activations would cost 2⁻⁸: a KL divergence of 10⁻³ on text.)
#ifndef OB_NATIVE_ACTIVATIONS_H
#define OB_NATIVE_ACTIVATIONS_H

#include "vec.h"

namespace OB_NAMESPACE {

enum { BLOCK = 64, BLOCK_PAIRS = 32 };       // columns that are stored together, and their pairs
enum { LEAST_TILE_ROWS = 8, MOST_FEW = 6 };  // rows: fewer never go through tiles; more are never apart

// Rows of activations in the order in which unpacking leaves weights: pairs of 16-bit integers, block by
// block, all rows of a block behind each other. 4-bit weights come eight to a word d, as pairs
// j = (8d + j, 8d + j + 4), and stand in the order [j][d]. 8-bit weights come four to a word: pairs
// (4d + j, 4d + j + 2), in the order [half of the block][j][d].
//
// For products of bytes, of tiles or of VNNI (quads.h), a row's block is two planes of 64 bytes instead, in the
// order of columns: the signed high bytes, then the unsigned low bytes. With 4-bit weights, of each eight columns
// those with even numbers come first, as unpacking leaves them.
struct Activations {
    int32_t *pairs;  // columns that fill the last block are 0
    float *scales;   // of groups
    float *sums;     // Σ x of groups
    uint32_t rows, inputs, group, groups;
    // A few rows lie apart, each as if alone, with zeros behind its scales and sums for eight more: for
    // kernels that go from block to block of a row. More rows lie together, all of a block and of a group
    // behind each other. From one to the next, in elements:
    size_t block_step, row_step, scale_step, row_scale_step;
    bool apart, planes;

    enum { SLACK = 3 * 4 * BLOCK_PAIRS };  // four blocks are read together, the last of which may not be there

    static uint32_t blocks(uint32_t inputs) { return (inputs + BLOCK - 1) / BLOCK; }
    int32_t *at(uint32_t block, uint32_t row) const { return pairs + block * block_step + row * row_step; }
    size_t scale_at(uint32_t g, uint32_t row) const { return g * scale_step + row * row_scale_step; }

    // One row of those that lie apart.
    Activations one(uint32_t row) const {
        Activations r = *this;
        r.pairs += row * row_step, r.scales += row * row_scale_step, r.sums += row * row_scale_step, r.rows = 1;
        return r;
    }

    static size_t bytes(uint32_t rows, uint32_t inputs, uint32_t group) {
        size_t all = (size_t)rows * (blocks(inputs) * 4 * BLOCK_PAIRS + (inputs / group + 8) * 8);
        return (all + SLACK + 63) / 64 * 64;
    }

    // Lays the arrays out at `memory`, up to `few` rows apart, and more as planes or not; gives what is behind them.
    char *place(char *memory, uint32_t rows_, uint32_t inputs_, uint32_t group_, uint32_t few, bool planes_) {
        rows = rows_, inputs = inputs_, group = group_, groups = inputs / group;
        apart = rows <= few, planes = planes_ && !apart;
        block_step = apart ? (size_t)BLOCK_PAIRS : (size_t)rows * BLOCK_PAIRS;
        row_step = apart ? (size_t)blocks(inputs) * BLOCK_PAIRS : (size_t)BLOCK_PAIRS;
        scale_step = apart ? 1 : rows, row_scale_step = apart ? groups + 8 : 1;
        pairs = (int32_t *)memory;
        scales = (float *)(memory + (size_t)rows * blocks(inputs) * 4 * BLOCK_PAIRS);
        sums = scales + (size_t)rows * (groups + 8);
        for (uint32_t r = 0; apart && r < rows; r++) {
            memset(scales + scale_at(groups, r), 0, 8 * sizeof(float));
            memset(sums + scale_at(groups, r), 0, 8 * sizeof(float));
        }
        return memory + bytes(rows, inputs, group);
    }
};

// 32 columns in order: those that are 0, 1, 2 and 3 modulo 4.
OB_INLINE void by_four(__m256i a, __m256i b, __m128i out[4]) {
    const __m256i order = _mm256_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15, 0, 1, 8, 9, 2, 3, 10,
                                           11, 4, 5, 12, 13, 6, 7, 14, 15);
    a = _mm256_shuffle_epi8(a, order), b = _mm256_shuffle_epi8(b, order);
    __m128i p0 = _mm256_castsi256_si128(a), p1 = _mm256_extracti128_si256(a, 1);
    __m128i p2 = _mm256_castsi256_si128(b), p3 = _mm256_extracti128_si256(b, 1);
    __m128i t0 = _mm_unpacklo_epi32(p0, p1), t1 = _mm_unpackhi_epi32(p0, p1);
    __m128i t2 = _mm_unpacklo_epi32(p2, p3), t3 = _mm_unpackhi_epi32(p2, p3);
    out[0] = _mm_unpacklo_epi64(t0, t2), out[1] = _mm_unpackhi_epi64(t0, t2);
    out[2] = _mm_unpacklo_epi64(t1, t3), out[3] = _mm_unpackhi_epi64(t1, t3);
}

// Half a block, columns in order, as pairs; `half` is 0 or 1.
template <int bits>
OB_INLINE void store_pairs(int32_t *block, int half, __m256i a, __m256i b) {
    if (bits == 4) {
        __m128i fours[4], *out = (__m128i *)block + half;
        by_four(a, b, fours);
        for (int j = 0; j < 4; j++) _mm_storeu_si128(out + 2 * j, fours[j]);
    } else {
        const __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0, 1, 4, 5, 8, 9,
                                               12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
        a = _mm256_shuffle_epi8(a, order), b = _mm256_shuffle_epi8(b, order);
        __m256i even = _mm256_unpacklo_epi64(a, b), odd = _mm256_unpackhi_epi64(a, b);
        __m256i *out = (__m256i *)block + 2 * half;
        _mm256_storeu_si256(out, _mm256_permute4x64_epi64(even, 0xD8));
        _mm256_storeu_si256(out + 1, _mm256_permute4x64_epi64(odd, 0xD8));
    }
}

// The same as planes.
template <int bits>
OB_INLINE void store_planes(int32_t *block, int half, __m256i a, __m256i b) {
    const __m256i byte = _mm256_set1_epi16(255);
    const __m256i order = _mm256_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15, 0, 2, 4, 6, 1, 3, 5, 7,
                                           8, 10, 12, 14, 9, 11, 13, 15);
    __m256i high = _mm256_packs_epi16(_mm256_srai_epi16(a, 8), _mm256_srai_epi16(b, 8));
    __m256i low = _mm256_packus_epi16(_mm256_and_si256(a, byte), _mm256_and_si256(b, byte));
    high = _mm256_permute4x64_epi64(high, 0xD8), low = _mm256_permute4x64_epi64(low, 0xD8);
    if (bits == 4) high = _mm256_shuffle_epi8(high, order), low = _mm256_shuffle_epi8(low, order);
    _mm256_storeu_si256((__m256i *)block + half, high);
    _mm256_storeu_si256((__m256i *)block + 2 + half, low);
}

template <int bits>
OB_INLINE void store_half(const Activations &to, uint32_t column, uint32_t row, __m256i a, __m256i b) {
    int32_t *block = to.at(column / BLOCK, row);
    if (to.planes) store_planes<bits>(block, column % BLOCK != 0, a, b);
    else store_pairs<bits>(block, column % BLOCK != 0, a, b);
}

// A group of activations on its way to integers.
struct Quantiser {
    float scale;
    __m256 inverse;

    // Finds the scale of x [count]; false where an element is inf or NaN.
    bool start(const float *x, uint32_t count) {
        const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
        __m256i most = _mm256_setzero_si256();
        for (uint32_t i = 0; i < count; i += 8) {
            most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(x + i)), magnitude));
        }
        uint32_t word = max_unsigned(most);
        if (word >= 0x7F800000u) return false;
        float top;
        memcpy(&top, &word, 4);
        bool none = top < 1e-33f;  // whose inverse would not be finite
        inverse = _mm256_set1_ps(none ? 0.0f : 32767.0f / top);
        scale = none ? 0.0f : top / 32767.0f;
        return true;
    }

    // Sixteen columns of it as 16-bit integers, in order; they are added to `total`.
    __m256i sixteen(const float *x, __m256i &total) const {
        __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
        __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), inverse));
        total = _mm256_add_epi32(total, _mm256_add_epi32(a, b));
        return _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
    }
};

// Quantises x [inputs] into row `row`; false where an element is inf or NaN.
template <int bits>
static bool quantise(const Activations &to, uint32_t row, const float *x) {
    for (uint32_t g = 0; g < to.groups; g++, x += to.group) {
        Quantiser q;
        if (!q.start(x, to.group)) return false;
        __m256i total = _mm256_setzero_si256();
        for (uint32_t i = 0; i < to.group; i += 32) {
            __m256i a = q.sixteen(x + i, total), c = q.sixteen(x + i + 16, total);
            store_half<bits>(to, g * to.group + i, row, a, c);
        }
        to.scales[to.scale_at(g, row)] = q.scale;
        to.sums[to.scale_at(g, row)] = q.scale * (float)sum(total);
    }
    if (to.inputs % BLOCK != 0) {
        __m256i none = _mm256_setzero_si256();
        store_half<bits>(to, to.inputs, row, none, none);
    }
    return true;
}

}  // namespace OB_NAMESPACE

#endif
