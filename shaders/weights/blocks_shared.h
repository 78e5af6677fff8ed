// Types of blocks whose kernels share their code where shaders are compiled as C++: each further one would cost a build as
// much as all of these together. Which type a row has is a number then, and sixteen weights are unpacked by a call. A GPU's
// compiler knows the number, so its kernels are made for the one type.
#ifndef OB_WEIGHTS_BLOCKS_SHARED_H
#define OB_WEIGHTS_BLOCKS_SHARED_H

#include "blocks_32.h"
#include "blocks_256.h"
#include "blocks_coded.h"
#include "blocks_nvfp4.h"
#include "blocks_ternary.h"
#include "shared.h"

// EACH(name of the format, block)
#define OB_SHARED_BLOCKS(EACH)       \
    EACH(gguf_iq4_nl, BlockIQ4_NL)   \
    EACH(gguf_iq4_xs, BlockIQ4_XS)   \
    EACH(gguf_q2_k, BlockQ2_K)       \
    EACH(gguf_q3_k, BlockQ3_K)       \
    EACH(gguf_iq3_s, BlockIQ3_S)     \
    EACH(gguf_iq3_xxs, BlockIQ3_XXS) \
    EACH(gguf_iq2_s, BlockIQ2_S)     \
    EACH(gguf_iq2_xs, BlockIQ2_XS)   \
    EACH(gguf_iq2_xxs, BlockIQ2_XXS) \
    EACH(gguf_iq1_m, BlockIQ1_M)     \
    EACH(gguf_iq1_s, BlockIQ1_S)     \
    EACH(gguf_tq2_0, BlockTQ2_0)     \
    EACH(gguf_tq1_0, BlockTQ1_0)     \
    EACH(gguf_q2_0, BlockQ2_0)       \
    EACH(gguf_q1_0, BlockQ1_0)       \
    EACH(gguf_nvfp4, BlockNVFP4)

#define OB_NUMBER(name, B) shared_##name,
enum SharedBlock { OB_SHARED_BLOCKS(OB_NUMBER) };
#undef OB_NUMBER

template <typename B>
METAL_FUNC Lanes chunk_of_blocks(device const B *row, uint chunk) {
    const uint chunks = B::columns / 16;
    device const B *b = row + chunk / chunks;
    return block_lanes(b, chunk % chunks, block_scale(b, chunk % chunks * 16 / B::group));
}

OB_SHARED Lanes shared_block_lanes(device const uchar *row, uint type, uint chunk) {
#define OB_CASE(name, B) \
    case shared_##name:  \
        return chunk_of_blocks((device const B *)row, chunk);
    switch (type) { OB_SHARED_BLOCKS(OB_CASE) }
#undef OB_CASE
    return lanes_splat(0);
}

// A chunk counts as a group whose weights have their scale already.
struct SharedBlockRow {
    device const uchar *data;
    uint columns, type;

    enum { unit = 1 };
    METAL_FUNC uint group_chunks() const { return 1; }
    METAL_FUNC GroupScale scale(uint) const { return {1, 0}; }
    METAL_FUNC void unit_scales(uint, thread GroupScale *out) const { out[0] = {1, 0}; }
    METAL_FUNC Lanes lanes(uint chunk, uint, GroupScale) const { return shared_block_lanes(data, type, chunk); }
};

struct SharedBlocks {
    typedef SharedBlockRow Row;
    device const uchar *data;
    uint columns, type, row_bytes;

    METAL_FUNC Row row(ulong i) const {
        Row r;
        r.data = data + i * row_bytes;
        r.columns = columns;
        r.type = type;
        return r;
    }
};

#define OB_MATRIX(name, B)                                                  \
    METAL_FUNC SharedBlocks matrix_of(device const B *data, uint columns) { \
        SharedBlocks m;                                                     \
        m.data = (device const uchar *)data;                                \
        m.columns = columns;                                                \
        m.type = shared_##name;                                             \
        m.row_bytes = columns / B::columns * sizeof(B);                     \
        return m;                                                           \
    }
OB_SHARED_BLOCKS(OB_MATRIX)
#undef OB_MATRIX

#endif
