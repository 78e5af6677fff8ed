// The experts of a few rows, each by itself, on CUDA's tensor cores: with the norm and the routing, and with the residual sum,
// beside them. See pipeline/graph/fusing for where they stand in the place of norm.metal, routing.metal and experts.metal,
// whose bits they have.
#include "rows_experts.h"

using namespace metal;

#ifdef __METAL_CUDA__

// h[row, k] = act(gate[id] · n + gate_bias[id], up[id] · n + up_bias[id]), n = norm(x[row]), id the k-th expert of the row by
// its logits. x, norm and squares as those of row_linear; logits [rows, experts] of at most OB_ROW_EXPERTS experts; other
// arguments as those of experts_gate_up. Grid: OB_ROW_GATE_UP_TILES output tiles × rows × top_k. Step `experts` behind a norm
// and a router.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_ROW_GATE_UP_THREADS), user_annotation("early: norm")]] kernel void row_gate_up(
    device const uint *gate [[buffer(0)]], device const S *gate_scales [[buffer(1)]],
    device const S *gate_biases [[buffer(2)]], device const uint *up [[buffer(3)]],
    device const S *up_scales [[buffer(4)]], device const S *up_biases [[buffer(5)]],
    device const float *x [[buffer(6)]], device const S *norm [[buffer(7)]], device const float *squares [[buffer(8)]],
    device const float *logits [[buffer(9)]], device const ushort *gate_bias [[buffer(10)]],
    device const ushort *up_bias [[buffer(11)]], device float *h [[buffer(12)]],
    constant RowExpertArgs &args [[buffer(13)]], uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup RowGateUp memory;
    uint row = at.y, k = at.z, tile = at.x, tiles = args.outputs / OB_LINEAR_OUTPUTS;
    if (row >= args.rows) return;
    RowMatrix<S> gates = {gate, gate_scales, gate_biases}, ups = {up, up_scales, up_biases};
    x += ulong(row) * args.inputs;
    squares += ulong(row) * (args.inputs / OB_SQUARES);
    logits += ulong(row) * args.experts;
    h += (ulong(row) * args.top_k + k) * args.outputs;
    Place place = OB_PLACE;
    if (is_aligned(gates) && is_aligned(ups) && is_multiple<16>(norm) && is_multiple<16>(x)) {
        gate_up_chunks<bits, true>(gates, ups, x, norm, squares, logits, tile, tiles, k, args, memory, place);
    } else {
        metallib_apart([=, &memory] {
            gate_up_chunks<bits, false>(gates, ups, x, norm, squares, logits, tile, tiles, k, args, memory, place);
        });
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    write_gate_up(h, tile, k, Biases{gate_bias, up_bias}, args, memory, place);
}

// The sums of chunks of all experts.
template <uint bits, bool aligned, typename S>
METAL_FUNC void down_chunks(RowMatrix<S> down, device const float *h, uint tile, constant RowDownArgs &args,
                            threadgroup const uint *ids, threadgroup TensorStage<1> *stages,
                            threadgroup RowDown &memory, Place place) {
    uint lane = place.lane;
    OB_ROLLED
    for (uint unit = place.group; unit < args.top_k * args.chunks; unit += OB_ROW_DOWN_THREADS / 32) {
        uint k = unit / args.chunks, chunk = unit % args.chunks, id = ids[k];
        if (id >= args.experts) continue;
        RowTiles<1, bits, S> held;
        RowInput<TensorIntegers<bits, S>, S> in;
        held.template load<aligned>(down, id * args.outputs + tile * OB_LINEAR_OUTPUTS, 1, 1, chunk, args.chunks, lane);
        in.template read<aligned>(h + k * args.inputs, chunk, lane);
        in.stage(stages[place.group], lane);
        held.multiply(stages[place.group], memory.sums + unit, 0, lane);
    }
}

