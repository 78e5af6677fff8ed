// Products of weight rows with activations by the simdgroups of a GPU. A lane takes sixteen bytes of each row at a time
// (a span of neighbouring columns), and the loads of several spans are in flight before the first is used.
//
// The order of additions of a product is the same for every number of rows and outputs, for aligned memory or not, and
// whether activations are staged or not.
#ifndef OB_WEIGHTS_SIMD_H
#define OB_WEIGHTS_SIMD_H

#include "../reduce.h"
#include "affine.h"
#include "plain.h"

// The loop that follows is unrolled, so that arrays with its index lie in registers.
#define OB_UNROLL _Pragma("unroll")

// A lane's activations are many neighbouring floats, and 32 lanes that read them side by side would hit the same banks.
// So a threadgroup stages them: float4 number j of all lanes' spans lies together. OB_STAGE_SPANS spans of 32 lanes
// fit, each with the sum of its activations.
#define OB_STAGE_SPANS 4
#define OB_STAGE_FLOATS (OB_STAGE_SPANS * 33 * 8 * 4)
#define OB_STAGE_SUMS (OB_STAGE_SPANS * 32)

#define OB_STAGE_MEMORY                                \
    threadgroup metal::float4 stage_x[OB_STAGE_FLOATS / 4]; \
    threadgroup float stage_sums[OB_STAGE_SUMS]

#define OB_STAGE \
    Stage { (threadgroup float *)stage_x, stage_sums }

template <typename T>
struct SimdOutputs<PlainRow<T>> {
    enum { one = 2, many = 2, gate_up = 2, pair = 2, down = 4 };
};
template <typename S>
struct SimdOutputs<AffineRow<4, S>> {
    enum { one = 2, many = 2, gate_up = 2, pair = 2, down = 4 };
};
template <typename S>
struct SimdOutputs<AffineRow<8, S>> {
    enum { one = 2, many = 2, gate_up = 2, pair = 2, down = 4 };
};
template <>
struct SimdOutputs<AffineRow<4, E8M0>> {
    enum { one = OB_LINEAR_BLOCK, many = 1, gate_up = 1, pair = 1, down = OB_LINEAR_BLOCK };
};

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

template <bool aligned>
METAL_FUNC metal::float4 load_floats(device const float *p) {
    if (aligned) return *(device const metal::float4 *)p;
    return metal::float4(p[0], p[1], p[2], p[3]);
}

// Elements

// Elements 4j to 4j + 3 of sixteen bytes.
template <typename T>
METAL_FUNC metal::float4 elements(metal::uint4 q, uint j, T) {
    return metal::as_type<metal::float4>(q);
}
METAL_FUNC metal::float4 elements(metal::uint4 q, uint j, bfloat) {
    uint a = q[2 * j], b = q[2 * j + 1];
    return metal::as_type<metal::float4>(metal::uint4(a << 16, a & 0xFFFF0000u, b << 16, b & 0xFFFF0000u));
}
METAL_FUNC metal::float4 elements(metal::uint4 q, uint j, half) {
    metal::half2 a = metal::as_type<metal::half2>(q[2 * j]), b = metal::as_type<metal::half2>(q[2 * j + 1]);
    return metal::float4(float(a.x), float(a.y), float(b.x), float(b.y));
}

