// Attention in a GPU's shape. L neighbouring lanes share a key, so that a simdgroup works on 32 / L keys at a time; a lane
// has 8 · E numbers of the queries of H heads in registers, and as many of their sums. The softmax runs online per lane
// (Milakov & Gimelshein 2018). The simdgroups of a threadgroup share the positions, and join at the end of each part.
#ifndef OB_ATTENTION_LANES_H
#define OB_ATTENTION_LANES_H

#include "attention.h"
#include "attention_blocks.h"

#ifdef __METAL_CPU__

typedef Softmax AttentionMemory;

template <typename C>
METAL_FUNC void attend(AttentionHeads<C> all, threadgroup AttentionMemory &memory, uint part,
                       constant AttentionArgs &args, Place place) {
    if (part == 0) attend_blocks(all, memory, args, place);
}

#else

#include "attention_join.h"
#include "cache_eight.h"

// Computes the part of positions `begin` … `end` - 1 for the `heads` ≤ H heads from q on.
template <uint L, uint E, uint H, bool whole, typename C>
METAL_FUNC void attend_part(thread LaneHeads<E, H> &lane, AttentionHeads<C> all, thread const LaneQueries<E, H> &q,
                            uint begin, uint end, constant AttentionArgs &args, Place place) {
    const uint keys = OB_SIMD / L, flight = 2;  // keys of a simdgroup at a time; keys of a lane that are in flight
    uint own = place.lane % L, step = keys * place.groups;
    ulong k_row = cache_row(all.keys, args.head_dim), v_row = cache_row(all.values, args.v_row);
    OB_UNROLL
    for (uint h = 0; h < H; h++) lane.weights[h] = {-INFINITY, 0};
    OB_UNROLL
    for (uint i = 0; i < 2 * E * H; i++) lane.sums[i] = float4(0);
    for (uint j = begin + keys * place.group + place.lane / L; j - place.lane / L < end; j += flight * step) {
        CacheEight<C> k[flight * E], v[flight * E];
        bool seen[flight];
        OB_UNROLL
        for (uint n = 0; n < flight; n++) {
            uint at = j + n * step;
            seen[n] = at < end;
            uint row = at < args.context - all.first ? all.first + at : all.first + at - args.context;
            OB_UNROLL
            for (uint e = 0; e < E; e++) {
                uint i = 8 * (own + L * e);
                k[n * E + e].clear();
                if (seen[n] && i < args.head_dim)
                    k[n * E + e].template read<whole>(all.keys + row * k_row, i, args.head_dim, args.head_dim);
            }
            OB_UNROLL
            for (uint e = 0; e < E; e++) {
                uint i = 8 * (own + L * e);
                v[n * E + e].clear();
                if (seen[n] && i < args.v_dim)
                    v[n * E + e].template read<whole>(all.values + row * v_row, i, args.v_dim, args.v_row);
            }
        }
        float scores[flight * H];
        OB_UNROLL
        for (uint n = 0; n < flight; n++) {
            float4 products[H];
            OB_UNROLL
            for (uint h = 0; h < H; h++) products[h] = float4(0);
            OB_UNROLL
            for (uint e = 0; e < 2 * E; e++) {
                float4 key = k[n * E + e / 2].four(e % 2);
                OB_UNROLL
                for (uint h = 0; h < H; h++) products[h] = fma(q.at[h * 2 * E + e], key, products[h]);
            }
            OB_UNROLL
            for (uint h = 0; h < H; h++) scores[n * H + h] = four_sum(products[h]);
        }
        OB_UNROLL
        for (uint mask = L / 2; mask > 0; mask /= 2) add_across<flight * H>(scores, mask);
        OB_UNROLL
        for (uint h = 0; h < H; h++) {
            float top = lane.weights[h].top, before = top;
            OB_UNROLL
            for (uint n = 0; n < flight; n++) {
                float score = scores[n * H + h] * args.scale;
                if (args.softcap > 0) score = args.softcap * precise::tanh(score / args.softcap);
                scores[n * H + h] = seen[n] ? score : -INFINITY;
                top = scores[n * H + h] > top ? scores[n * H + h] : top;
            }
            float shift = shift_of(top), total = 0;
            OB_UNROLL
            for (uint n = 0; n < flight; n++) {
                scores[n * H + h] = exp(scores[n * H + h] - shift);
                total += scores[n * H + h];
            }
            float rescale = exp(before - shift);
            lane.weights[h] = {top, fma(lane.weights[h].total, rescale, total)};
            if (top != before) lane.scale(h, rescale);
        }
        OB_UNROLL
        for (uint n = 0; n < flight; n++) {
            OB_UNROLL
            for (uint e = 0; e < 2 * E; e++) {
                float4 value = v[n * E + e / 2].four(e % 2);
                OB_UNROLL
                for (uint h = 0; h < H; h++)
                    lane.sums[h * 2 * E + e] = fma(float4(scores[n * H + h]), value, lane.sums[h * 2 * E + e]);
            }
        }
    }
}

