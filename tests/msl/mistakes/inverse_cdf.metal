// Running sums of a row in device memory, written by all threads and then searched by one.
#include <metal_stdlib>
using namespace metal;

kernel void draw(device const float *probabilities [[buffer(0)]], device float *cdf [[buffer(1)]], device uint *token [[buffer(2)]],
                 constant uint &n [[buffer(3)]], constant float &u [[buffer(4)]], uint i [[thread_index_in_threadgroup]],
                 uint size [[threads_per_threadgroup]]) {
    threadgroup float sums[1024];
    uint each = (n + size - 1) / size, first = min(n, i * each), end = min(n, first + each);
    float sum = 0;
    for (uint k = first; k < end; k++) sum += probabilities[k];
    sums[i] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float before = 0;
    for (uint k = 0; k < i; k++) before += sums[k];
    for (uint k = first; k < end; k++) {
        before += probabilities[k];
        cdf[k] = before;  // there
    }
#if MISTAKE
    threadgroup_barrier(mem_flags::mem_threadgroup);
#else
    threadgroup_barrier(mem_flags::mem_device);
#endif
    if (i != 0) return;
    uint found = 0;
    while (found < n - 1 && cdf[found] <= u) found++;  // here: race
    token[0] = found;
}
