// GGUF's blocks (see shaders/weights/blocks_32.h and blocks_256.h), read eight groups of columns at a time: an octet.
//
// What belongs to the groups of an octet stands in vectors of eight lanes, in this order: 0 2 4 6 1 3 5 7, as adding
// up the halves of vectors leaves them (slot). A row's float sum has a part for each lane.
#ifndef OB_NATIVE_BLOCKS_H
#define OB_NATIVE_BLOCKS_H

#include "block_activations.h"

namespace OB_NAMESPACE {

// A matrix of blocks F.
template <typename F>
struct Blocks {
    const uint8_t *data;
    uint32_t columns, groups;

    // As in Packed.
    enum { BINDINGS = 1 };
    Blocks(void *const *b, uint32_t columns_, uint32_t)
        : data((const uint8_t *)b[0]), columns(columns_), groups(columns_ / F::GROUP) {}
    static uint32_t group_of(uint32_t) { return F::GROUP; }
    static uint32_t few(uint32_t) { return 4; }
    static bool fits(uint32_t columns, uint32_t) { return columns % F::COLUMNS == 0; }
    static bool quantise(const Activations &to, uint32_t row, const float *x) { return quantise_for<F>(to, row, x); }

    size_t row_bytes() const { return (size_t)columns / F::COLUMNS * F::BYTES; }
    const uint8_t *row(size_t i) const { return data + i * row_bytes(); }
    uint32_t octets() const { return (groups + 7) / 8; }

    Blocks matrix(size_t index, size_t rows) const {
        Blocks other = *this;
        other.data += index * rows * row_bytes();
        return other;
    }
};

// One octet of a row. What a row's last one lacks is zeros.
template <typename F>
struct Octet {
    const uint8_t *block;
    uint32_t half;  // of the block, where one has two octets
    uint8_t copy[F::OCTET_BYTES];

    __attribute__((always_inline)) void at(const Blocks<F> &w, const uint8_t *row, uint32_t octet) {
        half = octet % F::OCTETS;
        block = row + (size_t)octet / F::OCTETS * (F::OCTETS > 1 ? F::BYTES : F::OCTET_BYTES);
        uint32_t groups = w.groups - 8 * octet;
        if (F::COLUMNS == 32 && groups < 8) {
            memset(copy, 0, sizeof copy);
            memcpy(copy, block, groups * F::BYTES);
            block = copy;
        }
    }
};

// Dot products of the octet's groups with activations that begin at `pairs`.
template <typename F>
OB_INLINE __m256i octet_dots(const uint8_t *block, uint32_t half, const int32_t *pairs) {
    __m256i v[4];
    if (F::GROUP == 16) {
        for (uint32_t i = 0; i < 2; i++, pairs += BLOCK_PAIRS) F::products(block, half, i, pairs, v + 2 * i);
    } else {
        for (uint32_t i = 0; i < 4; i++, pairs += BLOCK_PAIRS) F::products(block, half, i, pairs, v + i);
    }
    return sum_fours(v);
}

// Products of rows `first` to `first` + 7 of w with x, which has one row; a lane each.
template <typename F>
static __attribute__((noinline)) __m256 matvec(const Blocks<F> &w, uint32_t first, const Activations &x) {
    __m256 parts[8];
    const uint8_t *row = w.row(first);
    const size_t row_bytes = w.row_bytes();
    for (uint32_t r = 0; r < 8; r++, row += row_bytes) {
        __m256 sum = _mm256_setzero_ps();
        for (uint32_t o = 0; o < w.octets(); o++) {
            Octet<F> octet;
            octet.at(w, row, o);
            for (uint32_t line = 0; line < F::OCTET_BYTES; line += 64) _mm_prefetch((const char *)octet.block + PREFETCH + line, _MM_HINT_T0);
            __m256 scale, bias;
            F::scales(octet.block, octet.half, scale, bias);
            __m256i dots = octet_dots<F>(octet.block, octet.half, x.pairs + (size_t)o * (8 * F::GROUP / BLOCK) * BLOCK_PAIRS);
            const float *x_scale = x.scales + 8 * o, *x_sum = x.sums + 8 * o;
            sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), _mm256_mul_ps(scale, _mm256_loadu_ps(x_scale)), sum);
            if (F::BIASED) sum = _mm256_fmadd_ps(bias, _mm256_loadu_ps(x_sum), sum);
        }
        parts[r] = sum;
    }
    transpose((__m256i *)parts);
    __m256 sum = parts[0];
    for (int i = 1; i < 8; i++) sum = _mm256_add_ps(sum, parts[i]);
    return sum;
}

}  // namespace OB_NAMESPACE

#endif
