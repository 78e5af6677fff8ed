// Layers with a recurrent state: the links between rows of a sequence, the causal convolution and the gated delta rule.
//
// A sequence has one state per layer, which lies at its slot. The rows of a run may belong to several sequences, in any
// order: a threadgroup of a sequence's first row works on all of its rows, one behind another, and writes the state once.
#include "recurrent.h"

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

// A row of the state of a value number: key_dim numbers in N pieces per lane, and a query or key in the same shape.
template <uint N>
struct KeyRow {
    Piece p[N];

    METAL_FUNC void read(device const float *x, uint dim, Place place) {
        OB_UNROLL
        for (uint n = 0; n < N; n++) {
            uint i = OB_PIECE * (place.lane + n * place.width);
            p[n] = i < dim ? piece_read<true>(x, i, dim) : piece_splat(0);
        }
    }

    METAL_FUNC void write(device float *x, uint dim, Place place) const {
        OB_UNROLL
        for (uint n = 0; n < N; n++) {
            uint i = OB_PIECE * (place.lane + n * place.width);
            if (i < dim) piece_write<true>(x, i, dim, p[n]);
        }
    }

    METAL_FUNC void clear() {
        OB_UNROLL
        for (uint n = 0; n < N; n++) p[n] = piece_splat(0);
    }

    METAL_FUNC float dot(thread const KeyRow &other) const {
        Piece sum = piece_mul(p[0], other.p[0]);
        OB_UNROLL
        for (uint n = 1; n < N; n++) sum = piece_fma(p[n], other.p[n], sum);
        return simd_sum(piece_sum(sum));
    }

    METAL_FUNC void scale(float factor) {
        OB_UNROLL
        for (uint n = 0; n < N; n++) p[n] = piece_mul(p[n], piece_splat(factor));
    }

    // One position: this row becomes decay · row + delta · key with delta = β · (value - decay · row · key).
    METAL_FUNC float step(thread const KeyRow &query, thread const KeyRow &key, float value, float decay, float beta) {
        float delta = beta * (value - decay * dot(key));
        OB_UNROLL
        for (uint n = 0; n < N; n++)
            p[n] = piece_fma(key.p[n], piece_splat(delta), piece_mul(p[n], piece_splat(decay)));
        return dot(query);
    }
};

// What a value head reads of a row: β, the decay, its query, its key and its values.
struct DeltaInputs {
    device const float *x, *beta, *alpha, *slope, *shift;
    constant DeltaArgs &args;
    uint head;

    METAL_FUNC device const float *row_of(uint row) const {
        return x + ulong(row) * (2 * args.key_heads * args.key_dim + args.value_heads * args.value_dim);
    }
    METAL_FUNC uint key_head() const { return head / (args.value_heads / args.key_heads); }
    METAL_FUNC device const float *query(uint row) const { return row_of(row) + key_head() * args.key_dim; }
    METAL_FUNC device const float *key(uint row) const { return query(row) + args.key_heads * args.key_dim; }
    METAL_FUNC device const float *values(uint row) const {
        return row_of(row) + 2 * args.key_heads * args.key_dim + head * args.value_dim;
    }
    METAL_FUNC float beta_of(uint row) const {
        float b =
            beta[ulong(row) * args.beta_row + args.beta_first + head / args.group * args.beta_step + head % args.group];
        return gated(1.0f, b);
    }
    METAL_FUNC float decay(uint row) const {
        float a = alpha[ulong(row) * args.alpha_row + args.alpha_first + head / args.group * args.alpha_step +
                        head % args.group];
        return exp(slope[head] * softplus(a + shift[head]));
    }
};

