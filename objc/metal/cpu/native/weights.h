// A matrix of quantised weights, whatever its format. Kernels are written for these, once for all formats: what differs
// is behind a table of functions, which formats_packed.cpp and formats_blocks.cpp have one each of for a format. A call
// through it computes eight or sixteen outputs at least.
#ifndef OB_NATIVE_WEIGHTS_H
#define OB_NATIVE_WEIGHTS_H

#include "activations.h"

namespace OB_NAMESPACE {

enum { TILE = 16 };  // rows of weights that many rows of activations share
enum { PARTS = 8 };  // of a float sum (matvec.h)
enum { MOST_GROUPS = 1024 };

struct WeightFormat;

struct Weights {
    const WeightFormat &format;
    const uint8_t *data, *scales, *biases;  // scales and biases where they are stored apart
    uint32_t columns, group, groups;
    size_t row_bytes, row_scales, row_biases;  // bytes of a row

    // `b` are a kernel's bindings of the matrix, and its arguments say `group`.
    Weights(const WeightFormat &format, void *const *b, uint32_t columns, uint32_t group);

    // That of several matrices with `rows` rows each, the first of which is `all` or this.
    void seek(const Weights &all, size_t index, size_t rows);
    Weights matrix(size_t index, size_t rows) const;
};

struct WeightFormat {
    uint32_t bindings;
    uint32_t block_columns, block_bytes;  // of data
    uint32_t scale_bytes, bias_bytes;     // of a group; 0 where blocks have them

    // Columns of a scale, of a kernel whose arguments say `group`, and whether rows of so many are handled.
    uint32_t (*group_of)(uint32_t group);
    bool (*fits)(uint32_t columns, uint32_t group);
    // So many rows of activations, at most MOST_FEW, do not make up for unpacking weights for all.
    uint32_t (*few)(uint32_t group);
    // Whether products of more rows are products of bytes.
    bool (*planes)(uint32_t rows);

    // Quantises x [inputs] into row `row`; false where an element is inf or NaN.
    bool (*quantise)(const Activations &to, uint32_t row, const float *x);

    // Products of rows `first` to `first` + 7 of w with x, which has one row and at most MOST_GROUPS; a lane each.
    __m256 (*matvec)(const Weights &w, uint32_t first, const Activations &x);
    // matvec for each of a few rows of x, which lie apart.
    void (*few_rows)(const Weights &w, uint32_t first, const Activations &x, __m256 y[MOST_FEW]);
    // y[row][lane] of all rows of x: lanes 0 to 7 are rows first[0] … of w, 8 to 15 first[1] …. What is behind the results,
    // of matmul_bytes, is used on the way.
    void (*matmul)(const Weights &w, const uint32_t first[2], const Activations &x, float (*y)[TILE]);
};

inline Weights::Weights(const WeightFormat &format_, void *const *b, uint32_t columns_, uint32_t group_)
    : format(format_), data((const uint8_t *)b[0]), scales(format.scale_bytes > 0 ? (const uint8_t *)b[1] : nullptr),
      biases(format.bias_bytes > 0 ? (const uint8_t *)b[2] : nullptr), columns(columns_),
      group(format.group_of(group_)), groups(columns_ / group),
      row_bytes(columns_ / format.block_columns * format.block_bytes), row_scales(groups * format.scale_bytes),
      row_biases(groups * format.bias_bytes) {}

inline void Weights::seek(const Weights &all, size_t index, size_t rows) {
    size_t skipped = index * rows;
    data = all.data + skipped * row_bytes;
    scales = all.scales + skipped * row_scales;
    biases = all.biases + skipped * row_biases;
}

inline Weights Weights::matrix(size_t index, size_t rows) const {
    Weights other = *this;
    other.seek(*this, index, rows);
    return other;
}

// Bytes of a matmul's `y` for that many rows.
OB_INLINE size_t matmul_bytes(uint32_t rows) { return (size_t)PARTS * rows * TILE * sizeof(float); }

}  // namespace OB_NAMESPACE

#endif
