// Masks and logit biases, then the penalties: repetition (Keskar et al. 2019), presence and frequency. They change logits
// on a copy. Rows without any of these have no copy.
#include "sampling.h"

using namespace metal;

// The bit of SamplePenalty.biases that says that a row has a mask; the others count its biases.
// pipeline/graph/steps/sampling.py has it, too.
constant uint masked_bit = 0x80000000u;

// Returns 16 logits, of which those whose bit in `bits` is 0 are -inf.
METAL_FUNC Lanes masked(Lanes x, uint bits) {
    if (bits == 0xFFFF) return x;
    if (bits == 0) return lanes_splat(-INFINITY);
    thread float values[16];
    lanes_store(values, x);
    for (uint j = 0; j < 16; j++) values[j] = bits >> j & 1 ? values[j] : -INFINITY;
    return lanes_load(values);
}

// adjusted = logits, for rows with a mask, biases or penalties; -inf where the row's mask has a 0. Both [rows, vocab].
// masks [rows, vocab / 32 rounded up]: a bit per token, the lowest of a word first. They are read for rows with a mask
// alone. Grid: parts × rows. Step `sample`.
kernel void penalty_copy(device const float *logits [[buffer(0)]], device const SamplePenalty *penalties [[buffer(1)]],
                         device const uint *masks [[buffer(2)]], device float *adjusted [[buffer(3)]],
                         constant SampleArgs &args [[buffer(4)]], uint3 at [[threadgroup_position_in_grid]],
                         OB_PLACE_PARAMETERS) {
    Place place = OB_PLACE;
    if (at.y >= args.rows || !adjusts(penalties[at.y])) return;
    bool has_mask = (penalties[at.y].biases & masked_bit) != 0;
    ulong start = ulong(at.y) * args.vocab + at.x * OB_SAMPLE_PART;
    ulong word = ulong(at.y) * ((args.vocab + 31) / 32) + at.x * (OB_SAMPLE_PART / 32);
    uint n = part_length(args.vocab, at.x);
    for (uint i = 16 * place.thread_index; i < n; i += 16 * place.threads) {
        Lanes x = lanes_read(logits + start, i, n);
        if (has_mask) x = masked(x, masks[word + i / 32] >> i % 32 & 0xFFFF);
        lanes_write(adjusted + start, i, n, x);
    }
}

// Returns the logit x of a token after penalties. The highest bit of `mark` says whether the repetition window holds
// the token; the other bits count how often it was generated.
METAL_FUNC float penalised(float x, uint mark, SamplePenalty p) {
    if (mark >> 31) x = x > 0 ? x / p.repetition : x * p.repetition;
    uint uses = mark & 0x7FFFFFFFu;
    return uses == 0 ? x : x - p.presence - p.frequency * float(uses);
}

// adjusted[row, token] = penalised(logits[row, token] + bias), for tokens that have a bias or a history.
// history [slots, context]: the token at each position of a slot; the kernel first writes the current one.
// bias_ids, bias_values [rows, args.biases]; marks [rows, vocab], 0 before and after; totals [rows]: the statistics of
// the unchanged row. One threadgroup per row. A row whose slot the history does not have fails with `step`.
// Step `sample`.
kernel void penalty_apply(device const SamplePenalty *penalties [[buffer(0)]],
                          device const uint *bias_ids [[buffer(1)]], device const float *bias_values [[buffer(2)]],
                          device const SampleStats *stats [[buffer(3)]], device const uint *tokens [[buffer(4)]],
                          device const uint *positions [[buffer(5)]], device const uint *slots [[buffer(6)]],
                          device uint *history [[buffer(7)]], device atomic_uint *marks [[buffer(8)]],
                          device float *adjusted [[buffer(9)]], device SampleStats *totals [[buffer(10)]],
                          device atomic_uint *status [[buffer(11)]], constant SampleArgs &args [[buffer(12)]],
                          uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    Place place = OB_PLACE;
    uint row = at.y;
    if (row >= args.rows || !adjusts(penalties[row])) return;
    SamplePenalty p = penalties[row];
    if (slots[row] >= args.slots) {
        if (place.thread_index == 0) fail_row(status, row, args.step);
        return;
    }
    uint count = min(positions[row], args.context - 1) + 1, biases = min(p.biases & ~masked_bit, args.biases);
    history += ulong(slots[row]) * args.context;
    marks += ulong(row) * args.vocab;
    adjusted += ulong(row) * args.vocab;
    if (place.thread_index == 0) {
        totals[row] = total(stats + ulong(row) * parts_of(args.vocab), parts_of(args.vocab), 1);
        history[count - 1] = tokens[row];
    }
    for (uint i = place.thread_index; i < biases; i += place.threads) {
        uint id = bias_ids[ulong(row) * args.biases + i];
        if (id < args.vocab) adjusted[id] += bias_values[ulong(row) * args.biases + i];
    }
    threadgroup_barrier(mem_flags::mem_device);  // other threads read the history and add to biased logits
    uint window = p.window == 0 || p.window > count ? count : p.window;
    for (uint i = place.thread_index; i < count; i += place.threads) {
        if (history[i] >= args.vocab) continue;
        if (i + window >= count) atomic_fetch_or_explicit(&marks[history[i]], 0x80000000u, memory_order_relaxed);
        if (i >= p.start) atomic_fetch_add_explicit(&marks[history[i]], 1u, memory_order_relaxed);
    }
    threadgroup_barrier(mem_flags::mem_device);  // every use is counted
    for (uint i = place.thread_index; i < count; i += place.threads) {
        if (history[i] >= args.vocab) continue;
        uint mark = atomic_exchange_explicit(&marks[history[i]], 0u, memory_order_relaxed);
        if (mark != 0) adjusted[history[i]] = penalised(adjusted[history[i]], mark, p);
    }
}
