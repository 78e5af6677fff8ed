// Routing: softmax over the experts, the top K of them, renormalised (Qwen3-MoE).
#include "args.h"
#include "reduce.h"

using namespace metal;

// The order in which experts are chosen: larger logit first, then lower index. NaN is never chosen.
METAL_FUNC bool before(float a, uint i, float b, uint j) { return a > b || (a == b && i < j); }

// The best expert of the threadgroup that comes after (last, last_id); OB_NONE where none is left.
METAL_FUNC uint next_expert(device const float *logits, uint experts, float last, uint last_id, threadgroup float *partial,
                            threadgroup uint *partial_id, Place place) {
    float best = -INFINITY;
    uint best_id = OB_NONE;
    for (uint i = place.thread_index; i < experts; i += place.threads) {
        float x = logits[i];
        bool left = last_id == OB_NONE || before(last, last_id, x, i);
        if (left && x == x && (best_id == OB_NONE || before(x, i, best, best_id))) {
            best = x;
            best_id = i;
        }
    }
    float top = threadgroup_max(best, partial, place);
    return threadgroup_min(best == top ? best_id : OB_NONE, partial_id, place);
}

// exp(x - top), with +inf taking all the weight where it occurs.
METAL_FUNC float share(float x, float top) {
    if (x != x) return 0;
    if (top == INFINITY) return x == INFINITY ? 1 : 0;
    return exp(x - top);
}

// logits [rows, experts] → ids [rows, top_k] u32 by descending probability, weights [rows, top_k].
// counts [experts] adds up how often each was chosen. Where fewer than top_k logits are numbers, the
// rest are OB_NONE with weight 0; where none is above -inf, all are, and the row fails with `step`.
// One threadgroup a row.
kernel void softmax_topk(device const float *logits [[buffer(0)]], device uint *ids [[buffer(1)]],
                         device float *weights [[buffer(2)]], device atomic_uint *counts [[buffer(3)]],
                         device atomic_uint *status [[buffer(4)]], constant RouteArgs &args [[buffer(5)]],
                         uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    threadgroup uint partial_id[32];
    Place place = OB_PLACE;
    if (at.y >= args.rows) return;
    logits += ulong(at.y) * args.experts;
    ids += ulong(at.y) * args.top_k;
    weights += ulong(at.y) * args.top_k;

    // Every thread follows the whole selection; thread 0 writes it.
    float top = 0, last = 0, total = 0;
    uint last_id = OB_NONE;
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
            if (!exhausted) atomic_fetch_add_explicit(&counts[id], 1u, memory_order_relaxed);
        }
    }
    if (!args.renormalise && !failed) {
        float part = 0;
        for (uint i = place.thread_index; i < args.experts; i += place.threads) part += share(logits[i], top);
        total = threadgroup_sum(part, partial, place);
    }
    if (place.thread_index != 0) return;
    if (failed) fail_row(status, at.y, args.step);
    for (uint k = 0; k < args.top_k && !failed; k++) weights[k] /= total;
}
