// Routing by scores. A score is the sigmoid of a logit, or its share of the softmax. A correction may be added while
// experts are chosen, and experts may be chosen by groups.
//
// DeepSeek-V3 (arXiv 2412.19437) and GLM-4-MoE use the sigmoid, a correction, and the sum of a group's two largest
// scores. DeepSeek-V2 (arXiv 2405.04434) uses the softmax and a group's largest score.
#include "epilogue.h"
#include "routing.h"
#include "routing_simd.h"

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

// Where a row's results go, and its correction.
struct ScoredRoutes {
    device const ushort *correction;
    device uint *ids;
    device float *weights;
    device atomic_uint *counts, *status;
    uint row;
};

// Any number of experts and groups. `scores` and `of_groups` are scratch of this row.
METAL_FUNC void route_scored(device const float *logits, ScoredRoutes to, device float *scores,
                             device float *of_groups, constant ScoreArgs &args, threadgroup float *partial,
                             threadgroup uint *partial_id, Place place) {
    Scoring scoring = {largest(logits, args.experts, partial, place), 1, args.sigmoid};
    bool failed = scoring.top == -INFINITY;
    if (!args.sigmoid && !failed) scoring.total = total_share(logits, args.experts, scoring.top, partial, place);
    for (uint i = place.thread_index; i < args.experts; i += place.threads) {
        float x = logits[i];
        scores[i] = add_bias(x == x ? score_of(x, scoring) : x, to.correction, args.correction, i);
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
            to.ids[k] = exhausted ? OB_NONE : id;
            to.weights[k] = weight;
            if (args.has_counts && !exhausted) atomic_fetch_add_explicit(&to.counts[id], 1u, memory_order_relaxed);
        }
    }
    if (place.thread_index != 0) return;
    if (failed) fail_row(to.status, to.row, args.step);
    for (uint k = 0; k < args.top_k && !failed; k++) {
        to.weights[k] = (args.renormalise ? to.weights[k] / (total + NEAR_ZERO) : to.weights[k]) * args.scale;
    }
}

#ifndef __METAL_CPU__
// Keeps the experts of the args.top_groups best groups, of which there are at most OB_ROUTING_LANES. Lane g has the
// score of group g.
template <uint E>
METAL_FUNC void keep_groups(thread SimdExperts<E> &experts, constant ScoreArgs &args, uint lane) {
    uint size = args.experts / args.groups, group[E], mine = 0;
    OB_UNROLL
    for (uint e = 0; e < E; e++) group[e] = (lane + e * OB_ROUTING_LANES) / size;
    for (uint g = 0; g < args.groups; g++) {
        uint first = 0, second = 0;  // the largest of this lane's experts in the group
        OB_UNROLL
        for (uint e = 0; e < E; e++) {
            uint x = group[e] == g ? experts.order[e] : 0;
            second = max(second, min(first, x));
            first = max(first, x);
        }
        uint most = simd_max(first);
        uint holder = simd_min(first == most ? lane : OB_NONE);
        uint next = simd_max(lane == holder ? second : first);
        float score = number_of(most);
        if (args.top_two && next != 0) score += number_of(next);
        mine = lane == g ? order_of(score) : mine;
    }
    uint before = 0;
    for (uint g = 0; g < args.groups; g++) {
        uint x = simd_shuffle(mine, ushort(g));
        before += (x > mine) | ((x == mine) & (g < lane));
    }
    bool chosen = lane < args.groups && mine != 0 && before < args.top_groups;
    uint all = simd_or(chosen ? 1u << lane : 0u);
    OB_UNROLL
    for (uint e = 0; e < E; e++) experts.order[e] = all >> (group[e] % 32) & 1 ? experts.order[e] : 0;
}

