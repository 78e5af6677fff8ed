// Many rows of activations times a tile of sixteen rows of weights, which is unpacked once, group by
// group, and used for all rows while it is in the nearest cache.
#ifndef OB_NATIVE_MATMUL_H
#define OB_NATIVE_MATMUL_H

#include "matvec.h"

namespace OB_NAMESPACE {

enum { TILE = 16, MAX_GROUP = 128 };

// The unpacked tile: for each pair of columns, in the order of Activations, a pair for each of sixteen
// rows of weights.
struct Panel {
    int32_t pairs[MAX_GROUP / 2][TILE];
} __attribute__((aligned(64)));

template <int bits>
OB_INLINE void unpack_half(const uint8_t *words, size_t stride, uint32_t group, int32_t (*out)[TILE]) {
    for (uint32_t c = 0; c < group; c += 32, out += 16) {
        if (bits == 4) {
            __m256i v[4], t[4], d[4];
            for (int i = 0; i < 4; i++) v[i] = load_two(words + i * stride, stride);
            t[0] = _mm256_unpacklo_epi32(v[0], v[1]), t[1] = _mm256_unpackhi_epi32(v[0], v[1]);
            t[2] = _mm256_unpacklo_epi32(v[2], v[3]), t[3] = _mm256_unpackhi_epi32(v[2], v[3]);
            d[0] = _mm256_unpacklo_epi64(t[0], t[2]), d[1] = _mm256_unpackhi_epi64(t[0], t[2]);
            d[2] = _mm256_unpacklo_epi64(t[1], t[3]), d[3] = _mm256_unpackhi_epi64(t[1], t[3]);
            for (int i = 0; i < 4; i++) {
                _mm256_store_si256((__m256i *)out[i], nibbles<0>(d[i]));
                _mm256_store_si256((__m256i *)out[4 + i], nibbles<1>(d[i]));
                _mm256_store_si256((__m256i *)out[8 + i], nibbles<2>(d[i]));
                _mm256_store_si256((__m256i *)out[12 + i], nibbles<3>(d[i]));
            }
            words += 16;
        } else {
            __m256i v[8];
            for (int i = 0; i < 8; i++) v[i] = _mm256_loadu_si256((const __m256i *)(words + i * stride));
            transpose(v);
            for (int i = 0; i < 8; i++) {
                _mm256_store_si256((__m256i *)out[i], bytes<0>(v[i]));
                _mm256_store_si256((__m256i *)out[8 + i], bytes<1>(v[i]));
            }
            words += 32;
        }
    }
}

#ifdef __AVX512F__
typedef __m512i Sums;
enum { VECTORS = 1, MOST_ROWS = 12 };

OB_INLINE Sums dot_step(Sums sum, const int32_t *panel, int32_t x) {
    __m512i w = _mm512_load_si512(panel), b = _mm512_set1_epi32(x);
#ifdef __AVX512VNNI__
    return _mm512_dpwssd_epi32(sum, w, b);
#else
    return _mm512_add_epi32(sum, _mm512_madd_epi16(w, b));
#endif
}
OB_INLINE Sums no_sums() { return _mm512_setzero_si512(); }
OB_INLINE __m256i half_of(const Sums *sums, int half) {
    return half ? _mm512_extracti64x4_epi64(sums[0], 1) : _mm512_castsi512_si256(sums[0]);
}
#else
typedef __m256i Sums;
enum { VECTORS = 2, MOST_ROWS = 6 };

OB_INLINE Sums dot_step(Sums sum, const int32_t *panel, int32_t x) {
    return dot_pairs(sum, _mm256_load_si256((const __m256i *)panel), _mm256_set1_epi32(x));
}
OB_INLINE Sums no_sums() { return _mm256_setzero_si256(); }
OB_INLINE __m256i half_of(const Sums *sums, int half) { return sums[half]; }
#endif

// What a group's scales do to its dot products.
struct GroupScales {
    __m256 scale[2], bias[2];  // of the tile's halves
    const float *x_scales, *x_sums;
};

// R rows of a group: y[row][16] += the group's part.
template <int R, int steps>
OB_INLINE void multiply_rows(const Panel &panel, const int32_t *x, const GroupScales &s, float (*y)[TILE]) {
    Sums sums[R][VECTORS];
    for (int r = 0; r < R; r++) {
        for (int v = 0; v < VECTORS; v++) sums[r][v] = no_sums();
    }
    for (int i = 0; i < steps; i++) {
        for (int r = 0; r < R; r++) {
            for (int v = 0; v < VECTORS; v++) {
                sums[r][v] = dot_step(sums[r][v], panel.pairs[i] + v * (TILE / VECTORS), x[r * steps + i]);
            }
        }
    }
    for (int r = 0; r < R; r++) {
        for (int h = 0; h < 2; h++) {
            __m256 sum = _mm256_load_ps(y[r] + 8 * h);
            sum = add_group(sum, half_of(sums[r], h), s.scale[h], s.bias[h], s.x_scales[r], s.x_sums[r]);
            _mm256_store_ps(y[r] + 8 * h, sum);
        }
    }
}

template <int steps, int R>
OB_INLINE void multiply_count(uint32_t count, const Panel &panel, const int32_t *x, const GroupScales &s,
                              float (*y)[TILE]) {
    if constexpr (R == 1) {
        multiply_rows<1, steps>(panel, x, s, y);
    } else {
        if (count == R) multiply_rows<R, steps>(panel, x, s, y);
        else multiply_count<steps, R - 1>(count, panel, x, s, y);
    }
}

// All rows of a group, in tiles of nearly the same height.
template <int steps>
static void multiply_group(const Panel &panel, const int32_t *x, GroupScales s, uint32_t rows, float (*y)[TILE]) {
    for (uint32_t tiles = (rows + MOST_ROWS - 1) / MOST_ROWS; tiles > 0; tiles--) {
        uint32_t count = (rows + tiles - 1) / tiles;
        multiply_count<steps, MOST_ROWS>(count, panel, x, s, y);
        rows -= count, x += count * steps, y += count;
        s.x_scales += count, s.x_sums += count;
    }
}

// y[row][lane] of the first `rows` rows of x: lanes 0 to 7 are rows first[0] … of w, 8 to 15 first[1] ….
template <int bits, typename S>
static __attribute__((noinline)) void matmul(const Packed<bits, S> &w, const uint32_t first[2], const Activations &x,
                                             uint32_t rows, float (*y)[TILE]) {
    Panel panel;
    size_t stride = w.row_bytes();
    uint32_t groups = w.groups();
    memset(y, 0, rows * sizeof *y);
    for (uint32_t g = 0; g < groups; g += 8) {
        uint32_t count = least(8, groups - g);
        __m256 scale[2][8], bias[2][8];
        for (int h = 0; h < 2; h++) {
            load_scales(w.scales + (size_t)first[h] * groups + g, groups, count, scale[h]);
            load_scales(w.biases + (size_t)first[h] * groups + g, groups, count, bias[h]);
        }
        for (uint32_t i = 0; i < count; i++) {
            size_t offset = (size_t)(g + i) * w.group * bits / 8, at = (size_t)(g + i) * x.rows;
            for (int h = 0; h < 2; h++) {
                unpack_half<bits>(w.words + first[h] * stride + offset, stride, w.group,
                                  (int32_t(*)[TILE])(panel.pairs[0] + 8 * h));
            }
            GroupScales s = {{scale[0][i], scale[1][i]}, {bias[0][i], bias[1][i]}, x.scales + at, x.sums + at};
            const int32_t *pairs = x.at(g + i, 0);
            if (w.group == 64) multiply_group<32>(panel, pairs, s, rows, y);
            else if (w.group == 32) multiply_group<16>(panel, pairs, s, rows, y);
            else multiply_group<64>(panel, pairs, s, rows, y);
        }
    }
}

}  // namespace OB_NAMESPACE

#endif
