// Threadgroups of one dispatch, and threads of one threadgroup, that nothing orders.
#include <metal_stdlib>
using namespace metal;

kernel void sum_of_all(device const float *x [[buffer(0)]], device float *partial [[buffer(1)]], device float *y [[buffer(2)]],
                       uint i [[thread_index_in_threadgroup]], uint row [[threadgroup_position_in_grid]],
                       uint rows [[threadgroups_per_grid]], uint size [[threads_per_threadgroup]],
                       uint simdgroups [[simdgroups_per_threadgroup]]) {
    float sum = simd_sum(x[row * size + i]);
    if (i == 0) partial[row] = sum;  // there
    threadgroup_barrier(mem_flags::mem_device);
#if MISTAKE
    // The last threadgroup is not the last to run.
    if (row == rows - 1 && i == 0) {
        float all = 0;
        for (uint k = 0; k < rows; k++) {
            all += partial[k];  // here: race between threadgroups
        }
        y[0] = all;
    }
#else
    if (i == 0) y[row] = sum;
#endif
}

kernel void overlapping_rows(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], constant uint &dim [[buffer(2)]],
                             uint i [[thread_index_in_threadgroup]], uint row [[threadgroup_position_in_grid]],
                             uint size [[threads_per_threadgroup]]) {
#if MISTAKE
    uint end = dim + 1;
#else
    uint end = dim;
#endif
    for (uint k = i; k < end; k += size) {
        y[row * dim + k] = x[k];  // here: race between threadgroups
    }
}

kernel void last_writer_wins(device const float *x [[buffer(0)]], device uint *where [[buffer(1)]],
                             uint i [[thread_position_in_grid]]) {
    if (x[i] <= 0) return;
#if MISTAKE
    where[0] = i;  // here: race
#else
    where[i] = 1;
#endif
}

kernel void bits_of_a_word(device const uint *x [[buffer(0)]], device uint *y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
#if MISTAKE
    if (x[i] != 0) {
        y[i / 32] |= 1u << i % 32;  // here: race
    }
#else
    if (x[i] != 0) atomic_fetch_or_explicit((device atomic_uint *)&y[i / 32], 1u << i % 32, memory_order_relaxed);
#endif
}

kernel void plain_beside_atomic(device atomic_uint *count [[buffer(0)]], device uint *y [[buffer(1)]],
                                uint i [[thread_position_in_grid]]) {
    atomic_fetch_add_explicit(count, 1u, memory_order_relaxed);  // there
#if MISTAKE
    y[i] = *(device uint *)count;  // here: race
#else
    y[i] = 0;
#endif
}

kernel void shifted_in_place(device float *x [[buffer(0)]], uint i [[thread_index_in_threadgroup]],
                             uint size [[threads_per_threadgroup]]) {
#if MISTAKE
    x[i] = x[(i + 1) % size];  // here: race
#else
    float next = x[(i + 1) % size];
    threadgroup_barrier(mem_flags::mem_device);
    x[i] = next;
#endif
}
