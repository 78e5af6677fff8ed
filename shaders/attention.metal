// Grouped-query causal attention over the KV cache, for any number of positions.
#include "args.h"
#include "reduce.h"

using namespace metal;

// q · k over head_dim.
template <typename C>
METAL_FUNC float head_dot(device const float *q, device const C *k, uint dim) {
    Lanes acc = lanes_splat(0);
    for (uint i = 0; i < dim / 16; i++) acc = lanes_fma(lanes_load(q + 16 * i), lanes_load(k + 16 * i), acc);
    float sum = lanes_sum(acc);
    for (uint i = dim / 16 * 16; i < dim; i++) sum += q[i] * float(k[i]);
    return sum;
}

// y = y · scale + Σ_j weight[j] · v[j, :] over `count` positions. A thread owns its columns of y.
template <typename C>
METAL_FUNC void add_values(device float *y, device const C *v, threadgroup const float *weight, float scale,
                           uint count, uint dim, Place place) {
    for (uint chunk = place.thread_index; chunk < dim / 16; chunk += place.threads) {
        Lanes acc = lanes_mul(lanes_load(y + 16 * chunk), lanes_splat(scale));
        for (uint j = 0; j < count; j++) {
            acc = lanes_fma(lanes_splat(weight[j]), lanes_load(v + ulong(j) * dim + 16 * chunk), acc);
        }
        lanes_store(y + 16 * chunk, acc);
    }
    for (uint i = dim / 16 * 16 + place.thread_index; i < dim; i += place.threads) {
        float acc = y[i] * scale;
        for (uint j = 0; j < count; j++) acc += weight[j] * float(v[ulong(j) * dim + i]);
        y[i] = acc;
    }
}

// y = softmax(q · kᵀ · scale) · v over positions 0 … position[row], the softmax kept online over
// blocks of OB_ATTENTION_BLOCK positions (Milakov & Gimelshein 2018).
// q, y [rows, heads, head_dim]; caches [slots, kv_heads, context, head_dim] of C. Grid: heads × rows.
template <typename C>
kernel void attention(device const float *q [[buffer(0)]], device const C *k_cache [[buffer(1)]],
                      device const C *v_cache [[buffer(2)]], device const uint *slots [[buffer(3)]],
                      device const uint *positions [[buffer(4)]], device float *y [[buffer(5)]],
                      constant AttentionArgs &args [[buffer(6)]], uint3 at [[threadgroup_position_in_grid]],
                      OB_PLACE_PARAMETERS) {
    threadgroup float scores[OB_ATTENTION_BLOCK];
    threadgroup float partial[32];
    Place place = OB_PLACE;
    uint head = at.x, row = at.y, dim = args.head_dim;
    if (row >= args.rows) return;
    uint count = min(positions[row] + 1, args.context);
    ulong offset = (ulong(row) * args.heads + head) * dim;
    ulong cache = (ulong(slots[row]) * args.kv_heads + head / (args.heads / args.kv_heads)) * args.context * dim;
    q += offset;
    y += offset;
    for (uint i = place.thread_index; i < dim; i += place.threads) y[i] = 0;
    threadgroup_barrier(mem_flags::mem_device);  // columns change hands between the tail and the chunks

    float top = -INFINITY, total = 0;
    for (uint first = 0; first < count; first += OB_ATTENTION_BLOCK) {
        uint block = min(uint(OB_ATTENTION_BLOCK), count - first);
        device const C *k = k_cache + cache + ulong(first) * dim;
        float block_top = -INFINITY;
        for (uint j = place.thread_index; j < block; j += place.threads) {
            scores[j] = head_dot(q, k + ulong(j) * dim, dim) * args.scale;
            block_top = max(block_top, scores[j]);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);  // scores change hands
        float next = max(top, threadgroup_max(block_top, partial, place));
        float part = 0;
        for (uint j = 16 * place.thread_index; j < block; j += 16 * place.threads) {
            if (j + 16 <= block) {
                Lanes e = lanes_exp(lanes_add(lanes_load(scores + j), lanes_splat(-next)));
                lanes_store(scores + j, e);
                part += lanes_sum(e);
            } else {
                for (uint i = j; i < block; i++) {
                    scores[i] = exp(scores[i] - next);
                    part += scores[i];
                }
            }
        }
        float rescale = exp(top - next);
        total = total * rescale + threadgroup_sum(part, partial, place);
        threadgroup_barrier(mem_flags::mem_threadgroup);  // every score is an exponential now
        add_values(y, v_cache + cache + ulong(first) * dim, scores, rescale, block, dim, place);
        threadgroup_barrier(mem_flags::mem_threadgroup);  // before the next block overwrites them
        top = next;
    }
    threadgroup_barrier(mem_flags::mem_device);
    for (uint i = place.thread_index; i < dim; i += place.threads) y[i] /= total;
}

template [[host_name("attention_f32")]] kernel decltype(attention<float>) attention<float>;
template [[host_name("attention_f16")]] kernel decltype(attention<half>) attention<half>;
