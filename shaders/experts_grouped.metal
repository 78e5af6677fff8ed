// The experts of many rows, expert by expert: a weight is unpacked once for all rows that chose its expert.
// Pair p = row · top_k + k is the k-th expert of a row.
//
//   ids ─▶ group_experts ─▶ experts_gate_up_grouped ─▶ experts_down_grouped ─▶ experts_combine ─▶ y
//           pairs, offsets   inner, by position         z, by pair
//
// A row gives the same bits as in experts.metal: the same products, added in the same order.
#include "experts.h"

using namespace metal;

// Counts how many of the n ≤ 32 ids at p are `expert`.
METAL_FUNC uint count_of(device const uint *p, uint n, uint expert) {
    uint count = 0;
    if (n == 32) {
        for (uint i = 0; i < 32; i++) count += p[i] == expert;
    } else {
        for (uint i = 0; i < n; i++) count += p[i] == expert;
    }
    return count;
}

// Counting sort: pairs = the pairs (row, k) in the order of ids[row, k], then of the pair; the pairs of expert e are
// pairs[offsets[e]] to pairs[offsets[e + 1] - 1].
// ids [rows, top_k], pairs [rows · top_k], offsets [experts + 1]. Grid: 1 × experts. Step `experts`.
// An id that is no expert belongs to no group; if it is not OB_NONE either, its row fails with `step`.
kernel void group_experts(device const uint *ids [[buffer(0)]], device uint *pairs [[buffer(1)]],
                          device uint *offsets [[buffer(2)]], device atomic_uint *status [[buffer(3)]],
                          constant ExpertArgs &args [[buffer(4)]], uint3 at [[threadgroup_position_in_grid]],
                          OB_PLACE_PARAMETERS) {
    threadgroup uint partial[32];
    if (at.y >= args.experts) return;
    Place place = OB_PLACE;
    uint expert = at.y, total = args.rows * args.top_k, before = 0;
    for (uint i = place.thread_index; i < total; i += place.threads) before += ids[i] < expert;
    uint begin = threadgroup_sum(before, partial, place), next = begin;
    for (uint block = 0; block < total; block += 32 * place.threads) {  // each thread reads 32 adjacent pairs
        uint first = min(block + 32 * place.thread_index, total), count = min(32u, total - first), sum;
        uint mine = count_of(ids + first, count, expert);
        uint position = next + threadgroup_offset(mine, sum, partial, place);
        next += sum;
        for (uint i = first, end = position + mine; position < end; i++) {
            if (ids[i] == expert) pairs[position++] = i;
        }
    }
    if (place.thread_index == 0) {
        offsets[expert] = begin;
        if (expert + 1 == args.experts) offsets[args.experts] = next;
    }
    if (expert != 0) return;
    for (uint i = place.thread_index; i < total; i += place.threads) {
        if (ids[i] >= args.experts && ids[i] != OB_NONE) fail_row(status, i / args.top_k, args.step);
    }
}

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

// Computes a tile of outputs for `count` ≤ R positions of one expert. Missing inputs repeat the last one.
template <uint R, typename W>
METAL_FUNC void gate_up_rows(W gate, W up, device const float *x, device const uint *pairs, Biases biases,
                             device float *h, uint first, uint count, uint expert, uint tile, constant ExpertArgs &args,
                             Stage stage, Place place) {
    Inputs<R> rows;
    for (uint r = 0; r < R; r++) {
        uint i = first + min(r, count - 1);
        rows.row[r] = x + ulong(args.dense ? i : pair_at(pairs, i, args) / args.top_k) * args.inputs;
    }
    const uint pair = R == 1 ? 2 : SimdRow<typename W::Row>::pair;
    uint begin = tile * OB_LINEAR_OUTPUTS, end = min(begin + OB_LINEAR_OUTPUTS, args.outputs);
    for (uint first_output = begin; first_output < end; first_output += place.groups) {
        uint output = first_output + place.group;
        ulong row = ulong(expert) * args.expert_rows + min(output, end - 1) * args.row_step;
        typename W::Row both[2] = {gate.row(row), up.row(row)};
        float sums[2 * R];
        for (uint i = 0; i < 2; i += pair)
            simd_products<pair, R>(both + i, output < end, rows, i != 0 || first_output != begin, stage, place,
                                   sums + i * R);
        if (output >= end) continue;
        for (uint r = place.lane; r < count; r += place.width) {
            float g = sum_at<R>(sums, r), u = sum_at<R>(sums + R, r);
            h[ulong(first + r) * args.outputs + output] = activated(g, u, biases, expert, output, args);
        }
    }
}