// Computes the parts of `heads` ≤ H heads: part `part` alone where args.split says so, else all.
template <uint L, uint E, uint H, bool whole, typename C>
METAL_FUNC void attend_heads(AttentionHeads<C> all, threadgroup JoinMemory &memory, uint part,
                             constant AttentionArgs &args, Place place) {
    LaneQueries<E, H> q;
    q.template read<L, whole>(all.q, all.heads, args.head_dim, place.lane % L);
    uint length = part_length(all.count, args), parts = (all.count + length - 1) / length;
    LaneHeads<E, H> lane;
    for (uint p = args.split ? part : 0; p < (args.split ? min(part + 1, parts) : parts); p++) {
        attend_part<L, E, H, whole>(lane, all, q, p * length, min((p + 1) * length, all.count), args, place);
        join_part<L, E, H>(lane, all, memory, p, parts, args, place);
    }
}

// Computes all heads, H at a time.
template <uint L, uint E, uint H, bool whole, typename C>
METAL_FUNC void attend_tiles(AttentionHeads<C> all, threadgroup JoinMemory &memory, uint part,
                             constant AttentionArgs &args, Place place) {
    uint end = all.head + all.heads;
    while (all.head < end) {
        all.heads = min(H, end - all.head);
        attend_heads<L, E, H, whole>(all, memory, part, args, place);
        all.q += H * args.head_dim;
        all.y += H * (args.split ? args.parts * (args.v_dim + 2) : args.v_dim);
        all.head += H;
    }
}

union AttentionMemory {
    Softmax blocks;
    JoinMemory lanes;
};

template <typename C>
METAL_FUNC void attend(AttentionHeads<C> all, threadgroup AttentionMemory &memory, uint part,
                       constant AttentionArgs &args, Place place) {
    uint dim = max(args.head_dim, args.v_dim);
    bool fits = args.head_dim <= OB_ATTENTION_HEAD_DIM && args.v_dim <= OB_ATTENTION_V_DIM;
    bool simd = place.threads == OB_SIMD * place.groups && place.groups <= OB_ATTENTION_THREADS / OB_SIMD;
    if (!fits || !simd) {
        if (part == 0) attend_blocks(all, memory.blocks, args, place);
    } else if (!cache_whole(all, args)) {
        attend_tiles<32, 3, 2, false>(all, memory.lanes, part, args, place);
    } else if (dim > 256) {
        attend_tiles<32, 3, 2, true>(all, memory.lanes, part, args, place);
    } else if (dim > 128) {
        if (all.heads == 1) attend_tiles<16, 2, 1, true>(all, memory.lanes, part, args, place);
        else attend_tiles<16, 2, 4, true>(all, memory.lanes, part, args, place);
    } else {
        if (all.heads == 1) attend_tiles<8, 2, 1, true>(all, memory.lanes, part, args, place);
        else attend_tiles<8, 2, 4, true>(all, memory.lanes, part, args, place);
    }
}

#endif
#endif
