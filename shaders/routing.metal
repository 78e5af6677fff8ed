// Routing: from router logits to the K experts of a row and their weights.
//
// Softmax over all experts; the K largest are kept. Their weights are renormalised over the K (Qwen3-MoE) or not
// (norm_topk_prob = false), then scaled per expert (Gemma 4). Softmax over the top K alone (gpt-oss) is the
// renormalised form, because the exponentials of the other experts cancel. routing_scored.metal has the other forms.
#include "routing.h"

using namespace metal;

// ids = the top_k largest logits, largest first; weights = softmax(logits)[ids], renormalised or not, · scale.
// logits [rows, experts], ids [rows, top_k] u32, weights [rows, top_k], scale [experts] (read with args.has_scale),
// counts [experts] (with args.has_counts: how often each expert was chosen). One threadgroup per row.
// Step `fused_moe_routing`.
// Where fewer than top_k logits are numbers, the other ids are OB_NONE with weight 0. Where no logit is above -inf, all
// ids are, and the row fails with `step`.
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
    uint last_id = OB_NONE;  // -1 as an int: every expert comes after it
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
        float weight = weights[k] / total * args.scale;
        weights[k] = args.has_scale && ids[k] != OB_NONE ? weight * float(scale[ids[k]]) : weight;
    }
}

template [[host_name("moe_routing_f32")]] kernel decltype(moe_routing<float>) moe_routing<float>;
template [[host_name("moe_routing_f16")]] kernel decltype(moe_routing<half>) moe_routing<half>;
template [[host_name("moe_routing_bf16")]] kernel decltype(moe_routing<bfloat>) moe_routing<bfloat>;
