// A weight matrix [rows, columns] in each of the formats that checkpoints store, behind one interface:
//
//   row(i)                   a row
//   row_lanes(row, chunk)    its columns 16 · chunk to 16 · chunk + 15
//   dots(rows, …)            products of rows with activations
//
// Elements and blocks are one array (Plain<T>), MLX's formats are packed integers, scales and biases
// (Affine<bits, S>). Nothing is ever unpacked but sixteen weights at a time, in registers.
#ifndef OB_WEIGHTS_H
#define OB_WEIGHTS_H

#include "weights/affine.h"
#include "weights/blocks.h"
#include "weights/plain.h"

// Sixteen columns of a row.
template <typename Row>
METAL_FUNC Lanes row_lanes(Row row, uint chunk) {
    return row.lanes(chunk, row.scale(chunk / row.group_chunks()));
}

// Out of line for all but elements: kernels share the code, and compile in less time.
template <uint O, uint R, typename Row>
__attribute__((noinline)) void dots(thread const Row *w, thread const Inputs<R> &x, uint first, uint step, thread float *out) {
    Lanes acc[O * R];
    GroupScale scale[O];
    uint size = w[0].group_chunks();
    for (uint i = 0; i < O * R; i++) acc[i] = lanes_splat(0);
    // With one thread a row (step 1) the inner loop runs through a group and its scale is read once.
    for (uint next = first; next < w[0].columns / 16;) {
        uint g = next / size;
        for (uint o = 0; o < O; o++) scale[o] = w[o].scale(g);
        for (uint end = (g + 1) * size; next < end; next += step) {
            for (uint o = 0; o < O; o++) {
                Lanes v = w[o].lanes(next, scale[o]);
                for (uint r = 0; r < R; r++) acc[o * R + r] = lanes_fma(v, lanes_load(x.row[r] + 16 * next), acc[o * R + r]);
            }
        }
    }
    for (uint i = 0; i < O * R; i++) out[i] = lanes_sum(acc[i]);
}

// The formats that every kernel over weights is made for. X(name, element or block)
#define OB_PLAIN_FORMATS(X) X(f32, float) X(f16, half) X(bf16, bfloat) OB_BLOCK_FORMATS(X)

// X(name, bits, type of the scales). MLX stores scales of its MX formats alone, which are bound as biases, too.
#define OB_AFFINE_FORMATS(X)                                     \
    X(q3_f32, 3, float) X(q3_f16, 3, half) X(q3_bf16, 3, bfloat) \
    X(q4_f32, 4, float) X(q4_f16, 4, half) X(q4_bf16, 4, bfloat) \
    X(q6_f32, 6, float) X(q6_f16, 6, half) X(q6_bf16, 6, bfloat) \
    X(q8_f32, 8, float) X(q8_f16, 8, half) X(q8_bf16, 8, bfloat) \
    X(mxfp4, 4, E8M0)

#endif
