// Accesses outside of what is bound or declared.
#include <metal_stdlib>
using namespace metal;

struct Pair { uint first, second; };

kernel void beyond_the_binding(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], constant uint &n [[buffer(2)]],
                               uint i [[thread_position_in_grid]]) {
#if !MISTAKE
    if (i >= n) return;
#endif
    y[i] = x[i];  // here: out of bounds
}

kernel void below_the_binding(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                              uint i [[thread_position_in_grid]]) {
#if MISTAKE
    int before = int(i) - 1;
#else
    int before = max(int(i) - 1, 0);
#endif
    y[i] = x[i] - x[before];  // here: out of bounds
}

kernel void tail_of_a_vector(device const float4 *x [[buffer(0)]], device float *y [[buffer(1)]], constant uint &n [[buffer(2)]],
                             uint i [[thread_position_in_grid]]) {
#if MISTAKE
    if (4 * i >= n) return;
#else
    if (4 * i + 3 >= n) return;
#endif
    float4 v = x[i];  // here: out of bounds
    y[i] = v.x + v.y + v.z + v.w;
}

kernel void a_struct(device const Pair *pairs [[buffer(0)]], device uint *y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
#if MISTAKE
    uint at = i + 1;
#else
    uint at = i;
#endif
    y[i] = pairs[at].first +  // here: out of bounds
           pairs[at].second;
}


kernel void threadgroup_argument(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                                 threadgroup float *slots [[threadgroup(0)]], uint i [[thread_index_in_threadgroup]]) {
#if MISTAKE
    slots[i + 1] = x[i];  // here: out of bounds
    y[i] = slots[i + 1];
#else
    slots[i] = x[i];
    y[i] = slots[i];
#endif
}

kernel void threadgroup_variable(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                                 uint i [[thread_index_in_threadgroup]], uint size [[threads_per_threadgroup]]) {
    threadgroup float slots[64];
    threadgroup float others[64];
    others[i] = 0;
#if MISTAKE
    uint at = i + size;
#else
    uint at = i;
#endif
    threadgroup float *pointer = slots;
    pointer[at] = x[i];  // here: out of bounds
    y[i] = pointer[at] + others[i];
}

kernel void local_array(device const uint *x [[buffer(0)]], device uint *y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    uint counts[8] = {0, 0, 0, 0, 0, 0, 0, 0};
#if MISTAKE
    uint bin = x[i] / 4;
#else
    uint bin = x[i] / 8;
#endif
    counts[bin]++;  // here: out of bounds
    y[i] = counts[0];
}

constant float table[4] = {1, 2, 4, 8};

kernel void constant_table(device const uint *x [[buffer(0)]], device float *y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
#if MISTAKE
    y[i] = table[x[i]];  // here: out of bounds
#else
    y[i] = table[x[i] % 4];
#endif
}
