#include <metal_stdlib>
using namespace metal;

struct AddArgs {
    uint n;
    float scale;
    float3 offset;
    uint dims[4];
};

kernel void add(device const float *a [[buffer(0)]], device float *b [[buffer(1)]],
                constant AddArgs &args [[buffer(2)]], uint i [[thread_position_in_grid]]) {
    if (i < args.n) b[i] += args.scale * exp(a[i]) + args.offset.y;
}

template <typename T, int N>
kernel void scale(device const T *x [[buffer(0)]], device T *y [[buffer(1)]],
                  threadgroup float *s [[threadgroup(0)]],
                  uint3 group [[threadgroup_position_in_grid]], uint3 groups [[threadgroups_per_grid]],
                  uint lane [[thread_index_in_threadgroup]], uint lanes [[threads_per_threadgroup]]) {
    threadgroup float total[8];
    const uint at = (group.z * groups.y + group.y) * groups.x + group.x;
    for (uint k = lane; k < N; k += lanes) y[at * N + k] = T(float(x[at * N + k]) * 2.0f);
    total[0] = 1;
    threadgroup_barrier(mem_flags::mem_threadgroup);
}

#define SCALE(name, T, N)                                                             \
    template [[host_name(name)]] kernel void scale<T, N>(                             \
        device const T *x [[buffer(0)]], device T *y [[buffer(1)]],                   \
        threadgroup float *s [[threadgroup(0)]],                                      \
        uint3 group [[threadgroup_position_in_grid]],                                 \
        uint3 groups [[threadgroups_per_grid]],                                       \
        uint lane [[thread_index_in_threadgroup]], uint lanes [[threads_per_threadgroup]]);
SCALE("scale_float_3", float, 3)
SCALE("scale_bfloat_4", bfloat, 4)

typedef decltype(scale<half, 2>) scale_half;
template [[host_name("scale_half_2")]] [[kernel]] scale_half scale<half, 2>;
