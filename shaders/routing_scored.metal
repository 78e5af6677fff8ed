// Routing by scores. A score is the sigmoid of a logit, or its share of the softmax. A correction may be added while
// experts are chosen, and experts may be chosen by groups.
//
// DeepSeek-V3 (arXiv 2412.19437) and GLM-4-MoE use the sigmoid, a correction, and the sum of a group's two largest
// scores. DeepSeek-V2 (arXiv 2405.04434) uses the softmax and a group's largest score.
#include "epilogue.h"
#include "routing.h"

using namespace metal;

// Renormalising adds this to the sum that it divides by, as the original implementations do.
constant float NEAR_ZERO = 1e-20f;

// Returns the score of a group: its largest score, or the sum of its two largest. NaN is skipped; a group without any
// other score has NaN.
METAL_FUNC float group_score(device const float *scores, uint group, uint size, bool top_two) {
    float first = NAN, second = NAN;
    for (uint i = group * size; i < (group + 1) * size; i++) {
        float x = scores[i];
        bool larger = x == x && !(first >= x);
        float other = larger ? first : x;
        first = larger ? x : first;
        second = other == other && !(second >= other) ? other : second;
    }
    return top_two && second == second ? first + second : first;
}

// Returns whether fewer than args.top_groups groups come before `group`. A larger score comes first, then the lower
// index.
METAL_FUNC bool chosen_group(device const float *of_groups, uint group, constant ScoreArgs &args) {
    float mine = of_groups[group];
    uint before = 0;
    for (uint i = 0; i < args.groups; i++) {
        float x = of_groups[i];
        before += (x > mine) | ((x == mine) & (i < group));
    }
    return mine == mine && before < args.top_groups;
}

// Returns the largest logit of a row, in every thread; -inf where none is a number.
METAL_FUNC float largest(device const float *logits, uint experts, threadgroup float *partial, Place place) {
    float top = -INFINITY;
    for (uint i = place.thread_index; i < experts; i += place.threads) top = logits[i] > top ? logits[i] : top;
    return threadgroup_max(top, partial, place);
}

// The scores of a row before the correction: 1 / (1 + exp(-x)), or x's share of the softmax.
struct Scoring {
    float top, total;
    uint sigmoid;
};

METAL_FUNC float score_of(float x, Scoring scoring) {
    return scoring.sigmoid ? gated(1.0f, x) : share(x, scoring.top) / scoring.total;
}

// ids = the top_k largest score + correction among the experts of the args.top_groups best groups, largest first;
// weights = the scores of ids, renormalised or not, · args.scale.
// logits [rows, experts], correction [experts] (read where args says so), ids [rows, top_k] u32, weights [rows, top_k];
// scores [rows, experts] and of_groups [rows, groups] are scratch. One threadgroup per row. Step `scored_moe_routing`.
// The experts form args.groups equal groups, in order. A correction of -inf keeps its expert from being chosen. counts,
// status and NaN are as in moe_routing.
kernel void moe_routing_scored(device const float *logits [[buffer(0)]], device const ushort *correction [[buffer(1)]],
                               device uint *ids [[buffer(2)]], device float *weights [[buffer(3)]],
                               device float *scores [[buffer(4)]], device float *of_groups [[buffer(5)]],
                               device atomic_uint *counts [[buffer(6)]], device atomic_uint *status [[buffer(7)]],
                               constant ScoreArgs &args [[buffer(8)]], uint3 at [[threadgroup_position_in_grid]],
                               OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    threadgroup uint partial_id[32];
    Place place = OB_PLACE;
    if (at.y >= args.rows) return;
    logits += ulong(at.y) * args.experts;
    scores += ulong(at.y) * args.experts;
    of_groups += ulong(at.y) * args.groups;
    ids += ulong(at.y) * args.top_k;
    weights += ulong(at.y) * args.top_k;

    Scoring scoring = {largest(logits, args.experts, partial, place), 1, args.sigmoid};
    bool failed = scoring.top == -INFINITY;
    if (!args.sigmoid && !failed) scoring.total = total_share(logits, args.experts, scoring.top, partial, place);
    for (uint i = place.thread_index; i < args.experts; i += place.threads) {
        float x = logits[i];
        scores[i] = add_bias(x == x ? score_of(x, scoring) : x, correction, args.correction, i);
    }
    threadgroup_barrier(mem_flags::mem_device);
    if (args.groups > 1) {
        uint size = args.experts / args.groups;
        for (uint g = place.thread_index; g < args.groups; g += place.threads) {
            of_groups[g] = group_score(scores, g, size, args.top_two);
        }
        threadgroup_barrier(mem_flags::mem_device);
        for (uint i = place.thread_index; i < args.experts; i += place.threads) {
            if (!chosen_group(of_groups, i / size, args)) scores[i] = -FLT_MAX;
        }
        threadgroup_barrier(mem_flags::mem_device);
    }

    // Every thread follows the whole selection; thread 0 writes it.
    float last = INFINITY, total = 0;
    uint last_id = OB_NONE;  // -1 as an int: every expert comes after it
    bool exhausted = failed;
    for (uint k = 0; k < args.top_k; k++) {
        uint id = exhausted ? OB_NONE : next_expert(scores, args.experts, last, last_id, partial, partial_id, place);
        exhausted = id == OB_NONE || scores[id] <= -FLT_MAX;
        float weight = exhausted ? 0 : score_of(logits[id], scoring);
        total += weight;
        last = exhausted ? last : scores[id];
        last_id = id;
        if (place.thread_index == 0) {
            ids[k] = exhausted ? OB_NONE : id;
            weights[k] = weight;
            if (args.has_counts && !exhausted) atomic_fetch_add_explicit(&counts[id], 1u, memory_order_relaxed);
        }
    }
    if (place.thread_index != 0) return;
    if (failed) fail_row(status, at.y, args.step);
    for (uint k = 0; k < args.top_k && !failed; k++) {
        weights[k] = (args.renormalise ? weights[k] / (total + NEAR_ZERO) : weights[k]) * args.scale;
    }
}