// dots() of rows that are aligned to sixteen bytes and consist of whole spans.
template <uint O, uint R, typename T>
METAL_FUNC void aligned_dots(thread const PlainRow<T> *w, thread const Inputs<R> &x, uint lane, uint width,
                             thread float *out) {
    const uint span = 16 / sizeof(T), flight = 4;  // spans of a row that are in flight
    metal::float4 acc[O * R];
    uint columns = w[0].columns;
    OB_UNROLL
    for (uint i = 0; i < O * R; i++) acc[i] = metal::float4(0);
    for (uint begin = span * lane; begin < columns; begin += flight * span * width) {
        metal::uint4 q[flight * O];
        OB_UNROLL
        for (uint n = 0; n < flight; n++) {
            uint column = begin + n * span * width;
            OB_UNROLL
            for (uint o = 0; o < O; o++) {
                q[n * O + o] = metal::uint4(0);
                if (column < columns) q[n * O + o] = *(device const metal::uint4 *)(w[o].data + column);
            }
        }
        OB_UNROLL
        for (uint n = 0; n < flight; n++) {
            uint column = begin + n * span * width;
            if (column >= columns) continue;
            OB_UNROLL
            for (uint j = 0; j < span / 4; j++) {
                metal::float4 v[R];
                OB_UNROLL
                for (uint r = 0; r < R; r++) v[r] = load_floats<true>(x.row[r] + column + 4 * j);
                OB_UNROLL
                for (uint o = 0; o < O; o++) {
                    metal::float4 weights = elements(q[n * O + o], j, T(0));
                    OB_UNROLL
                    for (uint r = 0; r < R; r++) acc[o * R + r] = metal::fma(weights, v[r], acc[o * R + r]);
                }
            }
        }
    }
    OB_UNROLL
    for (uint i = 0; i < O * R; i++) out[i] = total(acc[i]);
}

// Elements i to i + 3 of n, with zeros from n on.
template <typename T>
METAL_FUNC metal::float4 some_elements(device const T *p, uint i, uint n) {
    metal::float4 v = metal::float4(0);
    for (uint c = 0; c < 4; c++) v[c] = i + c < n ? float(p[i + c]) : 0.0f;
    return v;
}

// The same for any row.
template <uint O, uint R, typename T>
__attribute__((noinline)) void unaligned_dots(thread const PlainRow<T> *w, thread const Inputs<R> &x, uint lane,
                                              uint width, thread float *out) {
    const uint span = 16 / sizeof(T);
    uint columns = w[0].columns;
    OB_UNROLL
    for (uint i = 0; i < O * R; i++) {
        metal::float4 acc = metal::float4(0);
        for (uint column = span * lane; column < columns; column += span * width) {
            for (uint j = column; j < column + span; j += 4)
                acc = metal::fma(some_elements(w[i / R].data, j, columns), some_elements(x.row[i % R], j, columns), acc);
        }
        out[i] = total(acc);
    }
}

// sums[o · R + r] = w[o] · x.row[r] for the rows of this simdgroup, in every lane. All simdgroups of a threadgroup call
// this together, with the same x; one that is not active gets nothing useful.
template <uint O, uint R, typename T>
METAL_FUNC void simd_products(thread const PlainRow<T> *w, bool active, thread const Inputs<R> &x, Stage, Place place,
                              thread float *sums) {
    if (!active) return;
    bool fits = w[0].columns % (16 / sizeof(T)) == 0;
    OB_UNROLL
    for (uint o = 0; o < O; o++) fits = fits && is_aligned(w[o].data);
    OB_UNROLL
    for (uint r = 0; r < R; r++) fits = fits && is_aligned(x.row[r]);
    if (fits) {
        aligned_dots<O, R>(w, x, place.lane, place.width, sums);
    } else {
        PlainRow<T> rows[O];  // copies, so that the others stay in registers
        Inputs<R> in = x;
        float results[O * R];
        OB_UNROLL
        for (uint o = 0; o < O; o++) rows[o] = w[o];
        unaligned_dots<O, R>(rows, in, place.lane, place.width, results);
        OB_UNROLL
        for (uint i = 0; i < O * R; i++) sums[i] = results[i];
    }
    OB_UNROLL
    for (uint i = 0; i < O * R; i++) sums[i] = metal::simd_sum(sums[i]);
}

// Integers of 4 or 8 bits

