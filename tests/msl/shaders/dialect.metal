// What other shaders write that is not C++: each kernel writes values that the test knows.
#include <metal_stdlib>
#include <metal_simdgroup_matrix>
#include <metal_math>
#include <metal_logging>
#include "dialect.h"
using namespace metal;

#pragma METAL internals : enable

// -- address spaces that tell functions apart ------------------------------------------------------

struct Pair {
    float a, b;
    Pair() thread = default;
    Pair() threadgroup = default;
    Pair() constant = default;
    constexpr Pair(float x, float y) thread : a(x), b(y) {}
    constexpr Pair(float x, float y) constant : a(x), b(y) {}
    float sum() const thread { return a + b; }
    float sum() const device { return a + b; }
    float sum() const constant { return a + b; }
    float twice() thread { return 2 * a; }
    template <typename T> T operator()(T x) thread { return x + 1; }
    template <> float operator()(float x) thread { return x + 100; }
};

template <typename T> struct without_space {};
template <typename T> struct without_space<device T *> { using type = T; };
template <typename T> struct without_space<threadgroup T *> { using type = T; };
template <typename T> struct without_space<constant T *> { using type = T; };

inline float first(device const float *p) { return p[0]; }
inline float first(threadgroup const float *values) { return values[0]; }
inline float first(thread float *p) { return 2 * p[0]; }

static constant constexpr const int kTwo = 2;
constant const constexpr float kWeights[kTwo] = {0.25, 0.75};

kernel void spaces(device float *out, constant Pair &pair, uint i [[thread_position_in_grid]]) {
    thread Pair p = Pair(1, 2);
    out[0] = p.sum() + pair.sum() + p.twice();
    out[1] = p(1) + p(1.0f);
    typename without_space<device float *>::type q[1] = {3};
    out[2] = first(q) + kWeights[1];
    out[3] = first((device const float *)out);
    out[4] = is_same_v<typename without_space<constant half *>::type, half> + (float)sizeof(1.0) / 8;
}

// -- indices that are left to the compiler ---------------------------------------------------------

struct Numbers {
    float at[4];
};

kernel void numbered(
    constant uint &count, device float *out [[buffer(0)]], device const float *in, threadgroup float *scratch,
    constant Numbers &numbers, constant long strides[2], threadgroup int &flag) {
    scratch[0] = in[1];
    flag = 5;
    out[0] = count + 10 * scratch[0] + 100 * numbers.at[2] + 1000 * strides[1] + flag;
}

// -- function constants ----------------------------------------------------------------------------

constant bool has_bias [[function_constant(0)]];
constant int scale_given [[function_constant(kScaleIndex + 1)]];
constant float4 tint [[function_constant(7)]];
constant int scale = is_function_constant_defined(scale_given) ? scale_given : 3;
constant bool both = has_bias && scale > 3;

kernel void specialised(
    device float *out [[buffer(0)]], device const float *bias [[buffer(1), function_constant(has_bias)]]) {
    out[0] = scale;
    if (has_bias) out[0] += bias[0];
    out[1] = both;
    out[2] = tint.y;
    out[3] = is_function_constant_defined(has_bias) + 2 * is_function_constant_defined(tint);
}

// -- half, bfloat and conditionals -----------------------------------------------------------------

typedef half stored;

typedef struct {
    union {
        struct {
            stored d;
            stored m;
        };
        half2 dm;
    };
    uchar quants[4];
} block;
static_assert(sizeof(block) == 2 * sizeof(half) + 4, "block");

struct Small {
    float value;
    operator float() const { return value; }
};

inline float grow(float x) { return x + 1; }
inline Small grow(Small x) { return {x.value + 1000}; }

template <typename T> T relu(T x) { return x < 0 ? 0 : x; }
template <typename T> T leaky(T x, float slope) { return x > 0 ? x : slope * x; }

