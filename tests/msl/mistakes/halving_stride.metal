// The largest logit by a reduction that halves its stride: with 6 threads, 5 of them are never looked at twice.
#include <metal_stdlib>
using namespace metal;

kernel void largest(device const float *logits [[buffer(0)]], device float *most [[buffer(1)]],
                    uint i [[thread_index_in_threadgroup]], uint size [[threads_per_threadgroup]]) {
    threadgroup float values[1024];
    values[i] = logits[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
#if MISTAKE
    for (uint stride = size / 2; stride > 0; stride /= 2) {
        if (i < stride) values[i] = max(values[i], values[i + stride]);
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
#else
    for (uint left = size; left > 1; left = (left + 1) / 2) {
        uint half_of_it = (left + 1) / 2;
        if (i + half_of_it < left) values[i] = max(values[i], values[i + half_of_it]);
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
#endif
    if (i == 0) most[0] = values[0];
}
