// constexpr functions that call plain ones: Clang takes them, and so does Metal.
#include <metal_stdlib>
using namespace metal;
struct R { uint v; constexpr uint get() const { return v; } };
R add(R a, R b) { R r; r.v = a.v + b.v; return r; }
constexpr R operator+(const R a, const R b) { return add(a, b); }
R operator*(R a, R b) { return {a.v * b.v}; }
constexpr R square(R a) { return a * a; }
METAL_FUNC constexpr auto triple(R a) -> R { return a + a + a; }
constexpr uint rows(uint n) { uint r = 0; for (uint i = 0; i < n; i++) r = max(r, i); return r + 1; }
inline constexpr float decayed(float x) { return exp(-x); }
constexpr void put(device uint *y, uint v) { y[0] += v; }
uint plain(uint x) { return x + 1; }
struct S { uint a; float b; constexpr S(uint x) : a(plain(x)), b{2.0f} {} constexpr uint sum() const { return plain(a) + uint(b); } };
constexpr thread uint &first(thread uint *p) { return plain(0) ? p[0] : p[1]; }
kernel void k(device uint *y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    uint table[rows(4)];
    static_assert(rows(4) == 4, "a constant");
    for (uint k = 0; k < rows(4); k++) table[k] = k;
    R a{i}, b{1};
    y[i] = (a + b).v + square(b).get() * 10 + triple(b).v * 100 + uint(decayed(0.0f)) * 1000 + S(1).sum() * 10000;
    first(table) = 7;
    put(y + i, table[0] * 100000);
}
