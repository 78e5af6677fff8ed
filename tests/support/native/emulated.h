// The intrinsics of AVX-512, VNNI and AMX that objc/metal/cpu/native uses, as Intel's manual describes them, for
// processors with AVX2 alone. Only what kernels use; test_native_isas.py compiles them with it.
#ifndef OB_EMULATED_H
#define OB_EMULATED_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace emulated {

typedef int32_t Words __attribute__((vector_size(64)));

// A copy of a vector of N 32-bit integers, as integers.
template <int N>
struct Lanes {
    union {
        int32_t words[N];
        int16_t shorts[2 * N];
    };
    template <typename V>
    explicit Lanes(V v) {
        static_assert(sizeof v == sizeof words, "a vector of that width");
        memcpy(words, &v, sizeof v);
    }
    template <typename V>
    V vector() const {
        V v;
        memcpy(&v, words, sizeof v);
        return v;
    }
};

// vpdpwssd and, from a sum of 0, vpmaddwd: sums wrap.
template <int N, typename V>
inline V add_pairs(V sum, V a, V b) {
    Lanes<N> s(sum), x(a), y(b);
    for (int i = 0; i < N; i++) {
        int64_t products = (int64_t)x.shorts[2 * i] * y.shorts[2 * i] + (int64_t)x.shorts[2 * i + 1] * y.shorts[2 * i + 1];
        s.words[i] = (int32_t)(uint32_t)(s.words[i] + products);
    }
    return s.template vector<V>();
}

// vpdpbusd: bytes of a without a sign times those of b with one.
inline __m512i add_quads(__m512i sum, __m512i a, __m512i b) {
    Lanes<16> s(sum);
    uint8_t x[64];
    int8_t y[64];
    memcpy(x, &a, sizeof x), memcpy(y, &b, sizeof y);
    for (int i = 0; i < 64; i++) s.words[i / 4] += x[i] * y[i];
    return s.vector<__m512i>();
}

inline __m512i splat(int32_t x) { return (__m512i)(Words{} + x); }
inline __m512i load(const void *p) {
    __m512i v;
    memcpy(&v, __builtin_assume_aligned(p, 64), sizeof v);
    return v;
}

// Halves H, of 256 bits, of a vector V.
template <typename H, typename V>
inline H half(V v, int which) {
    H out;
    memcpy(&out, (const char *)&v + sizeof out * which, sizeof out);
    return out;
}
template <typename V, typename H>
inline V join(H low, H high) {
    V out;
    memcpy(&out, &low, sizeof low);
    memcpy((char *)&out + sizeof low, &high, sizeof high);
    return out;
}

// What AVX2 has for each half alone.
template <typename F>
inline __m512i integers(F f, __m512i a, __m512i b) {
    return join<__m512i>(f(half<__m256i>(a, 0), half<__m256i>(b, 0)), f(half<__m256i>(a, 1), half<__m256i>(b, 1)));
}
template <typename F>
inline __m512 floats(F f, __m512 a, __m512 b, __m512 c) {
    return join<__m512>(f(half<__m256>(a, 0), half<__m256>(b, 0), half<__m256>(c, 0)),
                        f(half<__m256>(a, 1), half<__m256>(b, 1), half<__m256>(c, 1)));
}

// vshufi32x4: two of a's fours, then two of b's.
inline __m512i fours(__m512i a, __m512i b, int which) {
    Lanes<16> x(a), y(b), to(a);
    for (int i = 0; i < 4; i++) memcpy(to.words + 4 * i, (i < 2 ? x : y).words + 4 * (which >> 2 * i & 3), 16);
    return to.vector<__m512i>();
}
inline __m512 load_floats(const float *p, int lanes) {
    __m512 v = (__m512)load(p);
    float out[16];
    memcpy(out, &v, sizeof out);
    for (int i = 0; i < 16; i++) out[i] = lanes >> i & 1 ? out[i] : 0;
    memcpy(&v, out, sizeof out);
    return v;
}
inline void store(void *p, __m512i v) { memcpy(__builtin_assume_aligned(p, 64), &v, sizeof v); }

