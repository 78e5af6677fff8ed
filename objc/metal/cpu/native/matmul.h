// Many rows of activations times a tile of sixteen rows of weights, which is unpacked once, block by
// block, and used for all rows while it is in the nearest cache.
#ifndef OB_NATIVE_MATMUL_H
#define OB_NATIVE_MATMUL_H

#include "loops.h"
#include "wide.h"

namespace OB_NAMESPACE {

// An unpacked block of the tile: for each pair of columns, in the order of Activations, a pair for each
// of sixteen rows of weights.
struct Panel {
    int32_t pairs[BLOCK_PAIRS][TILE];
} __attribute__((aligned(64)));

#if OB_HAS_512
typedef __m512i Sums;
enum { VECTORS = 1, MOST_ROWS = 12 };

OB_INLINE Sums load_sums(const int32_t *p) { return _mm512_load_si512(p); }
OB_INLINE Sums splat(int32_t x) { return _mm512_set1_epi32(x); }

// sum + w · a pair of activations. In assembly: GCC 12 reads pairs into registers of their own otherwise.
OB_INLINE Sums dot_step(Sums sum, Sums w, const int32_t &x) {
#if OB_HAS_VNNI && defined(OB_EMULATE)
    return _mm512_dpwssd_epi32(sum, w, splat(x));
#elif defined(OB_EMULATE)
    return _mm512_add_epi32(sum, _mm512_madd_epi16(w, splat(x)));
#elif OB_HAS_VNNI
    __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(x));
    return sum;
#else
    Sums products;
    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+v"(sum), "=&v"(products) : "v"(w), "v"(splat(x)));
    return sum;
#endif
}

// The j-th of the parts of a word, as in packed.h.
template <int bits, int j>
OB_INLINE __m512i part_of(__m512i words) {
    if (bits * j == 16 - bits) return _mm512_srli_epi16(words, bits * j);
    return _mm512_and_si512(j == 0 ? words : _mm512_srli_epi16(words, bits * j), _mm512_set1_epi16((1 << bits) - 1));
}

// A group of the tile. `half` is which of its block, for a group of 32.
template <int bits, int group>
OB_INLINE void unpack(const uint8_t *const words[2], size_t stride, Panel panels[2], int half) {
    enum { SIZE = bits == 4 && group == 32 ? 16 : 32, COLUMNS = SIZE * 8 / bits };
    for (int c = 0; c < group; c += COLUMNS) {
        const uint8_t *sides[2] = {words[0] + c * bits / 8, words[1] + c * bits / 8};
        __m512i v[8];
        load_words<SIZE>(sides, stride, v);
        int at = group == 32 ? half : c / 32 % 2;
        for (int i = 0; i < SIZE / 4; i++) {
            int32_t *out = panels[c / BLOCK].pairs[(bits == 4 ? 4 : 16) * at + i];
            _mm512_store_si512(out, part_of<bits, 0>(v[i]));
            _mm512_store_si512(out + 8 * TILE, part_of<bits, 1>(v[i]));
            if (bits == 8) continue;
            _mm512_store_si512(out + 16 * TILE, part_of<4, 2>(v[i]));
            _mm512_store_si512(out + 24 * TILE, part_of<4, 3>(v[i]));
        }
    }
}

typedef __m512 Outputs;
OB_INLINE Outputs outputs_of(__m256 low, __m256 high) {
    return _mm512_castsi512_ps(join(_mm256_castps_si256(low), _mm256_castps_si256(high)));
}
#define OB_OWN_GROUP Group  // a copy stays in registers, though y is written
#else
typedef __m256i Sums;
enum { VECTORS = 2, MOST_ROWS = 6 };

OB_INLINE Sums splat(int32_t x) { return _mm256_set1_epi32(x); }

// 32 columns of eight rows into lanes 8 · side … of half a block's pairs.
template <int bits>
OB_INLINE void unpack(const uint8_t *words, size_t stride, Panel &panel, int half, int side) {
    if (bits == 4) {
        __m256i v[4], t[4], d[4];
        for (int i = 0; i < 4; i++) v[i] = load_two(words + i * stride, stride);
        t[0] = _mm256_unpacklo_epi32(v[0], v[1]), t[1] = _mm256_unpackhi_epi32(v[0], v[1]);
        t[2] = _mm256_unpacklo_epi32(v[2], v[3]), t[3] = _mm256_unpackhi_epi32(v[2], v[3]);
        d[0] = _mm256_unpacklo_epi64(t[0], t[2]), d[1] = _mm256_unpackhi_epi64(t[0], t[2]);
        d[2] = _mm256_unpacklo_epi64(t[1], t[3]), d[3] = _mm256_unpackhi_epi64(t[1], t[3]);
        for (int i = 0; i < 4; i++) {
            int32_t *out = panel.pairs[4 * half + i] + 8 * side;
            _mm256_store_si256((__m256i *)out, nibbles<0>(d[i]));
            _mm256_store_si256((__m256i *)(out + 8 * TILE), nibbles<1>(d[i]));
            _mm256_store_si256((__m256i *)(out + 16 * TILE), nibbles<2>(d[i]));
            _mm256_store_si256((__m256i *)(out + 24 * TILE), nibbles<3>(d[i]));
        }
        return;
    }
    __m256i v[8];
    for (int i = 0; i < 8; i++) v[i] = _mm256_loadu_si256((const __m256i *)(words + i * stride));
    transpose(v);
    for (int i = 0; i < 8; i++) {
        int32_t *out = panel.pairs[16 * half + i] + 8 * side;
        _mm256_store_si256((__m256i *)out, bytes<0>(v[i]));
        _mm256_store_si256((__m256i *)(out + 8 * TILE), bytes<1>(v[i]));
    }
}

struct Outputs {
    __m256 side[2];
};
OB_INLINE Outputs outputs_of(__m256 low, __m256 high) { return {{low, high}}; }

// y[0][i] += y[1][i] … y[parts - 1][i], from the first to the last, of n each.
OB_INLINE void add_parts(float *y, uint32_t parts, size_t n) {
    for (uint32_t p = 1; p < parts; p++) {
        for (size_t i = 0; i < n; i += 8)
            _mm256_store_ps(y + i, _mm256_add_ps(_mm256_load_ps(y + i), _mm256_load_ps(y + p * n + i)));
    }
}
#define OB_OWN_GROUP const Group &  // there are no registers to keep it in
#endif

// A group of the tile, and what its scales do to dot products.
struct Group {
    const Panel *panels;  // of its blocks
    int half;             // of the block, for a group of 32
    bool first;           // of its part of the sum
    Outputs scale, bias;
    const float *x_scales, *x_sums;
    const int32_t *x;  // its first block
    size_t x_block;    // from a block's row to the next block's
};

// sums[row] += pairs `first` to `first` + count - 1 of R rows.
template <int R>
OB_INLINE void add_pairs(Sums sums[R][VECTORS], const Panel &panel, const int32_t *x, int first, int count) {
#if OB_HAS_512
#pragma GCC unroll 8  // GCC 12 copies every sum twice a turn
    for (int i = first; i < first + count; i++) {
        Sums w = load_sums(panel.pairs[i]);
        for (int r = 0; r < R; r++) sums[r][0] = dot_step(sums[r][0], w, x[r * BLOCK_PAIRS + i]);
    }
#else
    const int32_t *w = panel.pairs[first];
    size_t n = (size_t)count;
    x += first;
    Loop<R>::run(sums, w, x, n);
#endif
}

// y[16] += the group's part of a row, whose dot products are given.
OB_INLINE void add_dots(const Group &g, uint32_t row, const Sums *dots, float *y) {
#if OB_HAS_512
    __m512 x_scale = _mm512_set1_ps(g.x_scales[row]), x_sum = _mm512_set1_ps(g.x_sums[row]);
    __m512 sum = g.first ? _mm512_setzero_ps() : _mm512_load_ps(y);
    _mm512_store_ps(y, add_group(sum, *dots, g.scale, g.bias, x_scale, x_sum));
#else
    __m256 x_scale = _mm256_set1_ps(g.x_scales[row]), x_sum = _mm256_set1_ps(g.x_sums[row]);
    for (int s = 0; s < 2; s++) {
        __m256 sum = g.first ? _mm256_setzero_ps() : _mm256_load_ps(y + 8 * s);
        _mm256_store_ps(y + 8 * s, add_group(sum, dots[s], g.scale.side[s], g.bias.side[s], x_scale, x_sum));
    }
#endif
}

// y[row][16] += the group's part.
template <int bits, int group>
struct GroupRows {
    const Group &g;
    float (*y)[TILE];

    // R rows from `row` on.
    template <int R>
    inline __attribute__((always_inline)) void multiply(uint32_t row) const {
        Sums sums[R][VECTORS];
        for (int r = 0; r < R; r++) {
            for (int v = 0; v < VECTORS; v++) sums[r][v] = splat(0);
        }
        const int32_t *x = g.x + (size_t)row * BLOCK_PAIRS;
        if (group == 32) {
            int from = bits == 4 ? 4 * g.half : 16 * g.half, width = bits == 4 ? 4 : 16;
            for (int j = from; j < BLOCK_PAIRS / (bits == 4 ? 1 : 2) + from; j += bits == 4 ? 8 : 16) {
                add_pairs<R>(sums, g.panels[0], x, j, width);
            }
        } else {
            for (int b = 0; b < group / BLOCK; b++, x += g.x_block) {
                add_pairs<R>(sums, g.panels[b], x, 0, BLOCK_PAIRS);
            }
        }
        OB_OWN_GROUP own = g;
        for (int r = 0; r < R; r++) add_dots(own, row + r, sums[r], y[row + r]);
    }
};

