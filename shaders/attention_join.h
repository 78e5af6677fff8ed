// What the lanes of attention_lanes.h keep, and how they join what they have.
#ifndef OB_ATTENTION_JOIN_H
#define OB_ATTENTION_JOIN_H

#include "attention.h"
#include "cache_eight.h"

#define OB_SIMD 32

// `sums` has the sums of a round (K heads of v_dim numbers) for each simdgroup, `values` those of all earlier parts.
struct JoinMemory {
    metal::float4 sums[OB_ATTENTION_THREADS / OB_SIMD * OB_ATTENTION_V_DIM / 4];
    metal::float4 values[2 * OB_ATTENTION_V_DIM / 4];
    Weights groups[OB_ATTENTION_THREADS / OB_SIMD * OB_ATTENTION_TILE];  // of each simdgroup's heads
    Weights before[2 * OB_ATTENTION_TILE];                               // of all earlier parts, used in turn
};

METAL_FUNC float four_sum(metal::float4 a) { return (a.x + a.z) + (a.y + a.w); }

// x[i] += the x[i] of the lane that differs in the bits of `mask`. N is 2 or a multiple of four.
template <uint N>
METAL_FUNC void add_across(thread float *x, uint mask) {
    if (N == 2) {
        metal::float2 sum = metal::float2(x[0], x[1]);
        sum = sum + metal::simd_shuffle_xor(sum, ushort(mask));
        x[0] = sum.x;
        x[1] = sum.y;
        return;
    }
    OB_UNROLL
    for (uint i = 0; i + 3 < N; i += 4) {
        metal::float4 sum = metal::float4(x[i], x[i + 1], x[i + 2], x[i + 3]);
        sum = sum + metal::simd_shuffle_xor(sum, ushort(mask));
        OB_UNROLL
        for (uint c = 0; c < 4; c++) x[i + c] = sum[c];
    }
}

// A lane's numbers of H queries: of head h, four by four, from 8 · (own + L · e) on.
template <uint E, uint H>
struct LaneQueries {
    metal::float4 at[2 * E * H];

    template <uint L, bool whole>
    METAL_FUNC void read(device const float *q, uint heads, uint dim, uint own) thread {
        OB_UNROLL
        for (uint h = 0; h < H; h++) {
            OB_UNROLL
            for (uint e = 0; e < E; e++) {
                CacheEight<float> eight;
                eight.clear();
                uint i = 8 * (own + L * e);
                if (h < heads && i < dim) eight.template read<whole>(q + h * dim, i, dim, dim);
                at[(h * E + e) * 2] = eight.a;
                at[(h * E + e) * 2 + 1] = eight.b;
            }
        }
    }
};

template <uint E, uint H>
struct LaneHeads {
    Weights weights[H];
    metal::float4 sums[2 * E * H];

    METAL_FUNC void scale(uint h, float by) thread {
        OB_UNROLL
        for (uint e = 0; e < 2 * E; e++) sums[h * 2 * E + e] = sums[h * 2 * E + e] * by;
    }
};

// Adds up the sums of the lanes that differ in the bits of `mask` and below, down to L. At each step a lane gives away
// half of its heads, while it has more than one: head h of the result is what was head first_head() + h.
template <uint mask, uint L, uint Q, uint H>
METAL_FUNC void gather(thread metal::float4 *sums, uint lane) {
    if (mask < L) return;
    bool upper = (lane & mask) != 0;
    OB_UNROLL
    for (uint i = 0; i < Q * (H + 1) / 2; i++) {
        metal::float4 mine = sums[i], other = sums[i];
        if (H > 1) {
            mine = upper ? sums[i + Q * H / 2] : sums[i];
            other = upper ? sums[i] : sums[i + Q * H / 2];
        }
        sums[i] = mine + metal::simd_shuffle_xor(other, ushort(mask));
    }
    gather<mask / 2, L, Q, (H + 1) / 2>(sums, lane);
}

// Writes numbers i to i + 3 of n.
template <bool whole>
METAL_FUNC void write_four(device float *y, uint i, uint n, metal::float4 v) {
    if (whole) {
        *(device metal::float4 *)(y + i) = v;
        return;
    }
    OB_UNROLL
    for (uint c = 0; c < 4; c++) {
        if (i + c < n) y[i + c] = v[c];
    }
}

