// What the C++ metal_stdlib must make of the language: each kernel writes values that the test knows.
#include <metal_stdlib>
#include <metal_atomic>
#include <simd/simd.h>
using namespace metal;

constant float table[4] = {1.0f, 2.0f, 4.0f, 8.0f};
constant constexpr uint kWidth = 3 * 2;
constant const int signs[2] = {-1, 1};

enum Slot { kOut = 0, kIn, kCounter = 1 << 1 };

kernel void vectors(device float *out [[buffer(kOut)]]) {
    float3 v = float3(1, 2, 3);
    v = v * 2 + 1;           // 3 5 7
    v += float3(1.0f);       // 4 6 8
    float4 w = float4(v, 1); // 4 6 8 1
    out[0] = dot(v, float3(1, 0, 2));
    out[1] = length(float2(3, 4));
    out[2] = cross(float3(1, 0, 0), float3(0, 1, 0)).z;
    out[3] = normalize(float4(0, 0, 0, 5)).w;
    out[4] = max(w, 5.0f).x + min(w, 5.0f).y;
    out[5] = select(w, -w, w > 5.0f).z;
    out[6] = any(w > 7.0f) + 2 * all(w > 7.0f);
    out[7] = clamp(w, 2, 3).w + mix(w, w + 2, 0.5f).x;
    uint3 u = uint3(5, 6, 7);
    u = (u << 1) & ~1u;
    out[8] = u.x + u[1] + u.z % 5;
    w[3] = 9;
    out[9] = w.w + w.a + w.r;
    const int3 i = int3(float3(-1.5f, 2.5f, 0));
    out[10] = i.x + abs(i).x + (i == int3(-1, 2, 0)).y;
    constexpr float4 c = float4(1, 2, 3, 4);
    out[11] = c.w + c[2];
    packed_float3 p = v;
    p = p * 2 + v;
    p[1] += 1;
    out[12] = p.x + p.y + p.z; // 12 + 19 + 24
    out[13] = float(sizeof(float3)) + sizeof(packed_float3) + sizeof(half3) + alignof(uchar4);
    out[14] = float4(1, float2(2, 3), 4).z;
    const bool2 both = bool2(true, false);
    out[15] = (both && !both).x + (both || both).x;
}

kernel void swizzles(device float *out [[buffer(0)]], device packed_float3 *p [[buffer(1)]]) {
    float4 v = float4(1, 2, 3, 4);
    v.xz = v.zx;  // 3 2 1 4
    v.zw += 1.0f; // 3 2 2 5
    float2 xy = v.yx;
    v.xy = xy; // 2 3 2 5
    out[0] = v.x + 10 * v.y + 100 * v.z + 1000 * v.w;
    out[1] = dot(v.xyz, v.zzz);
    out[2] = float4(v.wz, xy).x;
    out[3] = half3(v.rgb).z;
    out[4] = (v + v).zw.y;
    p[1] = v.wzy;
    p[1].xy = p[1].yx;
    out[5] = p[1].x + 10 * p[1].y + 100 * p[1].z;
    thread float4 *q = &v;
    q->xw = q->wx;
    out[6] = q->x;
    v.xy = q->zw; // 2 2
    out[7] = max(v.xy, 1.0f).x + length(v.xy - v.xy) + all(v.xy == v.zw);
}

kernel void small_floats(device float *out [[buffer(0)]]) {
    half h = 0.1h;
    out[0] = h;
    h += 1;
    out[1] = h;          // 1.1 in half
    out[2] = h * h;      // rounded to half
    out[3] = h * 2.0f;   // float
    out[4] = -h;
    out[5] = h > half(1) && h < 2 && h != 1.0f;
    bfloat b = bfloat(1.0f / 3);
    out[6] = b;
    b *= 3;
    out[7] = b;
    out[8] = float(numeric_limits<half>::max()) + float(numeric_limits<bfloat>::epsilon());
    const half4 v = half4(1, 2, 3, 4) * half(0.5f);
    out[9] = v.w + float(dot(v, v));
    out[10] = exp(half(1));
    out[11] = as_type<ushort>(half(1)) + as_type<half>(ushort(0x3c00));
    out[12] = half(70000.0f);
    out[13] = max(half(1), half(2)) + fabs(bfloat(-2));
}