kernel void halves(device float *out, device block *blocks) {
    const half h = 2.5h;
    const bfloat b = 3.0bf;
    out[0] = relu(h) + relu(-b) + leaky(h, 0.5f) + leaky(-h, 0.5f);
    const bool yes = out[0] > 0;
    out[1] = sizeof(yes ? h : 1.0f) + 10 * sizeof(yes ? h : 1) + 100 * sizeof(yes ? b : h);
    out[2] = yes ? blocks[0].d : (out[0] > 100 ? h : 7.0f);
    out[3] = blocks[0].dm.y + blocks[0].m;
    out[4] = half(b) + bfloat(h) + half(Small{4.0f});
    out[5] = grow(h);
    out[6] = max(h, 3.0f) + fma(h, h, h) + exp(half(0)) + float(max(b, bfloat(1)));
    half4 v = yes ? half4(1) : half4(2);
    float4 w = {1, 2};
    v.xy = half2(yes ? w.yx : w.zw);
    out[7] = v.x + 10 * v.y + 100 * w.z + 1000 * w.w;
    device float *nowhere = yes ? out : 0;
    out[8] = nowhere == out;
    float filled[5] = {[0 ... 4] = 0.5f};
    out[9] = filled[0] + filled[4];
    for (int i = 0, n = yes ? 3 : 4; i < (n > 3 ? 1 : n); i++) out[10] += i < 1 ? h : 1;
}

kernel void places(device float *out) {
    float4 v = float4(1, 2, 3, 4);
    auto pair = v.xy;
    v.xy = pair.yx;
    v.xyz.zx += 10;
    v.zw.y = 8;
    v.wx.xy.x *= 2;
    v.xyz[1] -= 5;
    out[0] = v.x + 10 * v.y + 100 * v.z + 1000 * v.w;
    out[1] = pair.x + 10 * pair.y;
    uint3 u = uint3(12, 5, 9);
    u.xz <<= 1;
    u.y %= 3;
    u.zy |= 1;
    const auto old = u++;
    out[2] = u.x + 100 * u.y + 1000 * u.z + old.x - u.xy[0];
    packed_float3 p = {1, 2, 3};
    p.zyx = float3(4, 5, 6);
    out[3] = p.x + 10 * p.y + 100 * p.z;
    half2 c;
    const half2 s = sincos(half2(0), c);
    int2 n;
    out[4] = c.y + s.x + frexp(float2(12, 3), n).x + n.x;
    float whole;
    out[5] = modf(2.75f, whole) + whole + ldexp(half(3), 2) + ilogb(9.0f);
    out[6] = refract(float2(0, -1), float2(0, 1), 0.5f).y + fast::length(float2(3, 4)) + precise::dot(v.ww, v.ww);
}

// -- matrices --------------------------------------------------------------------------------------

kernel void matrices(device float *out, constant float3x2 &given) {
    float2x2 a = float2x2(float2(1, 2), float2(3, 4));
    float4x4 unit = float4x4(1.0f);
    out[0] = (a * float2(1, 10)).x + (float2(1, 10) * a).y;
    out[1] = (a * a)[1][0] + transpose(a)[0][1] + determinant(a);
    unit[3] = float4(5, 6, 7, 8);
    out[2] = (unit * float4(1, 1, 1, 2)).w + determinant(unit);
    half4x4 h = half4x4(unit);
    h[1][2] = 9;
    out[3] = h[1].z + h[3].y;
    const float3x2 sum = given + given * 2.0f;
    out[4] = sum[2].y + (given * float3(1, 2, 3)).x;
    out[5] = determinant(float3x3(2, 0, 0, 0, 3, 0, 1, 1, 4)) + (a == a);
    matrix<float, 2, 2> c = -a;
    c *= 2;
    out[6] = c[0].y;
}

