// Results that are no numbers, that depend on which thread comes first, or that never come.
#include <metal_stdlib>
using namespace metal;

kernel void zero_by_zero(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], constant uint &n [[buffer(2)]],
                         uint i [[thread_position_in_grid]]) {
    float sum = 0;
    for (uint k = 0; k < n; k++) sum += x[k];
#if MISTAKE
    y[i] = x[i] / sum;  // here: NaN from finite inputs
#else
    y[i] = sum == 0 ? 0.0f : x[i] / sum;
#endif
}

kernel void root_of_a_difference(device const half *x [[buffer(0)]], device half *y [[buffer(1)]],
                                 uint i [[thread_position_in_grid]]) {
#if MISTAKE
    y[i] = sqrt(x[i] - 1.0h);  // here: NaN from finite inputs
#else
    y[i] = sqrt(max(x[i] - 1.0h, 0.0h));
#endif
}

kernel void sum_by_atomics(device const float *x [[buffer(0)]], device atomic_float *sum [[buffer(1)]],
                           device atomic_int *exact [[buffer(2)]], uint i [[thread_position_in_grid]]) {
#if MISTAKE
    atomic_fetch_add_explicit(sum, x[i], memory_order_relaxed);  // here: order-dependent result
#else
    atomic_fetch_add_explicit(exact, int(x[i] * 256), memory_order_relaxed);
#endif
}

kernel void places_by_atomics(device const uint *x [[buffer(0)]], device atomic_uint *count [[buffer(1)]],
                              device uint *found [[buffer(2)]], uint i [[thread_position_in_grid]]) {
    if (x[i] == 0) return;
    uint place = atomic_fetch_add_explicit(count, 1u, memory_order_relaxed);
#if MISTAKE
    found[place] = i;  // here: order-dependent result
#else
    found[place] = 1;
#endif
}

kernel void last_store(device atomic_uint *winner [[buffer(0)]], uint i [[thread_position_in_grid]]) {
#if MISTAKE
    atomic_store_explicit(winner, i, memory_order_relaxed);  // here: order-dependent result
#else
    atomic_fetch_max_explicit(winner, i, memory_order_relaxed);
#endif
}

kernel void waits_for_nobody(device atomic_uint *ready [[buffer(0)]], device uint *y [[buffer(1)]],
                             uint i [[thread_position_in_grid]]) {
#if !MISTAKE
    if (i == 0) atomic_store_explicit(ready, 1u, memory_order_relaxed);
#endif
    while (atomic_load_explicit(ready, memory_order_relaxed) == 0) {  // here: no end
    }
    y[i] = 1;
}

kernel void waits_without_atomics(device volatile uint *ready [[buffer(0)]], device uint *y [[buffer(1)]],
                                  uint i [[thread_position_in_grid]]) {
#if MISTAKE
    while (ready[0] == 0) {  // here: no end
    }
#endif
    y[i] = 1;
}

kernel void of_an_inactive_lane(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                                uint lane [[thread_index_in_simdgroup]], uint i [[thread_position_in_grid]]) {
    float value = x[i];
#if MISTAKE
    if (lane < 16) value += simd_shuffle_down(value, 16);  // here: inactive lane
#else
    float other = simd_shuffle_down(value, 16);
    if (lane < 16) value += other;
#endif
    y[i] = value;
}

kernel void of_a_lane_that_left(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], constant uint &n [[buffer(2)]],
                                uint i [[thread_position_in_grid]]) {
#if MISTAKE
    if (i >= n) return;
    y[i] = simd_broadcast(x[i], 31);  // here: inactive lane
#else
    float last = simd_broadcast(i < n ? x[i] : 0.0f, 31);
    if (i < n) y[i] = last;
#endif
}
