// Floats: as many floats as a register of this instruction set holds.
#ifndef OB_NATIVE_FLOATS_H
#define OB_NATIVE_FLOATS_H

#include "vec.h"

namespace OB_NAMESPACE {

// SUMS: how many of them a loop keeps in registers, beside what it adds.
#ifdef __AVX512F__

enum { WIDTH = 16, SUMS = 16 };
typedef __m512 Floats;

OB_INLINE Floats splat(float x) { return _mm512_set1_ps(x); }
OB_INLINE Floats load(const float *p) { return _mm512_loadu_ps(p); }
OB_INLINE Floats load(const half *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
OB_INLINE Floats load(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
OB_INLINE Floats splat_half(uint16_t bits) { return _mm512_cvtph_ps(_mm256_set1_epi16((short)bits)); }
OB_INLINE void store(float *p, Floats a) { _mm512_storeu_ps(p, a); }
OB_INLINE Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
OB_INLINE Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
OB_INLINE Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
OB_INLINE Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
OB_INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
OB_INLINE Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }  // b where one is NaN

OB_INLINE Floats size_of(Floats a) {
    return _mm512_castsi512_ps(_mm512_andnot_si512(_mm512_set1_epi32(INT32_MIN), _mm512_castps_si512(a)));
}

// Positive y with the sign of x.
OB_INLINE Floats with_sign(Floats y, Floats x) {
    __m512i sign = _mm512_and_si512(_mm512_set1_epi32(INT32_MIN), _mm512_castps_si512(x));
    return _mm512_castsi512_ps(_mm512_or_si512(sign, _mm512_castps_si512(y)));
}

// a where x < y, elsewhere b.
OB_INLINE Floats where_less(Floats x, Floats y, Floats a, Floats b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LT_OQ), b, a);
}

// 2^(n - 127), n in the last bits of the mantissa.
OB_INLINE Floats power(Floats n) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(n), 23)); }

// Neighbours of a, then of b, added, in each 128 bits.
OB_INLINE Floats add_pairs(Floats a, Floats b) {
    return add(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xDD));
}

OB_INLINE __m128 add_quarters(Floats a) {
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

#else

enum { WIDTH = 8, SUMS = 12 };
typedef __m256 Floats;

OB_INLINE Floats splat(float x) { return _mm256_set1_ps(x); }
OB_INLINE Floats load(const float *p) { return _mm256_loadu_ps(p); }
OB_INLINE Floats load(const half *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
OB_INLINE Floats load(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
OB_INLINE Floats splat_half(uint16_t bits) { return _mm256_cvtph_ps(_mm_set1_epi16((short)bits)); }
OB_INLINE void store(float *p, Floats a) { _mm256_storeu_ps(p, a); }
OB_INLINE Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
OB_INLINE Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
OB_INLINE Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
OB_INLINE Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
OB_INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
OB_INLINE Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }

OB_INLINE Floats size_of(Floats a) { return _mm256_andnot_ps(splat(-0.0f), a); }
OB_INLINE Floats with_sign(Floats y, Floats x) { return _mm256_or_ps(y, _mm256_and_ps(splat(-0.0f), x)); }
OB_INLINE Floats where_less(Floats x, Floats y, Floats a, Floats b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, y, _CMP_LT_OQ));
}

OB_INLINE Floats power(Floats n) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(n), 23)); }

OB_INLINE Floats add_pairs(Floats a, Floats b) { return _mm256_hadd_ps(a, b); }

OB_INLINE __m128 add_quarters(Floats a) { return _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)); }

#endif

// In a register, however often it is used: the compiler would read memory each time.
OB_INLINE Floats load_once(const float *p) {
    Floats a = load(p);
    __asm__("" : "+v"(a));
    return a;
}

// The sums of four.
OB_INLINE __m128 sums(const Floats v[4]) {
    return add_quarters(add_pairs(add_pairs(v[0], v[1]), add_pairs(v[2], v[3])));
}

// e^x for x ≤ 0 within 2 units in the last place, 0 below the smallest normal number: x = n · ln 2 + r, a
// polynomial in r (Cody & Waite 1980), times 2^n. Adding `integer` rounds to n and leaves n + 127 in the
// last bits. NaN stays NaN.
OB_INLINE Floats exp_of_negative(Floats x) {
    const float integer = 12582912.0f + 127;
    x = max(splat(-88.0296919f), x);  // n = -127 and 2^n = 0
    Floats shifted = fma(x, splat(1.44269504f), splat(integer)), n = sub(shifted, splat(integer));
    Floats r = fma(n, splat(-0.693359375f), x);
    r = fma(n, splat(2.12194440e-4f), r);
    Floats p = splat(1.98756915e-4f);
    p = fma(p, r, splat(1.39819995e-3f));
    p = fma(p, r, splat(8.33345191e-3f));
    p = fma(p, r, splat(4.16657962e-2f));
    p = fma(p, r, splat(1.66666654e-1f));
    p = fma(p, r, splat(5.00000012e-1f));
    p = add(fma(p, mul(r, r), r), splat(1.0f));
    return mul(p, power(shifted));
}

// tanh(x) within a few units in the last place: an odd polynomial near 0 (Moshier 1992), from e^-2|x| elsewhere.
OB_INLINE Floats tanh(Floats x) {
    Floats size = size_of(x), z = mul(x, x);
    Floats p = splat(-5.70498872745e-3f);
    p = fma(p, z, splat(2.06390887954e-2f));
    p = fma(p, z, splat(-5.37397155531e-2f));
    p = fma(p, z, splat(1.33314422036e-1f));
    p = fma(p, z, splat(-3.33332819422e-1f));
    p = fma(mul(p, z), x, x);
    Floats e = exp_of_negative(mul(size, splat(-2.0f))), one = splat(1.0f);
    return where_less(size, splat(0.625f), p, with_sign(div(sub(one, e), add(one, e)), x));
}

}  // namespace OB_NAMESPACE

#endif