// The same by one simdgroup, whose lanes keep E experts each. No scratch is used.
template <uint E>
METAL_FUNC void route_scored_simd(device const float *logits, ScoredRoutes to, constant ScoreArgs &args, Place place) {
    SimdExperts<E> experts;
    float score[E];
    Scoring scoring = {-INFINITY, 1, args.sigmoid};
    OB_UNROLL
    for (uint e = 0; e < E; e++) {
        uint i = place.lane + e * OB_ROUTING_LANES;
        score[e] = i < args.experts ? logits[i] : NAN;
        scoring.top = score[e] > scoring.top ? score[e] : scoring.top;
    }
    scoring.top = simd_max(scoring.top);
    bool failed = scoring.top == -INFINITY;
    if (!args.sigmoid && !failed) {
        float total = 0;
        OB_UNROLL
        for (uint e = 0; e < E; e++) total += share(score[e], scoring.top);
        scoring.total = simd_sum(total);
    }
    OB_UNROLL
    for (uint e = 0; e < E; e++) {
        uint i = min(place.lane + e * OB_ROUTING_LANES, args.experts - 1);
        score[e] = score[e] == score[e] ? score_of(score[e], scoring) : NAN;
        float corrected = add_bias(score[e], to.correction, args.correction, i);
        experts.order[e] = corrected > -FLT_MAX ? order_of(corrected) : 0;
    }
    if (args.groups > 1) keep_groups(experts, args, place.lane);
    Chosen chosen = experts.choose(failed ? 0 : args.top_k, place.lane);
    float weight[OB_ROUTING_SLOTS], total = 0;
    OB_UNROLL
    for (uint n = 0; n < OB_ROUTING_SLOTS; n++) {
        weight[n] = chosen.id[n] == OB_NONE ? 0 : score_of(logits[chosen.id[n]], scoring);
        total += weight[n];
    }
    total = args.renormalise ? simd_sum(total) + NEAR_ZERO : 1;
    OB_UNROLL
    for (uint n = 0; n < OB_ROUTING_SLOTS; n++) {
        uint k = place.lane + n * OB_ROUTING_LANES, id = chosen.id[n];
        if (k >= args.top_k) break;
        to.ids[k] = id;
        to.weights[k] = failed ? 0 : weight[n] / total * args.scale;
        if (args.has_counts && id != OB_NONE) atomic_fetch_add_explicit(&to.counts[id], 1u, memory_order_relaxed);
    }
    if (failed && place.lane == 0) fail_row(to.status, to.row, args.step);
}
#endif

// ids = the top_k largest score + correction among the experts of the args.top_groups best groups, largest first;
// weights = the scores of ids, renormalised or not, · args.scale.
// logits [rows, experts], correction [experts] (read where args says so), ids [rows, top_k] u32, weights [rows, top_k];
// scores [rows, experts] and of_groups [rows, groups] are scratch. One threadgroup per row, of one simdgroup.
// Step `scored_moe_routing`.
// The experts form args.groups equal groups, in order. A correction of -inf keeps its expert from being chosen. counts,
// status and NaN are as in moe_routing.
[[max_total_threads_per_threadgroup(OB_ROUTING_LANES)]] kernel void moe_routing_scored(
    device const float *logits [[buffer(0)]], device const ushort *correction [[buffer(1)]],
    device uint *ids [[buffer(2)]], device float *weights [[buffer(3)]], device float *scores [[buffer(4)]],
    device float *of_groups [[buffer(5)]], device atomic_uint *counts [[buffer(6)]],
    device atomic_uint *status [[buffer(7)]], constant ScoreArgs &args [[buffer(8)]],
    uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    threadgroup uint partial_id[32];
    Place place = OB_PLACE;
    if (at.y >= args.rows) return;
    logits += ulong(at.y) * args.experts;
    ulong first = ulong(at.y) * args.top_k;
    ScoredRoutes to = {correction, ids + first, weights + first, counts, status, at.y};
#ifndef __METAL_CPU__
    if (place.threads == OB_ROUTING_LANES && place.groups == 1 && args.groups <= OB_ROUTING_LANES) {
        if (args.experts <= 8 * OB_ROUTING_LANES) return route_scored_simd<8>(logits, to, args, place);
        if (args.experts <= 16 * OB_ROUTING_LANES) return route_scored_simd<16>(logits, to, args, place);
    }
#endif
    route_scored(logits, to, scores + ulong(at.y) * args.experts, of_groups + ulong(at.y) * args.groups, args, partial,
                 partial_id, place);
}
