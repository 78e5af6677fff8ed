// GGUF's weight types: a row is stored as blocks, as in llama.cpp (ggml-common.h).
//
// A row is a whole number of blocks. Blocks follow each other without a gap, so their members are aligned to two bytes
// at most (MXFP4: to one).
#ifndef OB_WEIGHTS_BLOCKS_H
#define OB_WEIGHTS_BLOCKS_H

#include "blocks_32.h"
#include "blocks_256.h"
#include "plain.h"

// Reads the scales of all groups of a block. This version is for blocks that are one group; others have their own.
template <typename B>
METAL_FUNC void block_scales(device const B *b, thread GroupScale *out) {
    out[0] = block_scale(b, 0);
}

// A row of blocks B. A block has B::columns columns; each B::group columns have a scale.
template <typename B>
struct BlockRow {
    device const B *data;
    uint columns;

    enum { unit = B::columns / B::group };
    METAL_FUNC uint group_chunks() const { return B::group / 16; }
    METAL_FUNC GroupScale scale(uint g) const { return block_scale(data + g / unit, g % unit); }
    METAL_FUNC void unit_scales(uint u, thread GroupScale *out) const { block_scales(data + u, out); }
    METAL_FUNC Lanes lanes(uint block, uint chunk, GroupScale s) const { return block_lanes(data + block, chunk, s); }
};

// The row type of a stored type. An element counts as a block of one column.
template <typename T>
struct Stored {
    typedef BlockRow<T> Row;
    enum { columns = T::columns };
};
template <>
struct Stored<float> {
    typedef PlainRow<float> Row;
    enum { columns = 1 };
};
template <>
struct Stored<half> {
    typedef PlainRow<half> Row;
    enum { columns = 1 };
};
template <>
struct Stored<bfloat> {
    typedef PlainRow<bfloat> Row;
    enum { columns = 1 };
};

template <typename T>
struct Plain {
    typedef typename Stored<T>::Row Row;
    device const T *data;
    uint columns;

    Plain(device const T *data_, uint columns_) : data(data_), columns(columns_) {}

    METAL_FUNC Row row(ulong i) const {
        Row r;
        r.data = data + i * (columns / Stored<T>::columns);
        r.columns = columns;
        return r;
    }
};

template <typename T>
METAL_FUNC Plain<T> matrix_of(device const T *data, uint columns) {
    return Plain<T>(data, columns);
}

#define OB_BLOCK_FORMATS(EACH)   \
    EACH(gguf_q4_0, BlockQ4_0)   \
    EACH(gguf_q4_1, BlockQ4_1)   \
    EACH(gguf_q5_0, BlockQ5_0)   \
    EACH(gguf_q5_1, BlockQ5_1)   \
    EACH(gguf_q8_0, BlockQ8_0)   \
    EACH(gguf_mxfp4, BlockMXFP4) \
    EACH(gguf_q4_k, BlockQ4_K)   \
    EACH(gguf_q5_k, BlockQ5_K)   \
    EACH(gguf_q6_k, BlockQ6_K)

#endif
