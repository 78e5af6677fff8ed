// Softmax over the experts: exponentials and the slots of the reduction share threadgroup memory.
#include <metal_stdlib>
using namespace metal;

kernel void route(device const float *logits [[buffer(0)]], device float *probabilities [[buffer(1)]],
                  constant uint &experts [[buffer(2)]], threadgroup float *shared [[threadgroup(0)]],
                  uint i [[thread_index_in_threadgroup]], uint size [[threads_per_threadgroup]]) {
#if MISTAKE
    threadgroup float *exponentials = shared;
#else
    threadgroup float *exponentials = shared + 64;
#endif
    float e = i < experts ? exp(logits[i]) : 0.0f;
    shared[i] = e;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint stride = size / 2; stride > 0; stride /= 2) {
        if (i < stride) shared[i] += shared[i + stride];
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    float sum = shared[0];  // there
    if (i < experts) {
        exponentials[i] = e;  // here: race
    }
    if (i < experts) probabilities[i] = exponentials[i] / sum;
}
