// The routing of SparseMixer (Liu et al. 2024), which Phi-3.5-MoE has: the two largest logits, each with its share among
// those that are near it.
#include "routing.h"

using namespace metal;

// Returns the share of the logit `top` among those of experts other than `left_out`, without those for which
// (top - x) / max(|x|, top) is above args.scale.
METAL_FUNC float share_of_near(device const float *logits, float top, uint left_out, constant RouteArgs &args,
                               threadgroup float *partial, Place place) {
    float total = 0;
    for (uint i = place.thread_index; i < args.experts; i += place.threads) {
        float x = logits[i];
        if (i == left_out || (top - x) / max(abs(x), top) > args.scale) continue;
        total += share(x, top);
    }
    return 1 / threadgroup_sum(total, partial, place);
}

// ids = the two largest logits, the larger one first; weights: the share of each among the logits that are near it, for
// the second one without the first.
// logits [rows, experts], ids [rows, 2] u32, weights [rows, 2], counts [experts] (with args.has_counts: how often each
// expert was chosen). args.scale is the distance, relative to the logits, up to which one is near another. One
// threadgroup per row, of one simdgroup. Step `mixer_routing`.
// A logit that is NaN is never chosen; an id that is missing is OB_NONE, with weight 0. Where no logit is above -inf, the
// row fails with `step`.
[[max_total_threads_per_threadgroup(OB_ROUTING_LANES)]] kernel void moe_routing_mixer(
    device const float *logits [[buffer(0)]], device uint *ids [[buffer(1)]], device float *weights [[buffer(2)]],
    device atomic_uint *counts [[buffer(3)]], device atomic_uint *status [[buffer(4)]],
    constant RouteArgs &args [[buffer(5)]], uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    threadgroup uint partial_id[32];
    Place place = OB_PLACE;
    if (at.y >= args.rows) return;
    logits += ulong(at.y) * args.experts;
    uint first = OB_NONE;
    float last = INFINITY;
    bool failed = false;
    for (uint k = 0; k < 2; k++) {
        uint id = failed ? OB_NONE : next_expert(logits, args.experts, last, first, partial, partial_id, place);
        float x = id == OB_NONE ? -INFINITY : logits[id], weight = 0;
        if (k == 0) failed = x == -INFINITY;
        if (x == -INFINITY) id = OB_NONE;
        if (id != OB_NONE) weight = share_of_near(logits, x, first, args, partial, place);
        if (place.thread_index == 0) {
            ids[2 * at.y + k] = id;
            weights[2 * at.y + k] = weight;
            if (args.has_counts && id != OB_NONE) atomic_fetch_add_explicit(&counts[id], 1u, memory_order_relaxed);
        }
        first = id;
        last = x;
    }
    if (failed && place.thread_index == 0) fail_row(status, at.y, args.step);
}
