// Barriers that not all threads reach, or that order too little.
#include <metal_stdlib>
using namespace metal;

kernel void in_one_branch(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                          uint i [[thread_index_in_threadgroup]], uint size [[threads_per_threadgroup]]) {
    threadgroup float values[256];
    values[i] = x[i];  // there
#if MISTAKE
    if (i < size / 2) {
        threadgroup_barrier(mem_flags::mem_threadgroup);  // here: divergent barrier
        values[i] += 1;
    } else {
        threadgroup_barrier(mem_flags::mem_threadgroup);  // here: divergent barrier
        values[i] -= 1;
    }
#else
    threadgroup_barrier(mem_flags::mem_threadgroup);
    values[i] += i < size / 2 ? 1 : -1;
#endif
    y[i] = values[i];
}

kernel void after_return(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], constant uint &n [[buffer(2)]],
                         uint i [[thread_index_in_threadgroup]]) {
    threadgroup float values[256];
#if MISTAKE
    if (i >= n) return;
    values[i] = x[i];  // there
#else
    if (i < n) values[i] = x[i];
#endif
    threadgroup_barrier(mem_flags::mem_threadgroup);  // here: divergent barrier
    if (i < n) y[i] = values[n - 1 - i];
}

kernel void in_a_loop(device const uint *turns [[buffer(0)]], device uint *y [[buffer(1)]],
                      uint i [[thread_index_in_threadgroup]]) {
    threadgroup atomic_uint count;
    if (i == 0) atomic_store_explicit(&count, 0u, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
#if MISTAKE
    uint end = turns[i];
#else
    uint end = turns[0];
#endif
    for (uint k = 0; k < end; k++) {
        atomic_fetch_add_explicit(&count, 1u, memory_order_relaxed);
        threadgroup_barrier(mem_flags::mem_threadgroup);  // here: divergent barrier
    }
    y[i] = end;
}

kernel void of_a_simdgroup(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                           uint i [[thread_index_in_threadgroup]], uint size [[threads_per_threadgroup]]) {
    threadgroup float values[256];
    values[i] = x[i];  // there
#if MISTAKE
    simdgroup_barrier(mem_flags::mem_threadgroup);
#else
    threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
    y[i] = values[size - 1 - i];  // here: race
}

kernel void of_a_part(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                      uint i [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
    threadgroup float values[256];
    values[i] = x[i];  // there
#if MISTAKE
    if (lane < 16) simdgroup_barrier(mem_flags::mem_threadgroup);  // here: divergent barrier
#else
    simdgroup_barrier(mem_flags::mem_threadgroup);
#endif
    y[i] = values[i];
}

kernel void of_other_memory(device float *x [[buffer(0)]], device float *y [[buffer(1)]],
                            uint i [[thread_index_in_threadgroup]], uint size [[threads_per_threadgroup]]) {
    x[i] = 2 * x[i];  // there
#if MISTAKE
    threadgroup_barrier(mem_flags::mem_threadgroup);
#else
    threadgroup_barrier(mem_flags::mem_device);
#endif
    y[i] = x[size - 1 - i];  // here: race
}

kernel void of_no_memory(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                         uint i [[thread_index_in_threadgroup]], uint size [[threads_per_threadgroup]]) {
    threadgroup float values[256];
    values[i] = x[i];  // there
#if MISTAKE
    threadgroup_barrier(mem_flags::mem_none);
#else
    threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
    y[i] = values[size - 1 - i];  // here: race
}
