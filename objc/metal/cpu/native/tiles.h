// Many rows for AMX: dot products of up to sixteen rows of activations and sixteen of weights at once.
// Activations are two planes of bytes (activations.h): x · w = 256 · high · w + low · w, exactly.
//
// The longest time goes not into the dot products but into what follows them, so this file saves there: a part's
// groups (matvec.h) go together, its sums stay in registers meanwhile, and tiles multiply while vectors
// add up what tiles gave before.
//
// So far this has run in emulation only (tests/test_native_isas.py), on no processor that has tiles.
#ifndef OB_NATIVE_TILES_H
#define OB_NATIVE_TILES_H

#include "quads.h"

namespace OB_NAMESPACE {

struct TileConfig {  // what ldtilecfg reads
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} __attribute__((aligned(64)));

// Registers, numbers as the intrinsics want them. There are two of each sum, for every other product: one is
// stored while the other grows.
#define OB_HIGH_0 0
#define OB_LOW_0 1
#define OB_HIGH_1 2
#define OB_LOW_1 3
#define OB_X_HIGH 4
#define OB_X_LOW 5
#define OB_W_0 6
#define OB_W_1 7

// For groups of that size and `height` rows of activations at once.
template <int group>
static __attribute__((noinline)) void configure_tiles(uint32_t height) {
    const int columns = group == 32 ? 32 : BLOCK;
    TileConfig config;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int tile = 0; tile < 8; tile++) {
        config.rows[tile] = (uint8_t)(tile < OB_W_0 ? height : columns / 4);
        config.row_bytes[tile] = tile == OB_X_HIGH || tile == OB_X_LOW ? columns : 4 * TILE;
    }
    __asm__ volatile("" : : "r"(&config) : "memory");  // GCC 12's intrinsic names eight of the bytes only
    _tile_loadconfig(&config);
}

// A group's scales and biases, which are applied to dot products.
struct Affine {
    __m512 scale, bias;
};

// Dot products of a group of the weights with the rows of a step: those of the high bytes, those of the low.
struct Dots {
    int32_t planes[2][TILE][TILE];
} __attribute__((aligned(64)));

// Rows of a part of the sums, and what is to be added to them: `depth` groups, PARTS apart.
struct Sums16 {
    const Dots *dots;                // of each of the groups
    const Affine *affine;            // of the first; the next is PARTS further on
    const float *x_scales, *x_sums;  // of the first; the next are x_step further on
    size_t x_step;
    float (*y)[TILE];
    __mmask16 add;  // 0 where nothing is in y yet
};

// (s is a copy: for all the compiler knows, writing y changes the original.)
template <int depth>
OB_INLINE void add_depth(const Sums16 s, uint32_t row, uint32_t end) {
    __m512 scale[depth], bias[depth];
    for (int i = 0; i < depth; i++) scale[i] = s.affine[i * PARTS].scale, bias[i] = s.affine[i * PARTS].bias;
    for (; row < end; row++) {
        __m512 sum = _mm512_maskz_load_ps(s.add, s.y[row]);
        for (int i = 0; i < depth; i++) {
            const Dots &dots = s.dots[i];
            __m512i high = _mm512_slli_epi32(_mm512_load_si512(dots.planes[0][row]), 8);
            __m512 x_scale = _mm512_set1_ps(s.x_scales[i * s.x_step + row]),
                   x_sum = _mm512_set1_ps(s.x_sums[i * s.x_step + row]);
            sum = add_group(sum, _mm512_add_epi32(high, _mm512_load_si512(dots.planes[1][row])), scale[i], bias[i],
                            x_scale, x_sum);
        }
        _mm512_store_ps(s.y[row], sum);
    }
}

static __attribute__((noinline, unused)) void add_dots(const Sums16 &s, uint32_t depth, uint32_t row, uint32_t end) {
    if (depth == 4) add_depth<4>(s, row, end);
    else if (depth == 3) add_depth<3>(s, row, end);
    else if (depth == 2) add_depth<2>(s, row, end);
    else add_depth<1>(s, row, end);
}

