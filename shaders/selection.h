// Selection finds the largest of many logits without sorting them: it bisects a threshold over the ordered bits of
// float until the threshold is exact.
#ifndef OB_SELECTION_H
#define OB_SELECTION_H

#include "sampling.h"

// A selection reads a pool: a row, or a list of the row's values between two bounds. Both are in the order of the
// vocabulary. A list leaves out the `above` values beyond its upper bound; their weights add up to `mass`.
struct Pool {
    device const float *values;
    device const uint *ids;  // the list's indices in the row
    bool listed;
    uint count;
    uint above;
    float mass;
};

METAL_FUNC Pool whole(device const float *values, uint count) { return {values, nullptr, false, count, 0, 0.0f}; }

// The memory that the threads of a threadgroup share.
struct Shared {
    threadgroup float *partial;
    threadgroup uint *partial_id;
};

// Maps floats to unsigned integers of the same order: order(a) < order(b) where a < b.
METAL_FUNC uint order(float x) {
    uint bits = as_type<uint>(x + 0.0f);  // -0 is 0
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// Returns the float of an order. The place of -0 stands for the largest value below 0.
METAL_FUNC float value_of(uint order) {
    return order == 0x7FFFFFFFu ? as_type<float>(0x80000001u)
                                : as_type<float>(order >> 31 ? order & 0x7FFFFFFFu : ~order);
}

// Returns the largest float that is less than x.
METAL_FUNC float below(float x) { return value_of(order(x) - 1); }

struct Tally {
    uint count;
    float mass;  // relative to the weight of the row's top
};

// Counts the values of a pool above `value` and, where `weighed`, adds up their mass.
template <bool weighed>
METAL_FUNC Tally tally(Pool pool, float value, float top, float scale, Shared shared, Place place) {
    LanesBits count = lanes_bits(0);
    LaneSum mass = lane_sum_of_none();
    for (uint i = 16 * place.thread_index; i < pool.count; i += 16 * place.threads) {
        Lanes x = logits_at(pool.values, i, pool.count);
        LanesBits above = lanes_greater(x, lanes_splat(value));
        count = lanes_tally(count, above);
        if (!weighed) continue;
        mass.block = lanes_add(mass.block, lanes_select(above, weights_of(x, top, scale), lanes_splat(0)));
        lane_sum_count(mass);
    }
    Tally result = {pool.above + threadgroup_sum(lanes_bits_sum(count), shared.partial_id, place), 0.0f};
    if (weighed) result.mass = pool.mass + threadgroup_sum(lane_sum_total(mass), shared.partial, place);
    return result;
}

METAL_FUNC uint count_between(device const float *x, uint first, uint end, float low, float high) {
    LanesBits above = lanes_bits(0), beyond = lanes_bits(0);
    for (uint i = first; i < end; i += 16) {
        Lanes v = logits_at(x, i, end);
        above = lanes_tally(above, lanes_greater(v, lanes_splat(low)));
        beyond = lanes_tally(beyond, lanes_greater(v, lanes_splat(high)));
    }
    return lanes_bits_sum(above) - lanes_bits_sum(beyond);
}

// Lists the values of a row in (low, high], in order, and returns their number; at most OB_SAMPLE_LIST are written.
// The `maxima` of the row's blocks tell which blocks have any.
METAL_FUNC uint list_between(device const float *x, uint n, float low, float high, device const float *maxima,
                             device float *values, device uint *ids, Shared shared, Place place) {
    uint listed = 0, blocks = blocks_of(n);
    for (uint base = 0; base < blocks; base += place.threads) {
        uint block = base + place.thread_index, count = 0;
        uint first = block * OB_SAMPLE_BLOCK, end = metal::min(n, first + OB_SAMPLE_BLOCK);
        if (block < blocks && maxima[block] > low) count = count_between(x, first, end, low, high);
        uint sum, at = listed + threadgroup_offset(count, sum, shared.partial_id, place);
        for (uint i = first; count > 0 && at < OB_SAMPLE_LIST && i < end; i++) {
            if (!(x[i] > low && x[i] <= high)) continue;
            values[at] = x[i];
            ids[at++] = i;
        }
        listed += sum;
    }
    metal::threadgroup_barrier(metal::mem_flags::mem_device);  // the list is read by other threads
    return listed;
}

// Returns the index of the n-th value, counted from 1, that is equal to `value`.
METAL_FUNC uint nth_equal(Pool pool, float value, uint n, Shared shared, Place place) {
    uint seen = 0, found = OB_NONE;
    for (uint base = 0; base < pool.count && seen < n; base += 16 * place.threads) {
        uint first = base + 16 * place.thread_index, count = 0;
        uint end = metal::min(pool.count, first + 16);
        for (uint i = first; i < end; i++) count += pool.values[i] == value;
        uint sum, at = seen + threadgroup_offset(count, sum, shared.partial_id, place);
        for (uint i = first; count > 0 && i < end; i++) {
            if (pool.values[i] == value && ++at == n) found = pool.listed ? pool.ids[i] : i;
        }
        seen += sum;
    }
    return threadgroup_min(found, shared.partial_id, place);
}

// A row, and the memory for a list of its values.
struct Row {
    device const float *x, *maxima;
    uint n;
    device float *values;
    device uint *ids;
    float top, scale;
};

// The smallest value above which there is less than the target, in count or in mass; and the tally above it.
struct Cut {
    float value;
    Tally above;
};

// Finds the cut between `low`, above which there is at least `target`, and `high`, above which there is less. Once few
// enough values are left between the two bounds, their list replaces the row.
template <bool weighed>
METAL_FUNC Cut select_cut(thread Pool &pool, Row row, Tally target, float low, float high, Shared shared, Place place) {
    uint lower = order(low), upper = order(high), left = pool.count;
    Tally above_low = {pool.above + pool.count, 0.0f},
          above = tally<weighed>(pool, high, row.top, row.scale, shared, place);
    for (uint step = 0; upper - lower > 1; step++) {
        uint middle = lower + (upper - lower) / 2;
        if (step % 2 == 0) {  // try half of the values' range, because values are seldom spread like their bits
            uint halved = order(0.5f * value_of(lower) + 0.5f * value_of(upper));
            if (halved > lower && halved < upper) middle = halved;
        }
        Tally t = tally<weighed>(pool, value_of(middle), row.top, row.scale, shared, place);
        if (weighed ? t.mass < target.mass : t.count < target.count) {
            upper = middle;
            above = t;
        } else {
            lower = middle;
            above_low = t;
        }
        left = above_low.count - above.count;
        if (!pool.listed && pool.values == row.x && left <= OB_SAMPLE_LIST) {
            list_between(row.x, row.n, value_of(lower), value_of(upper), row.maxima, row.values, row.ids, shared,
                         place);
            pool = {row.values, row.ids, true, left, above.count, above.mass};
        }
    }
    return {value_of(upper), above};
}

#endif