kernel void integers(device uint *out [[buffer(0)]]) {
    out[0] = popcount(0xF0F0u) + clz(1u) + ctz(8u) + clz(ushort(1)) + clz(0u);
    out[1] = mulhi(0x80000000u, 6u) + uint(mulhi(-2, 3));
    out[2] = addsat(0xFFFFFFF0u, 0x20u);
    out[3] = uint(addsat(-2147483647, -5)) + subsat(3u, 5u);
    out[4] = rotate(0x80000001u, 4u);
    out[5] = reverse_bits(1u) + extract_bits(0xABCDu, 4, 8) + insert_bits(0u, 0xFu, 8, 4);
    out[6] = absdiff(3, -4) + hadd(3u, 6u) + rhadd(3u, 6u) + abs(-7);
    out[7] = max3(1, 5, 3) + min3(4, 2, 3) + median3(7, 1, 4) + clamp(9, 0, 5);
    out[8] = as_type<uint>(1.0f) + as_type<uint>(uchar4(1, 0, 0, 0));
    out[9] = mad24(3u, 4u, 5u) + mul24(3u, 4u);
    out[10] = uint(table[2]) + kWidth + uint(signs[1]);
    ulong wide = ulong(out[8]) << 8;
    out[11] = uint(wide >> 32);
    out[12] = is_same_v<conditional_t<true, half, float>, half> && is_floating_point_v<bfloat>;
    out[13] = char(200) < 0;
}

kernel void atomics(device atomic_uint *counter [[buffer(0)]], device atomic_float *sum [[buffer(1)]],
                    device atomic_int &low [[buffer(2)]], uint i [[thread_position_in_grid]]) {
    atomic_fetch_add_explicit(counter, 2u, memory_order_relaxed);
    atomic_fetch_add_explicit(sum, 0.5f, memory_order_relaxed);
    atomic_fetch_min_explicit(&low, -int(i), memory_order_relaxed);
    atomic_fetch_or_explicit(counter + 1, 1u << i, memory_order_relaxed);
    uint expected = 0;
    if (!atomic_compare_exchange_weak_explicit(counter + 2, &expected, i + 7, memory_order_relaxed,
                                               memory_order_relaxed)) {
        atomic_store_explicit(counter + 3, expected, memory_order_relaxed);
    }
    atomic_exchange_explicit(counter + 4, i, memory_order_relaxed);
    atomic_fetch_max_explicit(counter + 5, atomic_load_explicit(counter, memory_order_relaxed), memory_order_relaxed);
}

kernel void one_thread(device uint *out [[buffer(0)]], uint3 at [[thread_position_in_threadgroup]],
                       uint lane [[thread_index_in_simdgroup]], uint width [[threads_per_simdgroup]],
                       uint group [[simdgroup_index_in_threadgroup]],
                       uint simdgroups [[simdgroups_per_threadgroup]],
                       ushort2 threads [[threads_per_threadgroup]]) {
    out[0] = at.x + at.y + at.z + lane + group;
    out[1] = width + simdgroups + threads.x + threads.y;
    out[2] = simd_sum(3u) + simd_max(4u) + simd_shuffle_xor(5u, 1) + simd_broadcast(6u, 0);
    out[3] = simd_prefix_inclusive_sum(7u) + simd_prefix_exclusive_sum(8u);
    out[4] = simd_all(true) + simd_any(false) + uint(simd_vote::vote_t(simd_ballot(true))) + simd_is_first();
    threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
    simdgroup_barrier(mem_flags::mem_none);
    out[5] = uint(simd_sum(float3(1, 2, 3)).z);
}

namespace outer {
namespace inner {
struct Settings {
    float scale;
    packed_float3 offset;
    half4 weights[2];
    uchar kind, mode;
    bool enabled;
    bfloat2 pair;
    device float *pointer;
    static constexpr constant int limit = 3;
    float total() const { return scale + offset.x; }
};

kernel void scoped(device float *out [[buffer(0)]], constant Settings &settings [[buffer(3)]],
                   constant const Settings *all [[buffer(30)]]) {
    out[0] = settings.total() + all[1].scale + Settings::limit;
}
} // namespace inner
} // namespace outer

[[kernel]] [[max_total_threads_per_threadgroup(256)]] void attributed(
    const device float *in [[buffer(kIn)]], device float *out [[buffer(kCounter)]],
    threadgroup float2 *scratch [[threadgroup(kCounter + 1)]], uint2 at [[thread_position_in_grid]],
    uint2 size [[threads_per_grid]]) {
    threadgroup float first[4], second[2][kWidth];
    first[0] = in[0];
    second[1][0] = 1;
    scratch[0] = float2(first[0], second[1][0]);
    out[at.y * size.x + at.x] = scratch[0].x + scratch[0].y + at.x + 10 * at.y;
}
