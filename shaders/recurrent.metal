// Layers with a recurrent state: the links between rows of a sequence, the causal convolution and the gated delta rule.
//
// A sequence has one state per layer, which lies at its slot. The rows of a run may belong to several sequences, in any
// order: a threadgroup of a sequence's first row works on all of its rows, one behind another, and writes the state once.
#include "recurrent_rows.h"

using namespace metal;

// repeats[row] = 1 where an earlier row of the run has the same slot and position.
// slots, positions, repeats [rows] u32. One threadgroup per row. Step `row_links`.
[[max_total_threads_per_threadgroup(32)]] kernel void row_repeats(device const uint *slots [[buffer(0)]],
                                                                  device const uint *positions [[buffer(1)]],
                                                                  device uint *repeats [[buffer(2)]],
                                                                  constant LinkArgs &args [[buffer(3)]],
                                                                  uint3 at [[threadgroup_position_in_grid]],
                                                                  OB_PLACE_PARAMETERS) {
    threadgroup uint partial[32];
    Place place = OB_PLACE;
    uint row = at.y;
    if (row >= args.rows) return;
    uint slot = slots[row], position = positions[row], count = 0;
    for (uint i = place.thread_index; i < row; i += place.threads)
        count += slots[i] == slot && positions[i] == position;
    count = threadgroup_sum(count, partial, place);
    if (place.thread_index == 0) repeats[row] = count > 0;
}

// links[row] = the rows of the same slot whose positions are one less and one more (recurrent.h).
// slots, positions, repeats [rows] u32, links [rows, 2] u32. One threadgroup per row. Step `row_links`, once per run for
// all layers.
// A row fails with `step` where its slot has no state, where an earlier row has its position, or where the run lacks a
// position between the slot's first and its own.
[[max_total_threads_per_threadgroup(32)]] kernel void row_links(
    device const uint *slots [[buffer(0)]], device const uint *positions [[buffer(1)]],
    device const uint *repeats [[buffer(2)]], device uint *links [[buffer(3)]],
    device atomic_uint *status [[buffer(4)]], constant LinkArgs &args [[buffer(5)]],
    uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup uint partial[32];
    Place place = OB_PLACE;
    uint row = at.y;
    if (row >= args.rows) return;
    uint slot = slots[row], position = positions[row];
    uint first = position, before = OB_NONE, behind = OB_NONE, below = 0;
    for (uint i = place.thread_index; i < args.rows; i += place.threads) {
        if (slots[i] != slot || repeats[i]) continue;
        uint p = positions[i];
        first = min(first, p);
        below += p < position;
        if (p + 1 == position) before = i;
        if (p == position + 1) behind = i;
    }
    first = threadgroup_min(first, partial, place);
    before = threadgroup_min(before, partial, place);
    behind = threadgroup_min(behind, partial, place);
    below = threadgroup_sum(below, partial, place);
    if (place.thread_index != 0) return;
    bool fails = slot >= args.slots || repeats[row] || below != position - first;
    links[2 * row] = fails ? row : before;
    links[2 * row + 1] = fails ? OB_NONE : behind;
    if (fails) fail_row(status, row, args.step);
}

// The inputs of a convolution: x [rows, x_row], of which a channel is an element (args.h).
struct ConvInputs {
    device const float *x;
    constant ConvArgs &args;

    METAL_FUNC uint element(uint channel) const {
        uint part = (channel >= args.begin1) + (channel >= args.begin2);
        uint head = part == 0 ? args.head0 : part == 1 ? args.head1 : args.head2;
        uint c = channel - (part == 0 ? 0 : part == 1 ? args.begin1 : args.begin2);
        return (part == 0 ? args.first0 : part == 1 ? args.first1 : args.first2) + c / head * args.group + c % head;
    }

    template <bool whole>
    METAL_FUNC Piece read(uint row, uint channel) const {
        device const float *from = x + ulong(row) * args.x_row;
        if (whole) return piece_read<true>(from + element(channel), 0, OB_PIECE);
#ifdef __METAL_CPU__
        float part[OB_PIECE];
        for (uint i = 0; i < OB_PIECE; i++) part[i] = channel + i < args.channels ? from[element(channel + i)] : 0.0f;
        return lanes_load(part);
#else
        Piece part;
        OB_UNROLL
        for (uint i = 0; i < OB_PIECE; i++) part[i] = channel + i < args.channels ? from[element(channel + i)] : 0.0f;
        return part;
#endif
    }
};

