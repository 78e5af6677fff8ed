// Rotary positions (Su et al. 2021), after the norm of queries and keys, and the write to the KV cache.
#include "args.h"
#include "cache.h"
#include "early.h"
#include "heads_simd.h"

using namespace metal;

// table[row, 0, i] = scale · cos(position[row] · inv_freq[i]); table[row, 1, i] = scale · sin(the same angle).
// positions [rows] u32, inv_freq [half_dim] f32, table [rows, 2, half_dim] f32. One threadgroup per row.
// Step `rope_table`, once per run for all layers.
kernel void rope_table(device const uint *positions [[buffer(0)]], device const float *inv_freq [[buffer(1)]],
                       device float *table [[buffer(2)]], constant RopeTableArgs &args [[buffer(3)]],
                       uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    Place place = OB_PLACE;
    if (at.y >= args.rows) return;
    device float *row = table + ulong(at.y) * 2 * args.half_dim;
    float position = float(positions[at.y]);
    for (uint i = place.thread_index; i < args.half_dim; i += place.threads) {
        row[i] = precise::cos(position * inv_freq[i]) * args.scale;
        row[args.half_dim + i] = precise::sin(position * inv_freq[i]) * args.scale;
    }
}

// A query or key head: y = turn(clip(x · scale · (weight_offset + weight))); normed() is the number before it turns.
// The first 2 · half_dim numbers turn: number i with number i + half_dim, or, interleaved, with its neighbour.
template <typename T>
struct TurnedHead {
    device const float *x;
    device const T *weight;
    device const float *table;
    float scale, offset, clip;
    bool has_norm, interleaved;
    uint half_dim, dim;

    METAL_FUNC float normed(uint i) const {
        float y = has_norm ? x[i] * scale * (offset + float(weight[i])) : x[i];
        return clip > 0 && !isnan(y) ? min(max(y, -clip), clip) : y;
    }

    METAL_FUNC float at(uint i) const {
        if (i >= 2 * half_dim) return normed(i);
        uint pair = interleaved ? i / 2 : i % half_dim, step = interleaved ? 1 : half_dim;
        uint first = interleaved ? 2 * pair : pair;
        float a = normed(first), b = normed(first + step);
        float c = table[pair], s = table[half_dim + pair];
        return i == first ? a * c - b * s : b * c + a * s;
    }
};

// A value head: y = clip(x · scale), with scale 1 where values are not normed.
struct PlainHead {
    device const float *x;
    float scale, clip;

    METAL_FUNC float at(uint i) const {
        float y = x[i] * scale;
        return clip > 0 && !isnan(y) ? min(max(y, -clip), clip) : y;
    }
};

template <typename T, typename Y>
METAL_FUNC void store_head(device Y *y, thread const TurnedHead<T> &head, Place place) {
    uint half_dim = head.half_dim, width = place.threads / place.groups;
    device const float *table = head.table;
    if (head.interleaved) {
        for (uint i = place.lane; i < half_dim; i += width) {
            float a = head.normed(2 * i), b = head.normed(2 * i + 1), c = table[i], s = table[half_dim + i];
            cache_store(y + 2 * i, a * c - b * s);
            cache_store(y + 2 * i + 1, b * c + a * s);
        }
    } else {
        for (uint i = place.lane; i < half_dim; i += width) {
            float a = head.normed(i), b = head.normed(i + half_dim), c = table[i], s = table[half_dim + i];
            cache_store(y + i, a * c - b * s);
            cache_store(y + i + half_dim, b * c + a * s);
        }
    }
    for (uint i = 2 * half_dim + place.lane; i < head.dim; i += width) cache_store(y + i, head.normed(i));
}

template <typename T>
METAL_FUNC void store_head(device char *y, thread const TurnedHead<T> &head, Place place) {
    cache_store_row(y, head, head.dim, place);
}

