// Decoding of a few rows, each by itself, on CUDA's tensor cores: projections that norm their input on the way, or leave the
// sums of squares by which others do. See pipeline/graph/fusing for where they stand in the place of norm.metal and
// linear.metal, whose bits they have; rows_experts.metal has the experts.
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
    uint lane = place.lane, chunks = args.chunks, parts = max(groups / chunks, 1u),
         part = place.group / min(chunks, groups);
    uint mine = place.group % min(chunks, groups), chunk = mine, all = args.outputs0 / OB_LINEAR_OUTPUTS;
    bool works = part < parts;
    if (part >= parts) part = 0;
    uint first = begin * parts * T, slots = parts * T * chunks, buffer = 0;
    if (works) {
        held.template load<aligned>(matrix, (first + part * T) * OB_LINEAR_OUTPUTS, 1, all - min(first + part * T, all),
                                    chunk, chunks, lane);
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
        if (works)
            held.multiply(stages[place.group + chunk - mine], sums + buffer + part * T * chunks + chunk, chunks, lane);
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
// [inputs]. weight [outputs0, inputs], outputs0 a multiple of 16; bias [outputs0], read where args says so; arrived [1]
// becomes 0 where args says so, for row_experts. Grid: args.width × rows. Steps `linear` and `moe_router` behind a norm.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_ROW_THREADS),
  user_annotation("early: weight, scales, biases, norm")]] kernel void
row_linear(device const uint *weight [[buffer(0)]], device const S *scales [[buffer(1)]],
           device const S *biases [[buffer(2)]], device const float *x [[buffer(3)]],
           device const S *norm [[buffer(4)]], device const float *squares [[buffer(5)]],
           device const ushort *bias [[buffer(6)]], device float *y [[buffer(7)]], device uint *arrived [[buffer(8)]],
           constant RowArgs &args [[buffer(9)]], uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
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
    if (args.clears && begin == 0 && thread_index == 0) arrived[0] = 0;
}

// y_i = norm(x) · w_iᵀ + bias_i, i = 0, 1, 2, as row_linear has it; outputs_i are multiples of 16 · OB_ROW3_TILES. Grid: such
// tiles of all three × rows. Step `linear3` behind a norm.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_ROW3_THREADS),
  user_annotation(
      "resident threads: 512; early: weight0, scales0, biases0, weight1, scales1, biases1, weight2, scales2, "
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
                                                  x + ulong(row) * args.inputs, scales, x, args, stages, sums,
                                                  OB_PLACE);
    if (group != 0) return;
    ulong i = ulong(row) * args.outputs0 + begin + o;
    float v = row_product<OB_LINEAR_THREADS / 32>(sums, o, args.chunks);
    v = add[i] + add_bias(v, bias, args.bias0, begin + o);
    if (lane < OB_LINEAR_OUTPUTS) y[i] = v;
    v = squares_of(v);
    if (lane == 0) squares[ulong(row) * (args.outputs0 / OB_SQUARES) + at.x] = v;
}

#define OB_INSTANTIATE(name, bits, S)                                                                        \
    template [[host_name("row_linear_" #name)]] kernel decltype(row_linear<bits, S>) row_linear<bits, S>;    \
    template [[host_name("row_linear3_" #name)]] kernel decltype(row_linear3<bits, S>) row_linear3<bits, S>; \
    template [[host_name("row_squares_" #name)]] kernel decltype(row_squares<bits, S>) row_squares<bits, S>;
OB_TENSOR_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE

#endif
