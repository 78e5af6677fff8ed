// A sum in two stages: simdgroups, then what they left in threadgroup memory.
#include <metal_stdlib>
using namespace metal;

kernel void total(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                  uint simdgroup [[simdgroup_index_in_threadgroup]], uint simdgroups [[simdgroups_per_threadgroup]],
                  uint row [[threadgroup_position_in_grid]], uint size [[threads_per_threadgroup]]) {
    threadgroup float partial[32];
    float sum = simd_sum(x[row * size + i]);
    if (lane == 0) partial[simdgroup] = sum;  // there
#if !MISTAKE
    threadgroup_barrier(mem_flags::mem_threadgroup);
#elif MISTAKE == 2
    simdgroup_barrier(mem_flags::mem_threadgroup);
#elif MISTAKE == 3
    threadgroup_barrier(mem_flags::mem_device);
#endif
    float all = 0;
    for (uint k = 0; k < simdgroups; k++) {
        all += partial[k];  // here: race
    }
    if (i == 0) y[row] = all;
}
