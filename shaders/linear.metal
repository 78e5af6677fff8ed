// Projections: y = x · wᵀ, with weights in any stored format and activations in f32.
#include "epilogue.h"
#include "reduce.h"
#include "weights.h"

using namespace metal;

#ifdef __METAL_CPU__
// Computes O outputs from `output` on, for R rows from `row` on, whose inputs begin at x.
template <uint O, uint R, typename W>
METAL_FUNC void linear_block(W weight, device const float *x, thread const Output &out, uint row, uint inputs,
                             uint output, uint width, Place place) {
    typename W::Row rows[O];
    float sums[O * R];
    for (uint o = 0; o < O; o++) rows[o] = weight.row(output + o);
    dots<O, R>(rows, inputs_of<R>(x, inputs), place.lane, width, sums);
    for (uint o = 0; o < O; o++) {
        for (uint r = 0; r < R; r++) {
            float sum = simd_sum(sums[o * R + r]);
            if (place.lane == 0) write_output(out, row + r, output + o, sum);
        }
    }
}

// Computes a tile of OB_LINEAR_OUTPUTS outputs for OB_LINEAR_ROWS rows. Simdgroups share the outputs, lanes share the
// inputs. A row's result is the same, whether it is computed alone or with others.
template <typename W>
OB_SHARED void linear_any(W weight, device const float *x, Output out, uint rows, uint inputs, uint tile, uint row_tile,
                          Place place) {
    uint first = row_tile * OB_LINEAR_ROWS;
    if (first >= rows) return;
    uint last = min(first + OB_LINEAR_ROWS, rows);
    uint end = min((tile + 1) * OB_LINEAR_OUTPUTS, out.outputs);
    uint width = place.threads / place.groups;
    uint block = OB_LINEAR_BLOCK;  // these outputs share one read of x
    for (uint output = tile * OB_LINEAR_OUTPUTS + block * place.group; output < end; output += block * place.groups) {
        uint behind = min(output + block, end);
        if (last - first == OB_LINEAR_ROWS) {
            for (uint o = output; o < behind; o++) {
                linear_block<1, OB_LINEAR_ROWS>(weight, x + ulong(first) * inputs, out, first, inputs, o, width, place);
            }
            continue;
        }
        for (uint r = first; r < last; r++) {
            device const float *row = x + ulong(r) * inputs;
            if (output + block <= end) {
                linear_block<OB_LINEAR_BLOCK, 1>(weight, row, out, r, inputs, output, width, place);
            } else {
                for (uint o = output; o < behind; o++) linear_block<1, 1>(weight, row, out, r, inputs, o, width, place);
            }
        }
    }
}

template <uint, typename W>
METAL_FUNC void linear_tile(W weight, device const float *x, Output out, uint rows, uint inputs, uint tile,
                            uint row_tile, Stage, Place place) {
    linear_any(weight, x, out, rows, inputs, tile, row_tile, place);
}
#else
// Computes a tile of OB_LINEAR_OUTPUTS outputs for `count` ≤ R rows from `row` on. Missing rows repeat the last one.
template <uint O, uint R, typename W>
METAL_FUNC void linear_rows(W weight, device const float *x, thread const Output &out, uint row, uint count,
                            uint inputs, uint tile, Stage stage, Place place) {
    Inputs<R> in;
    for (uint r = 0; r < R; r++) in.row[r] = x + ulong(row + min(r, count - 1)) * inputs;
    uint end = min((tile + 1) * OB_LINEAR_OUTPUTS, out.outputs);
    OB_ROLLED
    for (uint begin = tile * OB_LINEAR_OUTPUTS, first = begin; first < end; first += O * place.groups) {
        uint output = first + O * place.group;
        typename W::Row rows[O];
        float sums[O * R];
        for (uint o = 0; o < O; o++) rows[o] = weight.row(min(output + o, end - 1));
        simd_products<O, R>(rows, output < end, in, first != begin, stage, place, sums);
        OB_ROLLED
        for (uint i = place.lane; i < O * R; i += place.width) {
            uint o = output + i / R, r = i % R;
            if (o < end && r < count) write_output(out, row + r, o, sum_at<O * R>(sums, i));
        }
    }
}

