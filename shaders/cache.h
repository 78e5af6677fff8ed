// The KV cache stores the numbers of a head as a row of float or half, or of char for "q8". Rows lie in blocks,
// [blocks, kv_heads, OB_CACHE_BLOCK, dim]. A block table [slots, width] names the blocks of each slot: position p is row
// p % OB_CACHE_BLOCK of the block that entry p / OB_CACHE_BLOCK names, in a ring entry p / OB_CACHE_BLOCK % width.
//
// A q8 row of `dim` numbers has one half as the scale of each OB_CACHE_GROUP numbers, then `dim` 8-bit integers, then
// padding up to a multiple of four bytes: number i is scale[i / OB_CACHE_GROUP] · integer[i].
#ifndef OB_CACHE_H
#define OB_CACHE_H

#include "args.h"
#include "reduce.h"

// Returns the block of a slot's position, or OB_NONE where there is no such slot, position or block: the caller touches
// no cache then. `args` has the sizes of the table and of the caches.
template <typename Args>
METAL_FUNC uint cache_block(device const uint *table, uint slot, uint position, bool ring, constant Args &args) {
    uint entry = position / OB_CACHE_BLOCK;
    if (ring) entry %= args.width;
    if (slot >= args.slots || entry >= args.width) return OB_NONE;
    uint block = table[ulong(slot) * args.width + entry];
    return block < args.blocks ? block : OB_NONE;
}

METAL_FUNC uint cache_groups(uint dim) { return (dim + OB_CACHE_GROUP - 1) / OB_CACHE_GROUP; }

// Returns the elements from one row of `dim` numbers to the next.
template <typename C>
METAL_FUNC uint cache_row(device const C *, uint dim) {
    return dim;
}
METAL_FUNC uint cache_row(device const char *, uint dim) { return (2 * cache_groups(dim) + dim + 3) / 4 * 4; }

// Returns numbers i to i + 15 of a row of `dim`, with zeros from `end` on. i is a multiple of 16.
template <typename C>
METAL_FUNC Lanes cache_read(device const C *row, uint i, uint end, uint dim) {
    return lanes_read(row, i, end);
}
METAL_FUNC Lanes cache_read(device const char *row, uint i, uint end, uint dim) {
    float scale = float(((device const half *)row)[i / OB_CACHE_GROUP]);
    return lanes_mul(lanes_read(row + 2 * cache_groups(dim), i, end), lanes_splat(scale));
}

METAL_FUNC void cache_store(device float *y, float x) { *y = x; }

// Rounds to the nearest half, ties to even. A number beyond half's range becomes the largest half. inf and NaN stay,
// because they show an earlier failure.
METAL_FUNC void cache_store(device half *y, float x) {
    float size = metal::abs(x);
    *y = half(size > HALF_MAX && size < INFINITY ? metal::copysign(float(HALF_MAX), x) : x);
}

// Returns the smallest half that is at least x ≥ 0; NaN for inf and NaN; the largest half for x beyond its range.
METAL_FUNC half cache_scale(float x) {
    if (!(x < INFINITY)) return half(NAN);
    half y = half(metal::min(x, float(HALF_MAX)));
    return float(y) < metal::min(x, float(HALF_MAX)) ? metal::as_type<half>(ushort(metal::as_type<ushort>(y) + 1)) : y;
}

// Stores group g of a row of `dim` numbers x.at(i). The scale is rounded up, so that no integer is clipped: a number is
// off by at most half a scale. A group with inf or NaN becomes NaN.
template <typename X>
METAL_FUNC void cache_store_group(device char *row, thread const X &x, uint g, uint dim) {
    uint first = g * OB_CACHE_GROUP, end = metal::min(first + OB_CACHE_GROUP, dim);
    float values[OB_CACHE_GROUP], most = 0;
    for (uint i = first; i < end; i++) {
        values[i - first] = x.at(i);
        float size = metal::abs(values[i - first]);
        most = size > most || metal::isnan(size) ? size : most;  // once NaN, `most` stays NaN
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

// One simdgroup stores a row of `dim` numbers x.at(i).
template <typename Y, typename X>
METAL_FUNC void cache_store_row(device Y *y, thread const X &x, uint dim, Place place) {
    for (uint i = place.lane; i < dim; i += place.threads / place.groups) cache_store(y + i, x.at(i));
}

template <typename X>
METAL_FUNC void cache_store_row(device char *y, thread const X &x, uint dim, Place place) {
    uint width = place.threads / place.groups;
    for (uint g = place.lane; g < cache_groups(dim); g += width) cache_store_group(y, x, g, dim);
}

// One simdgroup computes 1 / sqrt(mean(x²) + eps) of n numbers.
METAL_FUNC float norm_scale(device const float *x, uint n, float eps, Place place) {
    float sum = 0;
    OB_ROLLED
    for (uint i = place.lane; i < n; i += place.threads / place.groups) sum += x[i] * x[i];
    return metal::rsqrt(metal::simd_sum(sum) / float(n) + eps);
}

#endif
