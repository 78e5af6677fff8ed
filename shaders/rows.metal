// Decoding of a few rows, each by itself, on CUDA's tensor cores: projections that norm their input on the way, or leave the
// sums of squares by which others do; and experts with the norm and the routing, or with the residual sum, beside them. See
// pipeline/graph/fusing.py for where they stand in the place of norm.metal, linear.metal, routing.metal and experts.metal,
// whose bits they have.
#include "rows.h"

using namespace metal;

#ifdef __METAL_CUDA__

// The sums of chunks of T tiles of a matrix, for a row that is normed with `squares`, or for one as it is. `row`: the tiles'
// first row; `count`: tiles that there are.
template <bool normed, uint T, uint groups, uint bits, bool aligned, typename S>
METAL_FUNC void row_chunks(RowMatrix<S> matrix, uint row, uint count, device const float *x, device const S *norm,
                           device const float *squares, constant RowArgs &args, threadgroup TensorStage<1> *stages,
                           threadgroup RowSums *sums, Place place) {
    typedef TensorIntegers<bits, S> Tensor;
    RowTiles<T, bits, S> tiles;
    RowInput<Tensor, S> in;
    uint chunk = place.group, lane = place.lane;
    if (chunk < args.chunks) {
        tiles.template load<aligned>(matrix, row, 1, count, chunk, args.chunks, lane);
        if (normed) in.template read_norm<aligned>(norm, chunk, lane);
    }
    wait_for_kernels();
    if (chunk >= args.chunks) return;
    in.template read<aligned>(x, chunk, lane);
    float factor = normed ? row_factor(squares, args.inputs, args.eps, lane) : 1;
    OB_ROLLED
    for (;;) {
        if (normed) in.norm(factor, args.weight_offset);
        in.stage(stages[place.group], lane);
        tiles.multiply(stages[place.group], sums + chunk, OB_ROW_CHUNKS, lane);
        chunk += groups;
        if (chunk >= args.chunks) return;
        tiles.template load<aligned>(matrix, row, 1, count, chunk, args.chunks, lane);
        if (normed) in.template read_norm<aligned>(norm, chunk, lane);
        in.template read<aligned>(x, chunk, lane);
    }
}

template <bool normed, uint T, uint groups, uint bits, typename S>
METAL_FUNC void row_sums(RowMatrix<S> matrix, uint row, uint count, device const float *x, device const S *norm,
                         device const float *squares, constant RowArgs &args, threadgroup TensorStage<1> *stages,
                         threadgroup RowSums *sums, Place place) {
    if (is_aligned(matrix) && (!normed || is_multiple<16>(norm)) && is_multiple<16>(x)) {
        row_chunks<normed, T, groups, bits, true>(matrix, row, count, x, norm, squares, args, stages, sums, place);
    } else {
        metallib_apart([=] {
            row_chunks<normed, T, groups, bits, false>(matrix, row, count, x, norm, squares, args, stages, sums, place);
        });
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
}

// The tiles of row_linear: those of number `begin` and each args.width further, OB_ROW_TILES at a time for each of the parts
// of the threadgroup, as many as it has simdgroups for all chunks. Weights of the next tiles are on their way while those
// before are added up.
template <uint bits, bool aligned, typename S>
METAL_FUNC void row_tiles(RowMatrix<S> matrix, device const float *x, device const S *norm, device const float *squares,
                          device const ushort *bias, device float *y, uint begin, constant RowArgs &args,
                          threadgroup TensorStage<1> *stages, threadgroup RowSums *sums, Place place) {
    typedef TensorIntegers<bits, S> Tensor;
    const uint T = OB_ROW_TILES, groups = OB_ROW_THREADS / 32;
    RowTiles<T, bits, S> held;
    RowInput<Tensor, S> in;
    uint lane = place.lane, chunks = args.chunks, parts = max(groups / chunks, 1u), part = place.group / min(chunks, groups);
    uint mine = place.group % min(chunks, groups), chunk = mine, all = args.outputs0 / OB_LINEAR_OUTPUTS;
    bool works = part < parts;
    if (part >= parts) part = 0;
    uint first = begin * parts * T, slots = parts * T * chunks, buffer = 0;
    if (works) {
        held.template load<aligned>(matrix, (first + part * T) * OB_LINEAR_OUTPUTS, 1,
                                    all - min(first + part * T, all), chunk, chunks, lane);
        in.template read_norm<aligned>(norm, chunk, lane);
    }
    wait_for_kernels();
    float factor = row_factor(squares, args.inputs, args.eps, lane);
    OB_ROLLED
    for (uint c = chunk; works && c < chunks; c += groups) {
        if (c != chunk) in.template read_norm<aligned>(norm, c, lane);
        in.template read<aligned>(x, c, lane);
        in.norm(factor, args.weight_offset);
        in.stage(stages[place.group + c - mine], lane);
    }
    OB_ROLLED
    while (first < all) {
        if (works) held.multiply(stages[place.group + chunk - mine], sums + buffer + part * T * chunks + chunk, chunks, lane);
        uint before = first;
        chunk += groups;
        if (chunk >= chunks) {
            chunk = mine;
            first += args.width * parts * T;
        }
        if (works && first < all)
            held.template load<aligned>(matrix, (first + part * T) * OB_LINEAR_OUTPUTS, 1,
                                        all - min(first + part * T, all), chunk, chunks, lane);
        if (first == before) continue;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint o = place.thread_index, output = before * OB_LINEAR_OUTPUTS + o;
        if (o < parts * T * OB_LINEAR_OUTPUTS && output < args.outputs0) {
            float v = row_product<OB_LINEAR_THREADS / 32>(sums + buffer + o / OB_LINEAR_OUTPUTS * chunks,
                                                          o % OB_LINEAR_OUTPUTS, chunks);
            y[output] = add_bias(v, bias, args.bias0, output);
        }
        buffer = slots - buffer;
    }
}

// y = norm(x) · wᵀ + bias for each row of x [rows, inputs]; squares [rows, inputs / 16] are the sums of its squares, norm
// [inputs]. weight [outputs0, inputs], outputs0 a multiple of 16; bias [outputs0], read where args says so. Grid: args.width
// × rows. Steps `linear` and `moe_router` behind a norm.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_ROW_THREADS), user_annotation("early: weight, scales, biases, norm")]] kernel void
row_linear(device const uint *weight [[buffer(0)]], device const S *scales [[buffer(1)]],
           device const S *biases [[buffer(2)]], device const float *x [[buffer(3)]],
           device const S *norm [[buffer(4)]], device const float *squares [[buffer(5)]],
           device const ushort *bias [[buffer(6)]], device float *y [[buffer(7)]], constant RowArgs &args [[buffer(8)]],
           uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup TensorStage<1> stage_memory[OB_ROW_CHUNKS];
    threadgroup RowSums sum_memory[2 * OB_ROW_TILES * OB_ROW_CHUNKS];
    threadgroup TensorStage<1> *stages = stage_memory;
    threadgroup RowSums *sums = sum_memory;
    uint row = at.y, begin = at.x;
    if (row >= args.rows) return;
    RowMatrix<S> matrix = {weight, scales, biases};
    x += ulong(row) * args.inputs;
    y += ulong(row) * args.outputs0;
    squares += ulong(row) * (args.inputs / OB_SQUARES);
    Place place = OB_PLACE;
    if (is_aligned(matrix) && is_multiple<16>(norm) && is_multiple<16>(x)) {
        row_tiles<bits, true>(matrix, x, norm, squares, bias, y, begin, args, stages, sums, place);
    } else {
        metallib_apart(
            [=] { row_tiles<bits, false>(matrix, x, norm, squares, bias, y, begin, args, stages, sums, place); });
    }
}

// y_i = norm(x) · w_iᵀ + bias_i, i = 0, 1, 2, as row_linear has it; outputs_i are multiples of 16 · OB_ROW3_TILES. Grid: such
// tiles of all three × rows. Step `linear3` behind a norm.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_ROW3_THREADS),
  user_annotation("resident threads: 512; early: weight0, scales0, biases0, weight1, scales1, biases1, weight2, scales2, "
                  "biases2, norm")]] kernel void