// Computes a tile of OB_LINEAR_OUTPUTS outputs for `count` ≤ OB_LINEAR_ROWS rows from `row` on. Simdgroups share the
// outputs, lanes share the inputs. A row's result is the same, whether it is computed alone or with others.
template <typename W>
OB_SHARED void linear_any(W weight, device const float *x, thread const Output &out, uint row, uint count, uint inputs,
                          uint tile, Stage stage, Place place) {
    typedef SimdRow<typename W::Row> Outputs;
    if (count == 1) {
        linear_rows<Outputs::one, 1>(weight, x, out, row, count, inputs, tile, stage, place);
    } else if (count == 2) {
        linear_rows<Outputs::many, 2>(weight, x, out, row, count, inputs, tile, stage, place);
    } else {
        linear_rows<Outputs::many, 4>(weight, x, out, row, count, inputs, tile, stage, place);
    }
}

#ifdef __METAL_CUDA__
// A tile by tensor cores, for `count` ≤ OB_TENSOR_ROWS rows.
template <uint shares, bool aligned, typename W, typename X>
METAL_FUNC void linear_tensor(W weight, thread const X &x, thread const Output &out, uint row, uint count, uint inputs,
                              uint tile, Stage stage, Place place) {
    typedef TensorTile<1, shares, typename W::Row, aligned> Tile;
    threadgroup typename Tile::Memory &memory = tensor_memory<typename Tile::Memory>(stage);
    uint begin = tile * OB_LINEAR_OUTPUTS, end = min(begin + OB_LINEAR_OUTPUTS, out.outputs);
    Tile products;
    for (uint i = 0; i < 2; i++) products.rows[0][i] = weight.row(min(begin + place.lane / 4 + 8 * i, end - 1));
    products.begin(inputs);
    products.template multiply<true>(x, count, memory, place);
    uint o = place.thread_index % OB_LINEAR_OUTPUTS;
    OB_ROLLED
    for (uint r = place.thread_index / OB_LINEAR_OUTPUTS; r < count; r += place.threads / OB_LINEAR_OUTPUTS) {
        if (begin + o < end) write_output(out, row + r, begin + o, products.product(0, r, o, memory));
    }
}

// Row tiles that one threadgroup computes by tensor cores, in place of those behind it: as many as leave a GPU busy.
METAL_FUNC uint tensor_row_tiles(uint rows, uint outputs) {
    uint tiles = (rows + OB_LINEAR_ROWS - 1) / OB_LINEAR_ROWS * ((outputs + OB_LINEAR_OUTPUTS - 1) / OB_LINEAR_OUTPUTS);
    return clamp(tiles / OB_TENSOR_BUSY, 1u, uint(OB_TENSOR_ROWS / OB_LINEAR_ROWS));
}
#endif

// shares: simdgroups of the threadgroup.
template <uint shares, typename W>
METAL_FUNC void linear_tile(W weight, device const float *x, Output out, uint rows, uint inputs, uint tile,
                            uint row_tile, Stage stage, Place place) {
    uint first = row_tile * OB_LINEAR_ROWS;
    if (first >= rows) return;
    uint count = min(rows - first, uint(OB_LINEAR_ROWS));
#ifdef __METAL_CUDA__
    typedef TensorRow<typename W::Row> Tensor;
    if constexpr (Tensor::exists) {
        typename W::Row row = weight.row(0);
        if (!Tensor::fits(row) || place.groups != shares) {
            metallib_apart([=] { linear_any(weight, x, out, first, count, inputs, tile, stage, place); });
            return;
        }
        uint merged = tensor_row_tiles(rows, out.outputs) * OB_LINEAR_ROWS;
        first = row_tile * merged;
        if (first >= rows) return;
        count = min(rows - first, merged);
        TensorInputs in = {x + ulong(first) * inputs, inputs};
        if (Tensor::is_aligned(row) && is_aligned(x)) {
            linear_tensor<shares, true>(weight, in, out, first, count, inputs, tile, stage, place);
        } else {
            metallib_apart(
                [=] { linear_tensor<shares, false>(weight, in, out, first, count, inputs, tile, stage, place); });
        }
        return;
    }
#endif
    linear_any(weight, x, out, first, count, inputs, tile, stage, place);
}
#endif

METAL_FUNC Output linear_output(device float *y, device const ushort *bias, device const float *add,
                                device const float *gate, constant LinearArgs &args) {
    Output out = output_of(y, bias, args.bias, args.outputs);
    if (args.has_add) out.add = add;
    if (args.has_gate) out.gate = gate;
    out.scale = args.scale;
    out.softcap = args.softcap;
    return out;
}