// Tiles, of the calling thread.
struct Tile {
    unsigned char rows[16][64];
};
struct Tiles {
    unsigned char config[64];
    Tile all[8];
    int height(int tile) const { return config[48 + tile]; }
    int width(int tile) const { return config[16 + 2 * tile]; }
};
inline thread_local Tiles tiles;

inline void configure(const void *config) {
    memset(&tiles, 0, sizeof tiles);
    memcpy(tiles.config, config, 64);
    if (tiles.config[0] != 1) __builtin_trap();
    for (int t = 0; t < 8; t++) {
        bool none = tiles.height(t) == 0 && tiles.width(t) == 0;
        if (tiles.height(t) > 16 || tiles.width(t) > 64 || (!none && (tiles.height(t) == 0 || tiles.width(t) == 0))) __builtin_trap();
    }
}
inline void release() { memset(&tiles, 0, sizeof tiles); }
inline int used(int tile) {
    if (tiles.height(tile) == 0) __builtin_trap();  // as the processor does
    return tile;
}
inline void zero(int tile) { memset(&tiles.all[used(tile)], 0, sizeof(Tile)); }
inline void load_tile(int tile, const void *from, long stride) {
    zero(tile);
    for (int r = 0; r < tiles.height(tile); r++) memcpy(tiles.all[tile].rows[r], (const char *)from + r * stride, tiles.width(tile));
}
inline void store_tile(int tile, void *to, long stride) {
    for (int r = 0; r < tiles.height(used(tile)); r++) memcpy((char *)to + r * stride, tiles.all[tile].rows[r], tiles.width(tile));
}

// tdpbsud and tdpbuud: to[m][n] += Σ a[m][k][i] · b[k][n][i], a of type A.
template <typename A>
inline void multiply_tiles(int to, int a, int b) {
    int height = tiles.height(used(to)), width = tiles.width(to) / 4, depth = tiles.width(used(a)) / 4;
    if (tiles.height(a) != height || tiles.height(used(b)) != depth || tiles.width(b) != 4 * width) __builtin_trap();
    for (int m = 0; m < height; m++) {
        int32_t sums[16];
        memcpy(sums, tiles.all[to].rows[m], 64);
        for (int k = 0; k < depth; k++) {
            for (int n = 0; n < width; n++) {
                for (int i = 0; i < 4; i++) sums[n] += (A)tiles.all[a].rows[m][4 * k + i] * tiles.all[b].rows[k][4 * n + i];
            }
        }
        memcpy(tiles.all[to].rows[m], sums, 64);
    }
}

}  // namespace emulated

#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbsud
#undef _tile_dpbuud
#define _tile_loadconfig(config) emulated::configure(config)
#define _tile_release() emulated::release()
#define _tile_zero(tile) emulated::zero(tile)
#define _tile_loadd(tile, from, stride) emulated::load_tile(tile, from, stride)
#define _tile_stored(tile, to, stride) emulated::store_tile(tile, to, stride)
#define _tile_dpbsud(to, a, b) emulated::multiply_tiles<int8_t>(to, a, b)
#define _tile_dpbuud(to, a, b) emulated::multiply_tiles<uint8_t>(to, a, b)

#undef _mm512_srli_epi16  // without optimisation these two are macros
#undef _mm512_slli_epi32
#undef _mm512_dpbusd_epi32
#undef _mm512_dpwssd_epi32
#undef _mm256_dpwssd_epi32
#undef _mm512_inserti64x4
#undef _mm512_shuffle_i32x4
#undef _mm512_extracti64x4_epi64
#define OB_HALF(type, v, which) emulated::half<type>(v, which)
#define OB_EACH(expression, a, b) emulated::integers([&](__m256i x, __m256i y) { (void)y; return expression; }, a, b)
#define OB_EACH_FLOAT(expression, a, b, c) \
    emulated::floats([&](__m256 x, __m256 y, __m256 z) { (void)z; return expression; }, a, b, c)