// q_out = turn(norm(q)); keys of (slot, position) = turn(norm(k)), values there = v, normed or not.
// q [rows, heads, q_head], of whose heads the first head_dim count, k [rows, kv_heads, head_dim], v [rows, kv_heads,
// v_dim]; caches of C [blocks, kv_heads, OB_CACHE_BLOCK, head_dim or v_dim], blocks [slots, width] (cache.h), a ring in a
// layer with a window. A norm covers one head (weights [head_dim]) or all heads together (q_norm [heads · head_dim]).
// A row whose slot, position or block the caches do not have fails with `step` and changes nothing there.
// Grid: tiles of OB_ROPE_HEADS heads (queries, keys, values) × rows; one simdgroup per head. Step `heads_to_cache`.
template <typename T, typename C>
[[max_total_threads_per_threadgroup(OB_ROPE_THREADS), user_annotation("early: slots, positions, blocks")]] kernel void
heads_to_cache(device const float *q [[buffer(0)]], device const float *k [[buffer(1)]],
               device const float *v [[buffer(2)]], device const T *q_norm [[buffer(3)]],
               device const T *k_norm [[buffer(4)]], device const float *table [[buffer(5)]],
               device const uint *slots [[buffer(6)]], device const uint *positions [[buffer(7)]],
               device const uint *blocks [[buffer(8)]], device float *q_out [[buffer(9)]],
               device C *k_cache [[buffer(10)]], device C *v_cache [[buffer(11)]],
               device atomic_uint *status [[buffer(12)]], constant HeadArgs &args [[buffer(13)]],
               uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    Place place = OB_PLACE;
    uint row = at.y, dim = args.head_dim, v_dim = args.v_dim;
    if (row >= args.rows) return;
    uint all = args.heads + 2 * args.kv_heads;
    uint end = min((at.x + 1) * OB_ROPE_HEADS, all);
    bool together = args.norm == OB_NORM_ALL;
    float scale = 1;
    uint scaled = OB_NONE;  // `scale` belongs to all queries (1), to all keys (0) or to neither
#ifndef __METAL_CPU__
    threadgroup float memory[OB_ROPE_HEADS * OB_HEAD_DIM];
    bool simd = place.threads == OB_HEAD_LANES * place.groups && place.groups <= OB_ROPE_HEADS;
    bool fits = simd && dim <= OB_HEAD_DIM && v_dim <= OB_HEAD_DIM;
#endif
    uint position = positions[row];
    OB_ROLLED
    for (uint head = at.x * OB_ROPE_HEADS + place.group; head < end; head += place.groups) {
        bool query = head < args.heads;
        uint kv = query ? 0 : (head - args.heads) % args.kv_heads;
        uint block = query ? 0 : cache_block(blocks, slots[row], position, args.ring != 0, args);
        bool held = block != OB_NONE;
        ulong to = (ulong(block) * args.kv_heads + kv) * OB_CACHE_BLOCK + position % OB_CACHE_BLOCK;
        bool value = head >= args.heads + args.kv_heads;
        uint heads = query ? args.heads : args.kv_heads, own = query ? head : kv;
        uint step = query ? args.q_head : dim;
        device const float *first = (query ? q : k) + ulong(row) * heads * step;
        device const T *weight = (query ? q_norm : k_norm) + (together ? own * dim : 0);
        wait_for_kernels();
        if (!held && head + 1 == all && place.lane == 0) fail_row(status, row, args.step);
        if (together && !value && scaled != uint(query)) {
            scale = norm_scale(first, heads * dim, args.eps, place);
            scaled = uint(query);
        }
        device const float *x = value ? v + (ulong(row) * args.kv_heads + kv) * v_dim : first + own * step;
#ifndef __METAL_CPU__
        if (fits) {  // one code for all heads: a GPU's core keeps little of it
            uint numbers = value ? v_dim : dim;
            SimdHead<T, OB_HEAD_PAIRS> turned = {x,
                                                 weight,
                                                 table + ulong(row) * 2 * args.half_dim,
                                                 value ? args.norm_values != 0 : args.norm == OB_NORM_HEAD,
                                                 !value && args.norm != 0,
                                                 args.interleaved != 0,
                                                 value ? 0 : args.half_dim,
                                                 numbers,
                                                 value ? 1 : scale,
                                                 args.eps,
                                                 args.weight_offset,
                                                 args.clip};
            float lanes[2 * OB_HEAD_PAIRS];
            threadgroup float *own = memory + place.group * OB_HEAD_DIM;
            turned.turn(own, place.lane);
            turned.numbers_of(lanes, own, place.lane);
            if (query) {
                store_numbers(q_out + (ulong(row) * args.heads + head) * dim, lanes, dim, place.lane);
            } else if (held) {
                device C *cache = value ? v_cache : k_cache;
                store_numbers(cache + to * cache_row(cache, numbers), lanes, numbers, place.lane);
            }
            continue;
        }
#endif
        if (value) {
            PlainHead values = {x, args.norm_values ? norm_scale(x, v_dim, args.eps, place) : 1.0f, args.clip};
            if (held) cache_store_row(v_cache + to * cache_row(v_cache, v_dim), values, v_dim, place);
            continue;
        }
        if (args.norm == OB_NORM_HEAD) scale = norm_scale(x, dim, args.eps, place);
        TurnedHead<T> turned = {x,
                                weight,
                                table + ulong(row) * 2 * args.half_dim,
                                scale,
                                args.weight_offset,
                                args.clip,
                                args.norm != 0,
                                args.interleaved != 0,
                                args.half_dim,
                                dim};
        if (query) {
            store_head(q_out + (ulong(row) * args.heads + head) * dim, turned, place);
        } else if (held) {
            store_head(k_cache + to * cache_row(k_cache, dim), turned, place);
        }
    }
}

// T is the type of the norms' weights, C that of the caches.
#define OB_INSTANTIATE(name, T, C) \
    template [[host_name("heads_to_cache_" #name)]] kernel decltype(heads_to_cache<T, C>) heads_to_cache<T, C>;
OB_INSTANTIATE(f32_f32, float, float)
OB_INSTANTIATE(f16_f32, half, float)
OB_INSTANTIATE(bf16_f32, bfloat, float)
OB_INSTANTIATE(f32_f16, float, half)
OB_INSTANTIATE(f16_f16, half, half)
OB_INSTANTIATE(bf16_f16, bfloat, half)
OB_INSTANTIATE(f32_q8, float, char)
OB_INSTANTIATE(f16_q8, half, char)
OB_INSTANTIATE(bf16_q8, bfloat, char)
