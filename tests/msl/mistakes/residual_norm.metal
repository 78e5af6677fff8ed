// y = x / rms(x), where x = residual + update, a row a threadgroup.
#include <metal_stdlib>
using namespace metal;

static float sum_of(float value, threadgroup float *slots, uint lane, uint simdgroup, uint simdgroups) {
    value = simd_sum(value);
    if (lane == 0) slots[simdgroup] = value;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float sum = 0;
    for (uint k = 0; k < simdgroups; k++) sum += slots[k];
    return sum;
}

// The sum is kept in threadgroup memory, which a long row overflows; it can be made again.
kernel void norm_stashed(device const float *residual [[buffer(0)]], device const float *update [[buffer(1)]],
                         device float *y [[buffer(2)]], constant uint &dim [[buffer(3)]],
                         uint row [[threadgroup_position_in_grid]], uint i [[thread_index_in_threadgroup]],
                         uint size [[threads_per_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                         uint simdgroup [[simdgroup_index_in_threadgroup]], uint simdgroups [[simdgroups_per_threadgroup]]) {
    threadgroup float slots[32];
#if MISTAKE
    threadgroup float stash[4096];
#endif
    float squares = 0;
    for (uint k = i; k < dim; k += size) {
        float x = residual[row * dim + k] + update[row * dim + k];
        squares += x * x;
#if MISTAKE
        stash[k] = x;  // here: out of bounds
#endif
    }
    float scale = rsqrt(sum_of(squares, slots, lane, simdgroup, simdgroups) / dim);
    for (uint k = i; k < dim; k += size) {
#if MISTAKE
        float x = stash[k];
#else
        float x = residual[row * dim + k] + update[row * dim + k];
#endif
        y[row * dim + k] = x * scale;
    }
}

// The sum is an output, too, and may be the residual's own memory: then it must be added once, by the
// thread that reads it.
kernel void norm_in_place(device const float *residual [[buffer(0)]], device const float *update [[buffer(1)]],
                          device float *sum [[buffer(2)]], device float *y [[buffer(3)]], constant uint &dim [[buffer(4)]],
                          uint row [[threadgroup_position_in_grid]], uint i [[thread_index_in_threadgroup]],
                          uint size [[threads_per_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                          uint simdgroup [[simdgroup_index_in_threadgroup]], uint simdgroups [[simdgroups_per_threadgroup]]) {
    threadgroup float slots[32];
    float squares = 0;
    for (uint k = i; k < dim; k += size) {
        float x = residual[row * dim + k] + update[row * dim + k];
        sum[row * dim + k] = x;  // there
        squares += x * x;
    }
    float scale = rsqrt(sum_of(squares, slots, lane, simdgroup, simdgroups) / dim);
#if MISTAKE
    // Threads take other elements than before: what they read is another thread's sum already, or not yet.
    for (uint k = size - 1 - i; k < dim; k += size) {
        float x = residual[row * dim + k] + update[row * dim + k];  // here: race
        y[row * dim + k] = x * scale;
    }
#else
    for (uint k = i; k < dim; k += size) y[row * dim + k] = sum[row * dim + k] * scale;
#endif
}

// The grid may have more rows than there are.
kernel void norm_rows(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], constant uint &dim [[buffer(2)]],
                      constant uint &rows [[buffer(3)]], uint row [[threadgroup_position_in_grid]],
                      uint i [[thread_index_in_threadgroup]], uint size [[threads_per_threadgroup]],
                      uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
                      uint simdgroups [[simdgroups_per_threadgroup]]) {
    threadgroup float slots[32];
#if !MISTAKE
    if (row >= rows) return;
#endif
    float squares = 0;
    for (uint k = i; k < dim; k += size) {
        float value = x[row * dim + k];  // here: out of bounds
        squares += value * value;
    }
    float scale = rsqrt(sum_of(squares, slots, lane, simdgroup, simdgroups) / dim);
    for (uint k = i; k < dim; k += size) y[row * dim + k] = x[row * dim + k] * scale;
}