template <bool whole>
METAL_FUNC void convolve(ConvInputs inputs, device const float *weight, device const float *bias,
                         device const uint *links, device float *state, device float *y, constant ConvArgs &args,
                         uint row, uint position, uint first, uint end, Place place) {
    uint kept = args.width - 1, channels = args.channels, count = 0, last = row;
    first += OB_PIECE * place.thread_index;
    for (uint r = row; r != OB_NONE; r = row_behind(links, r), count++) {
        for (uint c = first; c < end; c += OB_PIECE * place.threads) {
            Piece sum = args.has_bias ? piece_read<whole>(bias, c, channels) : piece_splat(0);
            uint back = r;
            for (uint d = 0; d <= kept; d++) {
                Piece x;
                if (back != OB_NONE) {
                    x = inputs.template read<whole>(back, c);
                    back = row_before(links, back);
                } else if (position + count >= d) {
                    x = piece_read<whole>(state + ulong(kept + count - d) * channels, c, channels);
                } else {
                    break;  // before the sequence begins
                }
                sum = piece_fma(x, piece_read<whole>(weight + ulong(kept - d) * channels, c, channels), sum);
            }
            piece_write<whole>(y + ulong(r) * channels, c, channels, args.silu ? piece_silu(sum) : sum);
        }
        last = r;
    }
    // Entry e becomes the input at position + count - kept + e. An entry of the state moves down, so the first one goes
    // first.
    for (uint e = 0; e < kept; e++) {
        uint d = kept - 1 - e, from = last;
        if (position + count < d + 1) continue;  // before the sequence begins
        for (uint n = 0; n < d && from != OB_NONE; n++) from = row_before(links, from);
        for (uint c = first; c < end; c += OB_PIECE * place.threads) {
            Piece x = from != OB_NONE ? inputs.template read<whole>(from, c)
                                      : piece_read<whole>(state + ulong(e + count) * channels, c, channels);
            piece_write<whole>(state + ulong(e) * channels, c, channels, x);
        }
    }
}

// y[t, c] = act(bias[c] + Σ_d weight[width - 1 - d, c] · x[t - d, c]), d < width, over the positions t of a sequence; x
// before position 0 is 0. act is silu or nothing.
// x [rows, x_row], weight [width, channels], bias [channels], slots, positions [rows], links [rows, 2], state [slots,
// width - 1, channels]: the last inputs of each sequence, which it reads and writes; y [rows, channels].
// Grid: 1 × rows × tiles of OB_CONV_CHANNELS channels. Step `causal_conv`.
[[max_total_threads_per_threadgroup(OB_CONV_THREADS)]] kernel void causal_conv(
    device const float *x [[buffer(0)]], device const float *weight [[buffer(1)]],
    device const float *bias [[buffer(2)]], device const uint *slots [[buffer(3)]],
    device const uint *positions [[buffer(4)]], device const uint *links [[buffer(5)]],
    device float *state [[buffer(6)]], device float *y [[buffer(7)]], constant ConvArgs &args [[buffer(8)]],
    uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    Place place = OB_PLACE;
    uint row = at.y, first = at.z * OB_CONV_CHANNELS;
    if (row >= args.rows || !row_leads(links, row)) return;
    uint end = min(first + OB_CONV_CHANNELS, args.channels);
    if (row_fails(links, row)) {
        for (uint c = first + place.thread_index; c < end; c += place.threads) y[ulong(row) * args.channels + c] = 0;
        return;
    }
    ConvInputs inputs = {x, args};
    state += ulong(slots[row]) * (args.width - 1) * args.channels;
    bool whole = args.whole != 0 && pieces_aligned(x) && pieces_aligned(weight) && pieces_aligned(bias) &&
                 pieces_aligned(state) && pieces_aligned(y);
    if (whole) {
        convolve<true>(inputs, weight, bias, links, state, y, args, row, positions[row], first, end, place);
    } else {
        convolve<false>(inputs, weight, bias, links, state, y, args, row, positions[row], first, end, place);
    }
}

