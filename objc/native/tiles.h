// Many rows for AMX: dot products of up to sixteen rows of activations and sixteen of weights at once.
// Activations are two planes of bytes (activations.h): x · w = 256 · high · w + low · w, exactly.
//
// What takes longest is not the dot products but what follows, so that is what this file saves: a part's
// groups (matvec.h) go together, its sums stay in registers meanwhile, and tiles multiply while vectors
// add up what tiles gave before.
//
// So far this has run in emulation only (tests/test_native_isas.py), on no processor that has tiles.
#ifndef OB_NATIVE_TILES_H
#define OB_NATIVE_TILES_H

#include "matmul.h"

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

// Sixteen rows of weights, first[0] … and first[1] …, and where their products go.
template <int bits, typename S>
struct Strip {
    const Packed<bits, S> *w;
    const uint32_t *first;
    float (*y)[TILE];
};

// What a group's scales do to a strip's dot products.
struct Affine {
    __m512 scale, bias;
};

// Dot products of a group of a strip with the rows of a step: those of the high bytes, those of the low.
struct Dots {
    int32_t planes[2][TILE][TILE];
} __attribute__((aligned(64)));

// Rows of a part of a strip's sums, and what is to be added to them: `depth` groups, PARTS apart.
struct Sums16 {
    const Dots *dots;        // of a group; the next is dots_step further on, and so with the others
    const Affine *affine;
    const float *x_scales, *x_sums;
    size_t dots_step, affine_step, x_step;
    float (*y)[TILE];
    __mmask16 add;           // 0 where nothing is in y yet
};

// (s is a copy: for all the compiler knows, writing y changes the original.)
template <int depth>
OB_INLINE void add_depth(const Sums16 s, uint32_t row, uint32_t end) {
    __m512 scale[depth], bias[depth];
    for (int i = 0; i < depth; i++) scale[i] = s.affine[i * s.affine_step].scale, bias[i] = s.affine[i * s.affine_step].bias;
    for (; row < end; row++) {
        __m512 sum = _mm512_maskz_load_ps(s.add, s.y[row]);
        for (int i = 0; i < depth; i++) {
            const Dots &dots = s.dots[i * s.dots_step];
            __m512i high = _mm512_slli_epi32(_mm512_load_si512(dots.planes[0][row]), 8);
            __m512 x_scale = _mm512_set1_ps(s.x_scales[i * s.x_step + row]), x_sum = _mm512_set1_ps(s.x_sums[i * s.x_step + row]);
            sum = add_group(sum, _mm512_add_epi32(high, _mm512_load_si512(dots.planes[1][row])), scale[i], bias[i], x_scale, x_sum);
        }
        _mm512_store_ps(s.y[row], sum);
    }
}

static __attribute__((noinline)) void add_dots(const Sums16 &s, uint32_t depth, uint32_t row, uint32_t end) {
    if (depth == 4) add_depth<4>(s, row, end);
    else if (depth == 3) add_depth<3>(s, row, end);
    else if (depth == 2) add_depth<2>(s, row, end);
    else add_depth<1>(s, row, end);
}

// A group of a strip as tiles take it: for each four columns, in the order of Activations, a quad of bytes for
// each row of weights.
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

// x has a group of the rows, from its high bytes on; with_x: they are not in their registers yet.
#define OB_MULTIPLY(high, low, weights)                                     \
    _tile_zero(high);                                                       \
    _tile_zero(low);                                                        \
    for (int b = 0; b < (group == 128 ? 2 : 1); b++) {                      \
        if (with_x) {                                                       \
            _tile_loadd(OB_X_HIGH, x + b * x_block, 4 * BLOCK_PAIRS);       \
            _tile_loadd(OB_X_LOW, x + b * x_block + BLOCK, 4 * BLOCK_PAIRS); \
        }                                                                   \
        _tile_loadd(weights, quads[BLOCK / 4 * b], 4 * TILE);               \
        _tile_dpbsud(high, OB_X_HIGH, weights);                             \
        _tile_dpbuud(low, OB_X_LOW, weights);                               \
    }

