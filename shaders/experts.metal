// The experts of a few rows, row by row. The routing left their ids on the device.
#include "experts.h"

using namespace metal;

// h = act(gate · x, up · x) of one (row, k) pair for outputs begin … end - 1.
template <typename W>
OB_SHARED void gate_up_any(W gate, W up, device const float *x, Biases biases, device float *h, uint id, uint begin,
                           uint end, constant ExpertArgs &args, Stage stage, Place place) {
    const uint O = SimdRow<typename W::Row>::gate_up;
    OB_ROLLED
    for (uint first = begin; first < end; first += O * place.groups) {
        uint output = first + O * place.group;
        typename W::Row rows[2 * O];
        for (uint o = 0; o < O; o++) {
            ulong row = ulong(id) * args.expert_rows + min(output + o, end - 1) * args.row_step;
            rows[2 * o] = gate.row(row);
            rows[2 * o + 1] = up.row(row);
        }
        float sums[2 * O];
        simd_products<2 * O, 1>(rows, output < end, inputs_of<1>(x, 0), first != begin, stage, place, sums);
        for (uint o = place.lane; o < O && output + o < end; o += place.width) {
            float g = sum_at<2 * O>(sums, 2 * o), u = sum_at<2 * O>(sums, 2 * o + 1);
            h[output + o] = activated(g, u, biases, id, output + o, args);
        }
    }
}

#ifdef __METAL_CUDA__
// The same by tensor cores.
template <bool aligned, typename W>
METAL_FUNC void gate_up_tensor(W gate, W up, device const float *x, Biases biases, device float *h, uint id, uint begin,
                               uint end, constant ExpertArgs &args, Stage stage, Place place) {
    typedef GateUpTile<W, aligned> Tile;
    threadgroup typename Tile::Memory &memory = tensor_memory<typename Tile::Memory>(stage);
    Tile products(gate, up, id, begin, end, args, place);
    products.template multiply<false>(TensorInputs{x, 0}, 1, memory, place);
    uint o = place.thread_index;
    if (begin + o < end)
        h[begin + o] = activated(products.product(0, 0, o, memory), products.product(1, 0, o, memory), biases, id,
                                 begin + o, args);
}

#endif

// The outputs of a tile; 0 where there is no expert.
template <typename W>
METAL_FUNC void gate_up_tile(W gate, W up, device const float *x, Biases biases, device float *h, uint id, uint tile,
                             constant ExpertArgs &args, Stage stage, Place place) {
    uint begin = tile * OB_LINEAR_OUTPUTS, end = min(begin + OB_LINEAR_OUTPUTS, args.outputs);
    if (id >= args.experts) {
        OB_ROLLED
        for (uint output = begin + place.thread_index; output < end; output += place.threads) h[output] = 0;
        return;
    }
#ifdef __METAL_CUDA__
    if constexpr (TensorRow<typename W::Row>::exists) {
        if (!tensors_fit(gate, place)) {
            metallib_apart([=] { gate_up_any(gate, up, x, biases, h, id, begin, end, args, stage, place); });
        } else if (tensors_aligned(gate, x) && tensors_aligned(up, x)) {
            gate_up_tensor<true>(gate, up, x, biases, h, id, begin, end, args, stage, place);
        } else {
            metallib_apart([=] { gate_up_tensor<false>(gate, up, x, biases, h, id, begin, end, args, stage, place); });
        }
        return;
    }
#endif
    gate_up_any(gate, up, x, biases, h, id, begin, end, args, stage, place);
}

// An id that is neither an expert nor OB_NONE makes its row fail. The pair's first tile reports it.
METAL_FUNC void check_id(uint id, uint row, uint tile, device atomic_uint *status, constant ExpertArgs &args,
                         Place place) {
    if (args.dense || tile != 0 || place.thread_index != 0 || id < args.experts || id == OB_NONE) return;
    fail_row(status, row, args.step);
}

