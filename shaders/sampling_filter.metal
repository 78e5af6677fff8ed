// The filters: top-k (Fan et al. 2018), then top-p (Holtzman et al. 2020), then min-p (Nguyen et al. 2024). In the
// order of descending logits, lower index first, each keeps the front of a row; so all three together are one limit.
// The largest log-probabilities are here, too.
#include "selection.h"

using namespace metal;

// Returns the values of a row above `low`: as a list where it is short enough, else the whole row.
METAL_FUNC Pool pool_above(Row row, float low, Shared shared, Place place) {
    uint count = list_between(row.x, row.n, low, INFINITY, row.maxima, row.values, row.ids, shared, place);
    if (count > OB_SAMPLE_LIST) return whole(row.x, row.n);
    return {row.values, row.ids, true, count, 0, 0.0f};
}

// Returns a value below the k-th largest logit: at least k blocks have a larger maximum.
METAL_FUNC float floor_of_top(Row row, uint k, Shared shared, Place place) {
    uint blocks = blocks_of(row.n);
    if (k > blocks) return -INFINITY;
    Pool pool = whole(row.maxima, blocks);
    return below(select_cut<false>(pool, row, {k, 0.0f}, -INFINITY, row.top, shared, place).value);
}

METAL_FUNC float weight_of(float x, Row row) { return lanes_at(weights_of(lanes_splat(x), row.top, row.scale), 0); }

// Returns the limit that keeps the first `kept` of the values equal to cut.value.
METAL_FUNC SampleLimit limit_at(Pool pool, Cut cut, uint kept, Row row, Shared shared, Place place) {
    uint tied = tally<false>(pool, below(cut.value), row.top, row.scale, shared, place).count - cut.above.count;
    if (kept >= tied) return {cut.value, OB_NONE};
    return {cut.value, nth_equal(pool, cut.value, kept, shared, place) + 1};
}

// Returns how many of the values equal to cut.value are kept: one is kept while the mass before it is below `target`.
METAL_FUNC uint needed(Cut cut, float target, Row row) {
    float count = ceil((target - cut.above.mass) / weight_of(cut.value, row));
    return count > 1 ? uint(min(count, 2147483648.0f)) : 1;
}

METAL_FUNC SampleLimit top_p(Row row, float p, float mass, float temperature, Shared shared, Place place) {
    // Values that each have less than (1 - p) / n of the mass have less than 1 - p together.
    float low = row.top + (log(1 - p) + log(mass / float(row.n)) - 1e-3f) * temperature;
    low = min(low, below(row.top));
    Pool pool = pool_above(row, low, shared, place);
    Cut cut = select_cut<true>(pool, row, {0, p * mass}, low, row.top, shared, place);
    return limit_at(pool, cut, needed(cut, p * mass, row), row, shared, place);
}

// Returns the limit of the k largest and of p of their mass.
METAL_FUNC SampleLimit top_k(Row row, uint k, float p, Shared shared, Place place) {
    float low = floor_of_top(row, k, shared, place);
    Pool all = pool_above(row, low, shared, place), pool = all;
    Cut cut = select_cut<false>(pool, row, {k, 0.0f}, low, row.top, shared, place);
    uint kept = k - cut.above.count;
    if (p < 1) {
        if (pool.listed && !all.listed) all = pool_above(row, below(cut.value), shared, place);
        float mass =
            tally<true>(all, cut.value, row.top, row.scale, shared, place).mass + kept * weight_of(cut.value, row);
        Cut inner = select_cut<true>(all, row, {0, p * mass}, below(cut.value), row.top, shared, place);
        uint needs = needed(inner, p * mass, row);
        if (inner.value > cut.value) return limit_at(all, inner, needs, row, shared, place);
        kept = min(kept, needs);
    }
    return limit_at(pool, cut, kept, row, shared, place);
}

METAL_FUNC SampleLimit limit_of(Row row, SampleFilter filter, float mass, float temperature, Shared shared,
                                Place place) {
    SampleLimit limit = {-INFINITY, OB_NONE};
    if (filter.top_k > 0 && filter.top_k < row.n) {
        limit = top_k(row, filter.top_k, filter.top_p, shared, place);
    } else if (filter.top_p < 1) {
        limit = top_p(row, filter.top_p, mass, temperature, shared, place);
    }
    float least = filter.min_p > 0 ? row.top + log(filter.min_p) * temperature : -INFINITY;
    if (least > limit.value) limit = {least, OB_NONE};
    return limit;
}