// Integers 4j to 4j + 3 of sixteen bytes. An integer's bits, where they stand, become the mantissa of a number whose
// last bit counts 1 there; what that number has beyond the integer is taken off. No conversion is as fast.
template <uint bits>
METAL_FUNC metal::float4 integers(metal::uint4 q, uint j) {
    if (bits == 4) {
        metal::uint4 w = metal::uint4(q[j / 2] >> 16 * (j % 2));
        w = (w & metal::uint4(0xF, 0xF0, 0xF00, 0xF000)) |
            metal::uint4(0x4B000000, 0x49000000, 0x47000000, 0x45000000);
        return metal::as_type<metal::float4>(w) - metal::float4(0x1p23f, 0x1p19f, 0x1p15f, 0x1p11f);
    }
    uint low = q[j], high = low >> 16;
    metal::uint4 w = metal::uint4(low & 0xFF, low & 0xFF00, high & 0xFF, high & 0xFF00) |
                     metal::uint4(0x4B000000, 0x47000000, 0x4B000000, 0x47000000);
    return metal::as_type<metal::float4>(w) - metal::float4(0x1p23f, 0x1p15f, 0x1p23f, 0x1p15f);
}

// Reads the activations of a span where they are. `quads` are the float4 of a span.
template <bool aligned, uint quads>
struct DirectInput {
    device const float *x;
    METAL_FUNC metal::float4 at(uint j) const { return load_floats<aligned>(x + 4 * j); }
    METAL_FUNC float sum(thread const float *p) const {
        return quads == 4 ? (p[0] + p[1]) + (p[2] + p[3])
                          : ((p[0] + p[1]) + (p[2] + p[3])) + ((p[4] + p[5]) + (p[6] + p[7]));
    }
};

// Reads them from the stage: span number `span` of those staged.
template <uint quads>
struct StagedInput {
    Stage stage;
    uint span, lane, width;
    METAL_FUNC metal::float4 at(uint j) const {
        return ((threadgroup metal::float4 *)stage.x)[(span * quads + j) * (width + 1) + lane];
    }
    METAL_FUNC float sum(thread const float *) const { return stage.sums[span * width + lane]; }
};

// Stages `spans` spans of each lane from column `begin` on, for R rows.
template <bool aligned, uint quads, uint spans, uint R>
METAL_FUNC void stage_inputs(thread const Inputs<R> &x, uint begin, uint columns, Stage stage, Place place) {
    uint count = metal::min(columns - begin, spans * place.width * quads * 4) / 4;
    OB_UNROLL
    for (uint r = 0; r < R; r++) {
        for (uint first = 0; first < count; first += place.threads) {
            uint i = first + place.thread_index;
            metal::float4 v = metal::float4(0);
            if (i < count) v = load_floats<aligned>(x.row[r] + begin + 4 * i);
            float sum = total(v);
            for (ushort step = 1; step < quads; step *= 2) sum += metal::simd_shuffle_xor(sum, step);
            if (i >= count) continue;
            uint lane = i / quads % place.width, span = r * spans + i / quads / place.width;
            ((threadgroup metal::float4 *)stage.x)[(span * quads + i % quads) * (place.width + 1) + lane] = v;
            if (i % quads == 0) stage.sums[span * place.width + lane] = sum;
        }
    }
}

// sums[o · R + r] += the products of one span of O weight rows with R rows of activations.
template <uint O, uint R, uint bits, typename S, typename X>
METAL_FUNC void add_span(thread const metal::uint4 *q, thread const S *scales, thread const S *biases,
                         thread const X *x, thread float *sums) {
    metal::float4 acc[O * R];
    float parts[R * 8];  // sums of the activations, four by four
    OB_UNROLL
    for (uint i = 0; i < O * R; i++) acc[i] = metal::float4(0);
    OB_UNROLL
    for (uint j = 0; j < 32 / bits; j++) {
        metal::float4 v[R];
        OB_UNROLL
        for (uint r = 0; r < R; r++) {
            v[r] = x[r].at(j);
            parts[r * 8 + j] = total(v[r]);
        }
        OB_UNROLL
        for (uint o = 0; o < O; o++) {
            metal::float4 weights = integers<bits>(q[o], j);
            OB_UNROLL
            for (uint r = 0; r < R; r++) acc[o * R + r] = metal::fma(weights, v[r], acc[o * R + r]);
        }
    }
    OB_UNROLL
    for (uint r = 0; r < R; r++) {
        float sum = x[r].sum(parts + r * 8);
        OB_UNROLL
        for (uint o = 0; o < O; o++) {
            uint i = o * R + r;
            sums[i] = metal::fma(stored_value(scales[o]), total(acc[i]), metal::fma(stored_value(biases[o]), sum, sums[i]));
        }
    }
}

// Spans of a lane that are in flight: for R rows, OB_STAGE_SPANS / R fit; of more than eight loads, registers run out.
constexpr uint staged_spans(uint outputs, uint rows) {
    return OB_STAGE_SPANS / rows * outputs > 8 ? 8 / outputs : OB_STAGE_SPANS / rows;
}

template <bool aligned, uint O, uint R, uint bits, typename S>
METAL_FUNC void staged_products(thread const AffineRow<bits, S> *w, bool active, thread const Inputs<R> &x, Stage stage,
                                Place place, thread float *sums) {
    const uint quads = 32 / bits, span = 4 * quads, spans = staged_spans(O, R);
    uint columns = w[0].columns, shift = metal::ctz(w[0].group);
    OB_UNROLL
    for (uint i = 0; i < O * R; i++) sums[i] = 0;
    for (uint begin = 0; begin < columns; begin += spans * span * place.width) {
        metal::uint4 q[spans * O];
        S scales[spans * O], biases[spans * O];
        OB_UNROLL
        for (uint n = 0; n < spans; n++) {
            uint column = begin + (n * place.width + place.lane) * span;
            OB_UNROLL
            for (uint o = 0; o < O; o++) {
                uint i = n * O + o;
                q[i] = metal::uint4(0);
                scales[i] = biases[i] = S(0);
                if (!active || column >= columns) continue;
                q[i] = load_words<aligned>(w[o].data + column / (32 / bits));
                scales[i] = w[o].scales[column >> shift];
                biases[i] = w[o].biases[column >> shift];
            }
        }
        metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
        stage_inputs<aligned, quads, spans>(x, begin, columns, stage, place);
        metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
        OB_UNROLL
        for (uint n = 0; n < spans; n++) {
            uint column = begin + (n * place.width + place.lane) * span;
            if (!active || column >= columns) continue;
            StagedInput<quads> in[R];
            OB_UNROLL
            for (uint r = 0; r < R; r++) in[r] = {stage, r * spans + n, place.lane, place.width};
            add_span<O, R, bits>(q + n * O, scales + n * O, biases + n * O, in, sums);
        }
    }
}

template <uint O, uint R, uint bits, typename S>
__attribute__((noinline)) void unaligned_products(thread const AffineRow<bits, S> *w, bool active,
                                                  thread const Inputs<R> &x, Stage stage, Place place,
                                                  thread float *sums) {
    staged_products<false, O, R, bits, S>(w, active, x, stage, place, sums);
}

template <uint O, uint R, uint bits, typename S>
METAL_FUNC void integer_products(thread const AffineRow<bits, S> *w, bool active, thread const Inputs<R> &x,
                                   Stage stage, Place place, thread float *sums) {
    bool fits = true;
    OB_UNROLL
    for (uint o = 0; o < O; o++) fits = fits && is_aligned(w[o].data);
    OB_UNROLL
    for (uint r = 0; r < R; r++) fits = fits && is_aligned(x.row[r]);
    if (fits) {
        staged_products<true, O, R, bits, S>(w, active, x, stage, place, sums);
    } else {
        AffineRow<bits, S> rows[O];  // copies, so that the others stay in registers
        Inputs<R> in = x;
        float results[O * R];
        OB_UNROLL
        for (uint o = 0; o < O; o++) rows[o] = w[o];
        unaligned_products<O, R, bits, S>(rows, active, in, stage, place, results);
        OB_UNROLL
        for (uint i = 0; i < O * R; i++) sums[i] = results[i];
    }
    OB_UNROLL
    for (uint i = 0; i < O * R; i++) sums[i] = metal::simd_sum(sums[i]);
}

template <bool aligned, uint O, uint bits, typename S>
METAL_FUNC void direct_products(thread const AffineRow<bits, S> *w, device const float *x, Place place,
                                thread float *sums) {
    const uint quads = 32 / bits, span = 4 * quads;
    uint columns = w[0].columns, shift = metal::ctz(w[0].group);
    OB_UNROLL
    for (uint o = 0; o < O; o++) sums[o] = 0;
    for (uint column = place.lane * span; column < columns; column += place.width * span) {
        metal::uint4 q[O];
        S scales[O], biases[O];
        OB_UNROLL
        for (uint o = 0; o < O; o++) {
            q[o] = load_words<aligned>(w[o].data + column / (32 / bits));
            scales[o] = w[o].scales[column >> shift];
            biases[o] = w[o].biases[column >> shift];
        }
        DirectInput<aligned, quads> in = {x + column};
        add_span<O, 1, bits>(q, scales, biases, &in, sums);
    }
}

template <uint O, uint bits, typename S>
__attribute__((noinline)) void unaligned_direct(thread const AffineRow<bits, S> *w, device const float *x, Place place,
                                                thread float *sums) {
    direct_products<false, O, bits, S>(w, x, place, sums);
}

template <uint O, uint bits, typename S>
METAL_FUNC void own_integer_products(thread const AffineRow<bits, S> *w, device const float *x, Place place,
                                     thread float *sums) {
    bool fits = is_aligned(x);
    OB_UNROLL
    for (uint o = 0; o < O; o++) fits = fits && is_aligned(w[o].data);
    if (fits) {
        direct_products<true, O, bits, S>(w, x, place, sums);
    } else {
        AffineRow<bits, S> rows[O];  // copies, so that the others stay in registers
        float results[O];
        OB_UNROLL
        for (uint o = 0; o < O; o++) rows[o] = w[o];
        unaligned_direct<O, bits, S>(rows, x, place, results);
        OB_UNROLL
        for (uint o = 0; o < O; o++) sums[o] = results[o];
    }
    OB_UNROLL
    for (uint o = 0; o < O; o++) sums[o] = metal::simd_sum(sums[o]);
}

template <uint O, uint R, typename S>
METAL_FUNC void simd_products(thread const AffineRow<4, S> *w, bool active, thread const Inputs<R> &x, Stage stage,
                              Place place, thread float *sums) {
    integer_products<O, R, 4, S>(w, active, x, stage, place, sums);
}

template <uint O, typename S>
METAL_FUNC void own_products(thread const AffineRow<4, S> *w, device const float *x, Place place,
                             thread float *sums) {
    own_integer_products<O, 4, S>(w, x, place, sums);
}

template <uint O, uint R, typename S>
METAL_FUNC void simd_products(thread const AffineRow<8, S> *w, bool active, thread const Inputs<R> &x, Stage stage,
                              Place place, thread float *sums) {
    integer_products<O, R, 8, S>(w, active, x, stage, place, sums);
}

template <uint O, typename S>
METAL_FUNC void own_products(thread const AffineRow<8, S> *w, device const float *x, Place place,
                             thread float *sums) {
    own_integer_products<O, 8, S>(w, x, place, sums);
}

// MXFP4's codes are no integers.
template <uint O, uint R>
METAL_FUNC void simd_products(thread const AffineRow<4, E8M0> *w, bool active, thread const Inputs<R> &x, Stage,
                              Place place, thread float *sums) {
    if (!active) return;
    dots<O, R>(w, x, place.lane, place.width, sums);
    OB_UNROLL
    for (uint i = 0; i < O * R; i++) sums[i] = metal::simd_sum(sums[i]);
}

template <uint O>
METAL_FUNC void own_products(thread const AffineRow<4, E8M0> *w, device const float *x, Place place,
                             thread float *sums) {
    simd_products<O, 1>(w, true, inputs_of<1>(x, 0), Stage(), place, sums);
}

#endif
