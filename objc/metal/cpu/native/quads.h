// Rows of activations for VNNI: a quad of bytes of each of sixteen rows of weights times one of a row of activations.
// Activations are two planes of bytes (activations.h): x · w = 256 · high · w + low · w, exactly. That takes as many
// products as pairs of 16 bits do (matmul.h), and half the work of unpacking.
#ifndef OB_NATIVE_QUADS_H
#define OB_NATIVE_QUADS_H

#include "matmul.h"

namespace OB_NAMESPACE {

enum { BLOCK_QUADS = BLOCK / 4 };

// A group of the weights, unpacked: for each four columns, in the order of Activations, a quad of bytes for each row. 4-bit weights are below 16, so their bytes have a sign or none, as it suits.
template <int bits, int group>
OB_INLINE void unpack_quads(const uint8_t *const words[2], size_t stride, int32_t (*quads)[TILE]) {
    enum { SIZE = bits == 4 && group == 32 ? 16 : 32, COLUMNS = SIZE * 8 / bits };
    const __m512i low = _mm512_set1_epi32(0x0F0F0F0F);
    for (int c = 0; c < group; c += COLUMNS) {
        const uint8_t *sides[2] = {words[0] + c * bits / 8, words[1] + c * bits / 8};
        __m512i v[8];
        load_words<SIZE>(sides, stride, v);
        for (int i = 0; i < SIZE / 4; i++) {
            if (bits == 8) {
                _mm512_store_si512(*quads++, v[i]);
            } else {
                _mm512_store_si512(*quads++, _mm512_and_si512(v[i], low));
                _mm512_store_si512(*quads++, _mm512_and_si512(_mm512_srli_epi16(v[i], 4), low));
            }
        }
    }
}

// In assembly, as what uses it: GCC 12 reads many quads ahead, and then has no registers.
OB_INLINE __m512i load_quads(const int32_t quads[TILE]) {
#ifdef OB_EMULATE
    return load_sums(quads);
#else
    __m512i w;
    __asm__ volatile("vmovdqa64 %1, %0" : "=v"(w) : "m"(*(const __m512i *)quads));
    return w;
#endif
}

// A row's dot products so far: those of the high bytes and those of the low.
struct Planes {
    __m512i high, low;

    // A quad more, of which x has the high bytes.
    inline __attribute__((always_inline)) void add(__m512i w, const uint8_t *x) {
#ifdef OB_EMULATE
        int32_t both[2];
        memcpy(both, x, 4), memcpy(both + 1, x + BLOCK, 4);
        high = _mm512_dpbusd_epi32(high, w, _mm512_set1_epi32(both[0]));
        low = _mm512_dpbusd_epi32(low, _mm512_set1_epi32(both[1]), w);
#else
        struct Bytes {
            uint8_t bytes[4];
        };
        __m512i bytes;
        __asm__ volatile(
            "vpdpbusd %4%{1to16%}, %3, %0\n\t"
            "vpbroadcastd %5, %2\n\t"
            "vpdpbusd %3, %2, %1"
            : "+v"(high), "+v"(low), "=&v"(bytes)
            : "v"(w), "m"(*(const Bytes *)x), "m"(*(const Bytes *)(x + BLOCK)));
#endif
    }
};

// y[row][16] += the part of a group, which is BLOCKS whole blocks of quads, or some quads of one.
template <int BLOCKS, int QUADS>
struct QuadRows {
    const int32_t (*quads)[TILE];
    const Group &g;
    float (*y)[TILE];

