// The experts of many rows, expert by expert: where an expert's pairs are, and their products by tensor cores.
#ifndef OB_EXPERTS_GROUPED_H
#define OB_EXPERTS_GROUPED_H

#include "experts.h"

using namespace metal;

// The group of an expert: positions begin … end - 1, which never reach beyond the pairs that there are.
struct Group {
    uint begin, end;
};

METAL_FUNC Group group_of(device const uint *offsets, uint expert, constant ExpertArgs &args) {
    return {offsets[expert], min(offsets[expert + 1], args.rows * args.top_k)};
}

// The pair at a position; one that there is, whatever the list holds.
METAL_FUNC uint pair_at(device const uint *pairs, uint position, constant ExpertArgs &args) {
    return min(pairs[position], args.rows * args.top_k - 1);
}

#ifdef __METAL_CUDA__
// The rows of the pairs from a position on.
struct PairRows {
    device const uint *pairs;
    uint first, pair_count, top_k;
    bool dense;
    METAL_FUNC ulong number(uint r) const {
        uint i = first + r;
        return dense ? i : min(pairs[i], pair_count - 1) / top_k;
    }
};
struct PairInputs : PairRows {
    enum { staged = 0 };
    device const float *x;
    uint inputs;
    METAL_FUNC PairInputs(PairRows own, device const float *x_, uint inputs_) : PairRows(own), x(x_), inputs(inputs_) {}
    METAL_FUNC device const float *row(uint r) const { return x + number(r) * inputs; }
};
// The same, staged before.
struct StagedPairs : PairRows {
    enum { staged = 1 };
    StagedRows rows;
    METAL_FUNC StagedPairs(PairRows own, StagedRows rows_) : PairRows(own), rows(rows_) {}
    METAL_FUNC ulong row(uint r) const { return number(r); }
};
METAL_FUNC PairRows pair_rows(device const uint *pairs, Group group, constant ExpertArgs &args) {
    return {pairs, group.begin, args.rows * args.top_k, args.top_k, args.dense != 0};
}

// All positions of an expert by tensor cores.
template <bool aligned, typename W, typename X>
METAL_FUNC void gate_up_tensor(W gate, W up, X inputs, Biases biases, device float *h, Group group, uint3 at,
                               constant ExpertArgs &args, Stage stage, Place place) {
    typedef GateUpTile<W, aligned> Tile;
    threadgroup typename Tile::Memory &memory = tensor_memory<typename Tile::Memory>(stage);
    uint begin = at.x * OB_LINEAR_OUTPUTS, end = min(begin + OB_LINEAR_OUTPUTS, args.outputs);
    Tile products(gate, up, at.y, begin, end, args, place);
    OB_ROLLED
    while (true) {
        uint count = min(uint(OB_TENSOR_ROWS), group.end - inputs.first);
        products.template multiply<false>(inputs, count, memory, place);
        OB_ROLLED
        for (uint i = place.thread_index; i < count * OB_LINEAR_OUTPUTS; i += place.threads) {
            uint r = i / OB_LINEAR_OUTPUTS, o = i % OB_LINEAR_OUTPUTS;
            if (begin + o >= end) continue;
            float g = products.product(0, r, o, memory), u = products.product(1, r, o, memory);
            h[ulong(inputs.first + r) * args.outputs + begin + o] = activated(g, u, biases, at.y, begin + o, args);
        }
        inputs.first += count;
        if (inputs.first >= group.end) return;
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

// All outputs of a tile for the positions of an expert.
template <bool aligned, typename W, typename X>
METAL_FUNC void down_tensor(W down, X inputs, device const uint *pairs, device const ushort *bias, device float *z,
                            ulong first, Group group, uint tile, constant ExpertArgs &args, Stage stage, Place place) {
    typedef TensorTile<1, OB_TENSOR_SHARES, typename W::Row, aligned> Tile;
    threadgroup typename Tile::Memory &memory = tensor_memory<typename Tile::Memory>(stage);
    uint begin = tile * OB_LINEAR_OUTPUTS, end = min(begin + OB_LINEAR_OUTPUTS, args.outputs);
    Tile products;
    for (uint i = 0; i < 2; i++) products.rows[0][i] = down.row(first + min(begin + place.lane / 4 + 8 * i, end - 1));
    products.begin(args.inputs);
    uint first_position = group.begin;
    OB_ROLLED
    while (true) {
        uint count = min(uint(OB_TENSOR_ROWS), group.end - first_position);
        products.template multiply<false>(inputs.from(first_position), count, memory, place);
        OB_ROLLED
        for (uint i = place.thread_index; i < count * OB_LINEAR_OUTPUTS; i += place.threads) {
            uint r = i / OB_LINEAR_OUTPUTS, o = i % OB_LINEAR_OUTPUTS;
            if (begin + o >= end) continue;
            z[ulong(pair_at(pairs, first_position + r, args)) * args.outputs + begin + o] =
                add_bias(products.product(0, r, o, memory), bias, args.bias, first + begin + o);
        }
        first_position += count;
        if (first_position >= group.end) return;
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}
#endif

#endif
