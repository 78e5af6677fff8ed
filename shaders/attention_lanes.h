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

// The blocks of a lane's positions j, j + step, …, which are looked up before they are needed.
template <uint N>
struct LaneBlocks {
    uint at[N];

    template <typename C>
    METAL_FUNC void look(AttentionHeads<C> all, uint j, uint step, uint end, constant AttentionArgs &args) thread {
        OB_UNROLL
        for (uint n = 0; n < N; n++) at[n] = j + n * step < end ? all.block(j + n * step, args) : 0;
    }
};

// Keys and values of N positions, as a lane reads them.
template <uint N, uint E, typename C>
struct LanePositions {
    CacheEight<C> k[N * E], v[N * E];
    bool seen[N];

    // Reads positions j, j + step, …, of which those before `end` exist. `own` is this lane's place among L.
    template <uint L, bool whole>
    METAL_FUNC void read(AttentionHeads<C> all, thread const LaneBlocks<N> &blocks, uint j, uint step, uint end,
                         uint own, constant AttentionArgs &args) thread {
        ulong k_row = cache_row(all.keys, args.head_dim), v_row = cache_row(all.values, args.v_row);
        ulong rows[N];
        OB_UNROLL
        for (uint n = 0; n < N; n++) {
            seen[n] = j + n * step < end;
            rows[n] = all.row(j + n * step, blocks.at[n], args);
        }
        OB_UNROLL
        for (uint n = 0; n < N * E; n++) {
            uint i = 8 * (own + L * (n % E));
            k[n].clear();
            if (seen[n / E] && i < args.head_dim)
                k[n].template read<whole>(all.keys + rows[n / E] * k_row, i, args.head_dim, args.head_dim);
        }
        OB_UNROLL
        for (uint n = 0; n < N * E; n++) {
            uint i = 8 * (own + L * (n % E));
            v[n].clear();
            if (seen[n / E] && i < args.v_dim)
                v[n].template read<whole>(all.values + rows[n / E] * v_row, i, args.v_dim, args.v_row);
        }
    }
};

// Adds N positions to a lane's sums. The lanes of a key agree on its scores.
template <uint L, uint N, uint E, uint H, typename C>
METAL_FUNC void attend_positions(thread LaneHeads<E, H> &lane, thread const LaneQueries<E, H> &q,
                                 thread const LanePositions<N, E, C> &positions, constant AttentionArgs &args) {
    float scores[N * H];
    OB_UNROLL
    for (uint n = 0; n < N; n++) {
        float4 products[H];
        OB_UNROLL
        for (uint h = 0; h < H; h++) products[h] = float4(0);
        OB_UNROLL
        for (uint e = 0; e < 2 * E; e++) {
            float4 key = positions.k[n * E + e / 2].four(e % 2);
            OB_UNROLL
            for (uint h = 0; h < H; h++) products[h] = fma(q.at[h * 2 * E + e], key, products[h]);
        }
        OB_UNROLL
        for (uint h = 0; h < H; h++) scores[n * H + h] = four_sum(products[h]);
    }
    OB_UNROLL
    for (uint mask = L / 2; mask > 0; mask /= 2) add_across<N * H>(scores, mask);
    OB_UNROLL
    for (uint i = 0; i < N * H; i++) scores[i] *= args.scale;
    if (args.softcap > 0) {
        OB_UNROLL
        for (uint i = 0; i < N * H; i++) scores[i] = args.softcap * precise::tanh(scores[i] / args.softcap);
    }
    OB_UNROLL
    for (uint h = 0; h < H; h++) {
        float top = lane.weights[h].top, before = top, total = 0;
        OB_UNROLL
        for (uint n = 0; n < N; n++) {
            scores[n * H + h] = positions.seen[n] ? to_powers(scores[n * H + h]) : -INFINITY;
            top = scores[n * H + h] > top ? scores[n * H + h] : top;
        }
        float shift = shift_of(top);
        OB_UNROLL
        for (uint n = 0; n < N; n++) {
            scores[n * H + h] = exp2(scores[n * H + h] - shift);
            total += scores[n * H + h];
        }
        float rescale = exp2(before - shift);
        lane.weights[h] = {top, fma(lane.weights[h].total, rescale, total)};
        if (top != before) lane.scale(h, rescale);
    }
    OB_UNROLL
    for (uint n = 0; n < N; n++) {
        OB_UNROLL
        for (uint e = 0; e < 2 * E; e++) {
            float4 value = positions.v[n * E + e / 2].four(e % 2);
            OB_UNROLL
            for (uint h = 0; h < H; h++)
                lane.sums[h * 2 * E + e] = fma(float4(scores[n * H + h]), value, lane.sums[h * 2 * E + e]);
        }
    }
}

// Computes the part of positions `begin` … `end` - 1 for the `heads` ≤ H heads from q on. A lane has two keys at a time,
// and where registers suffice, it reads the next two before it uses them. The loop is rolled: code that runs once is
// slow to fetch.
template <uint L, uint E, uint H, bool whole, typename C>
METAL_FUNC void attend_part(thread LaneHeads<E, H> &lane, AttentionHeads<C> all, thread const LaneQueries<E, H> &q,
                            uint begin, uint end, constant AttentionArgs &args, Place place) {
    const uint keys = OB_SIMD / L;  // of a simdgroup at a time
    const bool ahead = whole && E <= 2 && sizeof(C) <= 2;
    uint own = place.lane % L, key = place.lane / L, step = keys * place.groups;
    OB_UNROLL
    for (uint h = 0; h < H; h++) lane.weights[h] = {-INFINITY, 0};
    OB_UNROLL
    for (uint i = 0; i < 2 * E * H; i++) lane.sums[i] = float4(0);
    LanePositions<2, E, C> positions, next;
    LaneBlocks<2> blocks;
    uint j = begin + keys * place.group, reading = j + key;
    blocks.look(all, reading, step, end, args);
    bool first = ahead;  // the first turn of the loop only reads
    OB_ROLLED
    while (j < end) {
        if (ahead) {
            if (!first) positions = next;
            next.template read<L, whole>(all, blocks, reading, step, end, own, args);
        } else {
            positions.template read<L, whole>(all, blocks, reading, step, end, own, args);
        }
        reading += 2 * step;
        blocks.look(all, reading, step, end, args);
        if (first) {
            first = false;
            continue;
        }
        attend_positions<L>(lane, q, positions, args);
        j += 2 * step;
    }
}

// Computes the parts of `heads` ≤ H heads: part `part` alone where args.split says so, else all.
template <uint L, uint E, uint H, bool whole, typename C>
METAL_FUNC void attend_heads(AttentionHeads<C> all, threadgroup JoinMemory &memory, uint part,
                             constant AttentionArgs &args, Place place) {
    LaneQueries<E, H> q;
    q.template read<L, whole>(all.q, all.heads, args.head_dim, place.lane % L);
    uint length = part_length(all.count, args), parts = parts_of(all.count, length);
    LaneHeads<E, H> lane;
    OB_ROLLED
    for (uint p = args.split ? part : 0; p < (args.split ? min(part + 1, parts) : parts); p++) {
        attend_part<L, E, H, whole>(lane, all, q, p * length, min((p + 1) * length, all.count), args, place);
        join_part<L, E, H, whole>(lane, all, memory, p, parts, args, place);
    }
}

// Computes all heads, H at a time.
template <uint L, uint E, uint H, bool whole, typename C>
METAL_FUNC void attend_tiles(AttentionHeads<C> all, threadgroup JoinMemory &memory, uint part,
                             constant AttentionArgs &args, Place place) {
    uint end = all.head + all.heads;
    OB_ROLLED
    while (all.head < end) {
        all.heads = min(H, end - all.head);
        attend_heads<L, E, H, whole>(all, memory, part, args, place);
        all.q += H * args.head_dim;
        all.y += H * (args.split ? args.parts * part_row(args) : args.v_dim);
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
        if (all.heads <= 2) attend_tiles<16, 2, 2, true>(all, memory.lanes, part, args, place);
        else attend_tiles<16, 2, 4, true>(all, memory.lanes, part, args, place);
    } else {
        if (all.heads <= 2) attend_tiles<8, 2, 2, true>(all, memory.lanes, part, args, place);
        else attend_tiles<8, 2, 4, true>(all, memory.lanes, part, args, place);
    }
}

#endif
#endif