    // R rows from `row` on. A few rows have several sums, since each product waits for the one before.
    template <int R>
    inline __attribute__((always_inline)) void multiply(uint32_t row) const {
        enum { SUMS = R == 1 ? 4 : R <= 4 ? 2 : 1 };
        Planes sums[SUMS][R];
        for (int s = 0; s < SUMS; s++) {
            for (int r = 0; r < R; r++) sums[s][r].high = sums[s][r].low = splat(0);
        }
        const uint8_t *x = (const uint8_t *)(g.x + (size_t)row * BLOCK_PAIRS);
        for (int b = 0; b < BLOCKS; b++, x += g.x_block * sizeof(int32_t)) {
            __asm__("" : "+r"(x));  // or GCC 12 shares addresses with the code for other R, and has no registers
#pragma GCC unroll 16
            for (int i = 0; i < QUADS; i++) {
                __m512i w = load_quads(quads[b * BLOCK_QUADS + i]);
                for (int r = 0; r < R; r++) sums[i % SUMS][r].add(w, x + r * 4 * BLOCK_PAIRS + 4 * i);
            }
        }
        const Group own = g;
        for (int r = 0; r < R; r++) {
            Planes &all = sums[0][r];
            for (int s = 1; s < SUMS; s++) {
                all.high = _mm512_add_epi32(all.high, sums[s][r].high);
                all.low = _mm512_add_epi32(all.low, sums[s][r].low);
            }
            __m512i dots = _mm512_add_epi32(_mm512_slli_epi32(all.high, 8), all.low);
            add_dots(own, row + r, &dots, y[row + r]);
        }
    }
};

enum { MOST_FUSED = 8 };  // rows: so many sums stay in registers beside the weights on their way

// As multiply_tile, for R rows of activations: quads are multiplied as they are unpacked and never stored. To store and
// to load them takes about as long as one row's products.
template <typename S, int group, int R>
static __attribute__((noinline)) void multiply_few_by_quads(const Packed<4, S> &w, const uint32_t first[2],
                                                            const Activations &x, float (*y)[TILE]) {
    enum { SIZE = group == 32 ? 16 : 32, COLUMNS = 2 * SIZE, SUMS = R <= 3 ? 2 : 1 };
    const __m512i low = _mm512_set1_epi32(0x0F0F0F0F);
    const size_t stride = w.row_bytes(), ahead = TILE * stride, block = x.block_step * sizeof(int32_t);
    const uint32_t groups = w.groups;
    const uint8_t *words = w.words;
    const char *next = (const char *)w.words + first[0] * stride + ahead;  // the next tile, as a rule
    const size_t share = ahead / groups;
    Group each = {nullptr, 0, true, {}, {}, x.scales, x.sums, nullptr, 0};
    __m512 scale[8], bias[8];
    for (uint32_t g = 0; g < groups; g++, next += share) {
        const uint32_t from = window(g / 8 * 8, groups);
        prefetch_ahead(next, share);
        if (g % 8 == 0)
            load_scales(w.scales, first, groups, from, scale), load_scales(w.biases, first, groups, from, bias);
        const uint8_t *from_x = (const uint8_t *)x.at(group == 32 ? g / 2 : g * (group / BLOCK), 0);
        if (group == 32) from_x += g % 2 * 32;
        Planes sums[SUMS][R];
        for (int s = 0; s < SUMS; s++) {
            for (int r = 0; r < R; r++) sums[s][r].high = sums[s][r].low = splat(0);
        }
        for (int c = 0; c < group; c += COLUMNS, words += SIZE, from_x += block) {
            const uint8_t *sides[2] = {words + first[0] * stride, words + first[1] * stride};
            __m512i v[8];
            load_words<SIZE>(sides, stride, v);
#pragma GCC unroll 8
            for (int i = 0; i < SIZE / 4; i++) {
                __m512i even = _mm512_and_si512(v[i], low), odd = _mm512_and_si512(_mm512_srli_epi16(v[i], 4), low);
                for (int r = 0; r < R; r++) sums[0][r].add(even, from_x + r * 4 * BLOCK_PAIRS + 8 * i);
                for (int r = 0; r < R; r++) sums[SUMS - 1][r].add(odd, from_x + r * 4 * BLOCK_PAIRS + 8 * i + 4);
            }
        }
        each.scale = scale[g - from], each.bias = bias[g - from], each.first = g < PARTS;
        each.x_scales = x.scales + (size_t)g * R, each.x_sums = x.sums + (size_t)g * R;
        for (int r = 0; r < R; r++) {
            Planes &all = sums[0][r];
            if (SUMS == 2) {
                all.high = _mm512_add_epi32(all.high, sums[SUMS - 1][r].high);
                all.low = _mm512_add_epi32(all.low, sums[SUMS - 1][r].low);
            }
            __m512i dots = _mm512_add_epi32(_mm512_slli_epi32(all.high, 8), all.low);
            add_dots(each, (uint32_t)r, &dots, y[(size_t)(g % PARTS) * R + r]);
        }
    }
    add_parts(y[0], least(PARTS, groups), (size_t)R * TILE);
}

// Two to R rows.
template <typename S, int group, int R>
OB_INLINE void multiply_fused(const Packed<4, S> &w, const uint32_t first[2], const Activations &x, float (*y)[TILE]) {
    if constexpr (R > 2) {
        if (x.rows < R) return multiply_fused<S, group, R - 1>(w, first, x, y);
    }
    multiply_few_by_quads<S, group, R>(w, first, x, y);
}

// As multiply_tile.
template <typename S, int group>
OB_INLINE void multiply_by_quads(const Packed<4, S> &w, const uint32_t first[2], const Activations &x,
                                 float (*y)[TILE]) {
    if (x.rows > 1 && x.rows <= MOST_FUSED) return multiply_fused<S, group, MOST_FUSED>(w, first, x, y);
    enum { BLOCKS = group == 128 ? 2 : 1, QUADS = group == 32 ? BLOCK_QUADS / 2 : BLOCK_QUADS };
    int32_t quads[BLOCKS * BLOCK_QUADS][TILE] __attribute__((aligned(64)));
    const size_t stride = w.row_bytes();
    const uint32_t groups = w.groups, rows = x.rows;
    Group each = {nullptr, 0, true, {}, {}, x.scales, x.sums, x.pairs, x.block_step};
    __m512 scale[8], bias[8];
    const size_t ahead = TILE * stride, share = ahead / groups;
    const char *next = (const char *)w.words + first[0] * stride + ahead;  // the next tile, as a rule
    for (uint32_t g = 0; g < groups; g++, next += share) {
        uint32_t from = window(g / 8 * 8, groups);
        prefetch_ahead(next, share);
        if (g % 8 == 0)
            load_scales(w.scales, first, groups, from, scale), load_scales(w.biases, first, groups, from, bias);
        const uint8_t *words = w.words + (size_t)g * group / 2;
        const uint8_t *sides[2] = {words + first[0] * stride, words + first[1] * stride};
        unpack_quads<4, group>(sides, stride, quads);
        each.scale = scale[g - from], each.bias = bias[g - from];
        each.first = g < PARTS;
        each.x = x.at(group == 32 ? g / 2 : g * BLOCKS, 0) + (group == 32 ? g % 2 * QUADS : 0);
        each.x_scales = x.scales + (size_t)g * rows, each.x_sums = x.sums + (size_t)g * rows;
        multiply_rows(QuadRows<BLOCKS, QUADS>{quads, each, y + (size_t)(g % PARTS) * rows}, rows);
    }
    add_parts(y[0], least(PARTS, groups), (size_t)rows * TILE);
}

}  // namespace OB_NAMESPACE

#endif
