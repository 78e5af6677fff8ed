// How a KV cache keeps the numbers of a head: rows of float or half, or of char for "q8".
//
// A q8 row of `dim` numbers is a scale, half, for each OB_CACHE_GROUP of them, then `dim` integers of 8
// bits, filled up to whole words of 32: number i is scale[i / OB_CACHE_GROUP] · integer[i].
#ifndef OB_CACHE_H
#define OB_CACHE_H

#include "args.h"
#include "reduce.h"

METAL_FUNC uint cache_groups(uint dim) { return (dim + OB_CACHE_GROUP - 1) / OB_CACHE_GROUP; }

// Elements from one row of `dim` numbers to the next.
template <typename C>
METAL_FUNC uint cache_row(device const C *, uint dim) {
    return dim;
}
METAL_FUNC uint cache_row(device const char *, uint dim) { return (2 * cache_groups(dim) + dim + 3) / 4 * 4; }

// Numbers i to i + 15 of a row of `dim`, zeros from `end` on; i a multiple of 16.
template <typename C>
METAL_FUNC Lanes cache_read(device const C *row, uint i, uint end, uint dim) {
    return lanes_read(row, i, end);
}
METAL_FUNC Lanes cache_read(device const char *row, uint i, uint end, uint dim) {
    float scale = float(((device const half *)row)[i / OB_CACHE_GROUP]);
    return lanes_mul(lanes_read(row + 2 * cache_groups(dim), i, end), lanes_splat(scale));
}

METAL_FUNC void cache_store(device float *y, float x) { *y = x; }

// Rounded to the nearest, ties to even. A number beyond half's range becomes its largest; inf and NaN,
// which tell of a failure before, stay.
METAL_FUNC void cache_store(device half *y, float x) {
    float size = metal::abs(x);
    *y = half(size > HALF_MAX && size < INFINITY ? metal::copysign(float(HALF_MAX), x) : x);
}

// The smallest half that is no less than x ≥ 0; NaN for inf and NaN, the largest half beyond its range.
METAL_FUNC half cache_scale(float x) {
    if (!(x < INFINITY)) return half(NAN);
    half y = half(metal::min(x, float(HALF_MAX)));
    return float(y) < metal::min(x, float(HALF_MAX)) ? metal::as_type<half>(ushort(metal::as_type<ushort>(y) + 1)) : y;
}

// Group g of a row of `dim` numbers, x.at(i) each. The scale is rounded up, so that no integer is cut
// off: a number is off by half a scale at most. A group with inf or NaN is NaN.
template <typename X>
METAL_FUNC void cache_store_group(device char *row, thread const X &x, uint g, uint dim) {
    uint first = g * OB_CACHE_GROUP, end = metal::min(first + OB_CACHE_GROUP, dim);
    float values[OB_CACHE_GROUP], most = 0;
    for (uint i = first; i < end; i++) {
        values[i - first] = x.at(i);
        float size = metal::abs(values[i - first]);
        most = size > most || metal::isnan(size) ? size : most;  // NaN stays once it is there
    }
    half scale = cache_scale(most / 127);
    ((device half *)row)[g] = scale;
    float inverse = float(scale) > 0 ? 1 / float(scale) : 0.0f;
    device char *integers = row + 2 * cache_groups(dim);
    for (uint i = first; i < end; i++) {
        float n = metal::clamp(metal::rint(values[i - first] * inverse), -127.0f, 127.0f);
        integers[i] = metal::isnan(n) ? char(0) : char(int(n));
    }
}

// A row of `dim` numbers x.at(i), by one simdgroup.
template <typename Y, typename X>
METAL_FUNC void cache_store_row(device Y *y, thread const X &x, uint dim, Place place) {
    for (uint i = place.lane; i < dim; i += place.threads / place.groups) cache_store(y + i, x.at(i));
}

template <typename X>
METAL_FUNC void cache_store_row(device char *y, thread const X &x, uint dim, Place place) {
    uint width = place.threads / place.groups;
    for (uint g = place.lane; g < cache_groups(dim); g += width) cache_store_group(y, x, g, dim);
}

// 1 / root mean square of n numbers, by one simdgroup.
METAL_FUNC float norm_scale(device const float *x, uint n, float eps, Place place) {
    float sum = 0;
    for (uint i = place.lane; i < n; i += place.threads / place.groups) sum += x[i] * x[i];
    return metal::rsqrt(metal::simd_sum(sum) / float(n) + eps);
}

#endif
