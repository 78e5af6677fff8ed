// What the kernels of the experts share, whether they go row by row or expert by expert.
#ifndef OB_EXPERTS_H
#define OB_EXPERTS_H

#include "args.h"
#include "reduce.h"
#include "weights.h"

METAL_FUNC float silu(float x) { return x / (1.0f + metal::exp(-x)); }

// sums[o · R + r] = row first + o of `weight` times input r, the whole product in every lane.
template <uint O, uint R, typename W>
METAL_FUNC void products(W weight, ulong first, thread const Inputs<R> &x, Place place, thread float *sums) {
    typename W::Row rows[O];
    for (uint o = 0; o < O; o++) rows[o] = weight.row(first + o);
    dots<O, R>(rows, x, place.lane, place.threads / place.groups, sums);
    for (uint i = 0; i < O * R; i++) sums[i] = metal::simd_sum(sums[i]);
}

// sum + weight · product: experts are added one after another, in the order of a row's ids.
METAL_FUNC float add_expert(float sum, float weight, float product) { return metal::fma(weight, product, sum); }

#endif
