// Lanes are sixteen floats as one value: the unit in which kernels read, unpack and multiply.
//
// Sums over lanes have one fixed order, so a row's result does not depend on the rows that are computed with it.
// A standard library that knows the processor's registers brings its own Lanes (metal_lanes).
#ifndef OB_LANES_H
#define OB_LANES_H

#include <metal_stdlib>

// The loop that follows is unrolled, so that arrays with its index lie in registers; or it is not.
#define OB_UNROLL _Pragma("unroll")
#define OB_ROLLED _Pragma("unroll 1")

#if __has_include(<metal_lanes>)
#include <metal_lanes>
#else

struct Lanes {
    metal::float4 v[4];
};

METAL_FUNC Lanes lanes_splat(float x) {
    Lanes r;
    for (uint i = 0; i < 4; i++) r.v[i] = metal::float4(x);
    return r;
}

template <typename P>
METAL_FUNC Lanes lanes_gather(P p) {
    Lanes r;
    for (uint i = 0; i < 4; i++) r.v[i] = metal::float4(p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]);
    return r;
}

METAL_FUNC Lanes lanes_load(device const float *p) { return lanes_gather(p); }
METAL_FUNC Lanes lanes_load(device const half *p) { return lanes_gather(p); }
METAL_FUNC Lanes lanes_load(device const bfloat *p) { return lanes_gather(p); }
METAL_FUNC Lanes lanes_load(device const char *p) { return lanes_gather(p); }
METAL_FUNC Lanes lanes_load(threadgroup const float *p) { return lanes_gather(p); }
METAL_FUNC Lanes lanes_load(thread const float *p) { return lanes_gather(p); }

// Returns float(h), by the fastest way for a single number.
METAL_FUNC float lanes_value(half h) { return float(h); }

template <typename P>
METAL_FUNC void lanes_scatter(P p, Lanes a) {
    for (uint i = 0; i < 16; i++) p[i] = a.v[i / 4][i % 4];
}

METAL_FUNC void lanes_store(device float *p, Lanes a) { lanes_scatter(p, a); }
METAL_FUNC void lanes_store(threadgroup float *p, Lanes a) { lanes_scatter(p, a); }
METAL_FUNC void lanes_store(thread float *p, Lanes a) { lanes_scatter(p, a); }
METAL_FUNC void lanes_store(device bfloat *p, Lanes a) {
    for (uint i = 0; i < 16; i++) p[i] = bfloat(a.v[i / 4][i % 4]);
}

// Returns the sixteen 4-bit integers of two words, lowest bits first.
METAL_FUNC Lanes lanes_unpack4(device const uint *p) {
    Lanes r;
    for (uint i = 0; i < 4; i++) {
        uint word = p[i / 2] >> (16 * (i % 2));
        r.v[i] = metal::float4(word & 15, (word >> 4) & 15, (word >> 8) & 15, (word >> 12) & 15);
    }
    return r;
}

// Returns the sixteen 8-bit integers of four words, lowest bits first.
METAL_FUNC Lanes lanes_unpack8(device const uint *p) {
    Lanes r;
    for (uint i = 0; i < 4; i++) {
        uint word = p[i];
        r.v[i] = metal::float4(word & 255, (word >> 8) & 255, (word >> 16) & 255, word >> 24);
    }
    return r;
}

// Returns a · b + c, rounded once.
METAL_FUNC Lanes lanes_fma(Lanes a, Lanes b, Lanes c) {
    for (uint i = 0; i < 4; i++) c.v[i] = metal::fma(a.v[i], b.v[i], c.v[i]);
    return c;
}

METAL_FUNC Lanes lanes_mul(Lanes a, Lanes b) {
    for (uint i = 0; i < 4; i++) a.v[i] = a.v[i] * b.v[i];
    return a;
}

METAL_FUNC Lanes lanes_add(Lanes a, Lanes b) {
    for (uint i = 0; i < 4; i++) a.v[i] = a.v[i] + b.v[i];
    return a;
}

// Returns the larger of a and b per lane; b where a is NaN.
METAL_FUNC Lanes lanes_max(Lanes a, Lanes b) {
    for (uint i = 0; i < 16; i++)
        b.v[i / 4][i % 4] = a.v[i / 4][i % 4] > b.v[i / 4][i % 4] ? a.v[i / 4][i % 4] : b.v[i / 4][i % 4];
    return b;
}

METAL_FUNC Lanes lanes_exp(Lanes a) {
    for (uint i = 0; i < 4; i++) a.v[i] = metal::exp(a.v[i]);
    return a;
}

METAL_FUNC float lanes_sum(Lanes a) {
    metal::float4 s = (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]);
    return (s.x + s.z) + (s.y + s.w);
}

// Returns the largest of the sixteen, none of which is NaN.
METAL_FUNC float lanes_top(Lanes a) {
    float top = a.v[0].x;
    for (uint i = 1; i < 16; i++) top = a.v[i / 4][i % 4] > top ? a.v[i / 4][i % 4] : top;
    return top;
}

#endif

// Returns the first n < 16 elements at p, then zeros. It is not inlined because it runs once per row.
template <typename T>
__attribute__((noinline)) Lanes lanes_read_part(device const T *p, uint n) {
    float part[16];
    for (uint i = 0; i < 16; i++) part[i] = i < n ? float(p[i]) : 0.0f;
    return lanes_load(part);
}

template <typename T>
__attribute__((noinline)) void lanes_write_part(device T *p, uint n, Lanes a) {
    float part[16];
    lanes_store(part, a);
    for (uint i = 0; i < n; i++) p[i] = T(part[i]);
}

// Returns elements i to i + 15 of the n elements at p, with zeros from n on.
template <typename T>
METAL_FUNC Lanes lanes_read(device const T *p, uint i, uint n) {
    return n - i < 16 ? lanes_read_part(p + i, n - i) : lanes_load(p + i);
}

// Writes elements i to i + 15 of the n elements at p; nothing is written from n on.
template <typename T>
METAL_FUNC void lanes_write(device T *p, uint i, uint n, Lanes a) {
    if (n - i < 16) {
        lanes_write_part(p + i, n - i, a);
    } else {
        lanes_store(p + i, a);
    }
}

// A sum of Lanes in one fixed order, by blocks of 16 within groups of 256. For a million terms the error is that of a
// few dozen additions.
struct LaneSum {
    Lanes block, group, total;
    uint count;
};

METAL_FUNC LaneSum lane_sum_of_none() {
    LaneSum s;
    s.block = s.group = s.total = lanes_splat(0);
    s.count = 0;
    return s;
}

// Callers call this after each addition to s.block.
METAL_FUNC void lane_sum_count(thread LaneSum &s) {
    s.count++;
    if (s.count % 16 != 0) return;
    s.group = lanes_add(s.group, s.block);
    s.block = lanes_splat(0);
    if (s.count % 256 != 0) return;
    s.total = lanes_add(s.total, s.group);
    s.group = lanes_splat(0);
}

METAL_FUNC float lane_sum_total(LaneSum s) { return lanes_sum(lanes_add(s.total, lanes_add(s.group, s.block))); }

#endif
