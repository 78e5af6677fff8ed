// The rows of a sequence in a layer whose state is a matrix per head, [numbers of a value, numbers of a key]: for each
// value number a row, which decays, takes the key in, and is multiplied by the query.
#ifndef OB_RECURRENT_ROWS_H
#define OB_RECURRENT_ROWS_H

#include "recurrent.h"

// A row of the state: key_dim numbers in N pieces per lane; a query or a key in the same shape.
template <uint N>
struct StateRow {
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

    METAL_FUNC float dot(thread const StateRow &other) const {
        Piece sum = piece_mul(p[0], other.p[0]);
        OB_UNROLL
        for (uint n = 1; n < N; n++) sum = piece_fma(p[n], other.p[n], sum);
        return metal::simd_sum(piece_sum(sum));
    }

    METAL_FUNC void scale(float factor) {
        OB_UNROLL
        for (uint n = 0; n < N; n++) p[n] = piece_mul(p[n], piece_splat(factor));
    }

    // This row becomes decay · row + added · key.
    METAL_FUNC void add(thread const StateRow &key, float decay, float added) {
        OB_UNROLL
        for (uint n = 0; n < N; n++)
            p[n] = piece_fma(key.p[n], piece_splat(added), piece_mul(p[n], piece_splat(decay)));
    }
};

// What a head reads of a row: its query, key and values, by how much the state decays, and the rate at which it learns.
// corrects: of a value, only what the state does not know yet is taken in (the delta rule); queries and keys are normed to
// length 1, and queries multiplied by `scale`. skip: the value times this is added to the result.
struct Step {
    float decay, rate;
};

