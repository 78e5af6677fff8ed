// A tile of OB_LINEAR_OUTPUTS outputs for the rows at hand, and room for its results.
#ifndef OB_NATIVE_TILE_H
#define OB_NATIVE_TILE_H

#include "args.h"
#include "weights.h"

namespace OB_NAMESPACE {

static_assert(TILE == OB_LINEAR_OUTPUTS, "a tile is a threadgroup's");

enum { LEAST_OUTPUTS = 8, MOST_TILE_ROWS = 64, ROWS_BYTES = 320 << 10 };

// Room for two matrices' results.
enum { RESULT_BYTES = 2 * 8 * MOST_TILE_ROWS * TILE * 4 };

// A tile's rows of weights in two halves of eight. At the end of a matrix a half begins earlier, so
// that it is whole; what comes before its own outputs is left out.
struct Tile {
    uint32_t first[2];  // row of weights of lanes 0 and 8
    uint32_t begin[2], skip[2], count[2];

    // For a matrix of `outputs` ≥ LEAST_OUTPUTS rows.
    Tile(uint32_t tile, uint32_t outputs) {
        for (int h = 0; h < 2; h++) {
            begin[h] = least(tile * TILE + 8 * h, outputs);
            count[h] = least(8, outputs - begin[h]);
            first[h] = least(begin[h], outputs - 8);
            skip[h] = begin[h] - first[h];
        }
    }

    // Writes the outputs of a row; out is the row's output 0.
    void store(float *out, const float lanes[TILE]) const {
        for (int h = 0; h < 2; h++) {
            if (count[h] == 8) _mm256_storeu_ps(out + begin[h], _mm256_loadu_ps(lanes + 8 * h));
            else memcpy(out + begin[h], lanes + 8 * h + skip[h], count[h] * sizeof(float));
        }
    }
};

// y[row][lane] for all rows of x; y has matmul_bytes.
OB_INLINE void multiply(const Weights &w, const Tile &tile, const Activations &x, float (*y)[TILE]) {
    if (!x.apart) {
        w.format.matmul(w, tile.first, x, y);
        return;
    }
    for (int h = 0; h < 2; h++) {
        if (tile.count[h] == 0) continue;
        if (x.rows == 1) {
            _mm256_storeu_ps(y[0] + 8 * h, w.format.matvec(w, tile.first[h], x));
            continue;
        }
        __m256 products[MOST_FEW];
        w.format.few_rows(w, tile.first[h], x, products);
        for (uint32_t r = 0; r < x.rows; r++) _mm256_storeu_ps(y[r] + 8 * h, products[r]);
    }
}

// Lays out activations for products with matrices of a format, of a kernel whose arguments say `group`.
OB_INLINE char *place(const WeightFormat &format, Activations &a, char *memory, uint32_t rows, uint32_t inputs,
                      uint32_t group) {
    return a.place(memory, rows, inputs, format.group_of(group), format.few(group), format.planes(rows));
}

// How many rows go through together: as many as stay in the second cache. 0 where not even four fit the
// scratch, or the sizes are not the kernel's.
OB_INLINE uint32_t rows_together(const WeightFormat &format, uint32_t inputs, uint32_t group, uint32_t outputs) {
    if (inputs == 0 || !format.fits(inputs, group)) return 0;
    group = format.group_of(group);
    if (outputs < LEAST_OUTPUTS || inputs / group > MOST_GROUPS) return 0;
    uint64_t rows = ROWS_BYTES / (2 * (uint64_t)inputs);
    if (rows > MOST_TILE_ROWS) rows = MOST_TILE_ROWS;
    if (rows < 4) rows = 4;
    rows = rows / 4 * 4;
    return Activations::bytes((uint32_t)rows, inputs, group) <= CPU_SCRATCH_BYTES - RESULT_BYTES ? (uint32_t)rows : 0;
}

// Quantises rows 0 … rows - 1, row(r) being where r is; a bit for each that is not finite, whose results
// are the shader's to compute.
template <typename Row>
OB_INLINE uint64_t quantise_all(const WeightFormat &format, const Activations &to, uint32_t rows, Row row) {
    uint64_t bad = 0;
    for (uint32_t r = 0; r < rows; r++) bad |= (uint64_t)!format.quantise(to, r, row(r)) << r;
    return bad;
}

OB_INLINE bool has(uint64_t rows, uint32_t row) { return rows >> row & 1; }

}  // namespace OB_NAMESPACE

#endif
