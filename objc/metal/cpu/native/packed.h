// Affine quantised matrices (see shaders/weights.h): w = q · scale + bias for each group of a row.
#ifndef OB_NATIVE_PACKED_H
#define OB_NATIVE_PACKED_H

#include "weights.h"

namespace OB_NAMESPACE {

OB_INLINE __m256 widen(const float *p) { return _mm256_loadu_ps(p); }
OB_INLINE __m256 widen(const half *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
OB_INLINE __m256 widen(const bfloat *p) {
    __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
}

// The first n < 8 elements; whatever in the others. Four and two are what small models have.
OB_INLINE __m256 widen_words(__m128i words, const half *) { return _mm256_cvtph_ps(words); }
OB_INLINE __m256 widen_words(__m128i words, const bfloat *) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16));
}
template <typename S>
OB_INLINE __m256 widen_part(const S *p, uint32_t n) {
    if (n == 4) return widen_words(_mm_loadl_epi64((const __m128i *)p), p);
    S part[8];
    for (uint32_t i = 0; i < 8; i++) part[i] = p[i < n ? i : 0];
    return widen(part);
}
OB_INLINE __m256 widen_part(const float *p, uint32_t n) { return _mm256_maskload_ps(p, lanes_below((int)n)); }

template <int bits, typename S>
struct Packed {
    const uint8_t *words;
    const S *scales, *biases;
    uint32_t columns, group, groups;

    explicit Packed(const Weights &w)
        : words(w.data), scales((const S *)w.scales), biases((const S *)w.biases), columns(w.columns), group(w.group),
          groups(w.groups) {}

    // As in WeightFormat. A matrix is bound as its words, scales and biases.
    static constexpr uint32_t BINDINGS = 3, COLUMNS = 8, BYTES = bits, SCALE_BYTES = sizeof(S), BIAS_BYTES = sizeof(S);
    static uint32_t group_of(uint32_t group) { return group; }
    static uint32_t few(uint32_t group) {
        if (OB_HAS_VNNI && bits == 4) return 1;
        return group == 32 ? 4 : 2;
    }
    // Weights of 8 bits have no sign: only tiles multiply them as bytes.
    static bool planes(uint32_t rows) { return bits == 4 ? OB_HAS_VNNI : OB_HAS_TILES && rows >= LEAST_TILE_ROWS; }
    static bool fits(uint32_t columns, uint32_t group) {
        return (group == 32 || group == 64 || group == 128) && columns % group == 0;
    }
    static bool quantise(const Activations &to, uint32_t row, const float *x) {
        return OB_NAMESPACE::quantise<bits>(to, row, x);
    }

    size_t row_bytes() const { return (size_t)columns * bits / 8; }

    void prefetch_scales(uint32_t first, uint32_t rows) const {
        const char *scale = (const char *)(scales + (size_t)first * groups),
                   *bias = (const char *)(biases + (size_t)first * groups);
        for (size_t line = 0; line < rows * groups * sizeof(S); line += 64) {
            _mm_prefetch(scale + line, _MM_HINT_T0);
            _mm_prefetch(bias + line, _MM_HINT_T0);
        }
    }
};

// Which eight groups are loaded together for group g: all of them, where there are fewer.
OB_INLINE uint32_t window(uint32_t g, uint32_t groups) { return groups < 8 ? 0 : least(g, groups - 8); }

// Scales or biases of eight rows and of the eight groups at `from`: out[group] has a lane for each row.
template <typename S>
OB_INLINE void load_scales(const S *from, uint32_t groups, __m256 out[8]) {
    __m256i rows[8];
    if (groups >= 8) {
        for (int i = 0; i < 8; i++) rows[i] = _mm256_castps_si256(widen(from + (size_t)i * groups));
    } else {
        for (int i = 0; i < 8; i++) rows[i] = _mm256_castps_si256(widen_part(from + (size_t)i * groups, groups));
    }
    transpose(rows);
    for (int i = 0; i < 8; i++) out[i] = _mm256_castsi256_ps(rows[i]);
}

// Rows i and i + 4 of eight, 16 bytes each.
OB_INLINE __m256i load_two(const uint8_t *p, size_t stride) {
    __m256i low = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)p));
    return _mm256_inserti128_si256(low, _mm_loadu_si128((const __m128i *)(p + 4 * stride)), 1);
}

// The j-th pair of 4-bit integers of each word, as 16-bit integers.
template <int j>
OB_INLINE __m256i nibbles(__m256i words) {
    const __m256i low = _mm256_set1_epi16(15);
    if (j == 3) return _mm256_srli_epi16(words, 12);
    return _mm256_and_si256(j == 0 ? words : _mm256_srli_epi16(words, 4 * j), low);
}

template <int j>
OB_INLINE __m256i bytes(__m256i words) {
    return j == 1 ? _mm256_srli_epi16(words, 8) : _mm256_and_si256(words, _mm256_set1_epi16(255));
}

}  // namespace OB_NAMESPACE

#endif