template <int pair, int group>
OB_INLINE void multiply_dots(const char *x, size_t x_block, const int32_t (*quads)[TILE], bool with_x) {
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

// One strip, or two that share their activations, for all rows.
//
// Chunk by chunk of 8 · DEPTH groups, part by part, `height` rows after the other. A step is what these
// loops do at once; its dot products are added up during the next.
template <int bits, typename S, int group, int strips>
struct TileProduct {
    enum { PRODUCTS = 4, DEPTH = PRODUCTS / strips, CHUNK = PARTS * DEPTH };
    struct Step {
        Sums16 sums[strips];
        uint32_t depth, rows, strip, row;  // the last two: what of the sums comes next
    };

    const Strip<bits, S> *strip;
    const Activations &x;
    const uint32_t groups, height;
    // Two of each: one that is used, and one that is made meanwhile.
    Affine affine[2][CHUNK][strips];
    int32_t quads[2][PRODUCTS][group / 4][TILE] __attribute__((aligned(64)));
    Dots dots[2][PRODUCTS];

    TileProduct(const Strip<bits, S> *strip_, const Activations &x_, uint32_t height_)
        : strip(strip_), x(x_), groups(x_.groups), height(height_) {}

    // The first group of the part behind that of g.
    static uint32_t part_behind(uint32_t g) { return (g + 1) % PARTS != 0 ? g + 1 : g + 1 + CHUNK - PARTS; }
    uint32_t depth_at(uint32_t g) const { return least(DEPTH, (groups - g + PARTS - 1) / PARTS); }
    Affine (&affine_of(uint32_t g))[strips] { return affine[g / CHUNK % 2][g % CHUNK]; }

    void load_affine(uint32_t chunk) {
        for (uint32_t g = chunk; g < least(chunk + CHUNK, groups); g += 8) {
            const uint32_t from = window(g, groups);
            for (int s = 0; s < strips; s++) {
                __m512 scale[8], bias[8];
                load_scales(strip[s].w->scales, strip[s].first, groups, from, scale);
                load_scales(strip[s].w->biases, strip[s].first, groups, from, bias);
                for (uint32_t i = g - from; i < 8; i++) affine_of(from + i)[s] = {scale[i], bias[i]};
            }
        }
    }

    // Groups g, g + PARTS … of all strips; reads of the strips behind them as much ahead.
    __attribute__((noinline)) void unpack_part(uint32_t g, int32_t (*to)[group / 4][TILE]) {
        if (g % CHUNK == 0) load_affine(g);
        const size_t stride = strip[0].w->row_bytes();
        const bool neighbours = strips == 2 && strip[0].w->words == strip[strips - 1].w->words;
        const size_t ahead = TILE * stride, share = ahead / groups;
        for (uint32_t i = 0, depth = depth_at(g); i < depth; i++, g += PARTS) {
            for (int s = 0; s < strips; s++, to++) {
                const uint8_t *words = strip[s].w->words + (size_t)g * group * bits / 8;
                const uint8_t *sides[2] = {words + strip[s].first[0] * stride, words + strip[s].first[1] * stride};
                unpack_quads<bits, group>(sides, stride, *to);
                const char *next = (const char *)strip[s].w->words + strip[s].first[0] * stride + ahead * (neighbours ? 2 : 1) + g * share;
                for (size_t line = 0; line < share; line += 64) _mm_prefetch(next + line, _MM_HINT_T1);
            }
        }
        __asm__ volatile("" : : "r"(to) : "memory");  // GCC 12's loads of tiles do not say that they read memory
    }

    Step step_at(uint32_t g, uint32_t row, const Dots *from) {
        Step step = {{}, depth_at(g), least(height, x.rows - row), 0, 0};
        for (int s = 0; s < strips; s++) {
            step.sums[s] = {from + s, &affine_of(g)[s], x.scales + x.scale_at(g, row), x.sums + x.scale_at(g, row),
                            strips, PARTS * strips, (size_t)PARTS * x.rows, strip[s].y + (size_t)(g % PARTS) * x.rows + row,
                            (__mmask16)(g < PARTS ? 0 : 0xFFFF)};
        }
        return step;
    }

    // Adds up to `rows` more of a step's rows to their sums.
    static inline __attribute__((always_inline)) void add(Step &step, uint32_t rows) {
        while (rows > 0 && step.strip < strips) {
            const uint32_t end = least(step.row + rows, step.rows);
            add_dots(step.sums[step.strip], step.depth, step.row, end);
            rows -= end - step.row, step.row = end;
            if (end == step.rows) step.strip++, step.row = 0;
        }
    }

    // Product `i` of rows that begin at `from`, into the pair-th registers, and rows of the step before meanwhile.
    template <int pair>
    inline __attribute__((always_inline)) void multiply(const char *from, uint32_t i, uint32_t parity, Dots *to, Step &before, uint32_t share) {
        const char *group_at = from + i / strips * (PARTS * group / BLOCK) * x.block_step * sizeof(int32_t);
        const bool with_x = strips == 1 || group == 128 || pair == 0;
        multiply_dots<pair, group>(group_at, x.block_step * sizeof(int32_t), quads[parity][i], with_x);
        add(before, share);
        store_dots<pair>(to[i]);
    }

    void run() {
        Step before = {};
        before.strip = strips;  // none
        uint32_t parity = 0, turn = 0;
        unpack_part(0, quads[0]);
        for (uint32_t g = 0; g < groups; g = part_behind(g), parity ^= 1) {
            if (part_behind(g) < groups) unpack_part(part_behind(g), quads[parity ^ 1]);
            const uint32_t products = depth_at(g) * strips;
            for (uint32_t row = 0; row < x.rows; row += height, turn ^= 1) {
                const char *from = (const char *)x.at(group == 32 ? g / 2 : g * (group / BLOCK), row) + (group == 32 ? g % 2 * 32 : 0);
                const uint32_t share = (before.rows * strips + products - 1) / products;
                for (uint32_t i = 0; i < products; i += 2) {
                    multiply<0>(from, i, parity, dots[turn], before, share);
                    if (i + 1 < products) multiply<1>(from, i + 1, parity, dots[turn], before, share);
                }
                before = step_at(g, row, dots[turn]);
            }
        }
        add(before, strips * before.rows);
        for (int s = 0; s < strips; s++) add_parts(strip[s].y[0], least(PARTS, groups), (size_t)x.rows * TILE);
    }
};

// Rows go in steps of the same height. The last may be a few too high: then it reads what lies behind a block
// of activations, which is the next one, or scales, and nobody looks at the products.
template <int bits, typename S, int group, int strips>
static void multiply_by_tiles(const Strip<bits, S> *strip, const Activations &x) {
    const uint32_t steps = (x.rows + TILE - 1) / TILE, height = (x.rows + steps - 1) / steps;
    configure_tiles<group>(height);
    TileProduct<bits, S, group, strips>(strip, x, height).run();
    _tile_release();
}

}  // namespace OB_NAMESPACE

#endif