// What a value head of the delta rule reads of a row (StateRow).
struct DeltaInputs {
    enum { corrects = 1 };
    device const float *x, *beta, *alpha, *slope, *shift;
    device float *y;
    constant DeltaArgs &args;
    uint head, key_dim;
    float eps, scale, skip;

    METAL_FUNC device const float *row_of(uint row) const {
        return x + ulong(row) * (2 * key_heads() * key_dim + args.value_heads * args.value_dim);
    }
    METAL_FUNC uint key_heads() const { return args.key_heads & ~OB_TILED; }
    METAL_FUNC device const float *query(uint row) const {
        bool tiled = (args.key_heads & OB_TILED) != 0;
        return row_of(row) + (tiled ? head % key_heads() : head / (args.value_heads / key_heads())) * key_dim;
    }
    METAL_FUNC device const float *key(uint row) const { return query(row) + key_heads() * key_dim; }
    METAL_FUNC device const float *values(uint row) const {
        return row_of(row) + 2 * key_heads() * key_dim + head * args.value_dim;
    }
    METAL_FUNC device float *result(uint row) const {
        return y + (ulong(row) * args.value_heads + head) * args.value_dim;
    }
    METAL_FUNC Step step(uint row) const {
        uint group = head / args.group, own = head % args.group;
        float b = beta[ulong(row) * args.beta_row + args.beta_first + group * args.beta_step + own];
        float a = alpha[ulong(row) * args.alpha_row + args.alpha_first + group * args.alpha_step + own];
        return {exp(slope[head] * softplus(a + shift[head])), gated(1.0f, b)};
    }
};

// The gated delta rule (Yang et al. 2025). For each position t of a sequence and each value head, with q and k of its key
// head normed to length 1 (x / √(Σx² + eps)) and q multiplied by `scale`:
//   decay = exp(slope · softplus(α_t + shift)), S = decay · S, S += β (v_t - S k_t) k_tᵀ with β = σ(β_t), y_t = S q_t
// x [rows, 2 · key_heads · key_dim + value_heads · value_dim]: queries, keys, values; β, α [rows, …] (args.h); slope, shift
// [value_heads]; slots, positions [rows], links [rows, 2]; state S [slots, value_heads, value_dim, key_dim], read and
// written; y [rows, value_heads, value_dim].
// Grid: 1 × rows × value heads · tiles of OB_DELTA_VALUES value numbers. Step `gated_delta`.
[[max_total_threads_per_threadgroup(OB_DELTA_THREADS)]] kernel void gated_delta(
    device const float *x [[buffer(0)]], device const float *beta [[buffer(1)]],
    device const float *alpha [[buffer(2)]], device const float *slope [[buffer(3)]],
    device const float *shift [[buffer(4)]], device const uint *slots [[buffer(5)]],
    device const uint *positions [[buffer(6)]], device const uint *links [[buffer(7)]],
    device float *state [[buffer(8)]], device float *y [[buffer(9)]], constant DeltaArgs &args [[buffer(10)]],
    uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    Place place = OB_PLACE;
    uint row = at.y;
    if (row >= args.rows || !row_leads(links, row)) return;
    uint tiles = (args.value_dim + OB_DELTA_VALUES - 1) / OB_DELTA_VALUES, head = at.z / tiles;
    uint first = at.z % tiles * OB_DELTA_VALUES, end = min(first + OB_DELTA_VALUES, args.value_dim);
    DeltaInputs inputs = {x, beta, alpha, slope, shift, y, args, head, args.key_dim, args.eps, args.scale, 0};
    if (row_fails(links, row)) {
        for (uint j = first + place.thread_index; j < end; j += place.threads) inputs.result(row)[j] = 0;
        return;
    }
    state += (ulong(slots[row]) * args.value_heads + head) * args.value_dim * args.key_dim;
    bool aligned = args.value_heads * args.value_dim % OB_PIECE == 0 && pieces_aligned(x);
    state_head(inputs, links, state, row, positions[row], first, end, aligned, place);
}
