// Two steps of a chain: the second reads what the first writes. A chain places its barriers by signatures;
// one that is wrong costs the barrier.
#include <metal_stdlib>
using namespace metal;

#if MISTAKE
kernel void first_step(device const float *x [[buffer(0)]], device const float *y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    device float *out = (device float *)y;
#else
kernel void first_step(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    device float *out = y;
#endif
    out[i] = 2 * x[i];  // there
}

kernel void second_step(device const float *y [[buffer(0)]], device float *z [[buffer(1)]], uint i [[thread_position_in_grid]],
                        uint size [[threads_per_grid]]) {
    z[i] = y[size - 1 - i];  // here: race between dispatches
}
