// Softmax over the experts of a token. The maximum's slots are used again for the sums: nobody may write
// them before everybody has read them.
#include <metal_stdlib>
using namespace metal;

kernel void route(device const float *logits [[buffer(0)]], device float *probabilities [[buffer(1)]],
                  constant uint &experts [[buffer(2)]], uint i [[thread_index_in_threadgroup]],
                  uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
                  uint simdgroups [[simdgroups_per_threadgroup]]) {
    threadgroup float slots[32];
    float logit = i < experts ? logits[i] : -INFINITY;
    float most = simd_max(logit);
    if (lane == 0) slots[simdgroup] = most;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint k = 0; k < simdgroups; k++) {
        most = max(most, slots[k]);  // there
    }
#if !MISTAKE
    threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
    float e = i < experts ? exp(logit - most) : 0.0f;
    float sum = simd_sum(e);
    if (lane == 0) {
        slots[simdgroup] = sum;  // here: race
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    sum = 0;
    for (uint k = 0; k < simdgroups; k++) sum += slots[k];
    if (i < experts) probabilities[i] = e / sum;
}
