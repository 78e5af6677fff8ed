// Matrices of blocks (block_format.h), read eight groups of columns at a time: an octet.
//
// Values that belong to the groups of an octet stand in vectors of eight lanes, in this order: 0 2 4 6 1 3 5 7, as adding
// up the halves of vectors leaves them (slot). A row's float sum has a part for each lane.
#ifndef OB_NATIVE_BLOCKS_H
#define OB_NATIVE_BLOCKS_H

#include "block_activations.h"

namespace OB_NAMESPACE {

// A matrix of blocks F.
template <typename F>
struct Blocks {
    const uint8_t *data, *scales;
    uint32_t columns, groups;

    explicit Blocks(const Weights &w) : data(w.data), scales(w.scales), columns(w.columns), groups(w.groups) {}

    // As in WeightFormat. Scales that are stored apart are bytes, and bound as biases, too.
    static constexpr uint32_t BINDINGS = F::APART ? 3 : 1, COLUMNS = F::COLUMNS, BYTES = F::BYTES,
                              SCALE_BYTES = F::APART ? 1 : 0, BIAS_BYTES = 0;
    static uint32_t group_of(uint32_t) { return F::GROUP; }
    static uint32_t few(uint32_t) { return planes(3) ? 2 : MOST_FEW; }
    static bool planes(uint32_t) { return OB_HAS_VNNI && F::SMALL; }
    static bool fits(uint32_t columns, uint32_t) { return columns % F::COLUMNS == 0; }
    static bool quantise(const Activations &to, uint32_t row, const float *x) { return quantise_for<F>(to, row, x); }

    size_t row_bytes() const { return (size_t)columns / F::COLUMNS * F::BYTES; }
};

// One octet of a row.
template <typename F>
struct Octet {
    Place place;
    uint8_t copy[F::OCTET_BYTES + 8];

    // A row's last octet may lack groups: those of the `behind` rows after it fill it up, where these have enough, or zeros.
    __attribute__((always_inline)) void at(const Blocks<F> &w, size_t row, uint32_t octet, uint32_t behind) {
        const size_t step = F::OCTETS > 1 ? F::BYTES : F::OCTET_BYTES;
        place = {w.data + row * w.row_bytes() + octet / F::OCTETS * step, octet % F::OCTETS, nullptr};
        if (F::APART) place.scales = w.scales + row * w.groups + 8 * octet;
        uint32_t groups = w.groups - 8 * octet;
        if (F::COLUMNS == 32 && groups < 8 && groups + behind * w.groups < 8) {
            memset(copy, 0, sizeof copy);
            memcpy(copy, place.block, groups * F::BYTES);
            place.block = copy;
            if (F::APART) place.scales = (const uint8_t *)memcpy(copy + F::OCTET_BYTES, place.scales, groups);
        }
    }
};

// Dot products of the octet's groups with activations that begin at `pairs`.
template <typename F>
OB_INLINE __m256i octet_dots(Place at, const int32_t *pairs) {
    __m256i v[4];
    if (F::GROUP == 16) {
        for (uint32_t i = 0; i < 2; i++, pairs += BLOCK_PAIRS) F::products(at, i, pairs, v + 2 * i);
    } else {
        for (uint32_t i = 0; i < 4; i++, pairs += BLOCK_PAIRS) F::products(at, i, pairs, v + i);
    }
    return sum_fours(v);
}

// The same for R rows of activations, whose dot products share unpacked weights.
template <int R, typename F>
OB_INLINE void octet_dots(Place at, const int32_t *pairs, size_t row_step, __m256i dots[R]) {
    enum : uint32_t { BLOCKS = 8 * F::GROUP / BLOCK, VECTORS_OF_BLOCK = 4 / BLOCKS };
    __m256i v[R][4];
    for (uint32_t i = 0; i < BLOCKS; i++, pairs += BLOCK_PAIRS) {
        __m256i raw[F::RAW], n[4];
        F::raw(at, i, raw);
        F::pairs(raw, n);
        for (int r = 0; r < R; r++) {
            __m256i a, b;
            pair_sums(n, pairs + r * row_step, a, b);
            store_sums<F>(a, b, v[r] + VECTORS_OF_BLOCK * i);
        }
    }
    for (int r = 0; r < R; r++) dots[r] = sum_fours(v[r]);
}

// sums[row] += the parts of an octet, of which `groups` are the row's.
template <int R, typename F>
OB_INLINE void add_octet(__m256 sums[R], Place at, uint32_t index, uint32_t groups, const Activations &x) {
    __m256 scale, bias;
    F::scales(at, scale, bias);
    if (groups < 8) {
        __m256i theirs = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)groups), _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
        scale = _mm256_and_ps(scale, _mm256_castsi256_ps(theirs)),
        bias = _mm256_and_ps(bias, _mm256_castsi256_ps(theirs));
    }
    const int32_t *pairs = x.pairs + (size_t)index * (8 * F::GROUP / BLOCK) * BLOCK_PAIRS;
    __m256i dots[R];
    if constexpr (R == 1) dots[0] = octet_dots<F>(at, pairs);
    else octet_dots<R, F>(at, pairs, x.row_step, dots);
    for (int r = 0; r < R; r++) {
        const size_t group = 8 * index + r * x.row_scale_step;
        sums[r] = add_group(sums[r], dots[r], scale, bias, _mm256_loadu_ps(x.scales + group),
                            _mm256_loadu_ps(x.sums + group));
    }
}