// Reads `share` bytes of the next tile ahead. A line now and then from further on keeps the processor's own reading ahead
// at work, which ends at every page.
OB_INLINE void prefetch_ahead(const char *next, size_t share) {
    for (size_t line = 0; line < share; line += 64) {
        _mm_prefetch(next + line, _MM_HINT_T0);
        if (line % 256 == 0) _mm_prefetch(next + line + 8192, _MM_HINT_T1);
    }
}

template <int R, typename Work>
OB_INLINE void multiply_count(uint32_t count, const Work &work, uint32_t row) {
    if constexpr (R > 1) {
        if (count < R) return multiply_count<R - 1>(count, work, row);
    }
    work.template multiply<R>(row);
}

// All rows, in steps of nearly the same height. It is not inlined: formats share it.
template <typename Work>
static __attribute__((noinline)) void multiply_rows(const Work &work, uint32_t rows) {
    uint32_t row = 0;
    for (uint32_t steps = (rows + MOST_ROWS - 1) / MOST_ROWS; steps > 0; steps--) {
        uint32_t count = (rows - row + steps - 1) / steps;
        multiply_count<MOST_ROWS>(count, work, row);
        row += count;
    }
}

// As WeightFormat's matmul.
template <int bits, typename S, int group>
OB_INLINE void multiply_tile(const Packed<bits, S> &w, const uint32_t first[2], const Activations &x,
                             float (*y)[TILE]) {
    Panel panels[2];
    size_t stride = w.row_bytes();
    uint32_t groups = w.groups, rows = x.rows;
    Group each = {panels, 0, true, {}, {}, x.scales, x.sums, x.pairs, x.block_step};
#if OB_HAS_512
    __m512 scale[8], bias[8];
#else
    __m256 scale[2][8], bias[2][8];
#endif
    const size_t ahead = TILE * stride, share = ahead / groups;
    const char *next = (const char *)w.words + first[0] * stride + ahead;  // the next tile, as a rule
    for (uint32_t g = 0; g < groups; g++, next += share) {
        uint32_t from = window(g / 8 * 8, groups);
        for (size_t line = 0; line < share; line += 64) _mm_prefetch(next + line, _MM_HINT_T1);
#if OB_HAS_512
        if (g % 8 == 0)
            load_scales(w.scales, first, groups, from, scale), load_scales(w.biases, first, groups, from, bias);
        const uint8_t *words = w.words + (size_t)g * group * bits / 8;
        const uint8_t *sides[2] = {words + first[0] * stride, words + first[1] * stride};
        unpack<bits, group>(sides, stride, panels, (int)(g % 2));
        each.scale = scale[g - from], each.bias = bias[g - from];
#else
        for (int s = 0; s < 2; s++) {
            if (g % 8 == 0) {
                load_scales(w.scales + (size_t)first[s] * groups + from, groups, scale[s]);
                load_scales(w.biases + (size_t)first[s] * groups + from, groups, bias[s]);
            }
            const uint8_t *words = w.words + first[s] * stride + (size_t)g * group * bits / 8;
            for (int c = 0; c < group; c += 32) {
                int half = group == 32 ? (int)(g % 2) : c / 32 % 2;
                unpack<bits>(words + c * bits / 8, stride, panels[c / BLOCK], half, s);
            }
            each.scale.side[s] = scale[s][g - from], each.bias.side[s] = bias[s][g - from];
        }
#endif
        each.half = (int)(g % 2), each.first = g < PARTS;
        each.x = x.at(group == 32 ? g / 2 : g * (group / BLOCK), 0);
        each.x_scales = x.scales + (size_t)g * rows, each.x_sums = x.sums + (size_t)g * rows;
        multiply_rows(GroupRows<bits, group>{each, y + (size_t)(g % PARTS) * rows}, rows);
    }
    add_parts(y[0], least(PARTS, groups), (size_t)rows * TILE);
}

}  // namespace OB_NAMESPACE

#if OB_HAS_TILES
#include "tiles.h"
#elif OB_HAS_VNNI
#include "quads.h"
#endif

namespace OB_NAMESPACE {

template <int bits, typename S, int group>
OB_INLINE void multiply_any(const Packed<bits, S> &w, const uint32_t first[2], const Activations &x, float (*y)[TILE]) {
#if OB_HAS_TILES
    if (x.planes && x.rows >= LEAST_TILE_ROWS) return multiply_by_tiles<bits, S, group>(w, first, x, y);
#endif
#if OB_HAS_VNNI
    if constexpr (bits == 4) return multiply_by_quads<S, group>(w, first, x, y);
#endif
    multiply_tile<bits, S, group>(w, first, x, y);
}

template <int bits, typename S>
static __attribute__((noinline)) void matmul(const Packed<bits, S> &w, const uint32_t first[2], const Activations &x,
                                             float (*y)[TILE]) {
    if (w.group == 64) multiply_any<bits, S, 64>(w, first, x, y);
    else if (w.group == 32) multiply_any<bits, S, 32>(w, first, x, y);
    else multiply_any<bits, S, 128>(w, first, x, y);
}

}  // namespace OB_NAMESPACE

#endif