// limits[row] = the limit of the row's top-k, top-p and min-p.
// logits, adjusted [rows, vocab]; stats [rows, parts] and maxima [rows, blocks] from logits_part; filters, limits
// [rows]; values and ids [rows, OB_SAMPLE_LIST] are scratch. One threadgroup per row. Step `sample`.
kernel void filter_limit(device const float *logits [[buffer(0)]], device const float *adjusted [[buffer(1)]],
                         device const SamplePenalty *penalties [[buffer(2)]],
                         device const SampleStats *stats [[buffer(3)]], device const float *maxima [[buffer(4)]],
                         device const float *temperature [[buffer(5)]],
                         device const SampleFilter *filters [[buffer(6)]], device float *values [[buffer(7)]],
                         device uint *ids [[buffer(8)]], device SampleLimit *limits [[buffer(9)]],
                         constant SampleArgs &args [[buffer(10)]], uint3 at [[threadgroup_position_in_grid]],
                         OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    threadgroup uint partial_id[32];
    Place place = OB_PLACE;
    uint index = at.y, source = args.shared ? 0 : index;
    if (index >= args.rows) return;
    float t = temperature[index];
    SampleFilter filter = filters[index];
    SampleLimit limit = {-INFINITY, OB_NONE};
    if (t > 0 && (filter.top_k > 0 || filter.top_p < 1 || filter.min_p > 0)) {
        SampleStats all = total(stats + ulong(source) * parts_of(args.vocab), parts_of(args.vocab), t);
        device const float *x = args.adjusted && adjusts(penalties[index]) ? adjusted : logits;
        Row row = {x + ulong(source) * args.vocab,
                   maxima + ulong(source) * blocks_of(args.vocab),
                   args.vocab,
                   values + ulong(index) * OB_SAMPLE_LIST,
                   ids + ulong(index) * OB_SAMPLE_LIST,
                   all.top,
                   scale_of(t)};
        if (all.top > -INFINITY) limit = limit_of(row, filter, all.mass, t, {partial, partial_id}, place);
    }
    if (place.thread_index == 0) limits[index] = limit;
}

// Returns the position in the pool of the largest value that comes after (last, last_at); the lower one on a tie.
METAL_FUNC uint next_largest(Pool pool, float last, uint last_at, Shared shared, Place place) {
    float best = -INFINITY;
    uint best_at = OB_NONE;
    for (uint i = place.thread_index; i < pool.count; i += place.threads) {
        float x = pool.values[i];
        bool left = last_at == OB_NONE || x < last || (x == last && i > last_at);
        if (left && x > best) {
            best = x;
            best_at = i;
        }
    }
    float top = threadgroup_max(best, shared.partial, place);
    return threadgroup_min(best == top ? best_at : uint(OB_NONE), shared.partial_id, place);
}

// result[row, i] = the i-th largest logit's token and its log-probability under softmax(logits); OB_NONE where there
// are no more. logits [rows, vocab], stats [rows, parts], maxima [rows, blocks], result [rows, args.logprobs]; values
// and ids [rows, OB_SAMPLE_LIST] are scratch. One threadgroup per row. Step `sample`.
kernel void top_logprobs(device const float *logits [[buffer(0)]], device const SampleStats *stats [[buffer(1)]],
                         device const float *maxima [[buffer(2)]], device float *values [[buffer(3)]],
                         device uint *ids [[buffer(4)]], device SampleResult *result [[buffer(5)]],
                         constant SampleArgs &args [[buffer(6)]], uint3 at [[threadgroup_position_in_grid]],
                         OB_PLACE_PARAMETERS) {
    threadgroup float partial[32];
    threadgroup uint partial_id[32];
    Place place = OB_PLACE;
    Shared shared = {partial, partial_id};
    if (at.y >= args.rows) return;
    SampleStats all = total(stats + ulong(at.y) * parts_of(args.vocab), parts_of(args.vocab), 1);
    Row row = {logits + ulong(at.y) * args.vocab,
               maxima + ulong(at.y) * blocks_of(args.vocab),
               args.vocab,
               values + ulong(at.y) * OB_SAMPLE_LIST,
               ids + ulong(at.y) * OB_SAMPLE_LIST,
               all.top,
               M_LOG2E_F};
    Pool pool = whole(row.x, row.n);
    if (all.top > -INFINITY) pool = pool_above(row, floor_of_top(row, args.logprobs, shared, place), shared, place);
    float last = 0;
    uint last_at = OB_NONE;
    bool left = all.top > -INFINITY;
    for (uint k = 0; k < args.logprobs; k++) {
        if (left) last_at = next_largest(pool, last, last_at, shared, place);
        left = left && last_at != OB_NONE;
        SampleResult entry = {OB_NONE, -INFINITY};
        if (left) {
            last = pool.values[last_at];
            entry = {pool.listed ? pool.ids[last_at] : last_at, log_probability(last, all.top, all.sum)};
        }
        if (place.thread_index == 0) result[ulong(at.y) * args.logprobs + k] = entry;
    }
}
