// Routing: from router logits to the K experts of a row and their weights.
//
// Softmax over all experts; the K largest are kept. Their weights are renormalised over the K (Qwen3-MoE) or not
// (norm_topk_prob = false), then scaled per expert (Gemma 4). Softmax over the top K alone (gpt-oss) is the
// renormalised form, because the exponentials of the other experts cancel. routing_scored.metal has the other forms.
#include "routing.h"
#include "routing_simd.h"

using namespace metal;

// Where a row's results go.
template <typename W>
struct Routes {
    device const W *scale;
    device uint *ids;
    device float *weights;
    device atomic_uint *counts, *status;
    uint row;
};

// Any number of experts, whose logits stay in device memory.
template <typename W>
METAL_FUNC void route(device const float *logits, Routes<W> to, constant RouteArgs &args, threadgroup float *partial,
                      threadgroup uint *partial_id, Place place) {
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
            to.ids[k] = exhausted ? OB_NONE : id;
            to.weights[k] = weight;
            if (args.has_counts && !exhausted) atomic_fetch_add_explicit(&to.counts[id], 1u, memory_order_relaxed);
        }
    }
    if (!args.renormalise && !failed) total = total_share(logits, args.experts, top, partial, place);
    if (place.thread_index != 0) return;
    if (failed) fail_row(to.status, to.row, args.step);
    for (uint k = 0; k < args.top_k && !failed; k++) {
        float weight = to.weights[k] / total * args.scale;
        to.weights[k] = args.has_scale && to.ids[k] != OB_NONE ? weight * float(to.scale[to.ids[k]]) : weight;
    }
}

#ifndef __METAL_CPU__
// The same by one simdgroup, whose lanes keep E logits each.
template <uint E, typename W>
METAL_FUNC void route_simd(device const float *logits, Routes<W> to, constant RouteArgs &args, Place place) {
    SimdExperts<E> experts;
    float x[E];
    OB_UNROLL
    for (uint e = 0; e < E; e++) {
        uint i = place.lane + e * OB_ROUTING_LANES;
        x[e] = i < args.experts ? logits[i] : NAN;
    }
    OB_UNROLL
    for (uint e = 0; e < E; e++) experts.order[e] = order_of(x[e]);
    uint best = experts.top();
    bool failed = best <= order_of(-INFINITY);
    float top = number_of(best), total = 0;
    if (!args.renormalise) {
        OB_UNROLL
        for (uint e = 0; e < E; e++) total += share(x[e], top);
        total = simd_sum(total);
    }
    Chosen chosen = experts.choose(failed ? 0 : args.top_k, place.lane);
    float weight[OB_ROUTING_SLOTS], sum = 0;
    OB_UNROLL
    for (uint n = 0; n < OB_ROUTING_SLOTS; n++) {
        weight[n] = chosen.id[n] == OB_NONE ? 0 : share(number_of(chosen.order[n]), top);
        sum += weight[n];
    }
    if (args.renormalise) total = simd_sum(sum);
    OB_UNROLL
    for (uint n = 0; n < OB_ROUTING_SLOTS; n++) {
        uint k = place.lane + n * OB_ROUTING_LANES, id = chosen.id[n];
        if (k >= args.top_k) break;
        float scaled = failed ? 0 : weight[n] / total * args.scale;
        if (args.has_scale && id != OB_NONE) scaled *= float(to.scale[id]);
        to.ids[k] = id;
        to.weights[k] = scaled;
        if (args.has_counts && id != OB_NONE) atomic_fetch_add_explicit(&to.counts[id], 1u, memory_order_relaxed);
    }
    if (failed && place.lane == 0) fail_row(to.status, to.row, args.step);
}
#endif

// ids = the top_k largest logits, largest first; weights = softmax(logits)[ids], renormalised or not, · scale.
// logits [rows, experts], ids [rows, top_k] u32, weights [rows, top_k], scale [experts] (read with args.has_scale),
// counts [experts] (with args.has_counts: how often each expert was chosen). One threadgroup per row, of one simdgroup.
// Step `fused_moe_routing`.
// Where fewer than top_k logits are numbers, the other ids are OB_NONE with weight 0. Where no logit is above -inf, all
// ids are, and the row fails with `step`.
template <typename W>
[[max_total_threads_per_threadgroup(OB_ROUTING_LANES)]] kernel void moe_routing(
    device const float *logits [[buffer(0)]], device const W *scale [[buffer(1)]], device uint *ids [[buffer(2)]],
    device float *weights [[buffer(3)]], device atomic_uint *counts [[buffer(4)]],
    device atomic_uint *status [[buffer(5)]], constant RouteArgs &args [[buffer(6)]],
    uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    threadgroup uint partial_id[32];
    Place place = OB_PLACE;
    if (at.y >= args.rows) return;
    logits += ulong(at.y) * args.experts;
    ulong first = ulong(at.y) * args.top_k;
    Routes<W> to = {scale, ids + first, weights + first, counts, status, at.y};
#ifndef __METAL_CPU__
    if (place.threads == OB_ROUTING_LANES && place.groups == 1) {
        if (args.experts <= 4 * OB_ROUTING_LANES) return route_simd<4>(logits, to, args, place);
        if (args.experts <= 16 * OB_ROUTING_LANES) return route_simd<16>(logits, to, args, place);
    }
#endif
    route(logits, to, args, partial, partial_id, place);
}

template [[host_name("moe_routing_f32")]] kernel decltype(moe_routing<float>) moe_routing<float>;
template [[host_name("moe_routing_f16")]] kernel decltype(moe_routing<half>) moe_routing<half>;
template [[host_name("moe_routing_bf16")]] kernel decltype(moe_routing<bfloat>) moe_routing<bfloat>;
