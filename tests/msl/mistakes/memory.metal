// Memory that nothing has written, that must not be written, or that is not aligned.
#include <metal_stdlib>
using namespace metal;

kernel void unwritten_threadgroup_memory(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                                         constant uint &n [[buffer(2)]], uint i [[thread_index_in_threadgroup]],
                                         uint size [[threads_per_threadgroup]]) {
    threadgroup float values[64];
#if MISTAKE
    if (i < n) values[i] = x[i];
#else
    values[i] = i < n ? x[i] : 0.0f;
#endif
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[i] = values[size - 1 - i];  // here: uninitialised read
}

kernel void unwritten_device_memory(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                                    uint i [[thread_position_in_grid]]) {
#if MISTAKE
    y[i] += x[i];  // here: uninitialised read
#else
    y[i] = x[i];
#endif
}

kernel void half_a_word(device const half *x [[buffer(0)]], device half *scratch [[buffer(1)]], device uint *y [[buffer(2)]],
                        uint i [[thread_position_in_grid]]) {
    scratch[2 * i] = x[i];
#if !MISTAKE
    scratch[2 * i + 1] = x[i];
#endif
    y[i] = as_type<uint>(((device const half2 *)scratch)[i]);  // here: uninitialised read
}

kernel void through_a_cast(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    y[i] = x[i];
#if MISTAKE
    device float *mine = (device float *)x;
    mine[i] = 0;  // here: write to read-only memory
#endif
}

kernel void to_a_constant(constant uint &n [[buffer(0)]], device uint *y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    y[i] = n;
#if MISTAKE
    if (i == 0) const_cast<uint &>(n) = 0;  // here: write to read-only memory
#endif
}

kernel void of_four(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
#if MISTAKE
    float4 v = *(device const float4 *)(x + 4 * i + 1);  // here: misaligned access
#else
    float4 v = float4(*(device const packed_float4 *)(x + 4 * i + 1));
#endif
    y[i] = v.x + v.y + v.z + v.w;
}

kernel void of_an_integer(device const uchar *x [[buffer(0)]], device uint *y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
#if MISTAKE
    y[i] = *(device const uint *)(x + 5 * i);  // here: misaligned access
#else
    y[i] = as_type<uint>(uchar4(x[5 * i], x[5 * i + 1], x[5 * i + 2], x[5 * i + 3]));
#endif
}
