// Vectors of this instruction set, and the few operations that kernels are made of.
#ifndef OB_NATIVE_VEC_H
#define OB_NATIVE_VEC_H

#include <immintrin.h>
#include <string.h>

#include "native.h"

#define OB_CONCAT_(a, b) a##b
#define OB_CONCAT(a, b) OB_CONCAT_(a, b)

// OB_ISA is avx2, avx512, vnni or amx: the namespace that this compilation fills, and what it may use.
#define OB_LEVEL_avx2 0
#define OB_LEVEL_avx512 1
#define OB_LEVEL_vnni 2
#define OB_LEVEL_amx 3
#define OB_HAS_512 (OB_CONCAT(OB_LEVEL_, OB_ISA) >= 1)
#define OB_HAS_VNNI (OB_CONCAT(OB_LEVEL_, OB_ISA) >= 2)
#define OB_HAS_TILES (OB_CONCAT(OB_LEVEL_, OB_ISA) >= 3)

// Intrinsics that processors with AVX2 alone do not have, in C++: tests run the other sets' kernels with them.
#ifdef OB_EMULATE
#include "emulated.h"
#endif

#define OB_NAMESPACE OB_CONCAT(native_, OB_ISA)
#define OB_INLINE static inline __attribute__((always_inline))

namespace OB_NAMESPACE {

struct bfloat {
    uint16_t bits;
};
struct half {
    uint16_t bits;
};

// Pairs of 16-bit integers multiplied, both products added to the 32-bit integer in their place.
OB_INLINE __m256i dot_pairs(__m256i sum, __m256i a, __m256i b) {
#if OB_HAS_VNNI
    return _mm256_dpwssd_epi32(sum, a, b);
#else
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
#endif
}

// Rows of eight 32-bit integers become columns.
OB_INLINE void transpose(__m256i r[8]) {
    __m256i t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        u[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        u[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        u[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
    }
}

// Sums of four vectors' halves: the low halves' in the low half, vector by vector. (vphaddd is microcode on
// some processors.)
OB_INLINE __m256i sum_fours(const __m256i v[4]) {
    __m256i a = _mm256_add_epi32(_mm256_unpacklo_epi32(v[0], v[1]), _mm256_unpackhi_epi32(v[0], v[1]));
    __m256i b = _mm256_add_epi32(_mm256_unpacklo_epi32(v[2], v[3]), _mm256_unpackhi_epi32(v[2], v[3]));
    return _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

// Both halves of a, then both halves of b, added up.
OB_INLINE __m256i join_fours(__m256i a, __m256i b) {
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

OB_INLINE int sum(__m256i v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
}

OB_INLINE uint32_t max_unsigned(__m256i v) {
    __m128i s = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_max_epu32(s, _mm_shuffle_epi32(s, 0x4E));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(s, _mm_shuffle_epi32(s, 0xB1)));
}

// Lanes below n.
OB_INLINE __m256i lanes_below(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// e^x within 2 units in the last place: x = n · ln 2 + r, a polynomial in r (Cody & Waite 1980), times
// 2^n in two steps so that results below the smallest normal number come out right. NaN stays NaN.
OB_INLINE __m256 exp(__m256 x) {
    __m256 bounded = _mm256_max_ps(_mm256_min_ps(x, _mm256_set1_ps(89.0f)), _mm256_set1_ps(-104.0f));
    __m256 n = _mm256_round_ps(_mm256_mul_ps(bounded, _mm256_set1_ps(1.44269504f)), 8);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), bounded);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 p = _mm256_set1_ps(1.98756915e-4f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.39819995e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.33345191e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.16657962e-2f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.66666654e-1f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.00000012e-1f));
    p = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0f));
    __m256i power = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(power, 1), bias = _mm256_set1_epi32(127);
    __m256i other = _mm256_sub_epi32(power, half);
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(other, bias), 23)));
    return _mm256_blendv_ps(p, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

// x · σ(s)
OB_INLINE __m256 gated(__m256 x, __m256 s) {
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), exp(_mm256_xor_ps(s, _mm256_set1_ps(-0.0f)))));
}

OB_INLINE uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

}  // namespace OB_NAMESPACE

#endif
