// Grouped-query causal attention over the KV cache, for any number of positions.
#include "args.h"
#include "reduce.h"

using namespace metal;

// Query heads for which a thread reads a key or a value once.
enum { TILE = 4 };

// What the threads share of the query heads that they take at a time: scores, then weights, of a block
// of positions; and of each head the largest score so far, the sum of its weights, and what that and
// the sums of values change by when a block brings a larger score.
struct Softmax {
    float scores[OB_ATTENTION_HEADS * OB_ATTENTION_BLOCK];
    float top[OB_ATTENTION_HEADS], total[OB_ATTENTION_HEADS], rescale[OB_ATTENTION_HEADS];
};

// scores[h · OB_ATTENTION_BLOCK] = q[h, :] · k · scale, h < H.
template <uint H, typename C>
METAL_FUNC void score_key(device const float *q, device const C *k, threadgroup float *scores, float scale, uint dim) {
    Lanes acc[H];
    for (uint h = 0; h < H; h++) acc[h] = lanes_splat(0);
    for (uint i = 0; i < dim; i += 16) {
        Lanes key = lanes_read(k, i, dim);
        for (uint h = 0; h < H; h++) acc[h] = lanes_fma(lanes_read(q + h * dim, i, dim), key, acc[h]);
    }
    for (uint h = 0; h < H; h++) scores[h * OB_ATTENTION_BLOCK] = lanes_sum(acc[h]) * scale;
}

// y[h, i …] = y[h, i …] · rescale + Σ_j weight[h, j] · v[j, i …] for sixteen columns, h from `head` on.
// The first block starts from 0, the last divides by the total.
template <uint H, typename C>
METAL_FUNC void add_values(device float *y, device const C *v, threadgroup const Softmax &s, uint head, uint block,
                           uint i, uint dim, bool first, bool last) {
    Lanes acc[H];
    for (uint h = 0; h < H; h++) {
        acc[h] = lanes_splat(0);
        if (!first) acc[h] = lanes_mul(lanes_read(y + h * dim, i, dim), lanes_splat(s.rescale[head + h]));
    }
    threadgroup const float *weights = s.scores + head * OB_ATTENTION_BLOCK;
    for (uint j = 0; j < block; j++) {
        Lanes value = lanes_read(v + ulong(j) * dim, i, dim);
        for (uint h = 0; h < H; h++) acc[h] = lanes_fma(lanes_splat(weights[h * OB_ATTENTION_BLOCK + j]), value, acc[h]);
    }
    for (uint h = 0; h < H; h++) {
        if (last) acc[h] = lanes_mul(acc[h], lanes_splat(1 / s.total[head + h]));
        lanes_write(y + h * dim, i, dim, acc[h]);
    }
}

// Scores of `heads` heads at the block's positions; -inf up to the next multiple of sixteen.
template <typename C>
METAL_FUNC void score_block(device const float *q, device const C *k, threadgroup Softmax &s, uint heads, uint block,
                            float scale, uint dim, Place place) {
    uint tiles = (heads + TILE - 1) / TILE;
    uint padded = (block + 15) / 16 * 16;
    for (uint item = place.thread_index; item < padded * tiles; item += place.threads) {
        uint j = item / tiles, head = item % tiles * TILE, n = min(uint(TILE), heads - head);
        threadgroup float *scores = s.scores + head * OB_ATTENTION_BLOCK + j;
        device const float *queries = q + head * dim;
        device const C *key = k + ulong(j) * dim;
        if (j >= block) {
            for (uint h = 0; h < n; h++) scores[h * OB_ATTENTION_BLOCK] = -INFINITY;
        } else if (n == 4) {
            score_key<4>(queries, key, scores, scale, dim);
        } else if (n == 3) {
            score_key<3>(queries, key, scores, scale, dim);
        } else if (n == 2) {
            score_key<2>(queries, key, scores, scale, dim);
        } else {
            score_key<1>(queries, key, scores, scale, dim);
        }
    }
}