// The rows of a sequence, for value numbers j to end - 1 of a head, by one simdgroup. A processor keeps the state where
// it lies, in its first cache; a GPU keeps J rows of it in registers.
template <uint N, uint J>
METAL_FUNC void delta_rows(DeltaInputs inputs, device const uint *links, device float *state, device float *y,
                           constant DeltaArgs &args, uint row, bool fresh, uint begin, uint end, Place place) {
    uint dim = args.key_dim;
    KeyRow<N> query, key;
#ifndef __METAL_CPU__
    KeyRow<N> kept[J];
    OB_UNROLL
    for (uint j = 0; j < J; j++) {
        kept[j].clear();
        if (!fresh && begin + j < end) kept[j].read(state + ulong(begin + j) * dim, dim, place);
    }
#endif
    // What the next row needs is asked for while this one is computed, because it is far away.
    KeyRow<N> next_query, next_key;
    next_query.read(inputs.query(row), dim, place);
    next_key.read(inputs.key(row), dim, place);
    float next_decay = inputs.decay(row), next_beta = inputs.beta_of(row);
    for (uint r = row; r != OB_NONE;) {
        query = next_query;
        key = next_key;
        float decay = next_decay, beta = next_beta;
        uint behind = row_behind(links, r);
        if (behind != OB_NONE) {
            next_query.read(inputs.query(behind), dim, place);
            next_key.read(inputs.key(behind), dim, place);
            next_decay = inputs.decay(behind);
            next_beta = inputs.beta_of(behind);
        }
        query.scale(rsqrt(query.dot(query) + args.eps) * args.scale);
        key.scale(rsqrt(key.dot(key) + args.eps));
        device const float *values = inputs.values(r);
        device float *to = y + (ulong(r) * args.value_heads + inputs.head) * args.value_dim;
#ifdef __METAL_CPU__
        for (uint j = begin; j < end; j++) {
            KeyRow<N> kept;
            device float *at = state + ulong(j) * dim;
            if (fresh) {
                kept.clear();
            } else {
                kept.read(at, dim, place);
            }
            to[j] = kept.step(query, key, values[j], decay, beta);
            kept.write(at, dim, place);
        }
        fresh = false;
#else
        OB_UNROLL
        for (uint j = 0; j < J; j++) {
            if (begin + j >= end) break;
            float out = kept[j].step(query, key, values[begin + j], decay, beta);
            if (place.lane == 0) to[begin + j] = out;
        }
#endif
        r = behind;
    }
#ifndef __METAL_CPU__
    OB_UNROLL
    for (uint j = 0; j < J; j++) {
        if (begin + j < end) kept[j].write(state + ulong(begin + j) * dim, dim, place);
    }
#endif
}

// Σ x[i] · y[i] of a simdgroup, for rows of any length.
METAL_FUNC float delta_dot(device const float *x, device const float *y, uint dim, Place place) {
    float sum = 0;
    for (uint i = place.lane; i < dim; i += place.width) sum = fma(x[i], y[i], sum);
    return simd_sum(sum);
}

// The same for keys of any length: the state stays in memory, where each lane has its own numbers of a row.
METAL_FUNC void delta_rows_any(DeltaInputs inputs, device const uint *links, device float *state, device float *y,
                               constant DeltaArgs &args, uint row, bool fresh, uint begin, uint end, Place place) {
    uint dim = args.key_dim;
    for (uint r = row; r != OB_NONE; r = row_behind(links, r)) {
        device const float *query = inputs.query(r), *key = inputs.key(r), *values = inputs.values(r);
        float query_scale = rsqrt(delta_dot(query, query, dim, place) + args.eps) * args.scale;
        float key_scale = rsqrt(delta_dot(key, key, dim, place) + args.eps);
        float decay = inputs.decay(r), beta = inputs.beta_of(r);
        device float *to = y + (ulong(r) * args.value_heads + inputs.head) * args.value_dim;
        for (uint j = begin; j < end; j++) {
            device float *kept = state + ulong(j) * dim;
            float known = fresh ? 0.0f : delta_dot(kept, key, dim, place) * key_scale;
            float delta = beta * (values[j] - decay * known), sum = 0;
            for (uint i = place.lane; i < dim; i += place.width) {
                kept[i] = fma(key[i] * key_scale, delta, fresh ? 0.0f : kept[i] * decay);
                sum = fma(kept[i], query[i] * query_scale, sum);
            }
            sum = simd_sum(sum);
            if (place.lane == 0) to[j] = sum;
        }
        fresh = false;
    }
}

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
    if (row_fails(links, row)) {
        device float *to = y + (ulong(row) * args.value_heads + head) * args.value_dim;
        for (uint j = first + place.thread_index; j < end; j += place.threads) to[j] = 0;
        return;
    }
    DeltaInputs inputs = {x, beta, alpha, slope, shift, args, head};
    bool fresh = positions[row] == 0;
    state += (ulong(slots[row]) * args.value_heads + head) * args.value_dim * args.key_dim;
#ifdef __METAL_CPU__
    if (args.key_dim == 8 * OB_PIECE) {
        delta_rows<8, 1>(inputs, links, state, y, args, row, fresh, first, end, place);
        return;
    }
#else
    const uint J = OB_DELTA_VALUES / (OB_DELTA_THREADS / 32);
    uint most = OB_PIECE * place.width;
    bool whole = args.key_dim % OB_PIECE == 0 && args.value_heads * args.value_dim % OB_PIECE == 0;
    if (whole && pieces_aligned(x) && pieces_aligned(state) && args.key_dim <= 2 * most) {
        for (uint j = first + J * place.group; j < end; j += J * place.groups) {
            if (args.key_dim <= most) {
                delta_rows<1, J>(inputs, links, state, y, args, row, fresh, j, min(j + J, end), place);
            } else {
                delta_rows<2, J>(inputs, links, state, y, args, row, fresh, j, min(j + J, end), place);
            }
        }
        return;
    }
#endif
    for (uint j = first + place.group; j < end; j += place.groups)
        delta_rows_any(inputs, links, state, y, args, row, fresh, j, j + 1, place);
}
