// Attention by tensor cores, and the heads of a row on the way to it; see attention_tensor.h.
#include "attention_tensor.h"
#include "early.h"
#include "heads_simd.h"

using namespace metal;

#ifdef __METAL_CUDA__

// The place of a threadgroup in the grid (kv_heads · tiles) × rows × parts.
template <typename Args>
struct TensorPlace {
    uint kv, head, heads;  // heads: how many of its key-value head it has, from the `head`-th of all on

    METAL_FUNC TensorPlace(uint x, constant Args &args) {
        uint sharing = args.heads / args.kv_heads, tile = sharing, first = 0;
        kv = x;
        if (args.tiles > 1) {  // a division is much code
            tile = (sharing + args.tiles - 1) / args.tiles;
            kv = x / args.tiles;
            first = x % args.tiles * tile;
        }
        head = kv * sharing + first;
        heads = first < sharing ? min(tile, sharing - first) : 0;
    }
};

// What a row sees. Reads nothing but what is there early.
template <typename Args>
METAL_FUNC bool tensor_heads(thread TensorHeads &all, device const half *keys, device const half *values,
                             device const uint *blocks, uint slot, uint position, uint kv, uint heads,
                             constant Args &args, Place place) {
    Seen seen = seen_from(position, args);
    uint first = seen.last - (seen.count - 1), context = args.width * OB_CACHE_BLOCK;
    if (first >= context) first %= context;
    ulong skipped = ulong(kv) * OB_CACHE_BLOCK * args.head_dim;
    all = {keys + skipped, values + skipped, blocks + ulong(slot) * args.width, heads, first, seen.count};
    bool held = slot < args.slots && (args.window || position < context);
    uint end = (first + seen.count + OB_CACHE_BLOCK - 1) / OB_CACHE_BLOCK;
    OB_ROLLED
    for (uint entry = first / OB_CACHE_BLOCK + place.lane; held && entry < end; entry += place.width)
        held = all.table[entry < args.width ? entry : entry - args.width] < args.blocks;
    return metallib_all(held);
}

// Keys and values of a part, the first of those that the threadgroup has, are on their way to the second cache while the
// kernels ahead still run. Those of the row's own position may change yet.
template <uint D, typename Args>
METAL_FUNC void tensor_fetch(TensorHeads all, uint part, constant Args &args, Place place) {
    uint length = part_length(all.count, args), begin = args.split ? part * length : 0;
    uint end = min(begin + length, all.count);
    OB_ROLLED
    for (uint i = begin + place.thread_index; i < end; i += place.threads) {
        ulong from = ulong(all.template row<false>(i, args)) * D;
        OB_UNROLL
        for (uint c = 0; c < D; c += 64) {
            metallib_prefetch(all.keys + from + c);
            metallib_prefetch(all.values + from + c);
        }
    }
}

// What is left of a row that fails.
template <typename Args>
METAL_FUNC void tensor_fails(device float *y, device atomic_uint *status, uint row, uint heads, uint3 at,
                             constant Args &args, Place place) {
    if (at.x == 0 && at.z == 0 && place.thread_index == 0) fail_row(status, row, args.step);
    if (!args.split) {
        OB_ROLLED
        for (uint i = place.thread_index; i < heads * args.v_dim; i += place.threads) y[i] = 0;
    } else if (at.z == 0) {
        OB_ROLLED
        for (uint h = place.thread_index; h < heads; h += place.threads)
            y[h * args.parts * part_row(args) + args.v_dim + 1] = -1;
    }
}

template <typename Args>
METAL_FUNC device float *tensor_output(device float *y, uint row, uint head, constant Args &args) {
    return y + ulong(row * args.heads + head) * (args.split ? args.parts * part_row(args) : args.v_dim);
}

// `attention` for caches of half, heads of D numbers and values of as many. Step `attention`.
template <uint D>
[[max_total_threads_per_threadgroup(32 * OB_TENSOR_ATTENTION_GROUPS),
  user_annotation("early: blocks, slots, positions")]] kernel void
attention_tensor(device const float *q [[buffer(0)]], device const half *k_cache [[buffer(1)]],
                 device const half *v_cache [[buffer(2)]], device const uint *blocks [[buffer(3)]],
                 device const uint *slots [[buffer(4)]], device const uint *positions [[buffer(5)]],
                 device const char *sinks [[buffer(6)]], device float *y [[buffer(7)]],
                 device atomic_uint *status [[buffer(8)]], constant AttentionArgs &args [[buffer(9)]],
                 uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup TensorAttention<D> memory;
    Place place = OB_PLACE;
    uint row = at.y;
    if (row >= args.rows) return;
    TensorPlace<AttentionArgs> own(at.x, args);
    if (own.heads == 0) return;
    TensorHeads all;
    bool held = tensor_heads(all, k_cache, v_cache, blocks, slots[row], positions[row], own.kv, own.heads, args, place);
    y = tensor_output(y, row, own.head, args);
    if (held) tensor_fetch<D>(all, at.z, args, place);
    wait_for_kernels();
    if (!held) return metallib_apart([=] { tensor_fails(y, status, row, own.heads, at, args, place); });
    if (place.group < own.heads) {
        device const float *from = q + ulong(row * args.heads + own.head + place.group) * D + place.lane * (D / 32);
        float numbers[D / 32];
        OB_UNROLL
        for (uint i = 0; i < D / 32; i++) numbers[i] = from[i];
        stage_query<D>(numbers, memory, place.group, place.lane);
    }
    tensor_attend<D, false>(all, memory, sinks, own.head, y, at.z, args, place);
}

