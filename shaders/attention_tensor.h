// Attention by the tensor cores of an NVIDIA GPU, for caches of half: a simdgroup takes sixteen keys at a time for up to
// eight query heads, and the simdgroups of a threadgroup share the positions of a part. This is CUDA's own; everywhere
// else attention_lanes.h has it.
//
// Keys and values are factors as they are stored. A query, and a weight of the softmax, is the sum of two halves, which
// are two rows of the other factor: rows h and h + 8 of a product belong to head h. So queries keep 22 bits, and products
// and sums are float.
//
// Lane 4g + t has row g of a product. The columns that products add up over may come in any order, if they do on both
// sides: a lane reads eight neighbouring numbers of a row of the cache at a time.
#ifndef OB_ATTENTION_TENSOR_H
#define OB_ATTENTION_TENSOR_H

#include "attention.h"

#ifdef __METAL_CUDA__

// Weights are so many powers of two larger than they are defined, so that small ones are halves yet.
#define OB_TENSOR_POWERS 15.0f
// In place of a row of the caches: the row that the threadgroup has itself.
#define OB_TENSOR_OWN 0xFFFFFFFFu

template <uint D>
struct TensorAttention {
    metal::uint4 queries[2][OB_TENSOR_ATTENTION_HEADS][D / 8 + 4];  // large and small halves; see stage_query
    metal::uint4 own[2][D / 8];                                     // the key and the value of the row's own position
    metal::float4 sums[OB_TENSOR_ATTENTION_GROUPS][OB_TENSOR_ATTENTION_HEADS][D / 4];
    Weights weights[OB_TENSOR_ATTENTION_GROUPS][OB_TENSOR_ATTENTION_HEADS];
};

// What a threadgroup works on; see AttentionHeads.
struct TensorHeads {
    device const half *keys, *values;
    device const uint *table;
    uint heads, first, count;

    // The row of the j-th position among those of this key-value head. `own`: the last one is the threadgroup's own.
    template <bool own, typename Args>
    METAL_FUNC uint row(uint j, constant Args &args) const {
        uint entry = (first + j) / OB_CACHE_BLOCK, at = (first + j) % OB_CACHE_BLOCK;
        uint block = metal::min(table[entry < args.width ? entry : entry - args.width], args.blocks - 1);
        return own && j + 1 == count ? OB_TENSOR_OWN : block * args.kv_heads * OB_CACHE_BLOCK + at;
    }
};

// Puts a head's query into the stage: lane l has numbers l · D / 32 and those that follow. Four more uint4 per head keep
// two heads in different banks of memory.
template <uint D>
METAL_FUNC void stage_query(thread const float *q, threadgroup TensorAttention<D> &memory, uint head, uint lane) {
    OB_UNROLL
    for (uint i = 0; i < D / 64; i++) {
        uint large = metal::metallib_halves(q[2 * i], q[2 * i + 1]);
        metal::half2 rounded = metal::as_type<metal::half2>(large);
        uint small = metal::metallib_halves(q[2 * i] - float(rounded.x), q[2 * i + 1] - float(rounded.y));
        ((threadgroup uint *)memory.queries[0][head])[lane * (D / 64) + i] = large;
        ((threadgroup uint *)memory.queries[1][head])[lane * (D / 64) + i] = small;
    }
}

// Not inlined: few models have a softcap, and a GPU's core keeps little code.
__attribute__((noinline)) float tensor_softcap(float score, float softcap) {
    return softcap * metal::precise::tanh(score / softcap);
}

// Sums of values, and of their weights, as a simdgroup has them: column 8j + c of `sums` is what lane 4g + c / 2 has.
template <uint D>
struct TensorSums {
    float sums[D / 8][4];
    float top, total;

    // scores[2u + e]: of key 8u + 2t + e, in powers of two.
    METAL_FUNC void weigh(thread float *scores) thread {
        float before = top;
        OB_UNROLL
        for (uint i = 0; i < 4; i++) top = scores[i] > top ? scores[i] : top;
        OB_UNROLL
        for (uint step = 1; step < 4; step *= 2) top = metal::max(top, metal::metallib_shuffle_xor(top, step));
        float shift = shift_of(top), rescale = metal::exp2(before - shift);
        shift -= OB_TENSOR_POWERS;
        OB_UNROLL
        for (uint i = 0; i < 4; i++) scores[i] = metal::exp2(scores[i] - shift);
        total = metal::fma(total, rescale, (scores[0] + scores[1]) + (scores[2] + scores[3]));
        if (top == before) return;
        OB_UNROLL
        for (uint i = 0; i < D / 8; i++) {
            OB_UNROLL
            for (uint k = 0; k < 4; k++) sums[i][k] *= rescale;
        }
    }
};

