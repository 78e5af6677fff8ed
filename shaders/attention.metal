// Grouped-query causal attention over the KV cache, for any number of positions.
#include "attention_blocks.h"
#include "attention_lanes.h"
#include "early.h"

using namespace metal;

// y = softmax(q · kᵀ · scale) · v over positions 0 … position[row], or over the last `window` of these, or over those of
// the same chunk.
//
// q [rows, heads, head_dim], y [rows, heads, v_dim]; caches of C [blocks, kv_heads, OB_CACHE_BLOCK, head_dim] and
// [blocks, kv_heads, OB_CACHE_BLOCK, v_row], v_row ≥ v_dim; blocks [slots, width] (cache.h); sinks [heads].
// Grid: (kv_heads · tiles) × rows × 1. Steps `attention` and `latent_attention`.
//
// The query heads that share a key-value head are computed in `tiles` threadgroups. A sink is one more score of its
// head; no value belongs to its weight.
//
// With `split` the grid is `parts` deep, and threadgroup z leaves the sums of its part of the positions in
// y [rows, heads, parts, v_dim + OB_ATTENTION_PART_END] for attention_merge: Σ weight · value, the largest score, Σ weight.
//
// A row fails with `step` if the caches do not have its slot, a block of the positions that it sees or, without a window,
// its position. Its y is 0; with `split`, part 0 of its heads has a sum of weights below 0.
template <typename C>
[[max_total_threads_per_threadgroup(OB_ATTENTION_THREADS),
  user_annotation("early: blocks, slots, positions")]] kernel void
attention(device const float *q [[buffer(0)]], device const C *k_cache [[buffer(1)]],
          device const C *v_cache [[buffer(2)]], device const uint *blocks [[buffer(3)]],
          device const uint *slots [[buffer(4)]], device const uint *positions [[buffer(5)]],
          device const char *sinks [[buffer(6)]], device float *y [[buffer(7)]],
          device atomic_uint *status [[buffer(8)]], constant AttentionArgs &args [[buffer(9)]],
          uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup AttentionMemory memory;
    Place place = OB_PLACE;
    uint row = at.y;
    if (row >= args.rows) return;
    uint slot = slots[row], position = positions[row];
    uint kv = at.x / args.tiles, sharing = args.heads / args.kv_heads;
    uint tile = (sharing + args.tiles - 1) / args.tiles, head = at.x % args.tiles * tile;
    if (head >= sharing) return;
    uint heads = min(tile, sharing - head), query = row * args.heads + kv * sharing + head;
    device float *own = y + ulong(query) * (args.split ? args.parts * part_row(args) : args.v_dim);
    device const uint *table = blocks + ulong(slot) * args.width;
    Seen seen = seen_from(position, args);
    uint first = seen.last - (seen.count - 1), context = args.width * OB_CACHE_BLOCK;
    if (first >= context) first %= context;
    bool held = slot < args.slots && (args.window || position < context);
    held = held && have_blocks(table, first, seen.count, args, place);
    wait_for_kernels();
    if (!held) {
        if (at.x == 0 && at.z == 0 && place.thread_index == 0) fail_row(status, row, args.step);
        if (!args.split) {
            for (uint i = place.thread_index; i < heads * args.v_dim; i += place.threads) own[i] = 0;
        } else if (at.z == 0) {
            for (uint h = place.thread_index; h < heads; h += place.threads)
                own[h * args.parts * part_row(args) + args.v_dim + 1] = -1;
        }
        return;
    }
    ulong rows = kv * OB_CACHE_BLOCK;
    AttentionHeads<C> all = {q + ulong(query) * args.head_dim,
                             k_cache + rows * cache_row(k_cache, args.head_dim),
                             v_cache + rows * cache_row(v_cache, args.v_row),
                             table,
                             sinks,
                             own,
                             kv * sharing + head,
                             heads,
                             first,
                             seen.count};
    attend(all, memory, at.z, args, place);
}

// y = the attention of all parts, from their sums as `attention` leaves them; 0 where it failed the row.
// sums [rows, heads, parts, v_dim + OB_ATTENTION_PART_END], y [rows, heads, v_dim]. Grid: heads × rows.
// Step `attention`.
[[max_total_threads_per_threadgroup(OB_ATTENTION_MERGE_THREADS)]] kernel void attention_merge(
    device const float *sums [[buffer(0)]], device const uint *positions [[buffer(1)]],
    device const char *sinks [[buffer(2)]], device float *y [[buffer(3)]], constant AttentionArgs &args [[buffer(4)]],
    uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    Place place = OB_PLACE;
    uint row = at.y, head = at.x, dim = args.v_dim;
    if (row >= args.rows) return;
    ulong query = ulong(row) * args.heads + head;
    y += query * dim;
    sums += query * args.parts * part_row(args);
    if (sums[dim + 1] < 0) {
        for (uint i = place.thread_index; i < dim; i += place.threads) y[i] = 0;
        return;
    }
    uint count = seen_from(positions[row], args).count, parts = parts_of(count, part_length(count, args));
    Weights sink = weights_of_sink(sink_of(sinks, args.sinks, head));
    for (uint i = place.thread_index; i < dim; i += place.threads) {
        Weights weights = sink;
        float sum = 0;
        for (uint p = 0; p < parts; p++) {
            device const float *part = sums + p * part_row(args);
            Joined joined = join(weights, {part[dim], part[dim + 1]});
            sum = joined.sum(sum, part[i]);
            weights = joined.both;
        }
        y[i] = sum * (1 / weights.total);
    }
}

template [[host_name("attention_f32")]] kernel decltype(attention<float>) attention<float>;
template [[host_name("attention_f16")]] kernel decltype(attention<half>) attention<half>;
template [[host_name("attention_q8")]] kernel decltype(attention<char>) attention<char>;