kernel void tiles(device float *out, device const float *a, device const half *b) {
    simdgroup_float8x8 x, z = make_filled_simdgroup_matrix<float, 8>(1.0f);
    simdgroup_half8x8 y;
    simdgroup_load(x, a, 16, ulong2(8, 1));
    simdgroup_load(y, b, 8, 0, true);
    simdgroup_multiply_accumulate(z, x, y, z);
    simdgroup_store(z, out, 8);
    simdgroup_multiply(z, x, simdgroup_float8x8(2.0f));
    simdgroup_store(z, out + 64, 8, 0, true);
    out[128] = sizeof(x.thread_elements()) + z.thread_elements()[1];
}

// -- what lies outside ------------------------------------------------------------------------------

namespace metal {
struct Added {
    float value;
};
METAL_FUNC Added simd_sum(Added a) { return {a.value * 2}; }
}  // namespace metal

inline int64_t simd_shuffle_down(int64_t x, ushort) { return x + 1; }
inline float log1p(float x) { return x * 2; }
template <> struct metal::_numeric_limits_impl<Pair> { static constexpr float max() { return 12; } };

constant os_log logger("tests", "dialect");

kernel void names(device float *out [[buffer(0), maybe_unused]]) {
    logger.log_debug("value %f", out[0]);
    out[0] = simd_sum(metal::Added{2}).value + simd_sum(3.0f);
    out[1] = simd_shuffle_down(int64_t(5), 1) + simd_shuffle_down(7u, 0);
    out[2] = log1p(3.0f) + ::first((device const float *)out);
    out[3] = numeric_limits<Pair>::max() + metal::precise::exp(0.0f) + metal::fast::divide(6.0f, 3.0f);
    const metal::uint word = 0x80ff0040;
    out[4] = unpack_unorm4x8_to_float(word).z + unpack_snorm4x8_to_float(word).w;
    out[5] = pack_float_to_unorm4x8(float4(0, 1, 0.5, 2));
    out[6] = pack_float_to_snorm2x16(float2(-1, 1)) >> 16;
    out[7] = unpack_unorm565_to_float(0xf81f).x;
    out[8] = extract_bits(int2(0xf0, 0x70), 4, 4).y + insert_bits(0u, 3u, 4, 2) + (int2(1, 2) << uint2(3, 4)).y;
    out[9] = vec_elements<float3>::value + make_uniform(4) + is_vector_v<half2>;
    _Pragma("clang loop unroll(full)") for (int i = 0; i < 3; i++) out[10] += i;
    [[maybe_unused]] const auto f = [&](float x) -> float { return x; };
    assert(out[0] > 0);
    out[12] = __metal_simd_xor(1.5f) + __metal_exp(half(0), __METAL_FAST_MATH__) + __metal_get_simdgroup_size(ushort());
    out[11] = f(1.0) + 1e1 + 0x1p1 + .5 + 1. * 2.;
}

// -- instantiations --------------------------------------------------------------------------------

template <typename T, int N>
[[kernel]] void store(device T *out [[buffer(0)]], constant uint &n [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    threadgroup T values[N];
    values[i % N] = T(n);
    out[i] = values[i % N] + N;
}
template <typename T, int N, typename U>
[[kernel]] void store(device T *out [[buffer(0)]], device U *other [[buffer(1)]]) {
    out[0] = other[0] * N;
}

#define instantiate(name, type, ...) template [[host_name(name)]] [[kernel]] decltype(store<type, __VA_ARGS__>) store<type, __VA_ARGS__>;
instantiate("store_float_" "2", float, 2)
instantiate("store_float_half_3", float, 3, half)
template [[host_name("store_int_4")]] kernel void store<int, 4>(device int *, constant uint &, uint);

typedef decltype(store<float, 5>) store_t;
template [[host_name("store_typedef")]] kernel store_t store<float, 5>;

template <typename T> [[kernel]] void deduced(device T *out [[buffer(0)]], const constant T sizes[2] [[buffer(1)]]) {
    out[0] = sizes[1] * 2;
}
template [[host_name("deduced_float")]] [[kernel]] void deduced(device float *out [[buffer(0)]], const constant float sizes[2] [[buffer(1)]]);
