// Pointers say where they point to; C++ alone does not ask.
#include <metal_stdlib>
using namespace metal;

#if MISTAKE
static float sum_of(const float *values, uint n) {  // here
#else
static float sum_of(threadgroup const float *values, uint n) {
#endif
    float sum = 0;
    for (uint k = 0; k < n; k++) sum += values[k];
    return sum;
}

kernel void total(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], uint i [[thread_index_in_threadgroup]],
                  uint size [[threads_per_threadgroup]]) {
    threadgroup float values[64];
    values[i] = x[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
#if MISTAKE
    device float *first = values;  // here
#else
    threadgroup float *first = values;
#endif
    y[i] = sum_of(first, size);
}
