// Nothing here is a mistake, close as it may look.
#include <metal_stdlib>
using namespace metal;

kernel void histogram(device const uint *x [[buffer(0)]], device atomic_uint *counts [[buffer(1)]], constant uint &n [[buffer(2)]],
                      uint i [[thread_position_in_grid]], uint index [[thread_index_in_threadgroup]],
                      uint size [[threads_per_threadgroup]]) {
    threadgroup atomic_uint local_counts[16];
    for (uint k = index; k < 16; k += size) atomic_store_explicit(&local_counts[k], 0u, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (i < n) atomic_fetch_add_explicit(&local_counts[x[i] % 16], 1u, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint k = index; k < 16; k += size) {
        uint count = atomic_load_explicit(&local_counts[k], memory_order_relaxed);
        if (count > 0) atomic_fetch_add_explicit(&counts[k], count, memory_order_relaxed);
    }
}

kernel void largest_by_exchange(device const float *x [[buffer(0)]], device atomic_uint *bits [[buffer(1)]],
                                uint i [[thread_position_in_grid]]) {
    uint mine = as_type<uint>(x[i]), seen = atomic_load_explicit(bits, memory_order_relaxed);
    while (mine > seen && !atomic_compare_exchange_weak_explicit(bits, &seen, mine, memory_order_relaxed, memory_order_relaxed)) {
    }
}

kernel void reduced_in_branches(device const int *x [[buffer(0)]], device int *y [[buffer(1)]], uint i [[thread_position_in_grid]],
                                uint lane [[thread_index_in_simdgroup]]) {
    int value = x[i];
    if (lane % 3 == 0) value = simd_sum(value);
    else if (lane % 3 == 1) value = simd_max(value);
    if (value > 0) value = simd_broadcast_first(value);
    for (uint k = 0; k < lane % 4; k++) value += simd_any(k > 1);
    y[i] = value;
}

kernel void own_places(device float *x [[buffer(0)]], device float *y [[buffer(1)]], uint i [[thread_position_in_grid]],
                       uint index [[thread_index_in_threadgroup]]) {
    threadgroup float mine[256];
    mine[index] = x[i];
    mine[index] += 1;
    x[i] = mine[index];
    y[i] = x[i];
}

kernel void parts_of_words(device const uint *x [[buffer(0)]], device uchar *bytes [[buffer(1)]], device ushort *halves [[buffer(2)]],
                           device uint *y [[buffer(3)]], uint i [[thread_position_in_grid]], uint index [[thread_index_in_threadgroup]],
                           uint size [[threads_per_threadgroup]]) {
    threadgroup uchar shared[256];
    shared[index] = uchar(x[i]);
    bytes[i] = uchar(x[i]);
    halves[i] = ushort(x[i]);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[i] = shared[size - 1 - index];
}

kernel void bytes_beside_writes(device uchar *x [[buffer(0)]], device uint *y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    if (i % 2 == 0) x[i] = uchar(i);
    else y[i / 2] = x[i];
}

kernel void barriers_in_loops(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], constant uint &n [[buffer(2)]],
                              uint i [[thread_index_in_threadgroup]], uint size [[threads_per_threadgroup]],
                              uint row [[threadgroup_position_in_grid]]) {
    threadgroup float tile[256];
    float sum = 0;
    for (uint first = 0; first < n; first += size) {
        tile[i] = first + i < n ? x[row * n + first + i] : 0.0f;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint k = 0; k < size; k++) sum += tile[k] * float(i + 1);
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    if (row % 2 == 0) {  // the same for a whole threadgroup
        tile[i] = sum;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum = tile[size - 1 - i];
    }
    y[row * size + i] = sum;
}

kernel void total(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], constant uint &n [[buffer(2)]],
                  uint i [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                  uint simdgroup [[simdgroup_index_in_threadgroup]], uint simdgroups [[simdgroups_per_threadgroup]],
                  uint size [[threads_per_threadgroup]], uint row [[threadgroup_position_in_grid]]) {
    threadgroup float partial[32];
    float sum = 0;
    for (uint k = i; k < n; k += size) sum += x[row * n + k];
    sum = simd_sum(sum);
    if (lane == 0) partial[simdgroup] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (simdgroup == 0) {
        sum = simd_sum(lane < simdgroups ? partial[lane] : 0.0f);
        if (lane == 0) partial[0] = sum;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (i == size - 1) y[row] = partial[0];
}

kernel void within_a_simdgroup(device const uint *x [[buffer(0)]], device uint *y [[buffer(1)]], uint i [[thread_position_in_grid]],
                               uint index [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                               uint width [[threads_per_simdgroup]]) {
    threadgroup uint values[256];
    values[index] = x[i];
    simdgroup_barrier(mem_flags::mem_threadgroup);
    uint first = index - lane;
    y[i] = values[first + (width - 1 - lane)];
}

kernel void positions(device uint *y [[buffer(0)]], uint3 at [[thread_position_in_grid]], uint3 grid [[threads_per_grid]],
                      uint3 inside [[thread_position_in_threadgroup]], uint3 group [[threadgroup_position_in_grid]],
                      uint3 size [[dispatch_threads_per_threadgroup]], uint3 real [[threads_per_threadgroup]],
                      uint index [[thread_index_in_threadgroup]]) {
    bool right = all(group * size + inside == at) && index == (inside.z * real.y + inside.y) * real.x + inside.x &&
                 all(real == min(size, grid - group * size));
    y[(at.z * grid.y + at.y) * grid.x + at.x] = right ? at.x + 100 * at.y + 10000 * at.z : 0xFFFFFFFF;
}

kernel void transposed(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], constant uint2 &shape [[buffer(2)]],
                       uint2 inside [[thread_position_in_threadgroup]], uint2 group [[threadgroup_position_in_grid]]) {
    threadgroup float tile[16][17];
    uint2 from = group * 16 + inside, to = group.yx * 16 + inside;
    if (all(from < shape)) tile[inside.y][inside.x] = x[from.y * shape.x + from.x];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (all(to < shape.yx)) y[to.y * shape.y + to.x] = tile[inside.x][inside.y];
}

kernel void packed(device const packed_float3 *x [[buffer(0)]], device packed_float3 *y [[buffer(1)]], device half3 *z [[buffer(2)]],
                   uint i [[thread_position_in_grid]]) {
    float3 v = x[i];
    float order[3] = {v.z, v.y, v.x};
    thread float *p = order;
    for (uint k = 0; k < 3; k++) p[k] *= 2;
    y[i] = float3(order[0], order[1], order[2]);
    z[i] = half3(v);
}

kernel void not_finite(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    y[i] = x[i] * 0.0f;
}

kernel void left_early(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], constant uint &n [[buffer(2)]],
                       uint row [[threadgroup_position_in_grid]], uint i [[thread_index_in_threadgroup]],
                       uint size [[threads_per_threadgroup]]) {
    threadgroup float values[256];
    if (row * size >= n) return;  // all threads of it
    values[i] = row * size + i < n ? x[row * size + i] : 0.0f;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (row * size + i >= n) return;  // and no barrier follows
    y[row * size + i] = values[i] + simd_sum(values[i]);
}

constant float table[4] = {1, 2, 4, 8};

kernel void turns(device float *x [[buffer(0)]], constant float *factors [[buffer(1)]], uint i [[thread_index_in_threadgroup]],
                  uint size [[threads_per_threadgroup]]) {
    for (uint k = 0; k < 4; k++) {
        float next = x[(i + 1) % size] * factors[k] + table[k];
        threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
        x[i] = next;
        threadgroup_barrier(mem_flags::mem_device);
    }
}
