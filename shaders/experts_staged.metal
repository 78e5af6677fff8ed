// The kernels of experts_grouped.metal for rows that were staged before; see weights/tensor.h.
#include "experts_grouped.h"

using namespace metal;

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