// y = add + softcap(scale · σ(gate) · (x · wᵀ + bias)), see epilogue.h.
// weight [outputs, inputs], x [rows, inputs], y [rows, outputs]; bias [outputs], add [rows, outputs] and gate [rows]
// are read where args says so. Grid: output tiles × row tiles. Steps `linear`, `mlp` and `moe_router`.
template <typename T>
[[max_total_threads_per_threadgroup(OB_LINEAR_THREADS),
  user_annotation("resident threads: 768; early: weight")]] kernel void
linear(device const T *weight [[buffer(0)]], device const float *x [[buffer(1)]],
       device const ushort *bias [[buffer(2)]], device const float *add [[buffer(3)]],
       device const float *gate [[buffer(4)]], device float *y [[buffer(5)]], constant LinearArgs &args [[buffer(6)]],
       uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    OB_STAGE_MEMORY;
    linear_tile<OB_LINEAR_THREADS / 32>(matrix_of(weight, args.inputs), x, linear_output(y, bias, add, gate, args),
                                        args.rows, args.inputs, at.x, at.y, OB_STAGE, OB_PLACE);
}

// `linear` for weights in MLX's affine format: packed integers, scales and biases.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_LINEAR_THREADS),
  user_annotation("resident threads: 512; early: weight, scales, biases")]] kernel void
linear_affine(device const uint *weight [[buffer(0)]], device const S *scales [[buffer(1)]],
              device const S *biases [[buffer(2)]], device const float *x [[buffer(3)]],
              device const ushort *bias [[buffer(4)]], device const float *add [[buffer(5)]],
              device const float *gate [[buffer(6)]], device float *y [[buffer(7)]],
              constant LinearArgs &args [[buffer(8)]], uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    OB_AFFINE_STAGE_MEMORY;
    linear_tile<OB_LINEAR_THREADS / 32>(AffineOf<bits, S>::of(weight, scales, biases, args.inputs, args.group_size), x,
                                        linear_output(y, bias, add, gate, args), args.rows, args.inputs, at.x, at.y,
                                        OB_AFFINE_STAGE, OB_PLACE);
}

// linear3 multiplies one input by three matrices, such as query, key and value, in one dispatch. The grid has the
// tiles of the first matrix, then those of the second, then those of the third.
METAL_FUNC uint tiles(uint outputs) { return (outputs + OB_LINEAR_OUTPUTS - 1) / OB_LINEAR_OUTPUTS; }

// Returns the matrix (0, 1 or 2) that a tile belongs to, and makes `tile` its number within that matrix.
METAL_FUNC uint matrix_of(thread uint &tile, constant Linear3Args &args) {
    uint tiles0 = tiles(args.outputs0), tiles1 = tiles(args.outputs1);
    if (tile < tiles0) return 0;
    tile -= tiles0;
    if (tile < tiles1) return 1;
    tile -= tiles1;
    return 2;
}

template <typename T>
METAL_FUNC T one_of(uint matrix, T a, T b, T c) {
    return matrix == 0 ? a : matrix == 1 ? b : c;
}

METAL_FUNC Output one_output(uint matrix, device float *y0, device float *y1, device float *y2,
                             device const ushort *bias0, device const ushort *bias1, device const ushort *bias2,
                             constant Linear3Args &args) {
    return output_of(one_of(matrix, y0, y1, y2), one_of(matrix, bias0, bias1, bias2),
                     one_of<uint>(matrix, args.bias0, args.bias1, args.bias2),
                     one_of<uint>(matrix, args.outputs0, args.outputs1, args.outputs2));
}

// y_i = x · w_iᵀ + bias_i, i = 0, 1, 2. weight_i [outputs_i, inputs], x [rows, inputs], bias_i [outputs_i], read where
// args says so; y_i [rows, outputs_i]. Grid: output tiles of all three × row tiles. Step `linear3`.
template <typename T>
[[max_total_threads_per_threadgroup(OB_LINEAR_THREADS),
  user_annotation("resident threads: 768; early: weight0, weight1, weight2")]] kernel void