// y[row]: products of rows `first` to `first` + 7 of w with the first R rows of x, a lane each.
template <int R, typename F>
static __attribute__((noinline)) void matvecs(const Blocks<F> &w, uint32_t first, const Activations &x, __m256 y[R]) {
    const uint32_t whole = w.groups / 8;
    __m256 parts[R][8];
    Octet<F> octet;
    for (uint32_t r = 0; r < 8; r++) {
        __m256 sums[R];
        for (int i = 0; i < R; i++) sums[i] = _mm256_setzero_ps();
        for (uint32_t o = 0; o < whole; o++) {
            octet.at(w, first + r, o, 0);
            for (uint32_t line = 0; line < F::OCTET_BYTES; line += 64) {
                _mm_prefetch((const char *)octet.place.block + PREFETCH + line, _MM_HINT_T0);
            }
            add_octet<R, F>(sums, octet.place, o, 8, x);
        }
        if (w.groups % 8 != 0) {
            octet.at(w, first + r, whole, 7 - r);
            add_octet<R, F>(sums, octet.place, whole, w.groups % 8, x);
        }
        for (int i = 0; i < R; i++) parts[i][r] = sums[i];
    }
    for (int i = 0; i < R; i++) {
        transpose((__m256i *)parts[i]);
        y[i] = parts[i][0];
        for (int p = 1; p < 8; p++) y[i] = _mm256_add_ps(y[i], parts[i][p]);
    }
}

template <typename F>
OB_INLINE __m256 matvec(const Blocks<F> &w, uint32_t first, const Activations &x) {
    __m256 y;
    matvecs<1>(w, first, x, &y);
    return y;
}

// For a few rows of x, which lie apart: up to four at a time.
template <typename F>
OB_INLINE void few_rows(const Blocks<F> &w, uint32_t first, const Activations &x, __m256 y[MOST_FEW]) {
    for (uint32_t row = 0, n; row < x.rows; row += n) {
        uint32_t left = x.rows - row;
        n = left > 4 ? (left + 1) / 2 : left;
        Activations some = x.one(row);
        if (n == 4) matvecs<4>(w, first, some, y + row);
        else if (n == 3) matvecs<3>(w, first, some, y + row);
        else if (n == 2) matvecs<2>(w, first, some, y + row);
        else matvecs<1>(w, first, some, y + row);
    }
}

}  // namespace OB_NAMESPACE

#endif
