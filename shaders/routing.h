// The routing kernels share this code: the choice of the next expert, and the softmax. routing_simd.h has the same for
// experts that fit the registers of one simdgroup.
#ifndef OB_ROUTING_H
#define OB_ROUTING_H

#include "args.h"
#include "reduce.h"

// Each of sixteen columns keeps the best expert that it has met so far.
struct Best {
    float value[16];
    uint id[16];
};

// The order in which experts are chosen: the larger logit first, then the lower index. NaN is never chosen, because it
// comes neither before nor after any number.
METAL_FUNC bool after(float x, uint i, float last, uint last_id) {
    return (x < last) | ((x == last) & (int(i) > int(last_id)));
}

// Returns the best expert that comes after (last, last_id); OB_NONE where none is left. Every thread looks at sixteen
// experts at a time, one per column.
METAL_FUNC uint next_expert(device const float *logits, uint experts, float last, uint last_id,
                            threadgroup float *partial, threadgroup uint *partial_id, Place place) {
    Best best;
    for (uint c = 0; c < 16; c++) {
        best.value[c] = NAN;  // every number is better, because NaN >= x is false
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
    for (uint c = 0; c < 16; c++) id = best.value[c] == top ? metal::min(id, best.id[c]) : id;
    return threadgroup_min(id, partial_id, place);
}

// Returns exp(x - top). Where a logit is +inf, such logits take all the weight.
METAL_FUNC float share(float x, float top) {
    if (x != x) return 0;
    if (top == INFINITY) return x == INFINITY ? 1 : 0;
    return metal::exp(x - top);
}

// Returns Σ share over all experts.
METAL_FUNC float total_share(device const float *logits, uint experts, float top, threadgroup float *partial,
                             Place place) {
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
    for (uint i = experts / 16 * 16 + place.thread_index; i < experts; i += place.threads)
        part += share(logits[i], top);
    return threadgroup_sum(part + lane_sum_total(sum), partial, place);
}

#endif
