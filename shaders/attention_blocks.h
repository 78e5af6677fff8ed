// Attention by whole keys: a thread takes a key, or sixteen columns of the values, and scores lie in threadgroup memory.
// This is the processor's shape; a GPU uses it for heads that are too large for attention_lanes.h.
#ifndef OB_ATTENTION_BLOCKS_H
#define OB_ATTENTION_BLOCKS_H

#include "attention.h"

using namespace metal;

// A thread reads a key or a value once for TILE query heads.
#ifdef __METAL_CPU__
enum { TILE = 4 };
#else
enum { TILE = 1 };
#endif

// The threads of a threadgroup share this memory. `scores` holds one block of positions per head: first scores, then
// weights. Each head also keeps the largest score so far (`top`) and the sum of its weights (`total`). When a block
// brings a larger score, `total` and the weighted sums of values are multiplied by `rescale`.
struct Softmax {
    float scores[OB_ATTENTION_HEADS * OB_ATTENTION_BLOCK];
    float top[OB_ATTENTION_HEADS], total[OB_ATTENTION_HEADS], rescale[OB_ATTENTION_HEADS];
};

// A block of positions of those that a row sees: `count` of them from the `first` on. They may lie in several blocks of
// the cache.
struct Block {
    uint first, count;
};

// scores[h · OB_ATTENTION_BLOCK] = q[h, :] · k · scale for h < H, then the softcap.
template <uint H, typename C>
METAL_FUNC void score_key(device const float *q, device const C *k, threadgroup float *scores,
                          constant AttentionArgs &args) {
    Lanes acc[H];
    uint dim = args.head_dim;
    for (uint h = 0; h < H; h++) acc[h] = lanes_splat(0);
    for (uint i = 0; i < dim; i += 16) {
        Lanes key = cache_read(k, i, dim, dim);
        for (uint h = 0; h < H; h++) acc[h] = lanes_fma(lanes_read(q + h * dim, i, dim), key, acc[h]);
    }
    for (uint h = 0; h < H; h++) {
        float score = lanes_sum(acc[h]) * args.scale;
        scores[h * OB_ATTENTION_BLOCK] = args.softcap > 0 ? args.softcap * precise::tanh(score / args.softcap) : score;
    }
}

// acc[h] += Σ_j weight[h, j] · v[j, i …] over `count` rows j, for sixteen columns from i on.
template <uint H, typename C>
METAL_FUNC void add_rows(device const C *v, threadgroup const float *weights, thread Lanes *acc, uint count, uint i,
                         constant AttentionArgs &args) {
    ulong step = cache_row(v, args.v_row);
    for (uint j = 0; j < count; j++) {
        Lanes value = cache_read(v + j * step, i, args.v_dim, args.v_row);
        for (uint h = 0; h < H; h++)
            acc[h] = lanes_fma(lanes_splat(weights[h * OB_ATTENTION_BLOCK + j]), value, acc[h]);
    }
}

// y[h, i …] = y[h, i …] · rescale + Σ_j weight[h, j] · v[j, i …] for sixteen columns and H heads from `head` on.
// The first block starts from 0; the last one divides by the total.
template <uint H, typename C>
METAL_FUNC void add_values(device float *y, AttentionHeads<C> all, threadgroup const Softmax &s, uint head, Block block,
                           uint i, bool first, bool last, constant AttentionArgs &args) {
    Lanes acc[H];
    uint dim = args.v_dim;
    for (uint h = 0; h < H; h++) {
        acc[h] = lanes_splat(0);
        if (!first) acc[h] = lanes_mul(lanes_read(y + h * dim, i, dim), lanes_splat(s.rescale[head + h]));
    }
    threadgroup const float *weights = s.scores + head * OB_ATTENTION_BLOCK;
    for (uint j = 0, n; j < block.count; j += n) {
        n = all.together(block.first + j, block.count - j);
        ulong row = all.row(block.first + j, args);
        add_rows<H>(all.values + row * cache_row(all.values, args.v_row), weights + j, acc, n, i, args);
    }
    for (uint h = 0; h < H; h++) {
        if (last) acc[h] = lanes_mul(acc[h], lanes_splat(1 / s.total[head + h]));
        lanes_write(y + h * dim, i, dim, acc[h]);
    }
}

// Computes the scores of `heads` heads at positions `first` … `first` + count - 1 of a block, whose keys follow each other
// from k on.
template <typename C>
METAL_FUNC void score_rows(device const float *q, device const C *k, threadgroup Softmax &s, uint heads, uint first,
                           uint count, constant AttentionArgs &args, Place place) {
    uint tiles = (heads + TILE - 1) / TILE;
    for (uint item = place.thread_index; item < count * tiles; item += place.threads) {
        uint j = item / tiles, head = item % tiles * TILE, n = min(uint(TILE), heads - head);
        threadgroup float *scores = s.scores + head * OB_ATTENTION_BLOCK + first + j;
        device const float *queries = q + head * args.head_dim;
        device const C *key = k + ulong(j) * cache_row(k, args.head_dim);
        if (n == 4) {
            score_key<4>(queries, key, scores, args);
        } else if (n == 3) {
            score_key<3>(queries, key, scores, args);
        } else if (n == 2) {
            score_key<2>(queries, key, scores, args);
        } else {
            score_key<1>(queries, key, scores, args);
        }
    }
}