// heads_to_cache and attention of rows that have a slot each: queries and keys are normed and turned, keys and values go
// to the caches, and the row's own position is not read from there. Grid and y as those of `attention`, other arguments
// as those of heads_to_cache. Step `attention`.
template <typename T, uint D>
[[max_total_threads_per_threadgroup(32 * (OB_TENSOR_ATTENTION_GROUPS + 2)),
  user_annotation("early: blocks, slots, positions")]] kernel void
heads_attention(device const float *q [[buffer(0)]], device const float *k [[buffer(1)]],
                device const float *v [[buffer(2)]], device const T *q_norm [[buffer(3)]],
                device const T *k_norm [[buffer(4)]], device const float *table [[buffer(5)]],
                device const uint *slots [[buffer(6)]], device const uint *positions [[buffer(7)]],
                device const uint *blocks [[buffer(8)]], device const char *sinks [[buffer(9)]],
                device half *k_cache [[buffer(10)]], device half *v_cache [[buffer(11)]],
                device float *y [[buffer(12)]], device atomic_uint *status [[buffer(13)]],
                constant HeadAttentionArgs &args [[buffer(14)]], uint3 at [[threadgroup_position_in_grid]],
                OB_PLACE_PARAMETERS) {
    threadgroup TensorAttention<D> memory;
    Place place = OB_PLACE;
    uint row = at.y;
    if (row >= args.rows) return;
    TensorPlace<HeadAttentionArgs> own(at.x, args);
    if (own.heads == 0) return;
    TensorHeads all;
    bool held = tensor_heads(all, k_cache, v_cache, blocks, slots[row], positions[row], own.kv, own.heads, args, place);
    y = tensor_output(y, row, own.head, args);
    if (held) tensor_fetch<D>(all, at.z, args, place);
    if (args.norm) metallib_prefetch(thread_index % 2 == 0 ? q_norm + lane * (D / 32) : k_norm + lane * (D / 32));
    wait_for_kernels();
    if (!held) return metallib_apart([=] { tensor_fails(y, status, row, own.heads, at, args, place); });
    uint unit = place.group;  // a query head of these, then the key and the value
    bool query = unit<OB_TENSOR_ATTENTION_GROUPS, value = unit> OB_TENSOR_ATTENTION_GROUPS;
    if (!query || unit < own.heads) {
        device const float *x = q + (ulong(row) * args.heads + own.head + unit) * args.q_head;
        if (!query) x = (value ? v : k) + (ulong(row) * args.kv_heads + own.kv) * D;
        SimdHead<T, D / 64> head = {x,
                                    query ? q_norm : k_norm,
                                    table + ulong(row) * 2 * args.half_dim,
                                    !value && args.norm != 0,
                                    !value && args.norm != 0,
                                    args.interleaved != 0,
                                    value ? 0 : args.half_dim,
                                    D,
                                    1,
                                    args.eps,
                                    args.weight_offset,
                                    args.clip};
        threadgroup float *turned = (threadgroup float *)memory.sums + unit * D;
        head.turn(turned, lane);
        float numbers[D / 32];
        OB_UNROLL
        for (uint i = 0; i < D / 32; i++) numbers[i] = turned[lane * (D / 32) + i];
        if (query) {
            stage_query<D>(numbers, memory, unit, lane);
        } else {
            half stored[D / 32];
            OB_UNROLL
            for (uint i = 0; i < D / 32; i++) cache_store(stored + i, numbers[i]);
            uint last = (all.first + all.count - 1) / OB_CACHE_BLOCK;
            ulong block = all.table[last < args.width ? last : last - args.width];
            ulong to = ((block * args.kv_heads + own.kv) * OB_CACHE_BLOCK + positions[row] % OB_CACHE_BLOCK) * D;
            bool stores = own.head == own.kv * (args.heads / args.kv_heads) && at.z == 0;
            OB_UNROLL
            for (uint i = 0; i < D / 32; i++) {
                ((threadgroup half *)memory.own[value])[lane * (D / 32) + i] = stored[i];
                if (stores) (value ? v_cache : k_cache)[to + lane * (D / 32) + i] = stored[i];
            }
        }
    }
    tensor_attend<D, true>(all, memory, sinks, own.head, y, at.z, args, place);
}

template [[host_name("attention_tensor_64")]] kernel decltype(attention_tensor<64>) attention_tensor<64>;
template [[host_name("attention_tensor_128")]] kernel decltype(attention_tensor<128>) attention_tensor<128>;
#define OB_INSTANTIATE(name, T)                                                                                       \
    template                                                                                                          \
        [[host_name("heads_attention_" #name "_64")]] kernel decltype(heads_attention<T, 64>) heads_attention<T, 64>; \
    template [[host_name("heads_attention_" #name                                                                     \
                         "_128")]] kernel decltype(heads_attention<T, 128>) heads_attention<T, 128>;
OB_INSTANTIATE(f32, float)
OB_INSTANTIATE(f16, half)
OB_INSTANTIATE(bf16, bfloat)
#undef OB_INSTANTIATE

#endif