// y = residual + Σ_k weight of k · (down[id] · h[k] + bias[id]), id the k-th expert of the row by its logits, for each row,
// and the sums of its squares, squares [rows, outputs / 16]. logits [rows, experts], and counts, as moe_routing has them;
// outputs is a multiple of 64; other arguments as those of experts_down. Grid: output tiles × rows. Step `experts` behind a
// router and before a norm.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_ROW_DOWN_THREADS)]] kernel void row_down(
    device const uint *down [[buffer(0)]], device const S *scales [[buffer(1)]], device const S *biases [[buffer(2)]],
    device const float *h [[buffer(3)]], device const float *logits [[buffer(4)]],
    device const ushort *bias [[buffer(5)]], device const float *residual [[buffer(6)]], device float *y [[buffer(7)]],
    device float *squares [[buffer(8)]], device atomic_uint *counts [[buffer(9)]],
    device atomic_uint *status [[buffer(10)]], constant RowDownArgs &args [[buffer(11)]],
    uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup RowRanks ranks;
    threadgroup uint id_memory[OB_ROW_TOP_K];
    threadgroup TensorStage<1> stage_memory[OB_ROW_DOWN_THREADS / 32];
    threadgroup RowDown memory;
    threadgroup uint *ids = id_memory;
    threadgroup TensorStage<1> *stages = stage_memory;
    Place place = OB_PLACE;
    uint row = at.y, tile = at.x;
    if (row >= args.rows) return;
    if (thread_index < OB_ROW_TOP_K) ids[thread_index] = OB_NONE;
    uint rank = rank_of(logits + ulong(row) * args.experts, args.experts, ranks, place);
    if (rank < args.top_k) ids[rank] = thread_index;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    RowMatrix<S> matrix = {down, scales, biases};
    h += ulong(row) * args.top_k * args.inputs;
    if (is_aligned(matrix) && is_multiple<16>(h)) {
        down_chunks<bits, true>(matrix, h, tile, args, ids, stages, memory, place);
    } else {
        metallib_apart([=, &memory] { down_chunks<bits, false>(matrix, h, tile, args, ids, stages, memory, place); });
    }
    write_down(RowResult{bias, residual, y, squares, counts, status, row}, tile, args.chunks, args.outputs, args.bias,
               args, ranks, ids, memory, place);
}

// What row_experts has, for one row.
template <typename S>
struct RowExperts {
    RowMatrix<S> gate, up, down;
    device const float *x;
    device const S *norm;
    device const float *squares, *logits;
    Biases biases;
    device float *h;
    device uint *arrived;
};