// The scores of a head become exp(score - top), by one simdgroup. What the threadgroup keeps of a head
// is its first lane's to read and write.
METAL_FUNC void weigh_block(threadgroup Softmax &s, uint head, uint block, Place place) {
    threadgroup float *scores = s.scores + head * OB_ATTENTION_BLOCK;
    uint step = 16 * (place.threads / place.groups);
    Lanes most = lanes_splat(-INFINITY), sum = lanes_splat(0);
    for (uint j = 16 * place.lane; j < block; j += step) most = lanes_max(lanes_load(scores + j), most);
    float top = place.lane == 0 ? s.top[head] : -INFINITY;
    float next = simd_max(max(top, lanes_top(most)));
    float shift = next == -INFINITY ? 0.0f : next;  // -inf - -inf is no weight
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
METAL_FUNC void add_block(device float *y, device const C *v, threadgroup const Softmax &s, uint heads, uint block,
                          uint dim, bool first, bool last, Place place) {
    uint chunks = (dim + 15) / 16, tiles = (heads + TILE - 1) / TILE;
    for (uint item = place.thread_index; item < chunks * tiles; item += place.threads) {
        uint i = item % chunks * 16, head = item / chunks * TILE, n = min(uint(TILE), heads - head);
        device float *sums = y + head * dim;
        if (n == 4) {
            add_values<4>(sums, v, s, head, block, i, dim, first, last);
        } else if (n == 3) {
            add_values<3>(sums, v, s, head, block, i, dim, first, last);
        } else if (n == 2) {
            add_values<2>(sums, v, s, head, block, i, dim, first, last);
        } else {
            add_values<1>(sums, v, s, head, block, i, dim, first, last);
        }
    }
}

// y = softmax(q · kᵀ · scale) · v over positions 0 … position[row], the softmax kept online over
// blocks of OB_ATTENTION_BLOCK positions (Milakov & Gimelshein 2018). A threadgroup takes the query
// heads that share a key-value head, OB_ATTENTION_HEADS at a time.
// q, y [rows, heads, head_dim]; caches [slots, kv_heads, context, head_dim] of C. Grid: kv_heads × rows.
template <typename C>
kernel void attention(device const float *q [[buffer(0)]], device const C *k_cache [[buffer(1)]],
                      device const C *v_cache [[buffer(2)]], device const uint *slots [[buffer(3)]],
                      device const uint *positions [[buffer(4)]], device float *y [[buffer(5)]],
                      constant AttentionArgs &args [[buffer(6)]], uint3 at [[threadgroup_position_in_grid]],
                      OB_PLACE_PARAMETERS) {
    threadgroup Softmax s;
    Place place = OB_PLACE;
    uint row = at.y, dim = args.head_dim, sharing = args.heads / args.kv_heads;
    if (row >= args.rows) return;
    uint count = min(positions[row], args.context - 1) + 1;
    ulong cache = (ulong(slots[row]) * args.kv_heads + at.x) * args.context * dim;
    ulong queries = (ulong(row) * args.heads + at.x * sharing) * dim;
    for (uint head = 0; head < sharing; head += OB_ATTENTION_HEADS) {
        uint heads = min(uint(OB_ATTENTION_HEADS), sharing - head);
        ulong offset = queries + ulong(head) * dim;
        for (uint h = place.group; h < heads; h += place.groups) {
            if (place.lane == 0) s.top[h] = -INFINITY, s.total[h] = 0;
        }
        for (uint first = 0; first < count; first += OB_ATTENTION_BLOCK) {
            uint block = min(uint(OB_ATTENTION_BLOCK), count - first);
            ulong at_block = cache + ulong(first) * dim;
            score_block(q + offset, k_cache + at_block, s, heads, block, args.scale, dim, place);
            threadgroup_barrier(mem_flags::mem_threadgroup);  // scores change hands
            for (uint h = place.group; h < heads; h += place.groups) weigh_block(s, h, block, place);
            threadgroup_barrier(mem_flags::mem_threadgroup);  // every score is a weight now
            add_block(y + offset, v_cache + at_block, s, heads, block, dim, first == 0, first + block == count, place);
            threadgroup_barrier(mem_flags::mem_threadgroup);  // before the next block overwrites them
        }
    }
}

template [[host_name("attention_f32")]] kernel decltype(attention<float>) attention<float>;
template [[host_name("attention_f16")]] kernel decltype(attention<half>) attention<half>;
