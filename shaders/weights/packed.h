// How the lanes of a GPU read weights (simd.h): a span of neighbouring columns at a time, packed as it is stored.
#ifndef OB_WEIGHTS_PACKED_H
#define OB_WEIGHTS_PACKED_H

#include "../args.h"
#include "../reduce.h"
#include "affine.h"
#include "blocks.h"
#include "plain.h"

METAL_FUNC float total(metal::float4 a) { return (a.x + a.z) + (a.y + a.w); }

template <typename P>
METAL_FUNC bool is_aligned(P p) {
    return (reinterpret_cast<ulong>(p) & 15) == 0;
}

template <bool aligned>
METAL_FUNC metal::uint4 load_words(device const uint *p) {
    if (aligned) return *(device const metal::uint4 *)p;
    return metal::uint4(p[0], p[1], p[2], p[3]);
}

// Returns the four floats at p; unless p is aligned, zeros for those that are not among the `left` columns from
// p - done on.
template <bool aligned>
METAL_FUNC metal::float4 load_floats(device const float *p, uint left, uint done) {
    if (aligned) return *(device const metal::float4 *)p;
    metal::float4 v = metal::float4(0);
    for (uint c = 0; c < 4; c++) v[c] = done + c < left ? p[c] : 0.0f;
    return v;
}

// How the GPU's kernels handle the rows of a format.
//
//   span               columns that a lane takes at a time
//   scaled             whether spans have scales, which come after their sums
//   chains             sums of a span's products: one, which goes on from span to span, or those of even and of odd columns
//   rolled             whether the code for a span is there once, and not once for each span in flight
//   flight             spans that a simdgroup loads before it uses the first; own_flight: the same per row of an expert
//   one, many          outputs that a simdgroup computes at a time, for one row of activations and for several
//   gate_up, pair      the same for outputs of gate and of up; for several rows, whether both are computed together
//   down               the same for the sum of experts
//   fits(row)          whether its loads are aligned and its columns are whole spans
template <typename Row>
struct SimdChunks {
    enum {
        span = 16,
        scaled = 0,
        chains = 1,
        rolled = 1,
        flight = 1,
        own_flight = 1,
        one = 2,
        many = 1,
        gate_up = 1,
        pair = 1,
        down = 2
    };
    static METAL_FUNC bool fits(Row) { return true; }
};
template <typename Row>
struct SimdRow : SimdChunks<Row> {};

// A span as a lane holds it. quad(j) are columns 4j to 4j + 3. scaled(…) adds a span's sums to that of
// earlier spans.
// This version unpacks a chunk when it is loaded.
template <typename Row>
struct PackedChunk {
    Lanes lanes;
    METAL_FUNC void clear() { lanes = lanes_splat(0); }
    template <bool aligned>
    METAL_FUNC void load(Row row, uint column) {
        lanes = row_lanes(row, column / 16);
    }
    METAL_FUNC metal::float4 quad(uint j) const { return lanes.v[j]; }
    METAL_FUNC float scaled(thread const float *own, float, float) const { return own[0]; }
};

template <typename Row>
struct Packed : PackedChunk<Row> {};

// Elements

template <typename T>
struct SimdRow<PlainRow<T>> {
    enum {
        span = 16 / sizeof(T),
        scaled = 0,
        chains = 2,
        rolled = 0,
        flight = 8,
        own_flight = 4,
        one = 2,
        many = 2,
        gate_up = 2,
        pair = 2,
        down = 4
    };
    static METAL_FUNC bool fits(PlainRow<T> row) { return row.columns % span == 0 && is_aligned(row.data); }
};

METAL_FUNC uint element_bits(device const float *p, uint i, uint n) { return i < n ? metal::as_type<uint>(p[i]) : 0u; }
template <typename T>
METAL_FUNC uint element_bits(device const T *p, uint i, uint n) {
    uint low = i < n ? metal::as_type<ushort>(p[i]) : 0u;
    return low | (i + 1 < n ? uint(metal::as_type<ushort>(p[i + 1])) << 16 : 0u);
}

