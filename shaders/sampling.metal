// From vocabulary logits to a token and its log-probability, 8 bytes per row: the largest logit, or a Gumbel-max draw.
// logits_penalty.metal changes logits first; sampling_filter.metal limits the tokens that may be drawn.
#include "sampling.h"

using namespace metal;

METAL_FUNC SampleLimit no_limit() { return {-INFINITY, OB_NONE}; }

// Writes the row's 8 bytes. With args.advance, the token and the next position become the next run's input.
METAL_FUNC void deliver(SampleResult out, uint row, device uint *tokens, device uint *positions,
                        device SampleResult *result, constant SampleArgs &args) {
    result[row] = out;
    if (!args.advance) return;
    tokens[row] = out.token;
    positions[row] += 1;
}

// Whether a row with this largest logit has a token to choose. `raw` is the largest logit before penalties.
METAL_FUNC bool chooses(float top, float raw, constant SampleArgs &args) {
    return top != -INFINITY && !(args.finite && raw == INFINITY);
}

// Returns the token that the row is given, which it need not choose; OB_NONE where it has none.
METAL_FUNC uint given_to(uint row, device const uint *given, constant SampleArgs &args) {
    return args.given ? given[row] : uint(OB_NONE);
}

METAL_FUNC SampleResult failure(uint step) { return {OB_NONE, as_type<float>(step)}; }

// result = argmax(logits) where temperature ≤ 0, else argmax((logits - top) / temperature + noise); and its
// log-probability under softmax(logits). The lower index wins a tie.
// logits [rows, vocab], temperature [rows], seeds [rows], given [rows], result [rows]. One threadgroup per row, for
// vocabularies of one part. Step `sample`.
// With args.given, a row whose `given` is no OB_NONE gives that token, whatever the draw would be.
// A row with a failed step, or with no logit above -inf, gives OB_NONE and the number of the step; with args.finite, so
// does one with a logit of +inf.
kernel void sample(device const float *logits [[buffer(0)]], device const float *temperature [[buffer(1)]],
                   device const uint2 *seeds [[buffer(2)]], device const uint *given [[buffer(3)]],
                   device const uint *status [[buffer(4)]], device uint *tokens [[buffer(5)]],
                   device uint *positions [[buffer(6)]], device SampleResult *result [[buffer(7)]],
                   constant SampleArgs &args [[buffer(8)]], uint3 at [[threadgroup_position_in_grid]],
                   OB_PLACE_PARAMETERS) {
    threadgroup float partial[32], maxima[OB_SAMPLE_PART / OB_SAMPLE_BLOCK];
    threadgroup uint partial_id[32];
    Place place = OB_PLACE;
    uint row = at.y;
    if (row >= args.rows) return;
    device const float *x = logits + (args.shared ? 0 : ulong(row) * args.vocab);
    float t = temperature[row];
    float top, sum;
    if (t > 0) {
        top = largest_by_block(x, args.vocab, maxima, partial, place);
        sum = weight_sum(x, args.vocab, top, M_LOG2E_F, partial, place);
        threadgroup_barrier(mem_flags::mem_threadgroup);  // other threads read the maxima
    } else {
        sum = top_and_sum(x, args.vocab, top, partial, place);
    }
    SampleResult out = failure(status[row] != 0 ? status[row] : args.step);
    if (status[row] == 0 && chooses(top, top, args)) {
        uint token = given_to(row, given, args);
        if (token == OB_NONE)
            token = t > 0 ? draw(x, 0, args.vocab, top, t, seeds[row], positions[row], no_limit(), -OB_GUMBEL_LEAST,
                                 maxima, partial, partial_id, place)
                                .id
                          : first_of(x, args.vocab, top, partial_id, place);
        if (token < args.vocab) out = {token, log_probability(x[token], top, sum)};
    }
    threadgroup_barrier(mem_flags::mem_device);  // every thread has read its position
    if (place.thread_index == 0) deliver(out, row, tokens, positions, result, args);
}

// stats[row, part] = the statistics of one part of a row; draws[row, part] = its draw, with scores relative to the
// part's largest logit. logits [rows, vocab]; stats, draws [rows, parts]. Grid: parts × rows. Step `sample`, for larger
// vocabularies; sample_merge follows.
kernel void sample_part(device const float *logits [[buffer(0)]], device const float *temperature [[buffer(1)]],
                        device const uint2 *seeds [[buffer(2)]], device const uint *positions [[buffer(3)]],
                        device SampleStats *stats [[buffer(4)]], device SampleDraw *draws [[buffer(5)]],
                        constant SampleArgs &args [[buffer(6)]], uint3 at [[threadgroup_position_in_grid]],
                        OB_PLACE_PARAMETERS) {
    threadgroup float partial[32], maxima[OB_SAMPLE_PART / OB_SAMPLE_BLOCK];
    threadgroup uint partial_id[32];
    Place place = OB_PLACE;
    uint row = at.y, first = at.x * OB_SAMPLE_PART, n = part_length(args.vocab, at.x);
    if (row >= args.rows) return;
    device const float *x = logits + (args.shared ? 0 : ulong(row) * args.vocab) + first;
    float t = temperature[row];
    float top, sum;
    if (t > 0) {
        top = largest_by_block(x, n, maxima, partial, place);
        sum = weight_sum(x, n, top, M_LOG2E_F, partial, place);
        threadgroup_barrier(mem_flags::mem_threadgroup);  // other threads read the maxima
    } else {
        sum = top_and_sum(x, n, top, partial, place);
    }
    SampleDraw drawn = {-INFINITY, OB_NONE};
    if (t > 0)
        drawn = draw(x, first, n, top, t, seeds[row], positions[row], no_limit(), -OB_GUMBEL_LEAST, maxima, partial,
                     partial_id, place);
    if (place.thread_index != 0) return;
    stats[ulong(row) * parts_of(args.vocab) + at.x] = {top, sum, sum};
    draws[ulong(row) * parts_of(args.vocab) + at.x] = drawn;
}

// stats[row, part] = the statistics of a part; maxima[row, block] = the largest logit of a block.
// logits [rows, vocab], stats [rows, parts], maxima [rows, blocks]. Grid: parts × rows. Steps `sample` and
// `softmax_sample`. With args.adjusted, only rows with penalties are computed.
kernel void logits_part(device const float *logits [[buffer(0)]], device const float *temperature [[buffer(1)]],
                        device const SampleFilter *filters [[buffer(2)]],
                        device const SamplePenalty *penalties [[buffer(3)]], device SampleStats *stats [[buffer(4)]],
                        device float *maxima [[buffer(5)]], constant SampleArgs &args [[buffer(6)]],
                        uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    Place place = OB_PLACE;
    uint row = at.y, first = at.x * OB_SAMPLE_PART, n = part_length(args.vocab, at.x);
    if (row >= args.rows || (args.shared && row != 0)) return;
    if (args.adjusted && !adjusts(penalties[row])) return;
    device const float *x = logits + ulong(row) * args.vocab + first;
    float t = temperature[row];
    float top =
        largest_by_block(x, n, maxima + ulong(row) * blocks_of(args.vocab) + first / OB_SAMPLE_BLOCK, partial, place);
    float sum = weight_sum(x, n, top, M_LOG2E_F, partial, place), mass = sum;
    bool needed = args.tempered == 2 || (args.tempered == 1 && filters[row].top_p < 1 &&
                                         (filters[row].top_k == 0 || filters[row].top_k >= args.vocab));
    if (needed && t > 0 && t != 1) mass = weight_sum(x, n, top, scale_of(t), partial, place);
    if (place.thread_index == 0) stats[ulong(row) * parts_of(args.vocab) + at.x] = {top, sum, mass};
}

// draws[row, part] = the Gumbel-max draw of a part among the tokens within the row's limit.
// logits, adjusted [rows, vocab]; stats [rows, parts] and maxima [rows, blocks] from logits_part; limits [rows];
// draws [rows, parts]. Grid: parts × rows. Step `sample`.
kernel void draw_part(device const float *logits [[buffer(0)]], device const float *adjusted [[buffer(1)]],
                      device const SamplePenalty *penalties [[buffer(2)]],
                      device const SampleStats *stats [[buffer(3)]], device const float *maxima [[buffer(4)]],
                      device const SampleLimit *limits [[buffer(5)]], device const float *temperature [[buffer(6)]],
                      device const uint2 *seeds [[buffer(7)]], device const uint *positions [[buffer(8)]],
                      device SampleDraw *draws [[buffer(9)]], constant SampleArgs &args [[buffer(10)]],
                      uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    threadgroup uint partial_id[32];
    Place place = OB_PLACE;
    uint row = at.y, first = at.x * OB_SAMPLE_PART, n = part_length(args.vocab, at.x), source = args.shared ? 0 : row;
    if (row >= args.rows || !(temperature[row] > 0)) return;
    device const float *x =
        (args.adjusted && adjusts(penalties[row]) ? adjusted : logits) + ulong(source) * args.vocab + first;
    uint parts = parts_of(args.vocab);
    stats += ulong(source) * parts;
    float t = temperature[row], top = stats[at.x].top, largest = top;
    for (uint i = 0; i < parts; i++) largest = max(largest, stats[i].top);
    SampleLimit limit = args.filtered ? limits[row] : no_limit();
    SampleDraw drawn = {-INFINITY, OB_NONE};
    if (top > -INFINITY && top >= limit.value) {
        // The row's largest logit has at least this score, and it may be drawn in any case.
        float reached = (top == largest ? 0.0f : (largest - top) * inverse_of(t)) - OB_GUMBEL_LEAST;
        if (largest <= limit.value) reached = -INFINITY;
        drawn =
            draw(x, first, n, top, t, seeds[row], positions[row], limit, reached,
                 maxima + ulong(source) * blocks_of(args.vocab) + first / OB_SAMPLE_BLOCK, partial, partial_id, place);
    }
    if (place.thread_index == 0) draws[ulong(row) * parts + at.x] = drawn;
}

// Returns the token with the largest score among the parts' draws. A part's score is relative to its largest logit.
METAL_FUNC uint best_draw(device const SampleStats *stats, device const SampleDraw *draws, uint parts, float top,
                          float temperature) {
    SampleDraw best = {-INFINITY, OB_NONE};
    for (uint i = 0; i < parts; i++) {
        if (draws[i].id == OB_NONE) continue;
        float below = stats[i].top == top ? 0.0f : (stats[i].top - top) * inverse_of(temperature);
        if (draws[i].score + below > best.score) best = {draws[i].score + below, draws[i].id};
    }
    return best.id;
}

// result[row] = the best draw of the row's parts, or its largest logit, with its log-probability, as in `sample`.
// stats, draws [rows, parts]; totals [rows]: the statistics of the unchanged logits, for rows with penalties;
// given, result [rows]. One threadgroup per row. Step `sample`.
kernel void sample_merge(device const float *logits [[buffer(0)]], device const float *adjusted [[buffer(1)]],
                         device const SamplePenalty *penalties [[buffer(2)]],
                         device const SampleStats *totals [[buffer(3)]], device const SampleStats *stats [[buffer(4)]],
                         device const SampleDraw *draws [[buffer(5)]], device const float *temperature [[buffer(6)]],
                         device const uint *given [[buffer(7)]], device const uint *status [[buffer(8)]],
                         device uint *tokens [[buffer(9)]], device uint *positions [[buffer(10)]],
                         device SampleResult *result [[buffer(11)]], constant SampleArgs &args [[buffer(12)]],
                         uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup uint partial_id[32];
    Place place = OB_PLACE;
    uint row = at.y, source = args.shared ? 0 : row, parts = parts_of(args.vocab);
    if (row >= args.rows) return;
    stats += ulong(source) * parts;
    draws += ulong(row) * parts;
    float t = temperature[row];
    bool changed = args.adjusted && adjusts(penalties[row]);
    device const float *raw = logits + ulong(source) * args.vocab,
                       *x = changed ? adjusted + ulong(row) * args.vocab : raw;
    SampleStats all = total(stats, parts, 1);
    SampleResult out = failure(status[row] != 0 ? status[row] : args.step);
    if (status[row] == 0 && chooses(all.top, changed ? totals[row].top : all.top, args)) {
        uint token = given_to(row, given, args);
        if (token == OB_NONE && t > 0) {
            token = best_draw(stats, draws, parts, all.top, t);
        } else if (token == OB_NONE) {
            uint part = 0;
            while (part + 1 < parts && stats[part].top != all.top) part++;
            uint first = part * OB_SAMPLE_PART;
            token = first + first_of(x + first, part_length(args.vocab, part), all.top, partial_id, place);
        }
        if (changed) all = totals[row];
        if (token < args.vocab) out = {token, log_probability(raw[token], all.top, all.sum)};
    }
    if (place.thread_index == 0) deliver(out, row, tokens, positions, result, args);
}
