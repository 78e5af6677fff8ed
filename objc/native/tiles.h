// The innermost loop of many rows for AMX: dot products of sixteen rows of activations and sixteen of weights
// at once. Activations are two planes of bytes (activations.h): x · w = 256 · high · w + low · w, exactly.
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

// Registers, numbers as the intrinsics want them: sums of the high and of the low bytes, and a plane of
// activations, for sixteen rows and for the rest of the rows; weights for both.
#define OB_HIGH 0
#define OB_LOW 1
#define OB_X 2
#define OB_REST_HIGH 3
#define OB_REST_LOW 4
#define OB_REST_X 5
#define OB_W 6

// For groups of that size and that many rows of activations.
template <int group>
static __attribute__((noinline)) void configure_tiles(uint32_t rows) {
    const int columns = group == 32 ? 32 : BLOCK;
    TileConfig config;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    auto set = [&](int tile, uint32_t height, int width) {
        config.rows[tile] = (uint8_t)height, config.row_bytes[tile] = height ? (uint16_t)width : 0;
    };
    set(OB_HIGH, TILE, 4 * TILE), set(OB_LOW, TILE, 4 * TILE), set(OB_X, TILE, columns);
    uint32_t rest = rows % TILE;
    set(OB_REST_HIGH, rest, 4 * TILE), set(OB_REST_LOW, rest, 4 * TILE), set(OB_REST_X, rest, columns);
    set(OB_W, columns / 4, 4 * TILE);
    __asm__ volatile("" : : "r"(&config) : "memory");  // GCC 12's intrinsic names eight of the bytes only
    _tile_loadconfig(&config);
}

// Dot products into dots[plane][row][16].
#define OB_MULTIPLY_TILES(high, low, plane)                                       \
    _tile_zero(high);                                                             \
    _tile_zero(low);                                                              \
    for (int b = 0; b < (group == 128 ? 2 : 1); b++, x += g.x_block) {            \
        _tile_loadd(OB_W, g.panels[b].pairs[offset / 4], 4 * TILE);                \
        _tile_loadd(plane, (const char *)x + offset, 4 * BLOCK_PAIRS);            \
        _tile_dpbsud(high, plane, OB_W);                                          \
        _tile_loadd(plane, (const char *)x + BLOCK + offset, 4 * BLOCK_PAIRS);    \
        _tile_dpbuud(low, plane, OB_W);                                           \
    }                                                                             \
    _tile_stored(high, dots[0], 4 * TILE);                                        \
    _tile_stored(low, dots[1], 4 * TILE);

// All rows: y[row][16] += the group's part.
template <int group>
static void multiply_group_by_tiles(const Group &g, uint32_t rows, float (*y)[TILE]) {
    int32_t dots[2][TILE][TILE] __attribute__((aligned(64)));
    const int offset = group == 32 ? 32 * g.half : 0;
    __asm__ volatile("" : : "r"(g.panels) : "memory");  // GCC 12's loads do not say that they read memory
    for (uint32_t row = 0; row < rows; row += TILE) {
        const int32_t *x = g.x + (size_t)row * BLOCK_PAIRS;
        if (rows - row >= TILE) {
            OB_MULTIPLY_TILES(OB_HIGH, OB_LOW, OB_X)
        } else {
            OB_MULTIPLY_TILES(OB_REST_HIGH, OB_REST_LOW, OB_REST_X)
        }
        for (uint32_t r = 0; r < TILE && row + r < rows; r++) {
            __m256i sums[2];
            for (int s = 0; s < 2; s++) {
                __m256i high = _mm256_load_si256((const __m256i *)(dots[0][r] + 8 * s));
                sums[s] = _mm256_add_epi32(_mm256_slli_epi32(high, 8), _mm256_load_si256((const __m256i *)(dots[1][r] + 8 * s)));
            }
            add_dots(g, row + r, sums[0], sums[1], y[row + r]);
        }
    }
}

}  // namespace OB_NAMESPACE

#endif