// Four numbers of head h, from 4 · quad on, of a part that is whole now.
template <bool whole, typename C>
METAL_FUNC void write_part(AttentionHeads<C> all, threadgroup JoinMemory &memory, metal::float4 sum, Weights weights,
                           uint h, uint quad, uint part, uint parts, constant AttentionArgs &args) {
    using namespace metal;
    uint dim = args.v_dim;
    if (args.split) {
        device float *to = all.y + (ulong(h) * args.parts + part) * part_row(args);
        write_four<whole>(to, 4 * quad, dim, sum);
        if (quad == 0) {
            to[dim] = weights.top;
            to[dim + 1] = weights.total;
        }
        return;
    }
    threadgroup float4 &values = memory.values[h * ((dim + 7) / 8 * 2) + quad];
    Weights before;
    float4 earlier = float4(0);
    if (part == 0) {
        before = weights_of_sink(sink_of(all.sinks, args.sinks, all.head + h));
    } else {
        before = memory.before[part % 2 * OB_ATTENTION_TILE + h];
        earlier = values;
    }
    Joined joined = join(before, weights);
    OB_UNROLL
    for (uint c = 0; c < 4; c++) sum[c] = joined.sum(earlier[c], sum[c]);
    if (part + 1 == parts) {
        write_four<whole>(all.y + h * dim, 4 * quad, dim, sum * (1 / joined.both.total));
    } else {
        values = sum;
        if (quad == 0) memory.before[(part + 1) % 2 * OB_ATTENTION_TILE + h] = joined.both;
    }
}

// Joins what the lanes of a threadgroup have of part `part` with the parts before it, and writes y after the last one;
// or writes the part's sums, where args.split says so.
template <uint L, uint E, uint H, bool whole, typename C>
METAL_FUNC void join_part(thread LaneHeads<E, H> &lane, AttentionHeads<C> all, threadgroup JoinMemory &memory,
                          uint part, uint parts, constant AttentionArgs &args, Place place) {
    using namespace metal;
    const uint keys = OB_SIMD / L;              // lanes with the same numbers of a head
    const uint kept = H > keys ? H / keys : 1;  // heads that a lane keeps
    const uint round = H / kept;                // heads of a round
    uint quads = (args.v_dim + 7) / 8 * 2;
    OB_UNROLL
    for (uint h = 0; h < H; h++) {
        float top = lane.weights[h].top;
        OB_UNROLL
        for (uint mask = OB_SIMD / 2; mask >= L; mask /= 2) top = max(top, simd_shuffle_xor(top, ushort(mask)));
        if (place.lane == h) memory.groups[place.group * H + h].top = top;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    // Lane g · H + h has what simdgroup g has of head h.
    bool has = place.lane < place.groups * H;
    float top = has ? memory.groups[place.lane].top : -INFINITY;
    OB_UNROLL
    for (uint mask = OB_SIMD / 2; mask >= H; mask /= 2) top = max(top, simd_shuffle_xor(top, ushort(mask)));
    OB_UNROLL
    for (uint h = 0; h < H; h++) {
        float shift = shift_of(simd_shuffle(top, ushort(h)));
        float by = exp2(lane.weights[h].top - shift), total = lane.weights[h].total * by;
        OB_UNROLL
        for (uint mask = OB_SIMD / 2; mask >= L; mask /= 2) total += simd_shuffle_xor(total, ushort(mask));
        lane.scale(h, by);
        if (place.lane == h) memory.groups[place.group * H + h].total = total;
    }
    gather<OB_SIMD / 2, L, 2 * E, H>(lane.sums, place.lane);
    uint slot = place.lane / L;  // of this lane's head in a round
    if (H < keys) slot = slot / (keys / H);
    bool writes = H >= keys || place.lane / L % (keys / H) == 0;
    OB_UNROLL
    for (uint n = 0; n < kept; n++) {
        if (n > 0) threadgroup_barrier(mem_flags::mem_threadgroup);  // the sums of the last round are read
        OB_UNROLL
        for (uint e = 0; e < E; e++) {
            uint quad = 2 * (place.lane % L + L * e);
            if (writes && quad < quads) {
                uint to = (place.group * round + slot) * quads + quad;
                memory.sums[to] = lane.sums[(n * E + e) * 2];
                memory.sums[to + 1] = lane.sums[(n * E + e) * 2 + 1];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        float total = has ? memory.groups[place.lane].total : 0.0f;
        OB_UNROLL
        for (uint mask = OB_SIMD / 2; mask >= H; mask /= 2) total += simd_shuffle_xor(total, ushort(mask));
        Weights joined[H];
        OB_UNROLL
        for (uint h = 0; h < H; h++) joined[h] = {simd_shuffle(top, ushort(h)), simd_shuffle(total, ushort(h))};
        const uint spans = (2 * L * E + OB_SIMD - 1) / OB_SIMD;  // a simdgroup takes a span of a head's numbers
        OB_ROLLED
        for (uint unit = place.group; unit < round * spans; unit += place.groups) {
            uint head = unit / spans, h = head * kept + n, quad = unit % spans * OB_SIMD + place.lane;
            if (h >= all.heads || quad >= quads) continue;
            Weights weights = joined[0];
            OB_UNROLL
            for (uint i = 1; i < H; i++) {
                weights.top = i == h ? joined[i].top : weights.top;
                weights.total = i == h ? joined[i].total : weights.total;
            }
            float4 sum = memory.sums[head * quads + quad];
            OB_UNROLL
            for (uint g = 1; g < OB_ATTENTION_THREADS / OB_SIMD; g++) {
                if (g < place.groups) sum = sum + memory.sums[(g * round + head) * quads + quad];
            }
            write_part<whole>(all, memory, sum, weights, h, quad, part, parts, args);
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);  // before the next part overwrites all this
}

#endif
