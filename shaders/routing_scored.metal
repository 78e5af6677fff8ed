// Routing by scores: the sigmoid of each logit or the softmax of all, corrected for choosing, experts in groups.
//
// DeepSeek-V3 (arXiv 2412.19437) and GLM-4-MoE: sigmoid, a correction, a group's two largest. DeepSeek-V2
// (arXiv 2405.04434): softmax, a group's largest.
#include "epilogue.h"
#include "routing.h"

using namespace metal;

// What renormalising adds to the sum that it divides by, as the originals do.
constant float NEAR_ZERO = 1e-20f;

// The score of group `group`: the largest of its scores, or the sum of the two largest. NaN is no score; without
// any, NaN.
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

// Whether fewer than args.top_groups groups come before `group`: those of larger scores, then of lower index.
METAL_FUNC bool chosen_group(device const float *of_groups, uint group, constant ScoreArgs &args) {
    float mine = of_groups[group];
    uint before = 0;
    for (uint i = 0; i < args.groups; i++) {
        float x = of_groups[i];
        before += (x > mine) | ((x == mine) & (i < group));
    }
    return mine == mine && before < args.top_groups;
}

// The largest logit of a row, in every thread; -inf where none is a number.
METAL_FUNC float largest(device const float *logits, uint experts, threadgroup float *partial, Place place) {
    float top = -INFINITY;
    for (uint i = place.thread_index; i < experts; i += place.threads) top = logits[i] > top ? logits[i] : top;
    return threadgroup_max(top, partial, place);
}

// Scores of a row without correction: 1 / (1 + exp(-x)), or its share of the softmax.
struct Scoring {
    float top, total;
    uint sigmoid;
};

METAL_FUNC float score_of(float x, Scoring scoring) {
    return scoring.sigmoid ? gated(1.0f, x) : share(x, scoring.top) / scoring.total;
}

// logits [rows, experts] → ids [rows, top_k] u32 by descending score, weights [rows, top_k]. correction [experts],
// where args say so, is added to scores for choosing, not for weights; one of -inf is never chosen. Experts are
// args.groups equal groups in order; only those of args.top_groups are chosen from. scores [rows, experts] and of_groups [rows, groups] are
// for the kernel's own use. counts, status and what is not a number: as for moe_routing. One threadgroup a row.
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
    uint last_id = OB_NONE;  // as an int -1: everything comes after
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