#define _mm512_load_si512(p) emulated::load(p)
#define _mm512_store_si512 emulated::store
#define _mm512_load_ps(p) emulated::load_floats(p, 0xFFFF)
#define _mm512_maskz_load_ps(lanes, p) emulated::load_floats(p, lanes)
#define _mm512_store_ps(p, v) emulated::store(p, (__m512i)(v))
#define _mm512_setzero_ps() ((__m512)emulated::splat(0))
#define _mm512_set1_ps(x) emulated::join<__m512>(_mm256_set1_ps(x), _mm256_set1_ps(x))
#define _mm512_set1_epi16(x) emulated::join<__m512i>(_mm256_set1_epi16(x), _mm256_set1_epi16(x))
#define _mm512_set1_epi32(x) emulated::splat(x)
#define _mm512_castps_si512(v) ((__m512i)(v))
#define _mm512_castsi512_ps(v) ((__m512)(v))
#define _mm512_castsi256_si512(v) emulated::join<__m512i>(v, _mm256_setzero_si256())
#define _mm512_castsi512_si256(v) OB_HALF(__m256i, v, 0)
#define _mm512_extracti64x4_epi64(v, which) OB_HALF(__m256i, v, which)
#define _mm512_broadcast_i64x4(v) emulated::join<__m512i>(v, v)
#define _mm512_inserti64x4(v, high, which) emulated::join<__m512i>(OB_HALF(__m256i, v, 0), high)
#define _mm512_unpacklo_epi32(a, b) OB_EACH(_mm256_unpacklo_epi32(x, y), a, b)
#define _mm512_unpackhi_epi32(a, b) OB_EACH(_mm256_unpackhi_epi32(x, y), a, b)
#define _mm512_unpacklo_epi64(a, b) OB_EACH(_mm256_unpacklo_epi64(x, y), a, b)
#define _mm512_unpackhi_epi64(a, b) OB_EACH(_mm256_unpackhi_epi64(x, y), a, b)
#define _mm512_shuffle_i32x4(a, b, which) emulated::fours(a, b, which)
#define _mm512_and_si512(a, b) OB_EACH(_mm256_and_si256(x, y), a, b)
#define _mm512_srli_epi16(v, n) OB_EACH(_mm256_srli_epi16(x, n), v, v)
#define _mm512_slli_epi32(v, n) OB_EACH(_mm256_slli_epi32(x, n), v, v)
#define _mm512_add_epi32(a, b) OB_EACH(_mm256_add_epi32(x, y), a, b)
#define _mm512_cvtepu16_epi32(v) \
    emulated::join<__m512i>(_mm256_cvtepu16_epi32(OB_HALF(__m128i, v, 0)), _mm256_cvtepu16_epi32(OB_HALF(__m128i, v, 1)))
#define _mm512_cvtph_ps(v) emulated::join<__m512>(_mm256_cvtph_ps(OB_HALF(__m128i, v, 0)), _mm256_cvtph_ps(OB_HALF(__m128i, v, 1)))
#define _mm512_cvtepi32_ps(v) \
    emulated::join<__m512>(_mm256_cvtepi32_ps(OB_HALF(__m256i, v, 0)), _mm256_cvtepi32_ps(OB_HALF(__m256i, v, 1)))
#define _mm512_mul_ps(a, b) OB_EACH_FLOAT(_mm256_mul_ps(x, y), a, b, b)
#define _mm512_add_ps(a, b) OB_EACH_FLOAT(_mm256_add_ps(x, y), a, b, b)
#define _mm512_fmadd_ps(a, b, c) OB_EACH_FLOAT(_mm256_fmadd_ps(x, y, z), a, b, c)
#define _mm512_madd_epi16(a, b) emulated::add_pairs<16>(emulated::splat(0), a, b)
#define _mm512_dpbusd_epi32(sum, a, b) emulated::add_quads(sum, a, b)
#define _mm512_dpwssd_epi32(sum, a, b) emulated::add_pairs<16, __m512i>(sum, a, b)
#define _mm256_dpwssd_epi32(sum, a, b) emulated::add_pairs<8, __m256i>(sum, a, b)

#endif
