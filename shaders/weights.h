// A weight matrix [rows, columns] in every format that checkpoints store, behind one interface:
//
//   row(i)                   row i
//   row_lanes(row, chunk)    columns 16 · chunk to 16 · chunk + 15 of a row
//   dots(rows, …)            products of rows with activations
//
// Plain<T> is one array of elements or blocks. Affine<bits, S> is MLX's format: packed integers, scales and biases.
// Weights are unpacked in registers only, sixteen at a time.
#ifndef OB_WEIGHTS_H
#define OB_WEIGHTS_H

#include "weights/affine.h"
#include "weights/affine_shared.h"
#include "weights/blocks.h"
#include "weights/blocks_shared.h"
#include "weights/plain.h"
#include "weights/shared.h"
#include "args.h"
#include "reduce.h"

// Returns sixteen columns of a row.
template <typename Row>
METAL_FUNC Lanes row_lanes(Row row, uint chunk) {
    uint size = row.group_chunks(), unit = size * Row::unit;
    return row.lanes(chunk / unit, chunk % unit, row.scale(chunk / size));
}

// acc[o · R + r] += (chunk c of unit u of weight row o) · (x.row[r] from `column` on). The scales of two rows are
// `stride` apart.
template <uint O, uint R, typename Row>
METAL_FUNC void add_chunk(thread const Row *w, thread const GroupScale *scale, uint stride, thread const Inputs<R> &x,
                          uint column, uint u, uint c, thread Lanes *acc) {
    for (uint o = 0; o < O; o++) {
        Lanes v = w[o].lanes(u, c, scale[o * stride]);
        for (uint r = 0; r < R; r++) acc[o * R + r] = lanes_fma(v, lanes_load(x.row[r] + column), acc[o * R + r]);
    }
}

// dots() of all formats but elements (plain.h). It is not inlined, so kernels share its code and compile faster.
template <uint O, uint R, typename Row>
__attribute__((noinline)) void dots(thread const Row *w, thread const Inputs<R> &x, uint first, uint step,
                                    thread float *out) {
    const uint unit = Row::unit;  // groups whose scales are read together
    Lanes acc[O * R];
    GroupScale scale[O * unit];
    for (uint i = 0; i < O * R; i++) acc[i] = lanes_splat(0);
    uint size = w[0].group_chunks(), chunks = w[0].columns / 16;
    if (step == 1) {  // one thread computes the row
        for (uint u = 0, column = 0; u < chunks / (size * unit); u++) {
            for (uint o = 0; o < O; o++) w[o].unit_scales(u, scale + o * unit);
            for (uint g = 0; g < unit; g++) {
                for (uint c = 0; c < size; c++, column += 16)
                    add_chunk<O, R>(w, scale + g, unit, x, column, u, g * size + c, acc);
            }
        }
    } else {
        for (uint chunk = first; chunk < chunks; chunk += step) {
            for (uint o = 0; o < O; o++) scale[o] = w[o].scale(chunk / size);
            add_chunk<O, R>(w, scale, 1, x, 16 * chunk, chunk / (size * unit), chunk % (size * unit), acc);
        }
    }
    for (uint i = 0; i < O * R; i++) out[i] = lanes_sum(acc[i]);
}

#ifdef __METAL_CPU__
// A GPU's simdgroups share what they read, see weights/simd.h. Here a simdgroup is one thread.
struct Stage {};
#define OB_STAGE_MEMORY
#define OB_STAGE \
    Stage {}
#define OB_AFFINE_STAGE_MEMORY
#define OB_AFFINE_STAGE OB_STAGE

template <typename Row>
struct SimdRow {
    enum { one = OB_LINEAR_BLOCK, many = 1, gate_up = 1, pair = 1 };
};

// sums[o · R + r] = w[o] · x.row[r].
template <uint O, uint R, typename Row>
METAL_FUNC void simd_products(thread const Row *w, bool, thread const Inputs<R> &x, bool, Stage, Place,
                              thread float *sums) {
    dots<O, R>(w, x, 0, 1, sums);
}
#else
#ifdef __METAL_CUDA__
#include "weights/tensor_tile.h"
#endif
struct Stage {
    threadgroup metal::float4 *quads;
    threadgroup float *sums;
};
#include "weights/simd.h"
#endif

// Those of which tensor cores make products; see weights/tensor.h.
#define OB_TENSOR_FORMATS(EACH) \
    EACH(q4_f32, 4, float)      \
    EACH(q4_f16, 4, half)       \
    EACH(q4_bf16, 4, bfloat)    \
    EACH(q8_f32, 8, float)      \
    EACH(q8_f16, 8, half)       \
    EACH(q8_bf16, 8, bfloat)

// Every kernel that reads weights is compiled for each of these formats. EACH(name, element or block)
#define OB_PLAIN_FORMATS(EACH) \
    EACH(f32, float)           \
    EACH(f16, half)            \
    EACH(bf16, bfloat)         \
    OB_BLOCK_FORMATS(EACH)     \
    OB_SHARED_BLOCKS(EACH)

// EACH(name, bits, type of the scales). MLX's MX formats have scales but no biases; their scales are bound as biases, too.
#define OB_AFFINE_FORMATS(EACH) \
    EACH(q3_f32, 3, float)      \
    EACH(q3_f16, 3, half)       \
    EACH(q3_bf16, 3, bfloat)    \
    EACH(q4_f32, 4, float)      \
    EACH(q4_f16, 4, half)       \
    EACH(q4_bf16, 4, bfloat)    \
    EACH(q6_f32, 6, float)      \
    EACH(q6_f16, 6, half)       \
    EACH(q6_bf16, 6, bfloat)    \
    EACH(q8_f32, 8, float)      \
    EACH(q8_f16, 8, half)       \
    EACH(q8_bf16, 8, bfloat)    \
    EACH(mxfp4, 4, E8M0)        \
    OB_SHARED_AFFINE(EACH)

#endif
