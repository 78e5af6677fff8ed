// The parts of rows_experts.metal: the ranks of a row's experts, the sums of gate and up, and the end of down.
#ifndef OB_ROWS_EXPERTS_H
#define OB_ROWS_EXPERTS_H

#include "experts.h"
#include "routing.h"
#include "routing_simd.h"
#include "rows.h"

#ifdef __METAL_CUDA__

// What 4 · OB_ROW_EXPERTS threads share that rank a row's experts.
struct RowRanks {
    metal::uint4 orders[OB_ROW_EXPERTS / 4];  // of the experts' numbers; see routing_simd.h
    uint before[4][OB_ROW_EXPERTS];           // how many experts of each quarter come before an expert
};

// Returns, to each of the first OB_ROW_EXPERTS threads, which place among the chosen its expert has, from 0 on; OB_NONE to
// others, and where the routing has no such expert. All threads of the threadgroup take part.
METAL_FUNC uint rank_of(device const float *logits, uint count, threadgroup RowRanks &memory, Place place) {
    const uint lowest = order_of(-INFINITY);
    threadgroup uint *orders = (threadgroup uint *)memory.orders;
    uint e = place.thread_index % OB_ROW_EXPERTS, quarter = place.thread_index / OB_ROW_EXPERTS;
    if (quarter == 0) orders[e] = e < count ? order_of(logits[e]) : 0;
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    uint own = orders[e];
    if (quarter < 4) {
        // Of two with the same number the first comes first.
        uint mine = e / (OB_ROW_EXPERTS / 4), least = quarter > mine ? own + 1 : own, before = 0;
        OB_UNROLL
        for (uint i = 0; i < OB_ROW_EXPERTS / 16; i++) {
            metal::uint4 other = memory.orders[quarter * (OB_ROW_EXPERTS / 16) + i];
            before += uint(other.x >= least) + uint(other.y >= least) + uint(other.z >= least) + uint(other.w >= least);
        }
        OB_ROLLED
        for (uint i = e; quarter == mine && i < (mine + 1) * (OB_ROW_EXPERTS / 4); i++) before -= orders[i] == own;
        memory.before[quarter][e] = before;
    }
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    if (quarter != 0 || own < lowest) return OB_NONE;
    bool some = own > lowest;
    OB_ROLLED
    for (uint i = 0; !some && i < OB_ROW_EXPERTS; i++) some = orders[i] > lowest;
    return some ? memory.before[0][e] + memory.before[1][e] + memory.before[2][e] + memory.before[3][e] : OB_NONE;
}

// The weight of the lane's expert, of the `top_k` in ids, by one simdgroup, behind rank_of; see route_simd.
template <typename A>
METAL_FUNC float row_weight(threadgroup const RowRanks &ranks, threadgroup const uint *ids, constant A &args,
                            uint lane) {
    threadgroup const uint *orders = (threadgroup const uint *)ranks.orders;
    uint id = lane < args.top_k ? ids[lane] : OB_NONE, first = ids[0];
    if (first == OB_NONE) return 0;
    float top = number_of(orders[first]), weight = id == OB_NONE ? 0 : share(number_of(orders[id]), top),
          total = weight;
    if (!args.renormalise) {
        total = 0;
        OB_UNROLL
        for (uint e = 0; e < 4; e++) total += share(number_of(orders[lane + e * OB_ROUTING_LANES]), top);
    }
    return weight / metal::simd_sum(total) * args.scale;
}

// What threads share that rank experts and make gate and up.
struct RowGateUp {
    RowRanks ranks;
    uint ids[OB_ROW_TOP_K];
    TensorStage<1> stages[OB_ROW_GATE_UP_THREADS / 32];
    RowSums sums[2 * OB_ROW_GATE_UP_TILES * OB_ROW_CHUNKS];
};

// Ranks the experts of a row, and makes the sums of chunks of gate and up, which share the simdgroups, for number k of them.
template <uint bits, bool aligned, typename S, typename A>
METAL_FUNC void gate_up_chunks(RowMatrix<S> gate, RowMatrix<S> up, device const float *x, device const S *norm,
                               device const float *squares, device const float *logits, uint tile, uint tiles, uint k,
                               constant A &args, threadgroup RowGateUp &memory, Place place) {
    typedef TensorIntegers<bits, S> Tensor;
    const uint T = OB_ROW_GATE_UP_TILES, groups = OB_ROW_GATE_UP_THREADS / 64;
    RowTiles<T, bits, S> held;
    RowInput<Tensor, S> in;
    uint lane = place.lane, part = place.group / groups, chunk = place.group % groups;
    bool works = chunk < args.chunks;
    if (works) in.template read_norm<aligned>(norm, chunk, lane);
    wait_for_kernels();
    if (works) in.template read<aligned>(x, chunk, lane);
    float factor = row_factor(squares, args.inputs, args.eps, lane);
    if (place.thread_index < OB_ROW_TOP_K) memory.ids[place.thread_index] = OB_NONE;
    uint rank = rank_of(logits, args.experts, memory.ranks, place);
    if (rank < args.top_k) memory.ids[rank] = place.thread_index;
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    uint id = memory.ids[k], count = metal::min(tiles - tile * T, T);
    if (id >= args.experts) return;
    RowMatrix<S> own = gate;
    if (part == 1) own = up;
    uint row = id * args.expert_rows + tile * T * OB_LINEAR_OUTPUTS * args.row_step;
    if (works) held.template load<aligned>(own, row, args.row_step, count, chunk, args.chunks, lane);
    if (!works) return;
    OB_ROLLED
    for (;;) {
        in.norm(factor, args.weight_offset);
        in.stage(memory.stages[place.group], lane);
        held.multiply(memory.stages[place.group], memory.sums + part * T * OB_ROW_CHUNKS + chunk, OB_ROW_CHUNKS, lane);
        chunk += groups;
        if (chunk >= args.chunks) return;
        held.template load<aligned>(own, row, args.row_step, count, chunk, args.chunks, lane);
        in.template read_norm<aligned>(norm, chunk, lane);
        in.template read<aligned>(x, chunk, lane);
    }
}

// Adds up the sums of gate_up_chunks: OB_ROW_GATE_UP_TILES tiles of h, from tile number OB_ROW_GATE_UP_TILES · tile on.
template <typename A>
METAL_FUNC void write_gate_up(device float *h, uint tile, uint k, Biases biases, constant A &args,
                              threadgroup const RowGateUp &memory, Place place) {
    uint o = place.thread_index, output = tile * OB_ROW_GATE_UP_TILES * OB_LINEAR_OUTPUTS + o, id = memory.ids[k];
    if (o >= OB_ROW_GATE_UP_TILES * OB_LINEAR_OUTPUTS || output >= args.outputs) return;
    threadgroup const RowSums *own = memory.sums + o / OB_LINEAR_OUTPUTS * OB_ROW_CHUNKS;
    float products[2];
    OB_ROLLED
    for (uint i = 0; i < 2; i++, own += OB_ROW_GATE_UP_TILES * OB_ROW_CHUNKS)
        products[i] = row_product<OB_TENSOR_SHARES>(own, o % OB_LINEAR_OUTPUTS, args.chunks);
    h[output] = id < args.experts ? activated(products[0], products[1], biases, id, output, args) : 0;
}

// What threads share that make down.
struct RowDown {
    RowSums sums[OB_ROW_SHARES];  // of chunks, expert by expert
    RowSums products[OB_ROW_TOP_K];
    float weights[OB_ROW_TOP_K];  // 0 where there is no expert
};

// Where a row's experts go.
struct RowResult {
    device const ushort *bias;
    device const float *residual;
    device float *y, *squares;
    device metal::atomic_uint *counts, *status;
    uint row;
};

// Adds up the experts' sums for tile `tile`. `routing`: args as RouteArgs has them; chunks, outputs, bias: of down.
template <typename A>
METAL_FUNC void write_down(RowResult to, uint tile, uint chunks, uint outputs, uint bias, constant A &args,
                           threadgroup const RowRanks &ranks, threadgroup const uint *ids, threadgroup RowDown &memory,
                           Place place) {
    uint o = place.thread_index % OB_LINEAR_OUTPUTS, own = place.thread_index / OB_LINEAR_OUTPUTS, lane = place.lane;
    ulong i = ulong(to.row) * outputs + tile * OB_LINEAR_OUTPUTS + o;
    float add = place.group == 0 ? to.residual[i] : 0;
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    if (own < args.top_k) {
        float product = 0;
        if (ids[own] < args.experts) {
            product = row_product<OB_TENSOR_SHARES>(memory.sums + own * chunks, o, chunks);
            product = add_bias(product, to.bias, bias, ulong(ids[own]) * outputs + tile * OB_LINEAR_OUTPUTS + o);
        }
        memory.products[own][o] = product;
    }
    if (place.group == OB_ROW_TOP_K / 2) {
        float weight = row_weight(ranks, ids, args, lane);
        if (lane < OB_ROW_TOP_K) memory.weights[lane] = weight;
        if (tile == 0 && lane == 0 && ids[0] == OB_NONE) fail_row(to.status, to.row, args.step);
        if (tile == 0 && lane < args.top_k && args.has_counts && ids[lane] != OB_NONE)
            metal::atomic_fetch_add_explicit(&to.counts[ids[lane]], 1u, metal::memory_order_relaxed);
    }
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    if (place.group != 0) return;
    float sum = 0;
    OB_UNROLL
    for (uint k = 0; k < OB_ROW_TOP_K; k++) {
        if (k < args.top_k) sum = add_expert(sum, memory.weights[k], memory.products[k][o]);
    }
    sum = add + sum;
    if (lane < OB_LINEAR_OUTPUTS) to.y[i] = sum;
    sum = squares_of(sum);
    if (lane == 0) to.squares[ulong(to.row) * (outputs / OB_SQUARES) + tile] = sum;
}

#endif
#endif