// All but the end of row_experts. A simdgroup takes up to two units of down, which are on their way while h is made.
template <uint bits, bool aligned, typename S>
METAL_FUNC void expert_chunks(RowExperts<S> all, uint tile, uint k, uint columns, constant RowMixtureArgs &args,
                              threadgroup RowGateUp &first, threadgroup RowDown &second, Place place) {
    const uint groups = OB_ROW_GATE_UP_THREADS / 32, units = 2;
    uint lane = place.lane, own = k * columns + tile;
    gate_up_chunks<bits, aligned>(all.gate, all.up, all.x, all.norm, all.squares, all.logits, tile,
                                  args.outputs / OB_LINEAR_OUTPUTS, k, args, first, place);
    RowTiles<1, bits, S> held[units];
    RowInput<TensorIntegers<bits, S>, S> in[units];
    bool works[units];
    OB_UNROLL
    for (uint u = 0; u < units; u++) {
        uint unit = place.group + u * groups, expert = unit / args.down_chunks, chunk = unit % args.down_chunks;
        works[u] = unit < args.top_k * args.down_chunks && own * OB_LINEAR_OUTPUTS < args.down_outputs;
        uint id = works[u] ? first.ids[expert] : OB_NONE;
        works[u] = id < args.experts;
        if (works[u])
            held[u].template load<aligned>(all.down, id * args.down_outputs + own * OB_LINEAR_OUTPUTS, 1, 1, chunk,
                                           args.down_chunks, lane);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    write_gate_up(all.h + k * args.outputs, tile, k, all.biases, args, first, place);
    metallib_meet(all.arrived, columns * args.top_k);
    OB_UNROLL
    for (uint u = 0; u < units; u++) {
        uint unit = place.group + u * groups;
        if (works[u])
            in[u].template read<aligned>(all.h + unit / args.down_chunks * args.outputs, unit % args.down_chunks, lane);
    }
    OB_UNROLL
    for (uint u = 0; u < units; u++) {
        if (!works[u]) continue;
        in[u].stage(first.stages[place.group], lane);
        held[u].multiply(first.stages[place.group], second.sums + place.group + u * groups, 0, lane);
    }
}

// row_gate_up and row_down of one row in one kernel: its threadgroups, which are as many as tiles of down at least, and which
// the GPU has resident together, meet in between. arrived [1] is 0 at first; h [top_k, outputs] is what they make for each
// other. Other arguments, and the grid, as those of row_gate_up and of row_down.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_ROW_GATE_UP_THREADS), user_annotation("early: norm")]] kernel void row_experts(
    device const uint *gate [[buffer(0)]], device const S *gate_scales [[buffer(1)]],
    device const S *gate_biases [[buffer(2)]], device const uint *up [[buffer(3)]],
    device const S *up_scales [[buffer(4)]], device const S *up_biases [[buffer(5)]],
    device const uint *down [[buffer(6)]], device const S *down_scales [[buffer(7)]],
    device const S *down_biases [[buffer(8)]], device const float *x [[buffer(9)]], device const S *norm [[buffer(10)]],
    device const float *squares [[buffer(11)]], device const float *logits [[buffer(12)]],
    device const ushort *gate_bias [[buffer(13)]], device const ushort *up_bias [[buffer(14)]],
    device const ushort *down_bias [[buffer(15)]], device const float *residual [[buffer(16)]],
    device float *h [[buffer(17)]], device float *y [[buffer(18)]], device float *sums [[buffer(19)]],
    device uint *arrived [[buffer(20)]], device atomic_uint *counts [[buffer(21)]],
    device atomic_uint *status [[buffer(22)]], constant RowMixtureArgs &args [[buffer(23)]],
    uint3 at [[threadgroup_position_in_grid]], uint3 grid [[threadgroups_per_grid]], OB_PLACE_PARAMETERS) {
    threadgroup RowGateUp first;
    threadgroup RowDown second;
    Place place = OB_PLACE;
    uint tile = at.x, k = at.z, columns = grid.x, own = k * columns + tile;
    RowExperts<S> all = {{gate, gate_scales, gate_biases},
                         {up, up_scales, up_biases},
                         {down, down_scales, down_biases},
                         x,
                         norm,
                         squares,
                         logits,
                         {gate_bias, up_bias},
                         h,
                         arrived};
    if (is_aligned(all.gate) && is_aligned(all.up) && is_aligned(all.down) && is_multiple<16>(norm) &&
        is_multiple<16>(x) && is_multiple<16>(h)) {
        expert_chunks<bits, true>(all, tile, k, columns, args, first, second, place);
    } else {
        metallib_apart(
            [=, &first, &second] { expert_chunks<bits, false>(all, tile, k, columns, args, first, second, place); });
    }
    if (own * OB_LINEAR_OUTPUTS >= args.down_outputs) return;
    write_down(RowResult{down_bias, residual, y, sums, counts, status, 0}, own, args.down_chunks, args.down_outputs,
               args.down_bias, args, first.ranks, first.ids, second, place);
}

#define OB_INSTANTIATE(name, bits, S)                                                                        \
    template [[host_name("row_gate_up_" #name)]] kernel decltype(row_gate_up<bits, S>) row_gate_up<bits, S>; \
    template [[host_name("row_down_" #name)]] kernel decltype(row_down<bits, S>) row_down<bits, S>;          \
    template [[host_name("row_experts_" #name)]] kernel decltype(row_experts<bits, S>) row_experts<bits, S>;
OB_TENSOR_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE

#endif
