// The attention kernels share this code: which positions a row sees, and the softmax of parts of them.
#ifndef OB_ATTENTION_H
#define OB_ATTENTION_H

#include "args.h"
#include "cache.h"

// What a threadgroup works on: `heads` query heads that share a key-value head, and the `count` positions that a row
// sees. They are in the blocks that `table` names, from position `first` of these on; in a ring, entry 0 follows the last
// one. All of these blocks exist. `keys` and `values` are where a block of number 0 has this head's.
template <typename C>
struct AttentionHeads {
    device const float *q;
    device const C *keys, *values;
    device const uint *table;
    device const char *sinks;
    device float *y;
    uint head, heads;  // the first of these heads among all of a row
    uint first, count;

    // Returns the block of the j-th of these positions.
    METAL_FUNC uint block(uint j, constant AttentionArgs &args) const thread {
        uint entry = (first + j) / OB_CACHE_BLOCK;
        return table[entry < args.width ? entry : entry - args.width];
    }

    // Returns the row of the j-th of these positions, which is in `block`, counted from `keys` and `values` on.
    METAL_FUNC ulong row(uint j, uint block, constant AttentionArgs &args) const thread {
        ulong rows = ulong(metal::min(block, args.blocks - 1)) * (args.kv_heads * OB_CACHE_BLOCK);
        return rows + (first + j) % OB_CACHE_BLOCK;
    }
    METAL_FUNC ulong row(uint j, constant AttentionArgs &args) const thread { return row(j, block(j, args), args); }

    // Returns how many of up to `most` positions, from the j-th on, are in one block.
    METAL_FUNC uint together(uint j, uint most) const thread {
        return metal::min(OB_CACHE_BLOCK - (first + j) % OB_CACHE_BLOCK, most);
    }
};

// The positions that a row sees: `count` of them up to `last`.
struct Seen {
    uint last, count;
};

template <typename Args>
METAL_FUNC Seen seen_from(uint position, constant Args &args) {
    uint last = metal::min(position, uint(INT_MAX)), context = args.width * OB_CACHE_BLOCK, window = args.window;
    if (window & OB_CHUNKED) window = last % (window & ~OB_CHUNKED) + 1;
    window = metal::min(window ? window : context, context);
    return {last, metal::min(last, window - 1) + 1};
}

// Whether the caches have every block of `count` positions from `first` on. Each simdgroup looks at all of them.
template <typename Args>
METAL_FUNC bool have_blocks(device const uint *table, uint first, uint count, constant Args &args, Place place) {
    uint begin = first / OB_CACHE_BLOCK, end = (first + count + OB_CACHE_BLOCK - 1) / OB_CACHE_BLOCK;
    uint largest = 0;
    OB_ROLLED
    for (uint entry = begin + place.lane; entry < end; entry += place.threads / place.groups)
        largest = metal::max(largest, table[entry < args.width ? entry : entry - args.width]);
    return metal::simd_max(largest) < args.blocks;
}

METAL_FUNC float sink_of(device const char *sinks, uint kind, uint head) {
    if (kind == 0) return -INFINITY;
    if (kind == OB_F32) return ((device const float *)sinks)[head];
    if (kind == OB_F16) return float(((device const half *)sinks)[head]);
    return float(((device const bfloat *)sinks)[head]);
}

// The sum of weights of a sink alone; NaN where it is NaN or +inf.
METAL_FUNC float sink_weight(float sink) { return sink == -INFINITY ? 0 : 1 + (sink - sink); }

// Positions are worked on in parts of this many. The length depends on what the row sees and on the width of the block
// table, so that a row gives the same bits however its parts are shared out.
template <typename Args>
METAL_FUNC uint part_length(uint count, constant Args &args) {
    return count <= args.part * args.parts ? args.part : (count + args.parts - 1) / args.parts;
}

METAL_FUNC uint parts_of(uint count, uint length) { return count <= length ? 1 : (count + length - 1) / length; }

// Numbers that a part of a head leaves: its sums, its largest score, its total; the next part is aligned again.
template <typename Args>
METAL_FUNC uint part_row(constant Args &args) {
    return args.v_dim + OB_ATTENTION_PART_END;
}

// Scores are worked on as powers of two: e to the score is 2 to what this returns.
METAL_FUNC float to_powers(float score) { return score * M_LOG2E_F; }

// Weights are 2 to the (score - top); `total` is their sum.
struct Weights {
    float top, total;
};

// Joins the weights of two sets of positions: weights, and sums of values by them, of the first are multiplied by
// `mine`, those of the second by `other`. The order of the sets matters to the bits.
struct Joined {
    Weights both;
    float mine, other;

    METAL_FUNC float sum(float first, float second) const thread { return metal::fma(first, mine, second * other); }
};

// Returns what to subtract from scores whose largest is `top`; -inf - -inf would be NaN.
METAL_FUNC float shift_of(float top) { return top == -INFINITY ? 0.0f : top; }

// The weights of a sink alone.
METAL_FUNC Weights weights_of_sink(float sink) { return {to_powers(sink), sink_weight(sink)}; }

METAL_FUNC Joined join(Weights first, Weights second) {
    Joined r;
    r.both.top = second.top > first.top ? second.top : first.top;
    float shift = shift_of(r.both.top);
    r.mine = metal::exp2(first.top - shift);
    r.other = metal::exp2(second.top - shift);
    r.both.total = r.sum(first.total, second.total);
    return r;
}

#endif