template <typename W>
OB_SHARED void gate_up_any(W gate, W up, device const float *x, device const uint *pairs, Biases biases,
                           device float *h, Group group, uint3 at, constant ExpertArgs &args, Stage stage,
                           Place place) {
    for (uint i = group.begin; i < group.end; i += OB_LINEAR_ROWS) {
        uint count = min(uint(OB_LINEAR_ROWS), group.end - i);
        if (count == 1) {
            gate_up_rows<1>(gate, up, x, pairs, biases, h, i, count, at.y, at.x, args, stage, place);
        } else {
            gate_up_rows<OB_LINEAR_ROWS>(gate, up, x, pairs, biases, h, i, count, at.y, at.x, args, stage, place);
        }
    }
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
#endif

template <typename W>
METAL_FUNC void gate_up_expert(W gate, W up, device const float *x, device const uint *pairs,
                               device const uint *offsets, Biases biases, device float *h, uint3 at,
                               constant ExpertArgs &args, Stage stage, Place place) {
    if (at.y >= args.experts) return;
    Group group = {0, args.rows};
    if (!args.dense) group = group_of(offsets, at.y, args);
    if (group.begin >= group.end) return;
#ifdef __METAL_CUDA__
    if constexpr (TensorRow<typename W::Row>::exists) {
        if (!tensors_fit(gate, place)) {
            metallib_apart([=] { gate_up_any(gate, up, x, pairs, biases, h, group, at, args, stage, place); });
        } else if (tensors_aligned(gate, x) && tensors_aligned(up, x)) {
            PairInputs in(pair_rows(pairs, group, args), x, args.inputs);
            gate_up_tensor<true>(gate, up, in, biases, h, group, at, args, stage, place);
        } else {
            PairInputs in(pair_rows(pairs, group, args), x, args.inputs);
            metallib_apart([=] { gate_up_tensor<false>(gate, up, in, biases, h, group, at, args, stage, place); });
        }
        return;
    }
#endif
    gate_up_any(gate, up, x, pairs, biases, h, group, at, args, stage, place);
}

// h[i] = act(gate[e] · x[row] + gate_bias[e], up[e] · x[row] + up_bias[e]), where pairs[i] is a pair of that row and e.
// gate, up [experts, outputs, inputs]; x [rows, inputs]; pairs, offsets from group_experts; biases [experts, outputs],
// read where args.bias says so; h [rows · top_k, outputs]. Grid: output tiles × experts. Steps `experts` and `mlp`.
template <typename T>
[[max_total_threads_per_threadgroup(OB_LINEAR_THREADS), user_annotation("resident threads: 768")]] kernel void
experts_gate_up_grouped(device const T *gate [[buffer(0)]], device const T *up [[buffer(1)]],
                        device const float *x [[buffer(2)]], device const uint *pairs [[buffer(3)]],
                        device const uint *offsets [[buffer(4)]], device const ushort *gate_bias [[buffer(5)]],
                        device const ushort *up_bias [[buffer(6)]], device float *h [[buffer(7)]],
                        constant ExpertArgs &args [[buffer(8)]], uint3 at [[threadgroup_position_in_grid]],
                        OB_PLACE_PARAMETERS) {
    OB_STAGE_MEMORY;
    gate_up_expert(matrix_of(gate, args.inputs), matrix_of(up, args.inputs), x, pairs, offsets,
                   Biases{gate_bias, up_bias}, h, at, args, OB_STAGE, OB_PLACE);
}

// `experts_gate_up_grouped` for weights in MLX's affine format: packed integers, scales and biases.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_AFFINE_THREADS), user_annotation("resident threads: 512")]] kernel void
experts_gate_up_grouped_affine(device const uint *gate [[buffer(0)]], device const S *gate_scales [[buffer(1)]],
                               device const S *gate_biases [[buffer(2)]], device const uint *up [[buffer(3)]],
                               device const S *up_scales [[buffer(4)]], device const S *up_biases [[buffer(5)]],
                               device const float *x [[buffer(6)]], device const uint *pairs [[buffer(7)]],
                               device const uint *offsets [[buffer(8)]], device const ushort *gate_bias [[buffer(9)]],
                               device const ushort *up_bias [[buffer(10)]], device float *h [[buffer(11)]],
                               constant ExpertArgs &args [[buffer(12)]], uint3 at [[threadgroup_position_in_grid]],
                               OB_PLACE_PARAMETERS) {
    OB_AFFINE_STAGE_MEMORY;
    gate_up_expert(AffineOf<bits, S>::of(gate, gate_scales, gate_biases, args.inputs, args.group_size),
                   AffineOf<bits, S>::of(up, up_scales, up_biases, args.inputs, args.group_size), x, pairs, offsets,
                   Biases{gate_bias, up_bias}, h, at, args, OB_AFFINE_STAGE, OB_PLACE);
}

// `experts_activate` by position: those behind the last expert's pairs, which nothing wrote, are left alone.
// gate, up, h [rows · top_k, outputs]; offsets from group_experts. Grid: 1 × rows × top_k. Step `experts`.
kernel void experts_activate_grouped(device const float *gate [[buffer(0)]], device const float *up [[buffer(1)]],
                                     device const uint *offsets [[buffer(2)]], device float *h [[buffer(3)]],
                                     constant ExpertArgs &args [[buffer(4)]], uint3 at [[threadgroup_position_in_grid]],
                                     OB_PLACE_PARAMETERS) {
    ulong position = ulong(at.y) * args.top_k + at.z;
    if (at.y >= args.rows || position >= offsets[args.experts]) return;
    Place place = OB_PLACE;
    for (uint i = place.thread_index; i < args.outputs; i += place.threads) {
        ulong element = position * args.outputs + i;
        h[element] = activate(gate[element], up[element], args.activation);
    }
}

template <uint R, typename W>
METAL_FUNC void down_rows(W down, device const float *h, device const uint *pairs, device const ushort *bias,
                          device float *z, uint count, ulong first, uint tile, constant ExpertArgs &args, Stage stage,
                          Place place) {
    Inputs<R> rows;
    for (uint r = 0; r < R; r++) rows.row[r] = h + ulong(min(r, count - 1)) * args.inputs;
    const uint O = R == 1 ? SimdRow<typename W::Row>::one : SimdRow<typename W::Row>::many;
    uint begin = tile * OB_LINEAR_OUTPUTS, end = min(begin + OB_LINEAR_OUTPUTS, args.outputs);
    for (uint first_output = begin; first_output < end; first_output += O * place.groups) {
        uint output = first_output + O * place.group;
        typename W::Row weights[O];
        for (uint o = 0; o < O; o++) weights[o] = down.row(first + min(output + o, end - 1));
        float sums[O * R];
        simd_products<O, R>(weights, output < end, rows, first_output != begin, stage, place, sums);
        for (uint i = place.lane; i < O * R; i += place.width) {
            uint o = output + i / R, r = i % R;
            if (o >= end || r >= count) continue;
            z[ulong(pair_at(pairs, r, args)) * args.outputs + o] =
                add_bias(sum_at<O * R>(sums, i), bias, args.bias, first + o);
        }
    }
}

template <typename W>
OB_SHARED void down_any(W down, device const float *h, device const uint *pairs, device const ushort *bias,
                        device float *z, ulong first, Group group, uint tile, constant ExpertArgs &args, Stage stage,
                        Place place) {
    for (uint i = group.begin; i < group.end; i += OB_LINEAR_ROWS) {
        uint count = min(uint(OB_LINEAR_ROWS), group.end - i);
        device const float *in = h + ulong(i) * args.inputs;
        if (count == 1) {
            down_rows<1>(down, in, pairs + i, bias, z, count, first, tile, args, stage, place);
        } else {
            down_rows<OB_LINEAR_ROWS>(down, in, pairs + i, bias, z, count, first, tile, args, stage, place);
        }
    }
}

#ifdef __METAL_CUDA__
// The same by tensor cores.
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

template <typename W>
METAL_FUNC void down_expert(W down, device const float *h, device const uint *pairs, device const uint *offsets,
                            device const ushort *bias, device float *z, uint3 at, constant ExpertArgs &args,
                            Stage stage, Place place) {
    if (at.y >= args.experts) return;
    ulong first = ulong(at.y) * args.outputs;
    Group group = group_of(offsets, at.y, args);
    if (group.begin >= group.end) return;
#ifdef __METAL_CUDA__
    if constexpr (TensorRow<typename W::Row>::exists) {
        if (!tensors_fit(down, place)) {
            metallib_apart([=] { down_any(down, h, pairs, bias, z, first, group, at.x, args, stage, place); });
        } else if (tensors_aligned(down, h)) {
            TensorInputs in = {h, args.inputs};
            down_tensor<true>(down, in, pairs, bias, z, first, group, at.x, args, stage, place);
        } else {
            TensorInputs in = {h, args.inputs};
            metallib_apart(
                [=] { down_tensor<false>(down, in, pairs, bias, z, first, group, at.x, args, stage, place); });
        }
        return;
    }
#endif
    down_any(down, h, pairs, bias, z, first, group, at.x, args, stage, place);
}

// z[pairs[i]] = down[e] · h[i] + bias[e], where e is the expert of pairs[i].
// down [experts, outputs, inputs]; h [rows · top_k, inputs]; pairs, offsets from group_experts; bias [experts,
// outputs], read where args.bias says so; z [rows · top_k, outputs]. Grid: output tiles × experts. Step `experts`.
template <typename T>
[[max_total_threads_per_threadgroup(OB_LINEAR_THREADS), user_annotation("resident threads: 768")]] kernel void
experts_down_grouped(device const T *down [[buffer(0)]], device const float *h [[buffer(1)]],
                     device const uint *pairs [[buffer(2)]], device const uint *offsets [[buffer(3)]],
                     device const ushort *bias [[buffer(4)]], device float *z [[buffer(5)]],
                     constant ExpertArgs &args [[buffer(6)]], uint3 at [[threadgroup_position_in_grid]],
                     OB_PLACE_PARAMETERS) {
    OB_STAGE_MEMORY;
    down_expert(matrix_of(down, args.inputs), h, pairs, offsets, bias, z, at, args, OB_STAGE, OB_PLACE);
}

// `experts_down_grouped` for weights in MLX's affine format: packed integers, scales and biases.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_AFFINE_THREADS), user_annotation("resident threads: 512")]] kernel void
experts_down_grouped_affine(device const uint *down [[buffer(0)]], device const S *scales [[buffer(1)]],
                            device const S *biases [[buffer(2)]], device const float *h [[buffer(3)]],
                            device const uint *pairs [[buffer(4)]], device const uint *offsets [[buffer(5)]],
                            device const ushort *bias [[buffer(6)]], device float *z [[buffer(7)]],
                            constant ExpertArgs &args [[buffer(8)]], uint3 at [[threadgroup_position_in_grid]],
                            OB_PLACE_PARAMETERS) {
    OB_AFFINE_STAGE_MEMORY;
    down_expert(AffineOf<bits, S>::of(down, scales, biases, args.inputs, args.group_size), h, pairs, offsets, bias, z,
                at, args, OB_AFFINE_STAGE, OB_PLACE);
}

#ifdef __METAL_CUDA__
// experts_gate_up_grouped of rows that stage_activations has staged.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_AFFINE_THREADS), user_annotation("resident threads: 384")]] kernel void
staged_gate_up_grouped(device const uint *gate [[buffer(0)]], device const S *gate_scales [[buffer(1)]],
                       device const S *gate_biases [[buffer(2)]], device const uint *up [[buffer(3)]],
                       device const S *up_scales [[buffer(4)]], device const S *up_biases [[buffer(5)]],
                       device const uint4 *octets [[buffer(6)]], device const float2 *group_sums [[buffer(7)]],
                       device const uint *pairs [[buffer(8)]], device const uint *offsets [[buffer(9)]],
                       device const ushort *gate_bias [[buffer(10)]], device const ushort *up_bias [[buffer(11)]],
                       device float *h [[buffer(12)]], constant ExpertArgs &args [[buffer(13)]],
                       uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    OB_AFFINE_STAGE_MEMORY;
    if (at.y >= args.experts) return;
    Group own = {0, args.rows};
    if (!args.dense) own = group_of(offsets, at.y, args);
    if (own.begin >= own.end) return;
    auto gates = AffineOf<bits, S>::of(gate, gate_scales, gate_biases, args.inputs, args.group_size);
    auto ups = AffineOf<bits, S>::of(up, up_scales, up_biases, args.inputs, args.group_size);
    StagedPairs in(pair_rows(pairs, own, args), StagedRows{octets, group_sums, args.inputs});
    Biases both = {gate_bias, up_bias};
    Stage stage = OB_AFFINE_STAGE;
    Place place = OB_PLACE;
    if (tensors_aligned(gates, nullptr) && tensors_aligned(ups, nullptr)) {
        gate_up_tensor<true>(gates, ups, in, both, h, own, at, args, stage, place);
    } else {
        metallib_apart([=] { gate_up_tensor<false>(gates, ups, in, both, h, own, at, args, stage, place); });
    }
}

// experts_down_grouped of positions that stage_activations has staged.
template <uint bits, typename S>
[[max_total_threads_per_threadgroup(OB_AFFINE_THREADS), user_annotation("resident threads: 512")]] kernel void
staged_down_grouped(device const uint *down [[buffer(0)]], device const S *scales [[buffer(1)]],
                    device const S *biases [[buffer(2)]], device const uint4 *octets [[buffer(3)]],
                    device const float2 *group_sums [[buffer(4)]], device const uint *pairs [[buffer(5)]],
                    device const uint *offsets [[buffer(6)]], device const ushort *bias [[buffer(7)]],
                    device float *z [[buffer(8)]], constant ExpertArgs &args [[buffer(9)]],
                    uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    OB_AFFINE_STAGE_MEMORY;
    if (at.y >= args.experts) return;
    Group own = group_of(offsets, at.y, args);
    if (own.begin >= own.end) return;
    auto matrix = AffineOf<bits, S>::of(down, scales, biases, args.inputs, args.group_size);
    StagedInputs in = {{octets, group_sums, args.inputs}, 0};
    ulong first = ulong(at.y) * args.outputs;
    Stage stage = OB_AFFINE_STAGE;
    Place place = OB_PLACE;
    if (tensors_aligned(matrix, nullptr)) {
        down_tensor<true>(matrix, in, pairs, bias, z, first, own, at.x, args, stage, place);
    } else {
        metallib_apart([=] { down_tensor<false>(matrix, in, pairs, bias, z, first, own, at.x, args, stage, place); });
    }
}

#define OB_INSTANTIATE(name, bits, S)                                                                                \
    template [[host_name("staged_experts_gate_up_grouped_" #name)]] kernel decltype(staged_gate_up_grouped<bits, S>) \
        staged_gate_up_grouped<bits, S>;                                                                             \
    template [[host_name("staged_experts_down_grouped_" #name)]] kernel decltype(staged_down_grouped<bits, S>)       \
        staged_down_grouped<bits, S>;
OB_TENSOR_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE
#endif

// y[row] = Σ_k weights[row, k] · z[row, k], with k in order; an id that is no expert adds nothing.
// z [rows, top_k, outputs]; ids, weights [rows, top_k]; y [rows, outputs]. Grid: 1 × rows. Step `experts`.
kernel void experts_combine(device const float *z [[buffer(0)]], device const uint *ids [[buffer(1)]],
                            device const float *weights [[buffer(2)]], device float *y [[buffer(3)]],
                            constant ExpertArgs &args [[buffer(4)]], uint3 at [[threadgroup_position_in_grid]],
                            OB_PLACE_PARAMETERS) {
    if (at.y >= args.rows) return;
    Place place = OB_PLACE;
#ifdef __METAL_CPU__
    const uint together = 16;  // columns of a thread
#else
    const uint together = 1;  // neighbouring threads read neighbouring columns
#endif
    ulong pair = ulong(at.y) * args.top_k;
    for (uint i = together * place.thread_index; i < args.outputs; i += together * place.threads) {
        uint count = min(together, args.outputs - i);
        float sums[together];
        for (uint c = 0; c < together; c++) sums[c] = 0;
        for (uint k = 0; k < args.top_k; k++) {
            if (ids[pair + k] >= args.experts) continue;
            float weight = weights[pair + k];
            device const float *product = z + (pair + k) * args.outputs + i;
            if (count == together) {
                for (uint c = 0; c < together; c++) sums[c] = add_expert(sums[c], weight, product[c]);
            } else {
                for (uint c = 0; c < count; c++) sums[c] = add_expert(sums[c], weight, product[c]);
            }
        }
        device float *out = y + ulong(at.y) * args.outputs + i;
        for (uint c = 0; c < count; c++) out[c] = sums[c];
    }
}

#define OB_INSTANTIATE(name, T)                                                                                     \
    template [[host_name(                                                                                           \
        "experts_gate_up_grouped_" #name)]] kernel decltype(experts_gate_up_grouped<T>) experts_gate_up_grouped<T>; \
    template                                                                                                        \
        [[host_name("experts_down_grouped_" #name)]] kernel decltype(experts_down_grouped<T>) experts_down_grouped<T>;
OB_PLAIN_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE

#define OB_INSTANTIATE(name, bits, S)                                                                                 \
    template [[host_name("experts_gate_up_grouped_" #name)]] kernel decltype(experts_gate_up_grouped_affine<bits, S>) \
        experts_gate_up_grouped_affine<bits, S>;                                                                      \
    template [[host_name("experts_down_grouped_" #name)]] kernel decltype(experts_down_grouped_affine<bits, S>)       \
        experts_down_grouped_affine<bits, S>;
OB_AFFINE_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE
