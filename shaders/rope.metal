// Rotary positions (Su et al. 2021) with the per-head norm of Qwen3 in front, and the KV-cache write.
#include "args.h"
#include "reduce.h"

using namespace metal;

// table[row] = cos then sin of position[row] · inv_freq[i], i < half_dim: once a run, for all layers.
// positions [rows] u32, inv_freq [half_dim] f32, table [rows, 2, half_dim] f32. One threadgroup a row.
kernel void rope_table(device const uint *positions [[buffer(0)]], device const float *inv_freq [[buffer(1)]],
                       device float *table [[buffer(2)]], constant RopeTableArgs &args [[buffer(3)]],
                       uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    Place place = OB_PLACE;
    if (at.y >= args.rows) return;
    device float *row = table + ulong(at.y) * 2 * args.half_dim;
    float position = float(positions[at.y]);
    for (uint i = place.thread_index; i < args.half_dim; i += place.threads) {
        row[i] = precise::cos(position * inv_freq[i]);
        row[args.half_dim + i] = precise::sin(position * inv_freq[i]);
    }
}

METAL_FUNC void store(device float *y, float x) { *y = x; }

// Rounded to the nearest, ties to even. A number beyond half's range becomes its largest; inf and NaN,
// which tell of a failure before, stay.
METAL_FUNC void store(device half *y, float x) {
    float size = abs(x);
    *y = half(size > HALF_MAX && size < INFINITY ? copysign(float(HALF_MAX), x) : x);
}

// y = rope(rms_norm(x) · weight) for one head: dimension i turns with i + head_dim / 2.
template <typename T, typename Y>
METAL_FUNC void rotate_head(device const float *x, device const T *weight, device const float *table, device Y *y,
                            constant HeadArgs &args, Place place) {
    uint dim = args.head_dim, half_dim = dim / 2, width = place.threads / place.groups;
    float sum = 0;
    for (uint i = place.lane; i < dim; i += width) sum += x[i] * x[i];
    float scale = rsqrt(simd_sum(sum) / float(dim) + args.eps);
    for (uint i = place.lane; i < half_dim; i += width) {
        float a = x[i] * scale * float(weight[i]);
        float b = x[i + half_dim] * scale * float(weight[i + half_dim]);
        float c = table[i], s = table[half_dim + i];
        store(y + i, a * c - b * s);
        store(y + i + half_dim, b * c + a * s);
    }
}

// For each row: queries [heads, head_dim] normed and turned into q_out; keys [kv_heads, head_dim] the
// same, into the cache; values copied into the cache. Caches [slots, kv_heads, context, head_dim] of C.
// A simdgroup takes a head. Grid: tiles of OB_ROPE_HEADS heads (queries, keys, values) × rows.
template <typename T, typename C>
kernel void heads_to_cache(device const float *q [[buffer(0)]], device const float *k [[buffer(1)]],
                           device const float *v [[buffer(2)]], device const T *q_norm [[buffer(3)]],
                           device const T *k_norm [[buffer(4)]], device const float *table [[buffer(5)]],
                           device const uint *slots [[buffer(6)]], device const uint *positions [[buffer(7)]],
                           device float *q_out [[buffer(8)]], device C *k_cache [[buffer(9)]],
                           device C *v_cache [[buffer(10)]], constant HeadArgs &args [[buffer(11)]],
                           uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    Place place = OB_PLACE;
    uint row = at.y, dim = args.head_dim;
    if (row >= args.rows) return;
    uint slot = slots[row], position = positions[row];
    device const float *turn = table + ulong(row) * dim;
    uint all = args.heads + 2 * args.kv_heads;
    uint end = min((at.x + 1) * OB_ROPE_HEADS, all);
    for (uint head = at.x * OB_ROPE_HEADS + place.group; head < end; head += place.groups) {
        if (head < args.heads) {
            ulong offset = (ulong(row) * args.heads + head) * dim;
            rotate_head(q + offset, q_norm, turn, q_out + offset, args, place);
            continue;
        }
        if (position >= args.context) continue;
        uint kv = (head - args.heads) % args.kv_heads;
        ulong from = (ulong(row) * args.kv_heads + kv) * dim;
        ulong to = ((ulong(slot) * args.kv_heads + kv) * args.context + position) * dim;
        if (head < args.heads + args.kv_heads) {
            rotate_head(k + from, k_norm, turn, k_cache + to, args, place);
        } else {
            for (uint i = place.lane; i < dim; i += place.threads / place.groups) store(v_cache + to + i, v[from + i]);
        }
    }
}

// T: of the norms' weights; C: of the caches.
#define OB_INSTANTIATE(name, T, C) \
    template [[host_name("heads_to_cache_" #name)]] kernel decltype(heads_to_cache<T, C>) heads_to_cache<T, C>;
OB_INSTANTIATE(f32_f32, float, float)
OB_INSTANTIATE(f16_f32, half, float)
OB_INSTANTIATE(bf16_f32, bfloat, float)
OB_INSTANTIATE(f32_f16, float, half)
OB_INSTANTIATE(f16_f16, half, half)
OB_INSTANTIATE(bf16_f16, bfloat, half)