row_linear3(device const uint *weight0 [[buffer(0)]], device const S *scales0 [[buffer(1)]],
            device const S *biases0 [[buffer(2)]], device const uint *weight1 [[buffer(3)]],
            device const S *scales1 [[buffer(4)]], device const S *biases1 [[buffer(5)]],
            device const uint *weight2 [[buffer(6)]], device const S *scales2 [[buffer(7)]],
            device const S *biases2 [[buffer(8)]], device const float *x [[buffer(9)]],
            device const S *norm [[buffer(10)]], device const float *squares [[buffer(11)]],
            device const ushort *bias0 [[buffer(12)]], device const ushort *bias1 [[buffer(13)]],
            device const ushort *bias2 [[buffer(14)]], device float *y0 [[buffer(15)]], device float *y1 [[buffer(16)]],
            device float *y2 [[buffer(17)]], constant RowArgs &args [[buffer(18)]],
            uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup TensorStage<1> stages[OB_ROW3_THREADS / 32];
    threadgroup RowSums sums[OB_ROW3_TILES * OB_ROW_CHUNKS];
    const uint wide = OB_LINEAR_OUTPUTS * OB_ROW3_TILES;
    uint row = at.y, begin = at.x * wide, outputs = args.outputs0, bias_type = args.bias0;
    if (row >= args.rows) return;
    RowMatrix<S> matrix = {weight0, scales0, biases0};
    device const ushort *bias = bias0;
    device float *y = y0;
    if (begin >= outputs) {
        begin -= outputs;
        bool last = begin >= args.outputs1;
        if (last) begin -= args.outputs1;
        matrix = last ? RowMatrix<S>{weight2, scales2, biases2} : RowMatrix<S>{weight1, scales1, biases1};
        bias = last ? bias2 : bias1;
        y = last ? y2 : y1;
        outputs = last ? args.outputs2 : args.outputs1;
        bias_type = last ? args.bias2 : args.bias1;
    }
    row_sums<true, OB_ROW3_TILES, OB_ROW3_THREADS / 32, bits>(
        matrix, begin, OB_ROW3_TILES, x + ulong(row) * args.inputs, norm,
        squares + ulong(row) * (args.inputs / OB_SQUARES), args, stages, sums, OB_PLACE);
    uint o = thread_index;
    if (o >= wide) return;
    float v = row_product<OB_AFFINE_THREADS / 32>(sums + o / OB_LINEAR_OUTPUTS * OB_ROW_CHUNKS, o % OB_LINEAR_OUTPUTS,
                                                  args.chunks);
    y[ulong(row) * outputs + begin + o] = add_bias(v, bias, bias_type, begin + o);
}

// y = add + x · wᵀ + bias, and the sums of its squares, sums [rows, outputs0 / 16]; outputs0 is a multiple of 64, other
// arguments as those of `linear`. Grid: output tiles × rows. Step `linear` before a norm.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_ROW_THREADS), user_annotation("early: weight, scales, biases")]] kernel void
row_squares(device const uint *weight [[buffer(0)]], device const S *scales [[buffer(1)]],
            device const S *biases [[buffer(2)]], device const float *x [[buffer(3)]],
            device const ushort *bias [[buffer(4)]], device const float *add [[buffer(5)]],
            device float *y [[buffer(6)]], device float *squares [[buffer(7)]], constant RowArgs &args [[buffer(8)]],
            uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup TensorStage<1> stages[OB_ROW_THREADS / 32];
    threadgroup RowSums sums[OB_ROW_CHUNKS];
    uint row = at.y, begin = at.x * OB_LINEAR_OUTPUTS, o = lane % OB_LINEAR_OUTPUTS;
    if (row >= args.rows) return;
    row_sums<false, 1, OB_ROW_THREADS / 32, bits>(RowMatrix<S>{weight, scales, biases}, begin, 1,
                                                  x + ulong(row) * args.inputs, scales, x, args, stages, sums, OB_PLACE);
    if (group != 0) return;
    ulong i = ulong(row) * args.outputs0 + begin + o;
    float v = row_product<OB_LINEAR_THREADS / 32>(sums, o, args.chunks);
    v = add[i] + add_bias(v, bias, args.bias0, begin + o);
    if (lane < OB_LINEAR_OUTPUTS) y[i] = v;
    v = squares_of(v);
    if (lane == 0) squares[ulong(row) * (args.outputs0 / OB_SQUARES) + at.x] = v;
}

// The sums of chunks of gate and up, which share the simdgroups, for expert number k of a row. Gives the expert.
template <uint bits, bool aligned, typename S>
METAL_FUNC uint gate_up_chunks(RowMatrix<S> gate, RowMatrix<S> up, device const float *x,
                               device const S *norm, device const float *squares, device const float *logits,
                               uint tile, uint tiles, uint k, constant RowExpertArgs &args,
                               threadgroup uint &chosen, threadgroup RowRanks &ranks, threadgroup TensorStage<1> *stages, threadgroup RowSums *sums, Place place) {
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
    if (place.thread_index == 0) chosen = OB_NONE;
    if (rank_of(logits, args.experts, ranks, place) == k) chosen = place.thread_index;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint id = chosen, count = min(tiles - tile * T, T);
    if (id >= args.experts) return id;
    RowMatrix<S> own = gate;
    if (part == 1) own = up;
    uint row = id * args.expert_rows + tile * T * OB_LINEAR_OUTPUTS * args.row_step;
    if (works) held.template load<aligned>(own, row, args.row_step, count, chunk, args.chunks, lane);
    if (!works) return id;
    OB_ROLLED
    for (;;) {
        in.norm(factor, args.weight_offset);
        in.stage(stages[place.group], lane);
        held.multiply(stages[place.group], sums + part * T * OB_ROW_CHUNKS + chunk, OB_ROW_CHUNKS, lane);
        chunk += groups;
        if (chunk >= args.chunks) return id;
        held.template load<aligned>(own, row, args.row_step, count, chunk, args.chunks, lane);
        in.template read_norm<aligned>(norm, chunk, lane);
        in.template read<aligned>(x, chunk, lane);
    }
}

// h[row, k] = act(gate[id] · n + gate_bias[id], up[id] · n + up_bias[id]), n = norm(x[row]), id the k-th expert of the row by
// its logits. x, norm and squares as those of row_linear; logits [rows, experts] of at most OB_ROW_EXPERTS experts; other arguments as those of experts_gate_up. Grid: OB_ROW_GATE_UP_TILES
// output tiles × rows × top_k. Step `experts` behind a norm and a router.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_ROW_GATE_UP_THREADS), user_annotation("early: norm")]] kernel void
row_gate_up(device const uint *gate [[buffer(0)]], device const S *gate_scales [[buffer(1)]],
            device const S *gate_biases [[buffer(2)]], device const uint *up [[buffer(3)]],
            device const S *up_scales [[buffer(4)]], device const S *up_biases [[buffer(5)]],
            device const float *x [[buffer(6)]], device const S *norm [[buffer(7)]],
            device const float *squares [[buffer(8)]], device const float *logits [[buffer(9)]],
            device const ushort *gate_bias [[buffer(10)]], device const ushort *up_bias [[buffer(11)]],
            device float *h [[buffer(12)]], constant RowExpertArgs &args [[buffer(13)]], uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup uint chosen;
    threadgroup RowRanks ranks;
    threadgroup TensorStage<1> stage_memory[OB_ROW_GATE_UP_THREADS / 32];
    threadgroup RowSums sum_memory[2 * OB_ROW_GATE_UP_TILES * OB_ROW_CHUNKS];
    threadgroup TensorStage<1> *stages = stage_memory;
    threadgroup RowSums *sums = sum_memory;
    const uint wide = OB_ROW_GATE_UP_TILES * OB_LINEAR_OUTPUTS;
    uint row = at.y, k = at.z, tile = at.x, tiles = args.outputs / OB_LINEAR_OUTPUTS;
    if (row >= args.rows) return;
    RowMatrix<S> gates = {gate, gate_scales, gate_biases}, ups = {up, up_scales, up_biases};
    x += ulong(row) * args.inputs;
    squares += ulong(row) * (args.inputs / OB_SQUARES);
    logits += ulong(row) * args.experts;
    h += (ulong(row) * args.top_k + k) * args.outputs;
    Place place = OB_PLACE;
    uint id;
    if (is_aligned(gates) && is_aligned(ups) && is_multiple<16>(norm) && is_multiple<16>(x)) {
        id = gate_up_chunks<bits, true>(gates, ups, x, norm, squares, logits, tile, tiles, k, args, chosen,
                                        ranks, stages, sums, place);
    } else {
        metallib_apart([=, &chosen, &ranks] {
            gate_up_chunks<bits, false>(gates, ups, x, norm, squares, logits, tile, tiles, k, args, chosen,
                                        ranks, stages, sums, place);
        });
        id = chosen;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint o = thread_index, output = tile * wide + o;
    if (o >= wide || output >= args.outputs) return;
    if (id >= args.experts) {
        h[output] = 0;
        return;
    }
    threadgroup RowSums *own = sums + o / OB_LINEAR_OUTPUTS * OB_ROW_CHUNKS;
    float products[2];
    OB_ROLLED
    for (uint i = 0; i < 2; i++, own += OB_ROW_GATE_UP_TILES * OB_ROW_CHUNKS)
        products[i] = row_product<OB_TENSOR_SHARES>(own, o % OB_LINEAR_OUTPUTS, args.chunks);
    h[output] = activated(products[0], products[1], Biases{gate_bias, up_bias}, id, output, args);
}

// What the threads of row_down share.
struct RowDown {
    RowRanks ranks;
    TensorStage<1> stages[OB_ROW_DOWN_THREADS / 32];
    RowSums sums[OB_ROW_SHARES];  // of chunks, expert by expert
    RowSums products[OB_ROW_TOP_K];
    float weights[OB_ROW_TOP_K];  // 0 where there is no expert
    uint ids[OB_ROW_TOP_K];
};

// The sums of chunks of all experts.
template <uint bits, bool aligned, typename S>
METAL_FUNC void down_chunks(RowMatrix<S> down, device const float *h, uint tile, constant RowDownArgs &args,
                            threadgroup RowDown &memory, Place place) {
    uint lane = place.lane;
    OB_ROLLED
    for (uint unit = place.group; unit < args.top_k * args.chunks; unit += OB_ROW_DOWN_THREADS / 32) {
        uint k = unit / args.chunks, chunk = unit % args.chunks, id = memory.ids[k];
        if (id >= args.experts) continue;
        RowTiles<1, bits, S> held;
        RowInput<TensorIntegers<bits, S>, S> in;
        held.template load<aligned>(down, id * args.outputs + tile * OB_LINEAR_OUTPUTS, 1, 1, chunk, args.chunks, lane);
        in.template read<aligned>(h + k * args.inputs, chunk, lane);
        in.stage(memory.stages[place.group], lane);
        held.multiply(memory.stages[place.group], memory.sums + unit, 0, lane);
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
    device atomic_uint *status [[buffer(10)]], constant RowDownArgs &args [[buffer(11)]], uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup RowDown memory;
    Place place = OB_PLACE;
    uint row = at.y, tile = at.x, o = thread_index % OB_LINEAR_OUTPUTS, own = thread_index / OB_LINEAR_OUTPUTS;
    if (row >= args.rows) return;
    ulong first = ulong(row) * args.top_k, i = ulong(row) * args.outputs + tile * OB_LINEAR_OUTPUTS + o;
    logits += ulong(row) * args.experts;
    if (thread_index < OB_ROW_TOP_K) memory.ids[thread_index] = OB_NONE;
    uint rank = rank_of(logits, args.experts, memory.ranks, place);
    if (rank < args.top_k) memory.ids[rank] = thread_index;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    RowMatrix<S> matrix = {down, scales, biases};
    h += first * args.inputs;
    if (is_aligned(matrix) && is_multiple<16>(h)) {
        down_chunks<bits, true>(matrix, h, tile, args, memory, place);
    } else {
        metallib_apart([=, &memory] { down_chunks<bits, false>(matrix, h, tile, args, memory, place); });
    }
    float add = group == 0 ? residual[i] : 0;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (own < args.top_k) {
        uint id = memory.ids[own];
        float product = 0;
        if (id < args.experts) {
            product = row_product<OB_TENSOR_SHARES>(memory.sums + own * args.chunks, o, args.chunks);
            product = add_bias(product, bias, args.bias, ulong(id) * args.outputs + tile * OB_LINEAR_OUTPUTS + o);
        }
        memory.products[own][o] = product;
    }
    if (group == OB_ROW_TOP_K / 2) {
        float weight = row_weight(memory.ranks, memory.ids, args, lane);
        if (lane < OB_ROW_TOP_K) memory.weights[lane] = weight;
        if (tile == 0 && lane == 0 && memory.ids[0] == OB_NONE) fail_row(status, row, args.step);
        if (tile == 0 && lane < args.top_k && args.has_counts && memory.ids[lane] != OB_NONE)
            atomic_fetch_add_explicit(&counts[memory.ids[lane]], 1u, memory_order_relaxed);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (group != 0) return;
    float sum = 0;
    OB_UNROLL
    for (uint k = 0; k < OB_ROW_TOP_K; k++) {
        if (k < args.top_k) sum = add_expert(sum, memory.weights[k], memory.products[k][o]);
    }
    sum = add + sum;
    if (lane < OB_LINEAR_OUTPUTS) y[i] = sum;
    sum = squares_of(sum);
    if (lane == 0) squares[ulong(row) * (args.outputs / OB_SQUARES) + tile] = sum;
}

#define OB_INSTANTIATE(name, bits, S)                                                                        \
    template [[host_name("row_linear_" #name)]] kernel decltype(row_linear<bits, S>) row_linear<bits, S>;    \
    template [[host_name("row_linear3_" #name)]] kernel decltype(row_linear3<bits, S>) row_linear3<bits, S>; \
    template [[host_name("row_squares_" #name)]] kernel decltype(row_squares<bits, S>) row_squares<bits, S>; \
    template [[host_name("row_gate_up_" #name)]] kernel decltype(row_gate_up<bits, S>) row_gate_up<bits, S>; \
    template [[host_name("row_down_" #name)]] kernel decltype(row_down<bits, S>) row_down<bits, S>;
OB_TENSOR_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE

#endif