METAL_FUNC metal::float4 elements(metal::uint4 q, uint, float) { return metal::as_type<metal::float4>(q); }
METAL_FUNC metal::float4 elements(metal::uint4 q, uint j, bfloat) {
    uint a = q[2 * j], b = q[2 * j + 1];
    return metal::as_type<metal::float4>(metal::uint4(a << 16, a & 0xFFFF0000u, b << 16, b & 0xFFFF0000u));
}
METAL_FUNC metal::float4 elements(metal::uint4 q, uint j, half) {
    metal::half2 a = metal::as_type<metal::half2>(q[2 * j]), b = metal::as_type<metal::half2>(q[2 * j + 1]);
    return metal::float4(float(a.x), float(a.y), float(b.x), float(b.y));
}

template <typename T>
struct Packed<PlainRow<T>> {
    metal::uint4 words;
    METAL_FUNC void clear() { words = metal::uint4(0); }
    template <bool aligned>
    METAL_FUNC void load(PlainRow<T> row, uint column) {
        if (aligned) {
            words = *(device const metal::uint4 *)(row.data + column);
        } else {
            for (uint i = 0; i < 4; i++) words[i] = element_bits(row.data, column + i * 4 / sizeof(T), row.columns);
        }
    }
    METAL_FUNC metal::float4 quad(uint j) const { return elements(words, j, T(0)); }
    METAL_FUNC float scaled(thread const float *own, float, float acc) const { return acc + (own[0] + own[1]); }
};

// Integers of 4 or 8 bits

// Integers 4j to 4j + 3 of sixteen bytes. Where they stand, an integer's bits are a subnormal of half, which counts 2^-24
// or, for the odd ones of 4 bits, 2^-20. A conversion from half is exact; one from an integer would be slower.
METAL_FUNC float small(uint q, uint high) { return float(metal::as_type<metal::half2>(q)[high]); }

template <uint bits>
METAL_FUNC metal::float4 integers(metal::uint4 q, uint j) {
    if (bits == 4) {
        uint a = q[j / 2], b = a >> 8, high = j % 2;
        return metal::float4(small(a & 0xF000F, high), small(a & 0xF000F0, high), small(b & 0xF000F, high),
                             small(b & 0xF000F0, high));
    }
    uint even = q[j] & 0xFF00FF, odd = q[j] >> 8 & 0xFF00FF;
    return metal::float4(small(even, 0), small(odd, 0), small(even, 1), small(odd, 1));
}

// The sum of products with integers, from those of even and of odd columns.
template <uint bits>
METAL_FUNC float integer_sum(float even, float odd) {
    return metal::fma(odd, bits == 4 ? 0x1p-4f : 1.0f, even) * 0x1p24f;
}

template <uint bits, typename S>
struct PackedIntegers {
    metal::uint4 words;
    S scale, bias;
    METAL_FUNC void clear() {
        words = metal::uint4(0);
        scale = bias = S(0);
    }
    template <bool aligned>
    METAL_FUNC void load(AffineRow<bits, S> row, uint column) {
        uint group = column >> metal::ctz(row.group);
        words = load_words<aligned>(row.data + column / (32 / bits));
        scale = row.scales[group];
        bias = row.biases[group];
    }
    METAL_FUNC metal::float4 quad(uint j) const { return integers<bits>(words, j); }
    METAL_FUNC float scaled(thread const float *own, float sum, float acc) const {
        float product = integer_sum<bits>(own[0], own[1]);
        return metal::fma(stored_value(scale), product, metal::fma(stored_value(bias), sum, acc));
    }
};

template <uint bits, typename S>
struct SimdIntegers {
    enum {
        span = 128 / bits,
        scaled = 1,
        chains = 2,
        rolled = 1,
        flight = 4,
        own_flight = 1,
        one = 2,
        many = 2,
        gate_up = 1,
        pair = 2,
        down = 8
    };
    static METAL_FUNC bool fits(AffineRow<bits, S> row) { return is_aligned(row.data); }
};

template <typename S>
struct SimdRow<AffineRow<4, S>> : SimdIntegers<4, S> {};
template <typename S>
struct Packed<AffineRow<4, S>> : PackedIntegers<4, S> {};
template <typename S>
struct SimdRow<AffineRow<8, S>> : SimdIntegers<8, S> {};
template <typename S>
struct Packed<AffineRow<8, S>> : PackedIntegers<8, S> {};
// MXFP4's codes are no integers.
template <>
struct SimdRow<AffineRow<4, E8M0>> : SimdChunks<AffineRow<4, E8M0>> {};
template <>
struct Packed<AffineRow<4, E8M0>> : PackedChunk<AffineRow<4, E8M0>> {};

#endif
