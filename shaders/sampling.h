// The sampler's kernels share this code: the parts of a row, their statistics, and the draw.
//
// The size of the vocabulary alone decides how a row is split into parts. So a row's result does not depend on the
// other rows, on the threads or on the device.
#ifndef OB_SAMPLING_H
#define OB_SAMPLING_H

#include "args.h"
#include "philox.h"
#include "reduce.h"

METAL_FUNC uint parts_of(uint vocab) { return (vocab + OB_SAMPLE_PART - 1) / OB_SAMPLE_PART; }
METAL_FUNC uint blocks_of(uint vocab) { return (vocab + OB_SAMPLE_BLOCK - 1) / OB_SAMPLE_BLOCK; }
METAL_FUNC uint part_length(uint vocab, uint part) {
    return metal::min(uint(OB_SAMPLE_PART), vocab - part * OB_SAMPLE_PART);
}

METAL_FUNC bool adjusts(SamplePenalty p) {
    return p.biases != 0 || p.repetition != 1 || p.presence != 0 || p.frequency != 0;
}

// Returns 1 / temperature, kept finite so that 0 times it is 0.
METAL_FUNC float inverse_of(float temperature) { return metal::min(1.0f / temperature, FLT_MAX); }

// Returns the factor of (x - top) in log2 of a weight: weight = 2^((x - top) · scale_of(temperature)).
METAL_FUNC float scale_of(float temperature) { return metal::min(M_LOG2E_F * inverse_of(temperature), FLT_MAX); }

// Returns logits i to i + 15 of the n logits at x, with -inf from n on.
METAL_FUNC Lanes logits_at(device const float *x, uint i, uint n) {
    return n - i < 16 ? lanes_head(x + i, n - i) : lanes_load(x + i);
}

// Returns weights relative to the weight of `top`. NaN has weight 0. Where top is +inf, only +inf has a weight.
METAL_FUNC Lanes weights_of(Lanes x, float top, float scale) {
    if (top == INFINITY) return lanes_select(lanes_equal(x, lanes_splat(top)), lanes_splat(1), lanes_splat(0));
    return lanes_exp2_down(lanes_mul(lanes_shift(x, -top), lanes_splat(scale)));
}

// Returns the largest logit that is not NaN (-inf where there is none), and writes the largest logit of every block of
// OB_SAMPLE_BLOCK logits to `maxima`.
template <typename Maxima>
METAL_FUNC float largest_by_block(device const float *x, uint n, Maxima maxima, threadgroup float *partial,
                                  Place place) {
    float top = -INFINITY;
    for (uint block = place.thread_index; block < blocks_of(n); block += place.threads) {
        Lanes acc = lanes_splat(-INFINITY);
        uint end = metal::min(n, (block + 1) * OB_SAMPLE_BLOCK);
        for (uint i = block * OB_SAMPLE_BLOCK; i < end; i += 16) acc = lanes_max(logits_at(x, i, n), acc);
        maxima[block] = lanes_top(acc);
        top = metal::max(top, maxima[block]);
    }
    return threadgroup_max(top, partial, place);
}

// Whether powers of two of x · scale can be had from whole and fractional parts, and of -inf, too: the least x that counts,
// some -126 / scale, must be a number.
METAL_FUNC bool moderate(float x, float scale) { return metal::abs(x * scale) < 0x1p20f && scale > 0x1p-100f; }

METAL_FUNC float power_of(float x, float scale, float whole) {
    return lanes_at(lanes_power(lanes_splat(x), scale, whole), 0);
}

// Returns Σ exp2((x - top) · scale) over n logits.
METAL_FUNC float weight_sum(device const float *x, uint n, float top, float scale, threadgroup float *partial,
                            Place place) {
    if (top == -INFINITY) return 0;
    Lanes acc = lanes_splat(0);
    bool plain = moderate(top, scale);
    float whole = plain ? metal::rint(top * scale) : 0.0f;
    uint i = 16 * place.thread_index, full = n - n % 16;
    for (; plain && i < full; i += 16 * place.threads)
        acc = lanes_add(acc, lanes_power(lanes_load(x + i), scale, whole));
    for (; i < n; i += 16 * place.threads) {
        Lanes v = logits_at(x, i, n);
        acc = lanes_add(acc, plain ? lanes_power(v, scale, whole) : weights_of(v, top, scale));
    }
    float sum = threadgroup_sum(lanes_sum(acc), partial, place);
    return plain ? sum / power_of(top, scale, whole) : sum;
}

// Returns Σ exp(x - top) over n logits and finds `top` in the same pass. Weights are first relative to one of the first
// logits; where that guess is too far from `top`, the sum is computed again.
METAL_FUNC float top_and_sum(device const float *x, uint n, thread float &top, threadgroup float *partial,
                             Place place) {
    Lanes acc = lanes_splat(0), largest = lanes_splat(-INFINITY);
    float guess = lanes_top(lanes_max(logits_at(x, 0, n), largest));
    float whole = metal::abs(guess) < 0x1p19f ? metal::rint(guess * M_LOG2E_F) : 0.0f;
    uint i = 16 * place.thread_index, full = n - n % 16;
    for (; i < full; i += 16 * place.threads) {
        Lanes v = lanes_load(x + i);
        largest = lanes_max(v, largest);
        acc = lanes_add(acc, lanes_power(v, M_LOG2E_F, whole));
    }
    if (i < n) {
        Lanes v = lanes_head(x + i, n - i);
        largest = lanes_max(v, largest);
        acc = lanes_add(acc, lanes_power(v, M_LOG2E_F, whole));
    }
    top = threadgroup_max(lanes_top(largest), partial, place);
    if (!(metal::abs(top * M_LOG2E_F - whole) < 60)) return weight_sum(x, n, top, M_LOG2E_F, partial, place);
    return threadgroup_sum(lanes_sum(acc), partial, place) / power_of(top, M_LOG2E_F, whole);
}

