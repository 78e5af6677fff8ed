// Experts whose weight counts on their inputs (Llama 4): act(w · gate, w · up) of the products of gate and up, which are
// linear in the input.
#include "experts.h"

using namespace metal;

// h[pair] = act(w · gate[pair], w · up[pair]), and ones[pair] = 1: the weight that is left for the output.
// gate, up, h [rows · top_k, outputs]; weights, ones [rows, top_k]. Grid: 1 × rows × top_k. Step `experts`.
kernel void experts_scale(device const float *gate [[buffer(0)]], device const float *up [[buffer(1)]],
                          device const float *weights [[buffer(2)]], device float *h [[buffer(3)]],
                          device float *ones [[buffer(4)]], constant ExpertArgs &args [[buffer(5)]],
                          uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    if (at.y >= args.rows) return;
    Place place = OB_PLACE;
    ulong pair = ulong(at.y) * args.top_k + at.z, first = pair * args.outputs;
    float weight = weights[pair];
    if (place.thread_index == 0) ones[pair] = 1;
    for (uint i = place.thread_index; i < args.outputs; i += place.threads)
        h[first + i] = activate(weight * gate[first + i], weight * up[first + i], args.activation);
}

// `experts_scale` by position: pairs [rows · top_k] and offsets [experts + 1] from group_experts. Those behind the last
// expert's pairs, which nothing wrote, are left alone. Grid: 1 × rows × top_k. Step `experts`.
kernel void experts_scale_grouped(device const float *gate [[buffer(0)]], device const float *up [[buffer(1)]],
                                  device const float *weights [[buffer(2)]], device const uint *pairs [[buffer(3)]],
                                  device const uint *offsets [[buffer(4)]], device float *h [[buffer(5)]],
                                  device float *ones [[buffer(6)]], constant ExpertArgs &args [[buffer(7)]],
                                  uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    if (at.y >= args.rows) return;
    Place place = OB_PLACE;
    uint position = at.y * args.top_k + at.z;
    if (place.thread_index == 0) ones[position] = 1;
    if (position >= offsets[args.experts]) return;
    float weight = weights[min(pairs[position], args.rows * args.top_k - 1)];
    ulong first = ulong(position) * args.outputs;
    for (uint i = place.thread_index; i < args.outputs; i += place.threads)
        h[first + i] = activate(weight * gate[first + i], weight * up[first + i], args.activation);
}
