// Products of weight rows with activations by the simdgroups of a GPU. A lane takes a span of neighbouring columns of
// each row at a time, sixteen bytes where the format allows, and the loads of several spans are in flight before the
// first is used. The next lane takes the next span.
//
// The order of additions of a product is the same for every number of rows and outputs, in aligned memory or not, and
// whether activations are staged or not.
#ifndef OB_WEIGHTS_SIMD_H
#define OB_WEIGHTS_SIMD_H

#include "../early.h"
#include "packed.h"

// A lane's activations are neighbouring floats, and lanes that read theirs side by side would hit the same banks of
// memory. So a threadgroup stages them: float4 number j of all lanes' spans lies together. OB_STAGE_QUADS float4 per
// lane fit, with the sums of spans.
#define OB_STAGE_QUADS 32
#define OB_STAGE_MEMORY                                         \
    threadgroup metal::float4 stage_quads[OB_STAGE_QUADS * 33]; \
    threadgroup float stage_sums[OB_STAGE_QUADS * 32 / 4]
#define OB_STAGE \
    Stage { stage_quads, stage_sums }
// A kernel for MLX's affine format uses its stage so, or as the memory of tensor cores.
#ifdef __METAL_CUDA__
struct AffineStage {
    metal::float4 quads[OB_STAGE_QUADS * 33];
    float sums[OB_STAGE_QUADS * 32 / 4];
    metal::float4 more[1200];
};
METAL_FUNC Stage stage_in(threadgroup AffineStage &memory) { return {memory.quads, memory.sums}; }
template <typename Memory>
METAL_FUNC threadgroup Memory &tensor_memory(Stage stage) {
    static_assert(sizeof(Memory) <= sizeof(AffineStage), "the stage has room");
    return *reinterpret_cast<threadgroup Memory *>(stage.quads);
}
#define OB_AFFINE_STAGE_MEMORY threadgroup AffineStage affine_stage
#define OB_AFFINE_STAGE stage_in(affine_stage)
#else
#define OB_AFFINE_STAGE_MEMORY OB_STAGE_MEMORY
#define OB_AFFINE_STAGE OB_STAGE
#endif

// Each of n numbers becomes its sum over the lanes of the simdgroup.
template <uint n>
METAL_FUNC void sum_lanes(thread float *v) {
    if (n % 4 == 1) v[n - 1] = metal::simd_sum(v[n - 1]);
    if (n % 4 == 2) {
        metal::float2 sum = metal::simd_sum(metal::float2(v[n - 2], v[n - 1]));
        v[n - 2] = sum.x;
        v[n - 1] = sum.y;
    }
    OB_UNROLL
    for (uint i = 0; i + 4 <= n; i += 4) {
        metal::float4 sum = metal::simd_sum(metal::float4(v[i], v[i + 1], v[i + 2], v[i + 3]));
        OB_UNROLL
        for (uint k = 0; k < 4; k++) v[i + k] = sum[k];
    }
}

// Reads the activations of a span where they are. `quads` are the float4 of a span.
template <bool aligned, uint quads>
struct DirectInput {
    device const float *x;
    uint left;  // columns from x on
    METAL_FUNC metal::float4 at(uint j) const {
        metal::float4 v = metal::float4(0);
        if (left != 0) v = load_floats<aligned>(x + 4 * j, left, 4 * j);
        return v;
    }
    METAL_FUNC float sum(thread const float *p) const {
        if (quads == 1) return p[0];
        if (quads == 2) return p[0] + p[1];
        return quads == 4 ? (p[0] + p[1]) + (p[2] + p[3])
                          : ((p[0] + p[1]) + (p[2] + p[3])) + ((p[4] + p[5]) + (p[6] + p[7]));
    }
};

// Has them in registers.
template <uint quads>
struct HeldInput {
    metal::float4 quad[quads];
    float whole;  // the sum of all
    METAL_FUNC metal::float4 at(uint j) const { return quad[j]; }
    METAL_FUNC float sum(thread const float *) const { return whole; }
};

// Reads them from the stage: span number `span` of those staged.
template <uint quads>
struct StagedInput {
    Stage stage;
    uint span, lane, width;
    METAL_FUNC metal::float4 at(uint j) const { return stage.quads[(span * quads + j) * (width + 1) + lane]; }
    METAL_FUNC float sum(thread const float *) const { return stage.sums[span * width + lane]; }
};

// Staging goes in two steps, so that loads of weights can be issued between them: a thread loads OB_STAGE_BATCH
// neighbouring float4 from number `first` on, and later stores them. The stage has `spans` spans of each lane from column
// `begin` on, for R rows, with zeros behind the last column.
#define OB_STAGE_BATCH 4

template <uint quads, uint spans, uint R>
METAL_FUNC void stage_load(thread const Inputs<R> &x, uint begin, uint columns, uint first, Place place,
                           thread metal::float4 *v) {
    uint row = spans * quads * place.width;  // float4 of a row
    uint i = first + OB_STAGE_BATCH * place.thread_index, r = i / row, column = begin + i % row * 4;
    device const float *p = x.row[0];
    OB_UNROLL
    for (uint k = 1; k < R; k++) p = r == k ? x.row[k] : p;
    OB_UNROLL
    for (uint b = 0; b < OB_STAGE_BATCH; b++, column += 4) {
        v[b] = metal::float4(0);
        if (r < R && column < columns) v[b] = *(device const metal::float4 *)(p + column);
    }
}

// A span that has a scale is one batch, or several of neighbouring lanes.
template <uint quads, bool sums, uint spans, uint R>
METAL_FUNC void stage_store(thread const metal::float4 *v, uint first, Stage stage, Place place) {
    uint i = first + OB_STAGE_BATCH * place.thread_index;
    if (i >= R * spans * quads * place.width) return;
    OB_UNROLL
    for (uint b = 0; b < OB_STAGE_BATCH; b++) {
        uint lane = (i + b) / quads % place.width, span = (i + b) / quads / place.width;  // of all rows' spans
        stage.quads[(span * quads + (i + b) % quads) * (place.width + 1) + lane] = v[b];
    }
    if (sums) {
        float sum = (total(v[0]) + total(v[1])) + (total(v[2]) + total(v[3]));
        OB_UNROLL
        for (ushort step = 1; step < quads / OB_STAGE_BATCH; step *= 2) sum += metal::simd_shuffle_xor(sum, step);
        if (i % quads == 0) stage.sums[i / quads] = sum;
    }
}

// acc[o · R + r] += the products of one span of O weight rows with R rows of activations.
template <uint O, uint R, typename Row, typename X>
METAL_FUNC void add_span(thread const Packed<Row> *w, thread const X *x, thread float *acc) {
    const uint quads = SimdRow<Row>::span / 4, chains = SimdRow<Row>::chains;
    float own[O * R * chains];
    float parts[R * 8];  // sums of the activations, four by four
    OB_UNROLL
    for (uint i = 0; i < O * R * chains; i++) own[i] = chains > 1 ? 0 : acc[i];
    OB_UNROLL
    for (uint j = 0; j < quads; j++) {
        metal::float4 v[R];
        OB_UNROLL
        for (uint r = 0; r < R; r++) {
            v[r] = x[r].at(j);
            parts[r * 8 + j] = total(v[r]);
        }
        OB_UNROLL
        for (uint o = 0; o < O; o++) {
            metal::float4 weights = w[o].quad(j);
            OB_UNROLL
            for (uint r = 0; r < R; r++) {
                thread float *sums = own + (o * R + r) * chains;
                OB_UNROLL
                for (uint c = 0; c < 4; c++) sums[c % chains] = metal::fma(weights[c], v[r][c], sums[c % chains]);
            }
        }
    }
    OB_UNROLL
    for (uint r = 0; r < R; r++) {
        float sum = SimdRow<Row>::scaled ? x[r].sum(parts + r * 8) : 0;
        OB_UNROLL
        for (uint o = 0; o < O; o++) acc[o * R + r] = w[o].scaled(own + (o * R + r) * chains, sum, acc[o * R + r]);
    }
}

// w[o] = the span of row o from `column` on; zeros behind the last column.
template <bool aligned, uint O, typename Row>
METAL_FUNC void load_span(thread const Row *rows, bool active, uint column, thread Packed<Row> *w) {
    OB_UNROLL
    for (uint o = 0; o < O; o++) w[o].clear();
    if (!active || column >= rows[0].columns) return;
    OB_UNROLL
    for (uint o = 0; o < O; o++) w[o].template load<aligned>(rows[o], column);
}

// w[n · O + o] = span number n of row o from `column` on, for n < F.
template <bool aligned, uint F, uint O, typename Row>
METAL_FUNC void load_spans(thread const Row *rows, bool active, uint column, uint stride, thread Packed<Row> *w) {
    OB_UNROLL
    for (uint n = 0; n < F; n++) load_span<aligned, O>(rows, active, column + n * stride, w + n * O);
}

// The loads of F spans per row are in flight. Where the code of a span is there once, a span's place is filled anew as
// soon as it has been used. Else all F are loaded together: a GPU waits for all loads of a loop, the newest, too.
template <uint F, uint O, uint R, typename Row>
METAL_FUNC void staged_products(thread const Row *rows, bool active, thread const Inputs<R> &x, bool again, Stage stage,
                                Place place, thread float *sums) {
    const uint span = SimdRow<Row>::span, quads = span / 4, spans = OB_STAGE_QUADS / quads / R;
    // A long body runs again and again, with its weights always in the first places: a GPU's core waits for code, too.
    const bool rolled = SimdRow<Row>::rolled;
    const uint step = rolled ? 1 : F;
    uint columns = rows[0].columns, stride = span * place.width, own = place.lane * span;
    bool staged = again && columns <= spans * stride;
    Packed<Row> w[F * O];
    OB_UNROLL
    for (uint i = 0; i < O * R; i++) sums[i] = 0;
    if (rolled) {
        load_spans<true, F, O>(rows, active, own, stride, w);
        wait_for_kernels();
    }
    OB_ROLLED
    for (uint begin = 0; begin < columns; begin += spans * stride) {
        // One row's spans end with the lanes that have columns; those of several rows have fixed places.
        uint used = R == 1 ? metal::min((columns - begin + stride - 1) / stride, spans) : R * spans;
        metal::float4 v[OB_STAGE_BATCH];
        if (!rolled) load_spans<true, F, O>(rows, active, begin + own, stride, w);
        if (!rolled && begin == 0) wait_for_kernels();
        if (!staged) {
            stage_load<quads, spans, R>(x, begin, columns, 0, place, v);
            metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
            stage_store<quads, SimdRow<Row>::scaled, spans, R>(v, 0, stage, place);
            OB_ROLLED
            for (uint i = OB_STAGE_BATCH * place.threads; i < used * quads * place.width;
                 i += OB_STAGE_BATCH * place.threads) {
                stage_load<quads, spans, R>(x, begin, columns, i, place, v);
                stage_store<quads, SimdRow<Row>::scaled, spans, R>(v, i, stage, place);
            }
            metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
        }
        OB_ROLLED
        for (uint first = 0; first < spans && begin + first * stride < columns; first += step) {
            if (!rolled && first != 0) {
                load_spans<true, F, O>(rows, active, begin + first * stride + own, stride, w);
                metal::simdgroup_barrier(metal::mem_flags::mem_none);
            }
            OB_UNROLL
            for (uint n = 0; n < step; n++) {
                uint column = begin + (first + n) * stride;
                if (column >= columns) continue;
                StagedInput<quads> in[R];
                OB_UNROLL
                for (uint r = 0; r < R; r++) in[r] = {stage, r * spans + first + n, place.lane, place.width};
                add_span<O, R>(w + n * O, in, sums);
                if (!rolled) continue;
                OB_UNROLL
                for (uint i = 0; i + O < F * O; i++) w[i] = w[i + O];
                if (column + F * stride < columns)
                    load_span<true, O>(rows, active, column + F * stride + own, w + (F - 1) * O);
            }
        }
    }
}

// sums[o] += the products of one span of O weight rows with `in`. Where the code of a span is long, it is there once: the
// rows go through the first place one after the other.
template <uint O, typename Row, typename X>
METAL_FUNC void add_own_span(thread Packed<Row> *w, thread const X &in, thread float *sums) {
    if (O == 1 || !SimdRow<Row>::rolled) return add_span<O, 1>(w, &in, sums);
    const uint quads = SimdRow<Row>::span / 4;
    HeldInput<quads> held;
    float parts[8];
    OB_UNROLL
    for (uint j = 0; j < quads; j++) {
        held.quad[j] = in.at(j);
        parts[j] = total(held.quad[j]);
    }
    held.whole = SimdRow<Row>::scaled ? in.sum(parts) : 0;
    OB_ROLLED
    for (uint o = 0; o < O; o++) {
        float sum = sums[0];
        add_span<1, 1>(w, &held, &sum);
        OB_UNROLL
        for (uint i = 0; i + 1 < O; i++) {
            w[i] = w[i + 1];
            sums[i] = sums[i + 1];
        }
        sums[O - 1] = sum;
    }
}

template <bool aligned, uint F, uint O, typename Row>
METAL_FUNC void direct_products(thread const Row *rows, device const float *x, Place place, thread float *sums) {
    const uint span = SimdRow<Row>::span, quads = span / 4;
    uint columns = rows[0].columns, stride = span * place.width, own = place.lane * span;
    OB_UNROLL
    for (uint o = 0; o < O; o++) sums[o] = 0;
    OB_ROLLED
    for (uint begin = 0; begin < columns; begin += F * stride) {
        Packed<Row> w[F * O];
        load_spans<aligned, F, O>(rows, true, begin + own, stride, w);
        metal::simdgroup_barrier(metal::mem_flags::mem_none);
        OB_UNROLL
        for (uint n = 0; n < F; n++) {
            if (begin + n * stride >= columns) continue;
            uint column = metal::min(begin + n * stride + own, columns);
            DirectInput<aligned, quads> in = {x + column, columns - column};
            add_own_span<O>(w + n * O, in, sums);
        }
    }
}

// A lane's part of a product in memory that is not aligned: rare, so its code is short and apart where calls exist.
template <typename Row>
__attribute__((noinline)) float unaligned_product(Row row, device const float *x, Place place) {
    float sum;
    direct_products<false, 1, 1>(&row, x, place, &sum);
    return sum;
}

// sums[o · R + r] = w[o] · x.row[r] for the rows of this simdgroup, in every lane. All simdgroups of a threadgroup call
// this together, with the same x; one that is not active gets nothing useful. `again`: x and the stage are those of the
// threadgroup's call before. Of what kernels write, nothing is read before wait_for_kernels(), which this calls.
template <uint O, uint R, typename Row>
METAL_FUNC void simd_products(thread const Row *w, bool active, thread const Inputs<R> &x, bool again, Stage stage,
                              Place place, thread float *sums) {
    const uint spans = OB_STAGE_QUADS * 4 / SimdRow<Row>::span / R;
    const uint flight = SimdRow<Row>::flight / (R > 1 && SimdRow<Row>::rolled ? 2 : 1);
    const uint most = flight > O ? flight / O : 1;
    bool fits = w[0].columns > 0;
    for (uint o = 0; o < O; o++) fits = fits && SimdRow<Row>::fits(w[o]);
    for (uint r = 0; r < R; r++) fits = fits && is_aligned(x.row[r]);
    if (fits) {
        staged_products<(SimdRow<Row>::rolled || most < spans ? most : spans), O, R>(w, active, x, again, stage, place,
                                                                                     sums);
    } else {
        wait_for_kernels();
        OB_ROLLED
        for (uint i = 0; i < O * R; i++) {
            Row row = w[0];
            device const float *in = x.row[0];
            OB_UNROLL
            for (uint k = 1; k < O * R; k++) {
                if (i / R == k / R) row = w[k / R];
                if (i % R == k % R) in = x.row[k % R];
            }
            float sum = unaligned_product(row, in, place);
            OB_UNROLL
            for (uint k = 0; k < O * R; k++) sums[k] = i == k ? sum : sums[k];
        }
    }
    sum_lanes<O * R>(sums);
}

// The same for one row of activations that is this simdgroup's own.
template <uint O, typename Row>
METAL_FUNC void own_products(thread const Row *w, device const float *x, Place place, thread float *sums) {
    bool fits = is_aligned(x);
    for (uint o = 0; o < O; o++) fits = fits && SimdRow<Row>::fits(w[o]);
    if (fits) {
        direct_products<true, SimdRow<Row>::own_flight, O>(w, x, place, sums);
    } else {
        OB_ROLLED
        for (uint i = 0; i < O; i++) {
            Row row = w[0];
            OB_UNROLL
            for (uint o = 1; o < O; o++) {
                if (i == o) row = w[o];
            }
            float sum = unaligned_product(row, x, place);
            OB_UNROLL
            for (uint o = 0; o < O; o++) sums[o] = i == o ? sum : sums[o];
        }
    }
    sum_lanes<O>(sums);
}

#endif