// Returns the lowest index of `value` among n logits; OB_NONE where it does not occur.
METAL_FUNC uint first_of(device const float *x, uint n, float value, threadgroup uint *partial, Place place) {
    uint found = OB_NONE;
    for (uint i = 16 * place.thread_index; i < n && found == OB_NONE; i += 16 * place.threads) {
        LanesBits same = lanes_equal(logits_at(x, i, n), lanes_splat(value));
        if (!lanes_any(same)) continue;
        for (uint j = 16; j-- > 0;) found = lanes_bits_at(same, j) ? i + j : found;
    }
    return threadgroup_min(found, partial, place);
}

// Returns the statistics of a whole row, from those of its parts in order.
METAL_FUNC SampleStats total(device const SampleStats *stats, uint parts, float temperature) {
    SampleStats all = {-INFINITY, 0, 0};
    for (uint i = 0; i < parts; i++) all.top = metal::max(all.top, stats[i].top);
    float scale = temperature > 0 ? scale_of(temperature) : 0;
    for (uint i = 0; i < parts; i++) {
        if (stats[i].top == -INFINITY) continue;
        float below = stats[i].top == all.top ? 0.0f : stats[i].top - all.top;
        all.sum += stats[i].sum * metal::exp(below);
        all.mass += stats[i].mass * metal::exp2(below * scale);
    }
    return all;
}

// Returns the log-probability of the logit x.
METAL_FUNC float log_probability(float x, float top, float sum) {
    return (x == top ? 0.0f : x - top) - metal::log(sum);
}

METAL_FUNC LanesBits admitted(Lanes x, uint first, SampleLimit limit) {
    Lanes value = lanes_splat(limit.value);
    LanesBits tied = lanes_and(lanes_equal(x, value), lanes_less(lanes_range(first), lanes_bits(limit.end)));
    return lanes_xor(lanes_greater(x, value), tied);
}

// The Gumbel-max draw among n logits: the largest (x - top) / temperature + noise, the lower index on a tie. The first
// logit has index `first`, a multiple of 32. The noise of index i at `step` comes from word i % 4 of Philox's counter
// (i / 4, step, 0, 0). A block is skipped when it is below the limit, or when no noise could lift it above `reached` or
// above the best draw so far.
template <typename Maxima>
METAL_FUNC SampleDraw draw(device const float *x, uint first, uint n, float top, float temperature, metal::uint2 seed,
                           uint step, SampleLimit limit, float reached, Maxima maxima, threadgroup float *partial,
                           threadgroup uint *partial_id, Place place) {
    float inverse = inverse_of(temperature), scale = scale_of(temperature);
    bool limited = limit.value > -INFINITY;
    bool doubtful = reached > -INFINITY && metal::abs(top * scale) < 4096;
    auto keys = philox_keys(seed);
    Lanes best = lanes_splat(-INFINITY);
    LanesBits best_at = lanes_bits(OB_NONE);
    for (uint i = 32 * place.thread_index; i < n; i += 32 * place.threads) {
        float ceiling = maxima[i / OB_SAMPLE_BLOCK];
        if (!(ceiling > -INFINITY) || ceiling < limit.value) continue;
        if ((ceiling == top ? 0.0f : (ceiling - top) * inverse) + OB_GUMBEL_MAX < reached) continue;
        LanesBits bits[2];
        philox_lanes((first + i) / 4, step, keys, bits);
        if (doubtful && i + 32 <= n) {
            float offset = -M_LOG2E_F * reached - top * scale;
            LanesBits a = lanes_chance(bits[0], lanes_load(x + i), scale, offset);
            LanesBits b = lanes_chance(bits[1], lanes_load(x + i + 16), scale, offset);
            if (!lanes_any(lanes_or(a, b))) continue;
        }
        for (uint j = 0; j < 2 && i + 16 * j < n; j++) {
            uint at = i + 16 * j;
            Lanes v = logits_at(x, at, n);
            Lanes t = lanes_mul(lanes_shift(v, -top), lanes_splat(inverse));
            t = lanes_select(lanes_equal(v, lanes_splat(top)), lanes_splat(0), t);
            t = lanes_add(t, gumbel(bits[j]));
            LanesBits better = lanes_greater(t, best);
            if (limited) better = lanes_and(better, admitted(v, first + at, limit));
            best = lanes_select(better, t, best);
            best_at = lanes_select(better, lanes_bits(first + at), best_at);
        }
        reached = metal::max(reached, lanes_top(best));
    }
    SampleDraw drawn = {-INFINITY, OB_NONE};
    for (uint lane = 0; lane < 16; lane++) {
        float score = lanes_at(best, lane);
        uint id = lanes_bits_at(best_at, lane) + lane;
        if (score > drawn.score || (score == drawn.score && score > -INFINITY && id < drawn.id)) drawn = {score, id};
    }
    float winner = threadgroup_max(drawn.score, partial, place);
    drawn.id = threadgroup_min(drawn.score == winner ? drawn.id : uint(OB_NONE), partial_id, place);
    drawn.score = winner;
    return drawn;
}

#endif
