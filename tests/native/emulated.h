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

}  // namespace emulated

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
