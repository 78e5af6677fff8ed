// Routing: from router logits to the K experts of a row and their weights.
//
// Softmax over the experts, the top K of them, renormalised over the K (Qwen3-MoE) or not
// (norm_topk_prob = false), then scaled by expert (Gemma 4). Softmax over the top K alone (gpt-oss) is
// the renormalised form, since the exponentials of the others cancel.
#include "args.h"
#include "reduce.h"

using namespace metal;

// Each of sixteen columns keeps the best expert that it has met.
struct Best {
    float value[16];
    uint id[16];
};

// The order in which experts are chosen: larger logit first, then lower index. NaN is never chosen:
// it comes neither before nor after anything.
METAL_FUNC bool after(float x, uint i, float last, uint last_id) { return (x < last) | ((x == last) & (int(i) > int(last_id))); }

// The best expert of the threadgroup that comes after (last, last_id); OB_NONE where none is left.
// Every thread looks at sixteen experts at a time, column by column.
METAL_FUNC uint next_expert(device const float *logits, uint experts, float last, uint last_id, threadgroup float *partial,
                            threadgroup uint *partial_id, Place place) {
    Best best;
    for (uint c = 0; c < 16; c++) {
        best.value[c] = NAN;  // below everything: not (NaN >= x)
        best.id[c] = OB_NONE;
    }
    uint whole = experts / 16 * 16;
    for (uint first = 16 * place.thread_index; first < whole; first += 16 * place.threads) {
        for (uint c = 0; c < 16; c++) {
            float x = logits[first + c];
            bool better = after(x, first + c, last, last_id) & !(best.value[c] >= x);
            best.value[c] = better ? x : best.value[c];
            best.id[c] = better ? first + c : best.id[c];
        }
    }
    for (uint i = whole + place.thread_index; i < experts; i += place.threads) {
        float x = logits[i];
        bool better = after(x, i, last, last_id) & !(best.value[0] >= x);
        best.value[0] = better ? x : best.value[0];
        best.id[0] = better ? i : best.id[0];
    }
    float top = -INFINITY;
    for (uint c = 0; c < 16; c++) top = best.value[c] > top ? best.value[c] : top;
    top = threadgroup_max(top, partial, place);
    uint id = OB_NONE;
    for (uint c = 0; c < 16; c++) id = best.value[c] == top ? min(id, best.id[c]) : id;
    return threadgroup_min(id, partial_id, place);
}

// exp(x - top), with +inf taking all the weight where it occurs.
METAL_FUNC float share(float x, float top) {
    if (x != x) return 0;
    if (top == INFINITY) return x == INFINITY ? 1 : 0;
    return exp(x - top);
}

// Σ share over all experts.
METAL_FUNC float total_share(device const float *logits, uint experts, float top, threadgroup float *partial, Place place) {
    float part = 0;
    if (top == INFINITY) {
        for (uint i = place.thread_index; i < experts; i += place.threads) part += share(logits[i], top);
        return threadgroup_sum(part, partial, place);
    }
    LaneSum sum = lane_sum_of_none();
    Lanes shift = lanes_splat(-top), none = lanes_splat(-INFINITY);
    for (uint chunk = place.thread_index; chunk < experts / 16; chunk += place.threads) {
        Lanes x = lanes_max(lanes_load(logits + 16 * chunk), none);
        sum.block = lanes_add(sum.block, lanes_exp(lanes_add(x, shift)));
        lane_sum_count(sum);
    }
    for (uint i = experts / 16 * 16 + place.thread_index; i < experts; i += place.threads) part += share(logits[i], top);
    return threadgroup_sum(part + lane_sum_total(sum), partial, place);
}

// logits [rows, experts] → ids [rows, top_k] u32 by descending probability, weights [rows, top_k].
// scale [experts], with args.has_scale, multiplies the finished weights. counts [experts], with
// args.has_counts, adds up how often each expert was chosen. Where fewer than top_k logits are
// numbers, the rest are OB_NONE with weight 0; where none is above -inf, all are, and the row fails
// with `step`. One threadgroup a row.
template <typename W>
kernel void moe_routing(device const float *logits [[buffer(0)]], device const W *scale [[buffer(1)]],
                        device uint *ids [[buffer(2)]], device float *weights [[buffer(3)]],
                        device atomic_uint *counts [[buffer(4)]], device atomic_uint *status [[buffer(5)]],
                        constant RouteArgs &args [[buffer(6)]], uint3 at [[threadgroup_position_in_grid]],
                        OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    threadgroup uint partial_id[32];
    Place place = OB_PLACE;
    if (at.y >= args.rows) return;
    logits += ulong(at.y) * args.experts;
    ids += ulong(at.y) * args.top_k;
    weights += ulong(at.y) * args.top_k;

    // Every thread follows the whole selection; thread 0 writes it.
    float top = 0, last = INFINITY, total = 0;
    uint last_id = OB_NONE;  // as an int -1: everything comes after
    bool failed = false, exhausted = false;
    for (uint k = 0; k < args.top_k; k++) {
        uint id = exhausted ? OB_NONE : next_expert(logits, args.experts, last, last_id, partial, partial_id, place);
        exhausted = id == OB_NONE;
        float x = exhausted ? 0 : logits[id];
        if (k == 0) {
            top = x;
            failed = exhausted || x == -INFINITY;
        }
        exhausted = exhausted || failed;
        float weight = exhausted ? 0 : share(x, top);
        total += weight;
        last = x;
        last_id = id;
        if (place.thread_index == 0) {
            ids[k] = exhausted ? OB_NONE : id;
            weights[k] = weight;
            if (args.has_counts && !exhausted) atomic_fetch_add_explicit(&counts[id], 1u, memory_order_relaxed);
        }
    }
    if (!args.renormalise && !failed) total = total_share(logits, args.experts, top, partial, place);
    if (place.thread_index != 0) return;
    if (failed) fail_row(status, at.y, args.step);
    for (uint k = 0; k < args.top_k && !failed; k++) {
        float weight = weights[k] / total;
        weights[k] = args.has_scale && ids[k] != OB_NONE ? weight * float(scale[ids[k]]) : weight;
    }
}

template [[host_name("moe_routing_f32")]] kernel decltype(moe_routing<float>) moe_routing<float>;
template [[host_name("moe_routing_f16")]] kernel decltype(moe_routing<half>) moe_routing<half>;
template [[host_name("moe_routing_bf16")]] kernel decltype(moe_routing<bfloat>) moe_routing<bfloat>;