// The rows of a sequence from `row` on, for value numbers begin to end - 1 of a head, by one simdgroup. A processor keeps
// the state where it lies, in its first cache; a GPU keeps J rows of it in registers.
template <uint N, uint J, typename Inputs>
METAL_FUNC void state_rows(Inputs inputs, device const uint *links, device float *state, uint row, bool fresh,
                           uint begin, uint end, Place place) {
    uint dim = inputs.key_dim;
    StateRow<N> query, key;
#ifndef __METAL_CPU__
    StateRow<N> kept[J];
    OB_UNROLL
    for (uint j = 0; j < J; j++) {
        kept[j].clear();
        if (!fresh && begin + j < end) kept[j].read(state + ulong(begin + j) * dim, dim, place);
    }
#endif
    // What the next row needs is asked for while this one is computed, because it is far away.
    StateRow<N> next_query, next_key;
    next_query.read(inputs.query(row), dim, place);
    next_key.read(inputs.key(row), dim, place);
    Step next = inputs.step(row);
    for (uint r = row; r != OB_NONE;) {
        query = next_query;
        key = next_key;
        Step step = next;
        uint behind = row_behind(links, r);
        if (behind != OB_NONE) {
            next_query.read(inputs.query(behind), dim, place);
            next_key.read(inputs.key(behind), dim, place);
            next = inputs.step(behind);
        }
        if (Inputs::corrects) {
            query.scale(metal::rsqrt(query.dot(query) + inputs.eps) * inputs.scale);
            key.scale(metal::rsqrt(key.dot(key) + inputs.eps));
        }
        device const float *values = inputs.values(r);
        device float *to = inputs.result(r);
#ifdef __METAL_CPU__
        for (uint j = begin; j < end; j++) {
            StateRow<N> kept;
            device float *at = state + ulong(j) * dim;
            if (fresh) {
                kept.clear();
            } else {
                kept.read(at, dim, place);
            }
            float value = values[j];
            float added = Inputs::corrects ? step.rate * (value - step.decay * kept.dot(key)) : step.rate * value;
            kept.add(key, step.decay, added);
            float out = kept.dot(query);
            to[j] = Inputs::corrects ? out : metal::fma(inputs.skip, value, out);
            kept.write(at, dim, place);
        }
        fresh = false;
#else
        OB_UNROLL
        for (uint j = 0; j < J; j++) {
            if (begin + j >= end) break;
            float value = values[begin + j];
            float added = Inputs::corrects ? step.rate * (value - step.decay * kept[j].dot(key)) : step.rate * value;
            kept[j].add(key, step.decay, added);
            float out = kept[j].dot(query);
            if (place.lane == 0) to[begin + j] = Inputs::corrects ? out : metal::fma(inputs.skip, value, out);
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

// Σ x[i] · y[i] by a simdgroup, for rows of any length.
METAL_FUNC float state_dot(device const float *x, device const float *y, uint dim, Place place) {
    float sum = 0;
    for (uint i = place.lane; i < dim; i += place.width) sum = metal::fma(x[i], y[i], sum);
    return metal::simd_sum(sum);
}

// The same for keys of any length: the state stays in memory, where each lane has its own numbers of a row.
template <typename Inputs>
METAL_FUNC void state_rows_any(Inputs inputs, device const uint *links, device float *state, uint row, bool fresh,
                               uint begin, uint end, Place place) {
    uint dim = inputs.key_dim;
    for (uint r = row; r != OB_NONE; r = row_behind(links, r)) {
        device const float *query = inputs.query(r), *key = inputs.key(r), *values = inputs.values(r);
        float query_scale = 1, key_scale = 1;
        if (Inputs::corrects) {
            query_scale = metal::rsqrt(state_dot(query, query, dim, place) + inputs.eps) * inputs.scale;
            key_scale = metal::rsqrt(state_dot(key, key, dim, place) + inputs.eps);
        }
        Step step = inputs.step(r);
        device float *to = inputs.result(r);
        for (uint j = begin; j < end; j++) {
            device float *kept = state + ulong(j) * dim;
            float known = fresh || !Inputs::corrects ? 0.0f : state_dot(kept, key, dim, place) * key_scale;
            float value = values[j], sum = 0;
            float added = Inputs::corrects ? step.rate * (value - step.decay * known) : step.rate * value;
            for (uint i = place.lane; i < dim; i += place.width) {
                kept[i] = metal::fma(key[i] * key_scale, added, fresh ? 0.0f : kept[i] * step.decay);
                sum = metal::fma(kept[i], query[i] * query_scale, sum);
            }
            sum = metal::simd_sum(sum);
            if (place.lane == 0) to[j] = Inputs::corrects ? sum : metal::fma(inputs.skip, value, sum);
        }
        fresh = false;
    }
}

// A threadgroup's share of a head: value numbers first to end - 1. state: of the head. aligned: whether the pieces of all
// queries and keys are.
template <typename Inputs>
METAL_FUNC void state_head(Inputs inputs, device const uint *links, device float *state, uint row, uint position,
                           uint first, uint end, bool aligned, Place place) {
    bool fresh = position == 0;
#ifdef __METAL_CPU__
    if (inputs.key_dim == 8 * OB_PIECE) {
        state_rows<8, 1>(inputs, links, state, row, fresh, first, end, place);
        return;
    }
#else
    const uint J = OB_DELTA_VALUES / (OB_DELTA_THREADS / 32);
    uint most = OB_PIECE * place.width, dim = inputs.key_dim;
    if (aligned && dim % OB_PIECE == 0 && pieces_aligned(state) && dim <= 2 * most) {
        for (uint j = first + J * place.group; j < end; j += J * place.groups) {
            uint last = metal::min(j + J, end);
            if (dim <= most) {
                state_rows<1, J>(inputs, links, state, row, fresh, j, last, place);
            } else {
                state_rows<2, J>(inputs, links, state, row, fresh, j, last, place);
            }
        }
        return;
    }
#endif
    for (uint j = first + place.group; j < end; j += place.groups)
        state_rows_any(inputs, links, state, row, fresh, j, j + 1, place);
}

#endif