linear3(device const T *weight0 [[buffer(0)]], device const T *weight1 [[buffer(1)]],
        device const T *weight2 [[buffer(2)]], device const float *x [[buffer(3)]],
        device const ushort *bias0 [[buffer(4)]], device const ushort *bias1 [[buffer(5)]],
        device const ushort *bias2 [[buffer(6)]], device float *y0 [[buffer(7)]], device float *y1 [[buffer(8)]],
        device float *y2 [[buffer(9)]], constant Linear3Args &args [[buffer(10)]],
        uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    OB_STAGE_MEMORY;
    uint tile = at.x, matrix = matrix_of(tile, args);
    linear_tile<OB_LINEAR_THREADS / 32>(matrix_of(one_of(matrix, weight0, weight1, weight2), args.inputs), x,
                                        one_output(matrix, y0, y1, y2, bias0, bias1, bias2, args), args.rows,
                                        args.inputs, tile, at.y, OB_STAGE, OB_PLACE);
}

// `linear3` for weights in MLX's affine format: packed integers, scales and biases.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_AFFINE_THREADS),
  user_annotation("resident threads: 512; early: weight0, scales0, biases0, weight1, scales1, biases1, weight2, "
                  "scales2, biases2")]] kernel void
linear3_affine(device const uint *weight0 [[buffer(0)]], device const S *scales0 [[buffer(1)]],
               device const S *biases0 [[buffer(2)]], device const uint *weight1 [[buffer(3)]],
               device const S *scales1 [[buffer(4)]], device const S *biases1 [[buffer(5)]],
               device const uint *weight2 [[buffer(6)]], device const S *scales2 [[buffer(7)]],
               device const S *biases2 [[buffer(8)]], device const float *x [[buffer(9)]],
               device const ushort *bias0 [[buffer(10)]], device const ushort *bias1 [[buffer(11)]],
               device const ushort *bias2 [[buffer(12)]], device float *y0 [[buffer(13)]],
               device float *y1 [[buffer(14)]], device float *y2 [[buffer(15)]],
               constant Linear3Args &args [[buffer(16)]], uint3 at [[threadgroup_position_in_grid]],
               OB_PLACE_PARAMETERS) {
    OB_AFFINE_STAGE_MEMORY;
    uint tile = at.x, matrix = matrix_of(tile, args);
    typename AffineOf<bits, S>::Matrix weight =
        AffineOf<bits, S>::of(one_of(matrix, weight0, weight1, weight2), one_of(matrix, scales0, scales1, scales2),
                              one_of(matrix, biases0, biases1, biases2), args.inputs, args.group_size);
    linear_tile<OB_AFFINE_THREADS / 32>(weight, x, one_output(matrix, y0, y1, y2, bias0, bias1, bias2, args), args.rows,
                                        args.inputs, tile, at.y, OB_AFFINE_STAGE, OB_PLACE);
}

#ifdef __METAL_CUDA__
// Stages rows of activations once for all kernels that multiply them; see StagedRows. x [rows · depth, columns], columns a
// multiple of 64. Grid: 256 octets × rows × depth. Steps whose weights are MLX's.
template <uint bits>
[[max_total_threads_per_threadgroup(OB_STAGE_THREADS)]] kernel void stage_activations(
    device const float *x [[buffer(0)]], device uint4 *octets [[buffer(1)]], device float2 *group_sums [[buffer(2)]],
    constant StageArgs &args [[buffer(3)]], uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    typedef TensorIntegers<bits, half> Tensor;
    if (at.y >= args.rows) return;
    uint count = args.columns / 8, octet = at.x * OB_STAGE_THREADS + thread_index;
    ulong row = ulong(at.y) * args.depth + at.z;
    float2 own;
    device const float *from =
        x + row * args.columns + min(octet, count - 1) * 8;  // all lanes of a simdgroup take part
    float v[8];
    read_octet<true>(from, v);
    uint4 made = octet_of<Tensor>(v, own);
    if (octet >= count) return;
    octets[row * count + Tensor::slot(octet)] = made;
    if (lane % 8 == 0) group_sums[row * (count / 8) + octet / 8] = own;
}
template [[host_name("stage_activations_q4")]] kernel decltype(stage_activations<4>) stage_activations<4>;
template [[host_name("stage_activations_q8")]] kernel decltype(stage_activations<8>) stage_activations<8>;

template <uint shares, typename W>
METAL_FUNC void staged_tile(W weight, StagedRows rows, thread const Output &out, uint count, uint tile, uint row_tile,
                            Stage stage, Place place) {
    uint merged = tensor_row_tiles(count, out.outputs) * OB_LINEAR_ROWS, first = row_tile * merged;
    if (first >= count) return;
    uint some = min(count - first, merged);
    StagedInputs in = {rows, first};
    if (TensorRow<typename W::Row>::is_aligned(weight.row(0))) {
        linear_tensor<shares, true>(weight, in, out, first, some, rows.columns, tile, stage, place);
    } else {
        metallib_apart(
            [=] { linear_tensor<shares, false>(weight, in, out, first, some, rows.columns, tile, stage, place); });
    }
}

