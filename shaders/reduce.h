// Reductions over a threadgroup of any size. `partial` holds one value per simdgroup (at most 32). A barrier stands
// before its first write, because an earlier reduction may still be reading it.
#ifndef OB_REDUCE_H
#define OB_REDUCE_H

#include "lanes.h"

// The loop that follows is unrolled, so that arrays with its index lie in registers.
#define OB_UNROLL _Pragma("unroll")

// The place of a thread in its threadgroup.
struct Place {
    uint thread_index, threads;  // this thread's number, and the number of threads in the threadgroup
    uint lane, group, groups;    // this thread is lane `lane` of simdgroup `group`; there are `groups` simdgroups
    uint width;                  // lanes of a simdgroup
};

#define OB_PLACE_PARAMETERS                                                                       \
    uint thread_index [[thread_index_in_threadgroup]], uint3 threads [[threads_per_threadgroup]], \
        uint lane [[thread_index_in_simdgroup]], uint group [[simdgroup_index_in_threadgroup]],   \
        uint groups [[simdgroups_per_threadgroup]], uint simd_width [[threads_per_simdgroup]]

#define OB_PLACE \
    Place { thread_index, threads.x, lane, group, groups, simd_width }

METAL_FUNC float threadgroup_sum(float x, threadgroup float *partial, Place place) {
    x = metal::simd_sum(x);
    if (place.groups == 1) return x;
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    if (place.lane == 0) partial[place.group] = x;
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    x = partial[0];
    for (uint i = 1; i < place.groups; i++) x += partial[i];
    return x;
}

METAL_FUNC float threadgroup_max(float x, threadgroup float *partial, Place place) {
    x = metal::simd_max(x);
    if (place.groups == 1) return x;
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    if (place.lane == 0) partial[place.group] = x;
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    x = partial[0];
    for (uint i = 1; i < place.groups; i++) x = partial[i] > x ? partial[i] : x;
    return x;
}

METAL_FUNC uint threadgroup_min(uint x, threadgroup uint *partial, Place place) {
    x = metal::simd_min(x);
    if (place.groups == 1) return x;
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    if (place.lane == 0) partial[place.group] = x;
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    x = partial[0];
    for (uint i = 1; i < place.groups; i++) x = partial[i] < x ? partial[i] : x;
    return x;
}

// Returns the sum of x over the threads before this one; `sum` becomes the sum over all threads.
METAL_FUNC uint threadgroup_offset(uint x, thread uint &sum, threadgroup uint *partial, Place place) {
    uint before = metal::simd_prefix_exclusive_sum(x);
    sum = metal::simd_sum(x);
    if (place.groups == 1) return before;
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    if (place.lane == 0) partial[place.group] = sum;
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    sum = 0;
    for (uint i = 0; i < place.groups; i++) {
        if (i == place.group) before += sum;
        sum += partial[i];
    }
    return before;
}

METAL_FUNC uint threadgroup_sum(uint x, threadgroup uint *partial, Place place) {
    uint sum;
    threadgroup_offset(x, sum, partial, place);
    return sum;
}

// Marks a row as failed at `step`. The first failure of a row stays.
METAL_FUNC void fail_row(device metal::atomic_uint *status, uint row, uint step) {
    uint expected = 0;
    while (!metal::atomic_compare_exchange_weak_explicit(&status[row], &expected, step, metal::memory_order_relaxed,
                                                         metal::memory_order_relaxed) &&
           expected == 0) {}
}

#endif