// x has a group of the rows, from its high bytes on.
#define OB_MULTIPLY(high, low, weights)                                  \
    _tile_zero(high);                                                    \
    _tile_zero(low);                                                     \
    for (int b = 0; b < (group == 128 ? 2 : 1); b++) {                   \
        _tile_loadd(OB_X_HIGH, x + b * x_block, 4 * BLOCK_PAIRS);        \
        _tile_loadd(OB_X_LOW, x + b * x_block + BLOCK, 4 * BLOCK_PAIRS); \
        _tile_loadd(weights, quads[BLOCK / 4 * b], 4 * TILE);            \
        _tile_dpbsud(high, OB_X_HIGH, weights);                          \
        _tile_dpbuud(low, OB_X_LOW, weights);                            \
    }

template <int pair, int group>
OB_INLINE void multiply_dots(const char *x, size_t x_block, const int32_t (*quads)[TILE]) {
    if (pair == 0) {
        OB_MULTIPLY(OB_HIGH_0, OB_LOW_0, OB_W_0)
    } else {
        OB_MULTIPLY(OB_HIGH_1, OB_LOW_1, OB_W_1)
    }
}

template <int pair>
OB_INLINE void store_dots(Dots &to) {
    if (pair == 0) {
        _tile_stored(OB_HIGH_0, to.planes[0], 4 * TILE);
        _tile_stored(OB_LOW_0, to.planes[1], 4 * TILE);
    } else {
        _tile_stored(OB_HIGH_1, to.planes[0], 4 * TILE);
        _tile_stored(OB_LOW_1, to.planes[1], 4 * TILE);
    }
}

// Sixteen rows of weights, first[0] … and first[1] …, for all rows.
//
// Chunk by chunk of 8 · DEPTH groups, part by part, `height` rows after the other. A step is what these
// loops do at once; its dot products are added up during the next.
template <int bits, typename S, int group>
struct TileProduct {
    enum { DEPTH = 4, CHUNK = PARTS * DEPTH };
    struct Step {
        Sums16 sums;
        uint32_t depth, rows, row;  // the last: what of the sums comes next
    };

    const Packed<bits, S> &w;
    const uint32_t *const first;
    const Activations &x;
    float (*const y)[TILE];
    const uint32_t groups, height;
    // Two of each: one that is used, and one that is made meanwhile.
    Affine affine[2][CHUNK];
    int32_t quads[2][DEPTH][group / 4][TILE] __attribute__((aligned(64)));
    Dots dots[2][DEPTH];

    TileProduct(const Packed<bits, S> &w_, const uint32_t first_[2], const Activations &x_, float (*y_)[TILE],
                uint32_t height_)
        : w(w_), first(first_), x(x_), y(y_), groups(x_.groups), height(height_) {}

    // The first group of the part behind that of g.
    static uint32_t part_behind(uint32_t g) { return (g + 1) % PARTS != 0 ? g + 1 : g + 1 + CHUNK - PARTS; }
    uint32_t depth_at(uint32_t g) const { return least(DEPTH, (groups - g + PARTS - 1) / PARTS); }
    Affine &affine_of(uint32_t g) { return affine[g / CHUNK % 2][g % CHUNK]; }

    void load_affine(uint32_t chunk) {
        for (uint32_t g = chunk; g < least(chunk + CHUNK, groups); g += 8) {
            const uint32_t from = window(g, groups);
            __m512 scale[8], bias[8];
            load_scales(w.scales, first, groups, from, scale);
            load_scales(w.biases, first, groups, from, bias);
            for (uint32_t i = g - from; i < 8; i++) affine_of(from + i) = {scale[i], bias[i]};
        }
    }