// h[row, k] = act(gate[id] · x[row] + gate_bias[id], up[id] · x[row] + up_bias[id]), id = ids[row, k].
// gate, up [experts, outputs, inputs]; x [rows, inputs]; ids [rows, top_k]; biases [experts, outputs], read where
// args.bias says so; h [rows, top_k, outputs]. Grid: output tiles × rows × top_k. Steps `experts` and `mlp`.
template <typename T>
[[max_total_threads_per_threadgroup(OB_LINEAR_THREADS), user_annotation("resident threads: 768")]] kernel void
experts_gate_up(device const T *gate [[buffer(0)]], device const T *up [[buffer(1)]],
                device const float *x [[buffer(2)]], device const uint *ids [[buffer(3)]],
                device const ushort *gate_bias [[buffer(4)]], device const ushort *up_bias [[buffer(5)]],
                device float *h [[buffer(6)]], device atomic_uint *status [[buffer(7)]],
                constant ExpertArgs &args [[buffer(8)]], uint3 at [[threadgroup_position_in_grid]],
                OB_PLACE_PARAMETERS) {
    OB_STAGE_MEMORY;
    if (at.y >= args.rows) return;
    ulong pair = ulong(at.y) * args.top_k + at.z;
    uint id = args.dense ? 0 : ids[pair];
    check_id(id, at.y, at.x, status, args, OB_PLACE);
    gate_up_tile(matrix_of(gate, args.inputs), matrix_of(up, args.inputs), x + ulong(at.y) * args.inputs,
                 Biases{gate_bias, up_bias}, h + pair * args.outputs, id, at.x, args, OB_STAGE, OB_PLACE);
}

// `experts_gate_up` for weights in MLX's affine format: packed integers, scales and biases.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_AFFINE_THREADS), user_annotation("resident threads: 512")]] kernel void
experts_gate_up_affine(device const uint *gate [[buffer(0)]], device const S *gate_scales [[buffer(1)]],
                       device const S *gate_biases [[buffer(2)]], device const uint *up [[buffer(3)]],
                       device const S *up_scales [[buffer(4)]], device const S *up_biases [[buffer(5)]],
                       device const float *x [[buffer(6)]], device const uint *ids [[buffer(7)]],
                       device const ushort *gate_bias [[buffer(8)]], device const ushort *up_bias [[buffer(9)]],
                       device float *h [[buffer(10)]], device atomic_uint *status [[buffer(11)]],
                       constant ExpertArgs &args [[buffer(12)]], uint3 at [[threadgroup_position_in_grid]],
                       OB_PLACE_PARAMETERS) {
    OB_AFFINE_STAGE_MEMORY;
    if (at.y >= args.rows) return;
    ulong pair = ulong(at.y) * args.top_k + at.z;
    uint id = args.dense ? 0 : ids[pair];
    check_id(id, at.y, at.x, status, args, OB_PLACE);
    gate_up_tile(AffineOf<bits, S>::of(gate, gate_scales, gate_biases, args.inputs, args.group_size),
                 AffineOf<bits, S>::of(up, up_scales, up_biases, args.inputs, args.group_size),
                 x + ulong(at.y) * args.inputs, Biases{gate_bias, up_bias}, h + pair * args.outputs, id, at.x, args,
                 OB_AFFINE_STAGE, OB_PLACE);
}

// h[pair] = act(gate[pair], up[pair]), all [rows · top_k, outputs]: gate and up where their weights differ in format,
// so that a kernel made each alone, with OB_GATE_ALONE and its bias.
// Grid: 1 × rows × top_k. Steps `experts` and `mlp`.
kernel void experts_activate(device const float *gate [[buffer(0)]], device const float *up [[buffer(1)]],
                             device float *h [[buffer(2)]], constant ExpertArgs &args [[buffer(3)]],
                             uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    if (at.y >= args.rows) return;
    Place place = OB_PLACE;
    ulong first = (ulong(at.y) * args.top_k + at.z) * args.outputs;
    for (uint i = place.thread_index; i < args.outputs; i += place.threads)
        h[first + i] = activate(gate[first + i], up[first + i], args.activation);
}

// What the threads of a GPU's threadgroup share: the experts of the row, and their products with a tile of outputs.
struct DownMemory {
#ifndef __METAL_CPU__
    uint ids[OB_MAX_TOP_K];
    float weights[OB_MAX_TOP_K];
    float products[OB_MAX_TOP_K * OB_LINEAR_OUTPUTS];  // by tensor cores: those of shares
#endif
};

// For weights in MLX's affine format.
struct AffineDownMemory : DownMemory {
#ifdef __METAL_CUDA__
    TensorStage<1> stages[OB_AFFINE_DOWN_THREADS / 32];
#endif
};

#ifdef __METAL_CPU__
// Computes O outputs of y = Σ_k weight[k] · (down[id[k]] · h[k] + bias[id[k]]) from `output` on, with k in order.
template <uint O, typename W>
METAL_FUNC void down_block(W down, device const float *h, device const uint *ids, device const float *weights,
                           device const ushort *bias, device float *y, uint output, constant ExpertArgs &args,
                           Place place) {
    float sums[O];
    for (uint o = 0; o < O; o++) sums[o] = 0;
    for (uint k = 0; k < args.top_k; k++) {
        if (ids[k] >= args.experts) continue;
        float product[O];
        ulong row = ulong(ids[k]) * args.outputs + output;
        typename W::Row rows[O];
        for (uint o = 0; o < O; o++) rows[o] = down.row(row + o);
        simd_products<O, 1>(rows, true, inputs_of<1>(h + ulong(k) * args.inputs, 0), false, OB_STAGE, place, product);
        for (uint o = 0; o < O; o++)
            sums[o] = add_expert(sums[o], weights[k], add_bias(product[o], bias, args.bias, row + o));
    }
    for (uint o = 0; o < O; o++) y[output + o] = sums[o];
}

template <typename W>
OB_SHARED void down_tile(W down, device const float *h, device const uint *ids, device const float *weights,
                         device const ushort *bias, device float *y, uint tile, constant ExpertArgs &args,
                         threadgroup DownMemory &, Place place) {
    uint end = min((tile + 1) * OB_LINEAR_OUTPUTS, args.outputs), block = OB_LINEAR_BLOCK;
    for (uint output = tile * OB_LINEAR_OUTPUTS; output < end; output += block) {
        if (output + block <= end) {
            down_block<OB_LINEAR_BLOCK>(down, h, ids, weights, bias, y, output, args, place);
        } else {
            for (uint o = output; o < end; o++) down_block<1>(down, h, ids, weights, bias, y, o, args, place);
        }
    }
}
#else
// y = Σ_k weight[k] · (product of k + bias), with k in order; a product is the sum of `shares` numbers.
METAL_FUNC void add_experts(uint shares, device const ushort *bias, device float *y, uint begin, uint count,
                            constant ExpertArgs &args, threadgroup DownMemory &memory, Place place) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    OB_ROLLED
    for (uint i = place.thread_index; i < args.top_k * OB_LINEAR_OUTPUTS; i += place.threads) {
        uint k = i / OB_LINEAR_OUTPUTS, o = i % OB_LINEAR_OUTPUTS, id = memory.ids[k];
        if (id >= args.experts || o >= count) continue;
        threadgroup float *parts = memory.products + k * shares * OB_LINEAR_OUTPUTS + o;
        float product = 0;
        OB_ROLLED
        for (uint share = 0; share < shares; share++) product += parts[share * OB_LINEAR_OUTPUTS];
        parts[0] = add_bias(product, bias, args.bias, ulong(id) * args.outputs + begin + o);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    OB_ROLLED
    for (uint o = place.thread_index; o < count; o += place.threads) {
        float sum = 0;
        OB_ROLLED
        for (uint k = 0; k < args.top_k; k++) {
            if (memory.ids[k] < args.experts)
                sum = add_expert(sum, memory.weights[k], memory.products[k * shares * OB_LINEAR_OUTPUTS + o]);
        }
        y[begin + o] = sum;
    }
}

// Computes outputs begin to begin + count - 1 of y = Σ_k weight[k] · (down[id[k]] · h[k] + bias[id[k]]). Simdgroups share
// the products of all experts with blocks of outputs; then threads add them up, with k in order.
template <typename W>
OB_SHARED void down_any(W down, device const float *h, device const ushort *bias, device float *y, uint begin,
                        uint count, constant ExpertArgs &args, threadgroup DownMemory &memory, Place place) {
    const uint O = SimdRow<typename W::Row>::down, blocks = OB_LINEAR_OUTPUTS / O;
    OB_ROLLED
    for (uint i = place.group; i < blocks * args.top_k; i += place.groups) {
        uint k = i / blocks, first = i % blocks * O, id = memory.ids[k];
        if (id >= args.experts || first >= count) continue;
        typename W::Row rows[O];
        for (uint o = 0; o < O; o++) rows[o] = down.row(ulong(id) * args.outputs + begin + min(first + o, count - 1));
        float sums[O];
        own_products<O>(rows, h + ulong(k) * args.inputs, place, sums);
        for (uint o = place.lane; o < O; o += place.width)
            memory.products[k * OB_LINEAR_OUTPUTS + first + o] = sum_at<O>(sums, o);
    }
    add_experts(1, bias, y, begin, count, args, memory, place);
}

#ifdef __METAL_CUDA__
// The same by tensor cores. A simdgroup has the chunks that are one share of an expert's product, then those of another;
// see weights/tensor_tile.h.
template <bool aligned, typename W>
METAL_FUNC void down_tensor(W down, device const float *h, device const ushort *bias, device float *y, uint begin,
                            uint count, constant ExpertArgs &args, threadgroup AffineDownMemory &memory, Place place) {
    typedef typename W::Row Row;
    typedef TensorRow<Row> Tensor;
    threadgroup TensorStage<1> &stage = memory.stages[place.group];
    uint chunks = args.inputs / Tensor::chunk, shares = min(chunks, uint(OB_TENSOR_SHARES)), all = args.top_k * shares;
    uint lane = place.lane, output = lane / 4;
    OB_ROLLED
    for (uint share = place.group; share < all; share += place.groups) {
        uint k = share / shares, id = memory.ids[k];
        if (id >= args.experts) continue;
        Row rows[2];
        for (uint i = 0; i < 2; i++)
            rows[i] = down.row(ulong(id) * args.outputs + begin + min(output + 8 * i, count - 1));
        float sums[2] = {0, 0};
        OB_ROLLED
        for (uint chunk = share % shares; chunk < chunks; chunk += OB_TENSOR_SHARES) {
            Tensor held;
            held.template load<aligned>(rows, chunk, lane);
            metal::metallib_barrier();
            stage_octet<Tensor, aligned>(h + ulong(k) * args.inputs + chunk * Tensor::chunk, 0, stage, lane);
            metal::metallib_barrier();
            float own[2];
            typename Tensor::template Staged<1> x = {stage, 1, lane};
            held.template multiply<1>(&x, own);
            for (uint r = 0; r < 2; r++) sums[r] += own[r];
        }
        for (uint r = 0; r < 2; r++) {
            if (lane % 4 == 0) memory.products[share * OB_LINEAR_OUTPUTS + output + 8 * r] = sums[r];
        }
    }
    add_experts(shares, bias, y, begin, count, args, memory, place);
}

#endif

template <typename W, typename Memory>
METAL_FUNC void down_tile(W down, device const float *h, device const uint *ids, device const float *weights,
                          device const ushort *bias, device float *y, uint tile, constant ExpertArgs &args,
                          threadgroup Memory &memory, Place place) {
    uint begin = tile * OB_LINEAR_OUTPUTS, count = min(uint(OB_LINEAR_OUTPUTS), args.outputs - begin);
    OB_ROLLED
    for (uint k = place.thread_index; k < args.top_k; k += place.threads) {
        memory.ids[k] = ids[k];
        memory.weights[k] = weights[k];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
#ifdef __METAL_CUDA__
    typedef TensorRow<typename W::Row> Tensor;
    if constexpr (Tensor::exists) {
        uint shares = min(args.inputs / Tensor::chunk, uint(OB_TENSOR_SHARES));
        if (!Tensor::fits(down.row(0)) || args.top_k * shares > OB_MAX_TOP_K) {
            metallib_apart([=, &memory] { down_any(down, h, bias, y, begin, count, args, memory, place); });
        } else if (tensors_aligned(down, h)) {
            down_tensor<true>(down, h, bias, y, begin, count, args, memory, place);
        } else {
            metallib_apart([=, &memory] { down_tensor<false>(down, h, bias, y, begin, count, args, memory, place); });
        }
        return;
    }
#endif
    down_any(down, h, bias, y, begin, count, args, memory, place);
}
#endif

// y[row] = Σ_k weights[row, k] · (down[id] · h[row, k] + bias[id]), id = ids[row, k].
// down [experts, outputs, inputs]; h [rows, top_k, inputs]; ids, weights [rows, top_k]; bias [experts, outputs], read
// where args.bias says so; y [rows, outputs]. Grid: output tiles × rows. Step `experts`.
template <typename T>
[[max_total_threads_per_threadgroup(OB_DOWN_THREADS)]] kernel void experts_down(
    device const T *down [[buffer(0)]], device const float *h [[buffer(1)]], device const uint *ids [[buffer(2)]],
    device const float *weights [[buffer(3)]], device const ushort *bias [[buffer(4)]], device float *y [[buffer(5)]],
    constant ExpertArgs &args [[buffer(6)]], uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup DownMemory memory;
    if (at.y >= args.rows) return;
    ulong pair = ulong(at.y) * args.top_k;
    down_tile(matrix_of(down, args.inputs), h + pair * args.inputs, ids + pair, weights + pair, bias,
              y + ulong(at.y) * args.outputs, at.x, args, memory, OB_PLACE);
}

// `experts_down` for weights in MLX's affine format: packed integers, scales and biases.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_AFFINE_DOWN_THREADS)]] kernel void experts_down_affine(
    device const uint *down [[buffer(0)]], device const S *scales [[buffer(1)]], device const S *biases [[buffer(2)]],
    device const float *h [[buffer(3)]], device const uint *ids [[buffer(4)]],
    device const float *weights [[buffer(5)]], device const ushort *bias [[buffer(6)]], device float *y [[buffer(7)]],
    constant ExpertArgs &args [[buffer(8)]], uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    threadgroup AffineDownMemory memory;
    if (at.y >= args.rows) return;
    ulong pair = ulong(at.y) * args.top_k;
    down_tile(AffineOf<bits, S>::of(down, scales, biases, args.inputs, args.group_size), h + pair * args.inputs,
              ids + pair, weights + pair, bias, y + ulong(at.y) * args.outputs, at.x, args, memory, OB_PLACE);
}

#define OB_INSTANTIATE(name, T)                                                                              \
    template [[host_name("experts_gate_up_" #name)]] kernel decltype(experts_gate_up<T>) experts_gate_up<T>; \
    template [[host_name("experts_down_" #name)]] kernel decltype(experts_down<T>) experts_down<T>;
OB_PLAIN_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE

#define OB_INSTANTIATE(name, bits, S)                                                                                 \
    template [[host_name(                                                                                             \
        "experts_gate_up_" #name)]] kernel decltype(experts_gate_up_affine<bits, S>) experts_gate_up_affine<bits, S>; \
    template [[host_name(                                                                                             \
        "experts_down_" #name)]] kernel decltype(experts_down_affine<bits, S>) experts_down_affine<bits, S>;
OB_AFFINE_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE
