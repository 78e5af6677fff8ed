// The experts of many rows, expert by expert: a weight is unpacked once for all rows that chose its expert.
// Pair p = row · top_k + k is the k-th expert of a row.
//
//   ids ─▶ group_experts ─▶ experts_gate_up_grouped ─▶ experts_down_grouped ─▶ experts_combine ─▶ y
//           pairs, offsets   inner, by position         z, by pair
//
// A row gives the same bits as in experts.metal: the same products, added in the same order.
#include "experts_grouped.h"

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
