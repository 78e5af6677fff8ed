// From vocabulary logits to a token and its log-probability, 8 bytes a row.
#include "args.h"
#include "philox.h"
#include "reduce.h"

using namespace metal;

// The largest logit that is not NaN; -inf where there is none.
METAL_FUNC float largest(device const float *x, uint n, threadgroup float *partial, Place place) {
    Lanes acc = lanes_splat(-INFINITY);
    for (uint chunk = place.thread_index; chunk < n / 16; chunk += place.threads) {
        acc = lanes_max(lanes_load(x + 16 * chunk), acc);
    }
    float top = lanes_top(acc);
    for (uint i = n / 16 * 16 + place.thread_index; i < n; i += place.threads) top = x[i] > top ? x[i] : top;
    return threadgroup_max(top, partial, place);
}

// Σ exp(x - top) over what is not NaN; where top is +inf, how many are.
METAL_FUNC float exp_sum(device const float *x, uint n, float top, threadgroup float *partial, Place place) {
    float sum = 0;
    if (top == INFINITY) {
        for (uint i = place.thread_index; i < n; i += place.threads) sum += x[i] == INFINITY ? 1.0f : 0.0f;
        return threadgroup_sum(sum, partial, place);
    }
    Lanes acc = lanes_splat(0), none = lanes_splat(-INFINITY), shift = lanes_splat(-top);
    for (uint chunk = place.thread_index; chunk < n / 16; chunk += place.threads) {
        acc = lanes_add(acc, lanes_exp(lanes_add(lanes_max(lanes_load(x + 16 * chunk), none), shift)));
    }
    sum = lanes_sum(acc);
    for (uint i = n / 16 * 16 + place.thread_index; i < n; i += place.threads) sum += x[i] == x[i] ? exp(x[i] - top) : 0.0f;
    return threadgroup_sum(sum, partial, place);
}

// The lowest index of the largest logit.
METAL_FUNC uint first_of(device const float *x, uint n, float top, threadgroup uint *partial, Place place) {
    uint found = OB_NONE;
    for (uint i = place.thread_index; i < n && found == OB_NONE; i += place.threads) {
        if (x[i] == top) found = i;
    }
    return threadgroup_min(found, partial, place);
}

// (x - top) / temperature, so that a tiny temperature cannot make two logits infinite.
METAL_FUNC float tempered(float x, float top, float temperature) {
    if (x == top) return 0;
    return x == x ? (x - top) / temperature : -INFINITY;
}

// The Gumbel-max draw: argmax of tempered logits plus noise, the lower index on a tie. Noise of index
// i at `position` comes from word i % 4 of counter (i / 4, position, 0, 0).
METAL_FUNC uint draw(device const float *x, uint n, float top, float temperature, uint2 seed, uint position,
                     threadgroup float *partial, threadgroup uint *partial_id, Place place) {
    float best = -INFINITY;
    uint best_id = OB_NONE;
    for (uint block = place.thread_index; block < (n + 3) / 4; block += place.threads) {
        uint4 bits = philox(uint4(block, position, 0, 0), seed);
        for (uint i = 4 * block; i < min(4 * block + 4, n); i++) {
            float t = tempered(x[i], top, temperature);
            if (t == -INFINITY) continue;
            uint word = i % 4;
            t += gumbel(word == 0 ? bits.x : word == 1 ? bits.y : word == 2 ? bits.z : bits.w);
            if (t > best) {
                best = t;
                best_id = i;
            }
        }
    }
    float winner = threadgroup_max(best, partial, place);
    return threadgroup_min(best == winner ? best_id : OB_NONE, partial_id, place);
}

// logits [rows, vocab] → result [rows]: the token, drawn at the row's temperature (≤ 0: the largest
// logit, lower index on a tie), and its log-probability under softmax(logits). A row with a failed
// step, or with no logit above -inf, gives OB_NONE and the step instead. With args.advance the token
// and the next position become the next run's input. One threadgroup a row.
kernel void sample(device const float *logits [[buffer(0)]], device const float *temperature [[buffer(1)]],
                   device const uint2 *seeds [[buffer(2)]], device const uint *status [[buffer(3)]],
                   device uint *tokens [[buffer(4)]], device uint *positions [[buffer(5)]],
                   device SampleResult *result [[buffer(6)]], constant SampleArgs &args [[buffer(7)]],
                   uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    threadgroup uint partial_id[32];
    Place place = OB_PLACE;
    uint row = at.y;
    if (row >= args.rows) return;
    device const float *x = logits + ulong(row) * args.vocab;
    float top = largest(x, args.vocab, partial, place);
    uint failure = status[row] != 0 ? status[row] : top == -INFINITY ? args.step : 0;
    SampleResult out;
    out.token = OB_NONE;
    out.logprob = as_type<float>(failure);
    if (failure == 0) {
        float sum = exp_sum(x, args.vocab, top, partial, place);
        float t = temperature[row];
        out.token = t > 0 ? draw(x, args.vocab, top, t, seeds[row], positions[row], partial, partial_id, place)
                          : first_of(x, args.vocab, top, partial_id, place);
        out.logprob = (x[out.token] == top ? 0.0f : x[out.token] - top) - log(sum);
    }
    threadgroup_barrier(mem_flags::mem_device);  // every thread has read its position
    if (place.thread_index != 0) return;
    result[row] = out;
    if (!args.advance) return;
    tokens[row] = out.token;
    positions[row] += 1;
}
