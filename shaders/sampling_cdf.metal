// The inverse-CDF draw: the first token at which the sum of probabilities exceeds a given uniform number. Sums run over
// parts, then over blocks, then over single weights, so that none of them drifts.
#include "sampling.h"

using namespace metal;

// The place where a running sum passes `target`: the chosen entry, and the rest of the target within it. An entry
// without weight is never chosen. Where rounding leaves the target beyond the end, the last entry with weight is
// chosen.
struct Walk {
    float target;
    uint chosen;
    float left;
    bool passed;
};

METAL_FUNC Walk walk_to(float target) { return {target, OB_NONE, 0.0f, false}; }

METAL_FUNC void walk(thread Walk &w, uint step, float weight) {
    if (w.passed || !(weight > 0)) return;
    w.chosen = step;
    w.left = w.target;
    w.passed = w.target < weight;
    w.target -= weight;
}

// Returns the index of the token within a part. `target` is the rest of the target, in weights relative to `top`.
METAL_FUNC uint walk_part(device const float *x, uint n, float top, float scale, float target, threadgroup float *sums,
                          Place place) {
    for (uint block = place.thread_index; block < blocks_of(n); block += place.threads) {
        Lanes acc = lanes_splat(0);
        uint end = min(n, (block + 1) * OB_SAMPLE_BLOCK);
        for (uint i = block * OB_SAMPLE_BLOCK; i < end; i += 16)
            acc = lanes_add(acc, weights_of(logits_at(x, i, end), top, scale));
        sums[block] = lanes_sum(acc);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    Walk blocks = walk_to(target);
    for (uint block = 0; block < blocks_of(n); block++) walk(blocks, block, sums[block]);
    Walk tokens = walk_to(blocks.left);
    uint end = min(n, (blocks.chosen + 1) * OB_SAMPLE_BLOCK);
    for (uint i = blocks.chosen * OB_SAMPLE_BLOCK; i < end; i += 16) {
        Lanes weights = weights_of(logits_at(x, i, end), top, scale);
        for (uint lane = 0; lane < 16; lane++) walk(tokens, i + lane, lanes_at(weights, lane));
    }
    return tokens.chosen;
}

// result = the first token whose cumulative softmax(logits / temperature) exceeds `uniform`; the largest logit where
// temperature ≤ 0. logits [rows, vocab], uniform [rows] in [0, 1), stats [rows, parts] from logits_part, result [rows]
// as in `sample`. One threadgroup per row. Step `softmax_sample`.
kernel void softmax_pick(device const float *logits [[buffer(0)]], device const SampleStats *stats [[buffer(1)]],
                         device const float *temperature [[buffer(2)]], device const float *uniform [[buffer(3)]],
                         device const uint *status [[buffer(4)]], device SampleResult *result [[buffer(5)]],
                         constant SampleArgs &args [[buffer(6)]], uint3 at [[threadgroup_position_in_grid]],
                         OB_PLACE_PARAMETERS) {
    threadgroup float sums[OB_SAMPLE_PART / OB_SAMPLE_BLOCK];
    threadgroup uint partial_id[32];
    Place place = OB_PLACE;
    uint row = at.y, source = args.shared ? 0 : row, parts = parts_of(args.vocab);
    if (row >= args.rows) return;
    stats += ulong(source) * parts;
    device const float *x = logits + ulong(source) * args.vocab;
    float t = temperature[row], scale = t > 0 ? scale_of(t) : 0;
    SampleStats all = total(stats, parts, t);
    SampleResult out = {OB_NONE, as_type<float>(status[row] != 0 ? status[row] : args.step)};
    if (status[row] == 0 && all.top > -INFINITY) {
        Walk walked = walk_to(uniform[row] * all.mass);
        for (uint i = 0; i < parts; i++) {
            if (t > 0)
                walk(walked, i,
                     stats[i].top == all.top ? stats[i].mass : stats[i].mass * exp2((stats[i].top - all.top) * scale));
            if (!(t > 0) && walked.chosen == OB_NONE && stats[i].top == all.top) walked.chosen = i;
        }
        if (walked.chosen != OB_NONE) {
            uint first = walked.chosen * OB_SAMPLE_PART, n = part_length(args.vocab, walked.chosen);
            float top = stats[walked.chosen].top;
            float target = top == all.top ? walked.left : walked.left / exp2((top - all.top) * scale);
            uint token = t > 0 ? walk_part(x + first, n, top, scale, target, sums, place)
                               : first_of(x + first, n, all.top, partial_id, place);
            if (token < n) out = {first + token, log_probability(x[first + token], all.top, all.sum)};
        }
    }
    if (place.thread_index == 0) result[row] = out;
}
