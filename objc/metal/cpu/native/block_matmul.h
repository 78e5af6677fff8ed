// Many rows of activations times a tile of sixteen rows of GGUF's blocks: 64 columns at a time are unpacked once and used
// for all rows, as in matmul.h.
#ifndef OB_NATIVE_BLOCK_MATMUL_H
#define OB_NATIVE_BLOCK_MATMUL_H

#include "blocks.h"
#include "matmul.h"

namespace OB_NAMESPACE {

#if OB_HAS_VNNI
// Integers that are quads of bytes. All others are pairs, as for processors without VNNI.
template <typename F>
constexpr bool QUADS = F::SMALL;
#else
template <typename F>
constexpr bool QUADS = false;
#endif

// Groups of `group` columns of an unpacked block, as quads or as pairs, and where the parts of the sum that they belong to
// are: y[row][16] += each group's.
template <int group, bool quads>
struct BlockRows {
    Group each[BLOCK / group];
    float (*y[BLOCK / group])[TILE];
    uint32_t count;

    // R rows from `row` on.
    template <int R>
    inline __attribute__((always_inline)) void multiply(uint32_t row) const {
#if OB_HAS_VNNI
        if constexpr (quads) {
            enum { COUNT = group / 4 };
            for (uint32_t i = 0; i < count; i++) {
                QuadRows<1, COUNT>{each[0].panels->pairs + i * COUNT, each[i], y[i]}.template multiply<R>(row);
            }
            return;
        }
#endif
        const int32_t *x = each[0].x + (size_t)row * BLOCK_PAIRS;
        for (uint32_t i = 0; i < count; i++) {
            Sums sums[R][VECTORS];
            for (int r = 0; r < R; r++) {
                for (int v = 0; v < VECTORS; v++) sums[r][v] = splat(0);
            }
            add_pairs<R>(sums, each[i].panels[0], x, (int)(i * group / 2), group / 2);
            OB_OWN_GROUP own = each[i];
            for (int r = 0; r < R; r++) add_dots(own, row + r, sums[r], y[i][row + r]);
        }
    }
};

// Which quad of columns a block's word l has, in its low nibbles (part 0), its high ones (1), or as one of two vectors.
template <typename F>
OB_INLINE int quad(int part, int l) {
    if (F::ORDER == WORDS) return 2 * l + part;
    return F::ORDER == HALVES ? 8 * (l / 4) + 4 * part + l % 4 : 8 * part + l;
}

// An octet of the tile's sixteen rows.
template <typename F>
struct TileOctet {
    Octet<F> rows[TILE];
    __m256 scale[2][8], bias[2][8];  // by side and slot, a lane for each row

    void load(const Blocks<F> &w, const uint32_t first[2], uint32_t octet) {
        for (uint32_t side = 0; side < 2; side++) {
            for (uint32_t r = 0; r < 8; r++) {
                Octet<F> &one = rows[8 * side + r];
                one.at(w, first[side] + r, octet, 7 - r);
                F::scales(one.place, scale[side][r], bias[side][r]);
            }
            transpose((__m256i *)scale[side]);
            transpose((__m256i *)bias[side]);
        }
    }

#if OB_HAS_VNNI
    // Columns 64 i … of it as quads, those of each group together.
    void unpack_quads(uint32_t i, int32_t (*quads)[TILE]) const {
        const __m512i low = _mm512_set1_epi32(0x0F0F0F0F);
        __m256i raw[TILE][F::RAW];
        for (uint32_t r = 0; r < TILE; r++) F::raw(rows[r].place, i, raw[r]);
        for (int j = 0; j < F::RAW; j++) {
            __m512i v[8];
            for (int r = 0; r < 4; r++) {
                v[r] = join(raw[r][j], raw[r + 4][j]);
                v[r + 4] = join(raw[8 + r][j], raw[12 + r][j]);
            }
            transpose(v);
            for (int l = 0; l < 8; l++) {
                _mm512_store_si512(quads[quad<F>(j, l)], F::RAW == 1 ? _mm512_and_si512(v[l], low) : v[l]);
                if (F::RAW != 1) continue;
                _mm512_store_si512(quads[quad<F>(1, l)], _mm512_and_si512(_mm512_srli_epi16(v[l], 4), low));
            }
        }
    }
#endif

    // Columns 64 i … of it. Words become columns before they are taken apart, for fewer vectors to transpose.
    void unpack(uint32_t i, Panel &panel) const {
        for (uint32_t side = 0; side < 2; side++) {
            __m256i raw[F::RAW][8];
            for (uint32_t r = 0; r < 8; r++) {
                __m256i v[F::RAW];
                F::raw(rows[8 * side + r].place, i, v);
                for (int j = 0; j < F::RAW; j++) raw[j][r] = v[j];
            }
            for (int j = 0; j < F::RAW; j++) transpose(raw[j]);
            for (int l = 0; l < 8; l++) {
                __m256i v[F::RAW], n[4];
                for (int j = 0; j < F::RAW; j++) v[j] = raw[j][l];
                F::pairs(v, n);
                for (int j = 0; j < 4; j++)
                    _mm256_store_si256((__m256i *)(panel.pairs[group_pair<F>(8 * j + l)] + 8 * side), n[j]);
            }
        }
    }
};

// As matmul of affine matrices.
template <typename F>
static __attribute__((noinline)) void matmul(const Blocks<F> &w, const uint32_t first[2], const Activations &x,
                                             float (*y)[TILE]) {
    const uint32_t rows = x.rows;
    Panel panel;
    TileOctet<F> octet;
    BlockRows<F::GROUP, QUADS<F>> block;
    memset(y, 0, matmul_bytes(rows));
    const size_t ahead = TILE * w.row_bytes(), share = ahead / w.groups * (BLOCK / F::GROUP);
    const char *next = (const char *)w.data + first[0] * w.row_bytes() + ahead;  // the next tile, as a rule
    for (uint32_t g = 0; g < w.groups; g += block.count, next += share) {
        prefetch_ahead(next, share);
        if (g % 8 == 0) octet.load(w, first, g / 8);
#if OB_HAS_VNNI
        if constexpr (QUADS<F>) octet.unpack_quads(g % 8 * F::GROUP / BLOCK, panel.pairs);
        else octet.unpack(g % 8 * F::GROUP / BLOCK, panel);
#else
        octet.unpack(g % 8 * F::GROUP / BLOCK, panel);
#endif
        block.count = least(BLOCK / F::GROUP, w.groups - g);
        for (uint32_t i = 0; i < block.count; i++) {
            uint32_t place = slot(g + i), part = place % 8;
            block.y[i] = y + (size_t)part * rows;
            block.each[i] = {&panel,
                             0,
                             false,
                             outputs_of(octet.scale[0][part], octet.scale[1][part]),
                             outputs_of(octet.bias[0][part], octet.bias[1][part]),
                             x.scales + x.scale_at(place, 0),
                             x.sums + x.scale_at(place, 0),
                             x.at(g * F::GROUP / BLOCK, 0) + (QUADS<F> ? i * F::GROUP / 4 : 0),
                             x.block_step};
        }
        multiply_rows(block, rows);
    }
    add_parts(y[0], PARTS, (size_t)rows * TILE);
}

}  // namespace OB_NAMESPACE

#endif