// Adds positions begin … end - 1 to the sums of this simdgroup.
template <uint D, bool own, typename Args>
METAL_FUNC void tensor_positions(thread TensorSums<D> &mine, TensorHeads all,
                                 threadgroup const TensorAttention<D> &memory, uint begin, uint end,
                                 constant Args &args, Place place) {
    uint lane = place.lane, g = lane / 4, t = lane % 4;
    OB_ROLLED
    for (uint j = begin + 16 * place.group; j < end; j += 16 * OB_TENSOR_ATTENTION_GROUPS) {
        uint row = all.template row<own>(metal::min(j + lane % 16, end - 1), args);
        metal::uint4 k[2][D / 32], v[4][D / 64];
        OB_UNROLL
        for (uint u = 0; u < 2; u++) {
            uint from = metal::metallib_shuffle(row, 8 * u + g);
            device const metal::uint4 *p = (device const metal::uint4 *)all.keys + ulong(from) * (D / 8);
            if (own && from == OB_TENSOR_OWN) p = memory.own[0];
            OB_UNROLL
            for (uint i = 0; i < D / 32; i++) k[u][i] = p[4 * i + t];
        }
        OB_UNROLL
        for (uint n = 0; n < 4; n++) {
            uint key = 8 * (n / 2) + 2 * t + n % 2, from = metal::metallib_shuffle(row, key);
            device const metal::uint4 *p = (device const metal::uint4 *)all.values + ulong(from) * (D / 8);
            if (own && from == OB_TENSOR_OWN) p = memory.own[1];
            OB_UNROLL
            for (uint i = 0; i < D / 64; i++) {
                v[n][i] = metal::uint4(0);
                if (j + key < end) v[n][i] = p[8 * i + g];
            }
        }
        float products[2][4] = {}, scores[4];
        OB_UNROLL
        for (uint i = 0; i < D / 32; i++) {
            metal::uint4 a = memory.queries[0][g][4 * i + t], b = memory.queries[1][g][4 * i + t];
            OB_UNROLL
            for (uint u = 0; u < 2; u++) {
                metal::metallib_multiply_halves(products[u], a.x, b.x, a.y, b.y, k[u][i].x, k[u][i].y);
                metal::metallib_multiply_halves(products[u], a.z, b.z, a.w, b.w, k[u][i].z, k[u][i].w);
            }
        }
        OB_UNROLL
        for (uint i = 0; i < 4; i++) {
            float score = metal::metallib_product(products[i / 2][i % 2] + products[i / 2][i % 2 + 2], args.scale);
            if (args.softcap > 0) score = tensor_softcap(score, args.softcap);
            score = metal::metallib_product(score, M_LOG2E_F);
            scores[i] = j + 8 * (i / 2) + 2 * t + i % 2 < end ? score : -INFINITY;
        }
        mine.weigh(scores);
        uint large[2], small[2];
        OB_UNROLL
        for (uint u = 0; u < 2; u++) {
            large[u] = metal::metallib_halves(scores[2 * u], scores[2 * u + 1]);
            metal::half2 rounded = metal::as_type<metal::half2>(large[u]);
            small[u] = metal::metallib_halves(scores[2 * u] - float(rounded.x), scores[2 * u + 1] - float(rounded.y));
        }
        OB_UNROLL
        for (uint i = 0; i < D / 16; i++) {
            uint a = v[0][i / 4][i % 4], b = v[1][i / 4][i % 4], c = v[2][i / 4][i % 4], d = v[3][i / 4][i % 4];
            metal::metallib_multiply_halves(mine.sums[2 * i], large[0], small[0], large[1], small[1],
                                            metal::metallib_bytes(a, b, 0x5410), metal::metallib_bytes(c, d, 0x5410));
            metal::metallib_multiply_halves(mine.sums[2 * i + 1], large[0], small[0], large[1], small[1],
                                            metal::metallib_bytes(a, b, 0x7632), metal::metallib_bytes(c, d, 0x7632));
        }
    }
}

// Leaves what this simdgroup has in memory, for those that add up.
template <uint D>
METAL_FUNC void tensor_store(thread TensorSums<D> &mine, threadgroup TensorAttention<D> &memory, Place place) {
    uint g = place.lane / 4, t = place.lane % 4;
    OB_UNROLL
    for (uint step = 1; step < 4; step *= 2) mine.total += metal::metallib_shuffle_xor(mine.total, step);
    if (t == 0) memory.weights[place.group][g] = {mine.top - OB_TENSOR_POWERS, mine.total};
    OB_UNROLL
    for (uint i = 0; i < D / 64; i++) {
        OB_UNROLL
        for (uint e = 0; e < 2; e++) {
            OB_UNROLL
            for (uint q = 0; q < 2; q++) {
                metal::float4 sum;
                OB_UNROLL
                for (uint k = 0; k < 4; k++)
                    sum[k] = mine.sums[8 * i + 4 * q + k][e] + mine.sums[8 * i + 4 * q + k][e + 2];
                memory.sums[place.group][g][16 * i + 2 * (2 * t + e) + q] = sum;
            }
        }
    }
}

// What the simdgroups of a threadgroup have of head `head`: the weights, and four of the sums, from 4 · lane on.
template <uint D>
METAL_FUNC metal::float4 tensor_join(threadgroup const TensorAttention<D> &memory, uint head, uint lane,
                                     thread Weights &weights) {
    Weights part = memory.weights[lane % OB_TENSOR_ATTENTION_GROUPS][head];
    weights.top = part.top;
    OB_UNROLL
    for (uint step = 1; step < OB_TENSOR_ATTENTION_GROUPS; step *= 2)
        weights.top = metal::max(weights.top, metal::metallib_shuffle_xor(weights.top, step));
    float by = metal::exp2(part.top - shift_of(weights.top));
    weights.total = metal::metallib_product(part.total, by);
    OB_UNROLL
    for (uint step = 1; step < OB_TENSOR_ATTENTION_GROUPS; step *= 2)
        weights.total += metal::metallib_shuffle_xor(weights.total, step);
    metal::float4 sum = metal::float4(0);
    OB_UNROLL
    for (uint i = 0; i < OB_TENSOR_ATTENTION_GROUPS; i++)
        sum = metal::fma(metal::float4(metal::metallib_shuffle(by, i)), memory.sums[i][head][lane % (D / 4)], sum);
    return sum;
}

// Computes the parts of all heads: part `part` alone where args.split says so, else all. Queries are staged. `y` and
// `sinks` are those of the first head.
template <uint D, bool own, typename Args>
METAL_FUNC void tensor_attend(TensorHeads all, threadgroup TensorAttention<D> &memory, device const char *sinks,
                              uint head, device float *y, uint part, constant Args &args, Place place) {
    uint length = part_length(all.count, args), parts = parts_of(all.count, length);
    uint end = args.split ? metal::min(part + 1, parts) : parts, h = place.group;
    Weights before = {-INFINITY, 0};
    if (h < all.heads) before = weights_of_sink(sink_of(sinks, args.sinks, head + h));
    metal::float4 earlier = metal::float4(0);
    OB_ROLLED
    for (uint p = args.split ? part : 0; p < end; p++) {
        metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);  // queries are staged, sums of before are read
        if (h < OB_TENSOR_ATTENTION_GROUPS) {
            TensorSums<D> mine;
            mine.top = -INFINITY;
            mine.total = 0;
            OB_UNROLL
            for (uint i = 0; i < D / 2; i++) mine.sums[i / 4][i % 4] = 0;
            tensor_positions<D, own>(mine, all, memory, p * length, metal::min((p + 1) * length, all.count), args,
                                     place);
            tensor_store(mine, memory, place);
        }
        metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
        if (h >= all.heads) continue;
        Weights weights;
        metal::float4 sum = tensor_join(memory, h, place.lane, weights);
        device float *to = y + h * D;
        if (args.split) {
            to = y + (ulong(h) * args.parts + p) * part_row(args);
            if (place.lane == 0) {
                to[D] = weights.top;
                to[D + 1] = weights.total;
            }
        } else {
            Joined joined = join(before, weights);
            OB_UNROLL
            for (uint c = 0; c < 4; c++) sum[c] = joined.sum(earlier[c], sum[c]);
            earlier = sum;
            before = joined.both;
            if (p + 1 < end) continue;
            sum = sum * (1 / before.total);
        }
        if (place.lane < D / 4) ((device metal::float4 *)to)[place.lane] = sum;
    }
}

#endif
#endif