    // Groups g, g + PARTS … of the weights; reads as much of the sixteen rows behind them ahead.
    __attribute__((noinline)) void unpack_part(uint32_t g, int32_t (*to)[group / 4][TILE]) {
        if (g % CHUNK == 0) load_affine(g);
        const size_t stride = w.row_bytes(), ahead = TILE * stride, share = ahead / groups;
        for (uint32_t i = 0, depth = depth_at(g); i < depth; i++, g += PARTS) {
            const uint8_t *words = w.words + (size_t)g * group * bits / 8;
            const uint8_t *sides[2] = {words + first[0] * stride, words + first[1] * stride};
            unpack_quads<bits, group>(sides, stride, to[i]);
            const char *next = (const char *)w.words + first[0] * stride + ahead + g * share;
            for (size_t line = 0; line < share; line += 64) _mm_prefetch(next + line, _MM_HINT_T1);
        }
        __asm__ volatile("" : : "r"(to) : "memory");  // GCC 12's loads of tiles do not say that they read memory
    }

    Step step_at(uint32_t g, uint32_t row, const Dots *from) {
        const size_t scale = x.scale_at(g, row);
        return {{from, &affine_of(g), x.scales + scale, x.sums + scale, (size_t)PARTS * x.rows,
                 y + (size_t)(g % PARTS) * x.rows + row, (__mmask16)(g < PARTS ? 0 : 0xFFFF)},
                depth_at(g),
                least(height, x.rows - row),
                0};
    }

    // Adds up to `rows` more of a step's rows to their sums.
    static inline __attribute__((always_inline)) void add(Step &step, uint32_t rows) {
        const uint32_t end = least(step.row + rows, step.rows);
        if (end == step.row) return;
        add_dots(step.sums, step.depth, step.row, end);
        step.row = end;
    }

    // The i-th group of rows that begin at `from`, into the pair-th registers, and rows of the step before meanwhile.
    template <int pair>
    inline __attribute__((always_inline)) void multiply(const char *from, uint32_t i, uint32_t parity, Dots *to,
                                                        Step &before, uint32_t share) {
        const size_t x_block = x.block_step * sizeof(int32_t);
        multiply_dots<pair, group>(from + i * (PARTS * group / BLOCK) * x_block, x_block, quads[parity][i]);
        add(before, share);
        store_dots<pair>(to[i]);
    }

    void run() {
        Step before = {};
        uint32_t parity = 0, turn = 0;
        unpack_part(0, quads[0]);
        for (uint32_t g = 0; g < groups; g = part_behind(g), parity ^= 1) {
            if (part_behind(g) < groups) unpack_part(part_behind(g), quads[parity ^ 1]);
            const uint32_t depth = depth_at(g);
            for (uint32_t row = 0; row < x.rows; row += height, turn ^= 1) {
                const char *from =
                    (const char *)x.at(group == 32 ? g / 2 : g * (group / BLOCK), row) + (group == 32 ? g % 2 * 32 : 0);
                const uint32_t share = (before.rows + depth - 1) / depth;
                for (uint32_t i = 0; i < depth; i += 2) {
                    multiply<0>(from, i, parity, dots[turn], before, share);
                    if (i + 1 < depth) multiply<1>(from, i + 1, parity, dots[turn], before, share);
                }
                before = step_at(g, row, dots[turn]);
            }
        }
        add(before, before.rows);
        add_parts(y[0], least(PARTS, groups), (size_t)x.rows * TILE);
    }
};

// Rows go in steps of the same height. The last may be a few too high: then it reads what lies behind a block
// of activations, which is the next one, or scales, and nobody looks at the products.
template <int bits, typename S, int group>
static void multiply_by_tiles(const Packed<bits, S> &w, const uint32_t first[2], const Activations &x,
                              float (*y)[TILE]) {
    const uint32_t steps = (x.rows + TILE - 1) / TILE, height = (x.rows + steps - 1) / steps;
    configure_tiles<group>(height);
    TileProduct<bits, S, group>(w, first, x, y, height).run();
    _tile_release();
}

}  // namespace OB_NAMESPACE

#endif
