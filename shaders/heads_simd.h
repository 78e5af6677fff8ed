// A head in the registers of one simdgroup: it is read once, normed, turned and stored.
#ifndef OB_HEADS_SIMD_H
#define OB_HEADS_SIMD_H

#include "cache.h"

#ifndef __METAL_CPU__

// Pairs of numbers per lane, and numbers per head, that a simdgroup of OB_HEAD_LANES lanes keeps.
#define OB_HEAD_LANES 32
#define OB_HEAD_PAIRS 4
#define OB_HEAD_DIM (2 * OB_HEAD_PAIRS * OB_HEAD_LANES)

// Stores a row of `dim` numbers; x are this lane's, `lane`, `lane` + OB_HEAD_LANES, …
template <typename Y>
METAL_FUNC void store_numbers(device Y *y, thread const float *x, uint dim, uint lane) {
    OB_UNROLL
    for (uint n = 0; n < 2 * OB_HEAD_PAIRS; n++) {
        uint i = lane + n * OB_HEAD_LANES;
        if (i < dim) cache_store(y + i, x[n]);
    }
}

// As cache_store_group does it, but a lane per number.
METAL_FUNC void store_numbers(device char *y, thread const float *x, uint dim, uint lane) {
    static_assert(OB_HEAD_LANES == OB_CACHE_GROUP, "a group of the cache has a number per lane");
    device char *integers = y + 2 * cache_groups(dim);
    OB_UNROLL
    for (uint n = 0; n < 2 * OB_HEAD_PAIRS; n++) {
        uint i = lane + n * OB_HEAD_LANES;
        if (n * OB_HEAD_LANES >= dim) break;
        float value = i < dim ? x[n] : 0;
        half scale = cache_scale(metal::simd_max(metal::isnan(value) ? INFINITY : metal::abs(value)) / 127);
        float inverse = float(scale) > 0 ? 1 / float(scale) : 0.0f;
        float integer = metal::clamp(metal::rint(value * inverse), -127.0f, 127.0f);
        if (lane == 0) ((device half *)y)[n] = scale;
        if (i < dim) integers[i] = metal::isnan(integer) ? char(0) : char(int(integer));
    }
}

// The sum over a whole simdgroup that is together.
METAL_FUNC float head_sum(float x) {
#ifdef __METAL_CUDA__
    OB_UNROLL
    for (uint step = OB_HEAD_LANES / 2; step > 0; step /= 2) x += metal::metallib_shuffle_xor(x, step);
    return x;
#else
    return metal::simd_sum(x);
#endif
}

// What happens to a head: y = turn(clip(x · scale · (offset + weight))). Numbers turn in pairs, p with p + half_dim, or,
// interleaved, 2p with 2p + 1. `scale` is 1 / √(mean(x²) + eps) where `own_norm` says so. A lane has up to `pairs` pairs.
template <typename T, uint pairs>
struct SimdHead {
    device const float *x;
    device const T *weight;
    device const float *table;
    bool own_norm, has_weight, interleaved;
    uint half_dim, dim;
    float scale, eps, offset, clip;

    METAL_FUNC float normed(float v, float w) const {
        float y = v * scale * w;
        return clip > 0 && !metal::isnan(y) ? metal::min(metal::max(y, -clip), clip) : y;
    }

    // One simdgroup puts the head into `memory`. All is read before the sum of squares is known.
    METAL_FUNC void turn(threadgroup float *memory, uint lane) {
        float a[pairs], b[pairs], wa[pairs], wb[pairs];
        float c[pairs], s[pairs], squares = 0;
        uint first[pairs], second[pairs];
        OB_UNROLL
        for (uint n = 0; n < pairs; n++) {
            uint p = lane + n * OB_HEAD_LANES;
            bool turns = p < half_dim, apart = turns && !interleaved;
            first[n] = apart ? p : 2 * p;
            second[n] = apart ? p + half_dim : 2 * p + 1;
            a[n] = first[n] < dim ? x[first[n]] : 0.0f;
            b[n] = second[n] < dim ? x[second[n]] : 0.0f;
            wa[n] = has_weight && first[n] < dim ? offset + float(weight[first[n]]) : 1.0f;
            wb[n] = has_weight && second[n] < dim ? offset + float(weight[second[n]]) : 1.0f;
            c[n] = turns ? table[p] : 1.0f;
            s[n] = turns ? table[half_dim + p] : 0.0f;
        }
        if (own_norm) {
            OB_UNROLL
            for (uint n = 0; n < pairs; n++) squares = metal::fma(a[n], a[n], metal::fma(b[n], b[n], squares));
            scale = metal::rsqrt(head_sum(squares) / float(dim) + eps);
        }
        OB_UNROLL
        for (uint n = 0; n < pairs; n++) {
            bool turns = lane + n * OB_HEAD_LANES < half_dim;
            float u = normed(a[n], wa[n]), v = normed(b[n], wb[n]);
            if (first[n] < dim) memory[first[n]] = turns ? metal::fma(u, c[n], -(v * s[n])) : u;
            if (second[n] < dim) memory[second[n]] = turns ? metal::fma(v, c[n], u * s[n]) : v;
        }
        metal::simdgroup_barrier(metal::mem_flags::mem_threadgroup);
    }

    // A lane gets numbers `lane`, `lane` + OB_HEAD_LANES, … of the head in `memory`.
    METAL_FUNC void numbers_of(thread float *numbers, threadgroup const float *memory, uint lane) const {
        OB_UNROLL
        for (uint n = 0; n < 2 * pairs; n++) {
            uint i = lane + n * OB_HEAD_LANES;
            numbers[n] = i < dim ? memory[i] : 0.0f;
        }
        metal::simdgroup_barrier(metal::mem_flags::mem_threadgroup);  // before the next head overwrites them
    }
};

#endif
#endif
