// The intrinsics of AVX-512, VNNI and AMX that objc/native uses, as Intel's manual describes them, for
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

inline __m512i splat(int32_t x) { return (__m512i)(Words{} + x); }
inline __m512i load(const void *p) {
    __m512i v;
    memcpy(&v, __builtin_assume_aligned(p, 64), sizeof v);
    return v;
}
inline __m256i half(__m512i v, int which) {
    __m256i out;
    memcpy(&out, (const char *)&v + 32 * which, sizeof out);
    return out;
}

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
static __thread Tiles tiles;

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

#undef _mm512_extracti64x4_epi64
#undef _mm512_dpwssd_epi32
#undef _mm256_dpwssd_epi32
#define _mm512_load_si512(p) emulated::load(p)
#define _mm512_set1_epi32(x) emulated::splat(x)
#define _mm512_castsi512_si256(v) emulated::half(v, 0)
#define _mm512_extracti64x4_epi64(v, which) emulated::half(v, which)
#define _mm512_add_epi32(a, b) ((__m512i)((emulated::Words)(a) + (emulated::Words)(b)))
#define _mm512_madd_epi16(a, b) emulated::add_pairs<16>(emulated::splat(0), a, b)
#define _mm512_dpwssd_epi32(sum, a, b) emulated::add_pairs<16, __m512i>(sum, a, b)
#define _mm256_dpwssd_epi32(sum, a, b) emulated::add_pairs<8, __m256i>(sum, a, b)

#endif