// `linear` of rows that stage_activations has staged.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_LINEAR_THREADS),
  user_annotation("resident threads: 512; early: weight, scales, biases")]] kernel void
staged_linear(device const uint *weight [[buffer(0)]], device const S *scales [[buffer(1)]],
              device const S *biases [[buffer(2)]], device const uint4 *octets [[buffer(3)]],
              device const float2 *group_sums [[buffer(4)]], device const ushort *bias [[buffer(5)]],
              device const float *add [[buffer(6)]], device const float *gate [[buffer(7)]],
              device float *y [[buffer(8)]], constant LinearArgs &args [[buffer(9)]],
              uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    OB_AFFINE_STAGE_MEMORY;
    staged_tile<OB_LINEAR_THREADS / 32>(AffineOf<bits, S>::of(weight, scales, biases, args.inputs, args.group_size),
                                        StagedRows{octets, group_sums, args.inputs},
                                        linear_output(y, bias, add, gate, args), args.rows, at.x, at.y, OB_AFFINE_STAGE,
                                        OB_PLACE);
}

// `linear3` of rows that stage_activations has staged.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_AFFINE_THREADS),
  user_annotation("resident threads: 512; early: weight0, scales0, biases0, weight1, scales1, biases1, weight2, "
                  "scales2, biases2")]] kernel void
staged_linear3(device const uint *weight0 [[buffer(0)]], device const S *scales0 [[buffer(1)]],
               device const S *biases0 [[buffer(2)]], device const uint *weight1 [[buffer(3)]],
               device const S *scales1 [[buffer(4)]], device const S *biases1 [[buffer(5)]],
               device const uint *weight2 [[buffer(6)]], device const S *scales2 [[buffer(7)]],
               device const S *biases2 [[buffer(8)]], device const uint4 *octets [[buffer(9)]],
               device const float2 *group_sums [[buffer(10)]], device const ushort *bias0 [[buffer(11)]],
               device const ushort *bias1 [[buffer(12)]], device const ushort *bias2 [[buffer(13)]],
               device float *y0 [[buffer(14)]], device float *y1 [[buffer(15)]], device float *y2 [[buffer(16)]],
               constant Linear3Args &args [[buffer(17)]], uint3 at [[threadgroup_position_in_grid]],
               OB_PLACE_PARAMETERS) {
    OB_AFFINE_STAGE_MEMORY;
    uint tile = at.x, matrix = matrix_of(tile, args);
    typename AffineOf<bits, S>::Matrix weight =
        AffineOf<bits, S>::of(one_of(matrix, weight0, weight1, weight2), one_of(matrix, scales0, scales1, scales2),
                              one_of(matrix, biases0, biases1, biases2), args.inputs, args.group_size);
    staged_tile<OB_AFFINE_THREADS / 32>(weight, StagedRows{octets, group_sums, args.inputs},
                                        one_output(matrix, y0, y1, y2, bias0, bias1, bias2, args), args.rows, tile,
                                        at.y, OB_AFFINE_STAGE, OB_PLACE);
}

#define OB_INSTANTIATE(name, bits, S)                                                                              \
    template [[host_name("staged_linear_" #name)]] kernel decltype(staged_linear<bits, S>) staged_linear<bits, S>; \
    template [[host_name("staged_linear3_" #name)]] kernel decltype(staged_linear3<bits, S>) staged_linear3<bits, S>;
OB_TENSOR_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE
#endif

#define OB_INSTANTIATE(name, T)                                                   \
    template [[host_name("linear_" #name)]] kernel decltype(linear<T>) linear<T>; \
    template [[host_name("linear3_" #name)]] kernel decltype(linear3<T>) linear3<T>;
OB_PLAIN_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE

#define OB_INSTANTIATE(name, bits, S)                                                                       \
    template [[host_name("linear_" #name)]] kernel decltype(linear_affine<bits, S>) linear_affine<bits, S>; \
    template [[host_name("linear3_" #name)]] kernel decltype(linear3_affine<bits, S>) linear3_affine<bits, S>;
OB_AFFINE_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE
