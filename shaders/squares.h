// Sums of squares, for kernels of CUDA that norm a row on the way: who writes the row leaves the sum of each sixteen
// squares behind, and whoever reads it adds these sums up.
//
// All sums are trees: neighbours are added, then neighbours among these sums, and so on, as if the row ended in zeros up to
// a power of two. So a row's sum has the same bits whoever makes it, and in parts of any size.
#ifndef OB_SQUARES_H
#define OB_SQUARES_H

#include "args.h"
#include "reduce.h"

#ifdef __METAL_CUDA__

#define OB_SQUARES 16        // numbers whose squares are one sum
#define OB_SQUARES_BLOCKS 4  // of 128 such sums, at most: rows of 8,192 numbers

// The sum of x over `n` neighbouring lanes, the same in all of them. The simdgroup is whole.
template <uint n>
METAL_FUNC float tree_over(float x) {
    OB_UNROLL
    for (uint step = 1; step < n; step *= 2) x += metal::metallib_shuffle_xor(x, step);
    return x;
}

// The sum of the squares of sixteen numbers, one per lane.
METAL_FUNC float squares_of(float x) { return tree_over<OB_SQUARES>(metal::metallib_product(x, x)); }

// The sum of a row's squares. sums [count], count a multiple of 4, up to 128 · OB_SQUARES_BLOCKS.
METAL_FUNC float sum_of_sums(device const float *sums, uint count, uint lane) {
    float blocks[OB_SQUARES_BLOCKS] = {};
    OB_UNROLL
    for (uint b = 0; b < OB_SQUARES_BLOCKS; b++) {
        if (128 * b >= count) break;
        uint i = 128 * b + 4 * lane;
        metal::float4 v = i < count ? *(device const metal::float4 *)(sums + i) : metal::float4(0);
        blocks[b] = tree_over<32>((v.x + v.y) + (v.z + v.w));
    }
    return (blocks[0] + blocks[1]) + (blocks[2] + blocks[3]);
}

#endif
#endif