// Computes the scores of `heads` heads at the block's positions. The places up to the next multiple of sixteen
// become -inf.
template <typename C>
METAL_FUNC void score_block(device const float *q, AttentionHeads<C> all, threadgroup Softmax &s, uint heads,
                            Block block, constant AttentionArgs &args, Place place) {
    uint padded = (block.count + 15) / 16 * 16 - block.count;
    for (uint item = place.thread_index; item < padded * heads; item += place.threads)
        s.scores[item / padded * OB_ATTENTION_BLOCK + block.count + item % padded] = -INFINITY;
    for (uint j = 0, n; j < block.count; j += n) {
        n = all.together(block.first + j, block.count - j);
        ulong row = all.row(block.first + j, args);
        score_rows(q, all.keys + row * cache_row(all.keys, args.head_dim), s, heads, j, n, args, place);
    }
}

// One simdgroup turns the scores of a head into exp(score - top). Only its first lane reads and writes the head's
// top, total and rescale.
METAL_FUNC void weigh_block(threadgroup Softmax &s, uint head, uint block, Place place) {
    threadgroup float *scores = s.scores + head * OB_ATTENTION_BLOCK;
    uint step = 16 * (place.threads / place.groups);
    Lanes most = lanes_splat(-INFINITY), sum = lanes_splat(0);
    for (uint j = 16 * place.lane; j < block; j += step) most = lanes_max(lanes_load(scores + j), most);
    float top = place.lane == 0 ? s.top[head] : -INFINITY;
    float next = simd_max(max(top, lanes_top(most)));
    float shift = next == -INFINITY ? 0.0f : next;  // -inf - -inf would be NaN
    for (uint j = 16 * place.lane; j < block; j += step) {
        Lanes weights = lanes_exp(lanes_add(lanes_load(scores + j), lanes_splat(-shift)));
        lanes_store(scores + j, weights);
        sum = lanes_add(sum, weights);
    }
    float part = simd_sum(lanes_sum(sum));
    if (place.lane != 0) return;
    s.rescale[head] = exp(top - shift);
    s.total[head] = s.total[head] * s.rescale[head] + part;
    s.top[head] = next;
}

template <typename C>
METAL_FUNC void add_block(device float *y, AttentionHeads<C> all, threadgroup const Softmax &s, uint heads, Block block,
                          bool first, bool last, constant AttentionArgs &args, Place place) {
    uint chunks = (args.v_dim + 15) / 16, tiles = (heads + TILE - 1) / TILE;
    for (uint item = place.thread_index; item < chunks * tiles; item += place.threads) {
        uint i = item % chunks * 16, head = item / chunks * TILE, n = min(uint(TILE), heads - head);
        device float *sums = y + head * args.v_dim;
        if (n == 4) {
            add_values<4>(sums, all, s, head, block, i, first, last, args);
        } else if (n == 3) {
            add_values<3>(sums, all, s, head, block, i, first, last, args);
        } else if (n == 2) {
            add_values<2>(sums, all, s, head, block, i, first, last, args);
        } else {
            add_values<1>(sums, all, s, head, block, i, first, last, args);
        }
    }
}

// y = attention of `sharing` query heads to the `count` positions that a row sees, OB_ATTENTION_HEADS
// heads at a time. The softmax runs online over blocks of OB_ATTENTION_BLOCK positions (Milakov & Gimelshein 2018).
template <typename C>
METAL_FUNC void attend_blocks(AttentionHeads<C> all, threadgroup Softmax &s, constant AttentionArgs &args,
                              Place place) {
    for (uint head = 0; head < all.heads; head += OB_ATTENTION_HEADS) {
        uint heads = min(uint(OB_ATTENTION_HEADS), all.heads - head);
        device const float *queries = all.q + ulong(head) * args.head_dim;
        device float *sums = all.y + ulong(head) * args.v_dim;
        for (uint h = place.group; h < heads; h += place.groups) {
            if (place.lane != 0) continue;
            s.top[h] = sink_of(all.sinks, args.sinks, all.head + head + h);
            s.total[h] = sink_weight(s.top[h]);
        }
        for (uint done = 0; done < all.count; done += OB_ATTENTION_BLOCK) {
            Block block = {done, min(uint(OB_ATTENTION_BLOCK), all.count - done)};
            score_block(queries, all, s, heads, block, args, place);
            threadgroup_barrier(mem_flags::mem_threadgroup);  // other threads read the scores
            for (uint h = place.group; h < heads; h += place.groups) weigh_block(s, h, block.count, place);
            threadgroup_barrier(mem_flags::mem_threadgroup);  // every score is a weight now
            add_block(sums, all, s, heads, block, done == 0, done + block.count == all.count, args, place);
            threadgroup_barrier(mem_flags::mem_threadgroup);  // before the next block overwrites them
        }
    }
}

#endif
