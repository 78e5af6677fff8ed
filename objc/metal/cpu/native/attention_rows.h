// The rows of a KV cache for AVX2 and AVX-512: queries times keys, and weights times values.
#ifndef OB_NATIVE_ATTENTION_ROWS_H
#define OB_NATIVE_ATTENTION_ROWS_H

#include "args.h"
#include "floats.h"

#define OB_MEMBER inline __attribute__((always_inline))

namespace OB_NAMESPACE {

enum { LINE = 64, GROUP = OB_CACHE_GROUP };

// An element of a q8 row (see shaders/cache.h).
struct q8 {
    int8_t byte;
};

OB_INLINE uint32_t scales_of(uint32_t dim) { return 2 * ((dim + GROUP - 1) / GROUP); }

// Elements from one row of `dim` numbers to the next.
template <typename C>
OB_INLINE size_t row_of(const C *, uint32_t dim) {
    return dim;
}
OB_INLINE size_t row_of(const q8 *, uint32_t dim) { return (scales_of(dim) + dim + 3) / 4 * 4; }

// A row of `dim` numbers from its element 0 on. Where it is SCALED, GROUP of its columns share what scale(i) gives.
template <typename C>
struct Row {
    const C *data;
    OB_MEMBER Row() {}
    OB_MEMBER Row(const C *row, uint32_t) : data(row) {}
    enum { SCALED = 0 };
    OB_MEMBER Floats scale(uint32_t) const { return Floats(); }
    OB_MEMBER Floats at(uint32_t i, Floats) const { return load(data + i); }
};

template <>
struct Row<q8> {
    const uint16_t *scales;
    const int8_t *data;
    OB_MEMBER Row() {}
    OB_MEMBER Row(const q8 *row, uint32_t dim)
        : scales((const uint16_t *)row), data((const int8_t *)row + scales_of(dim)) {}
    enum { SCALED = 1 };
    OB_MEMBER Floats scale(uint32_t i) const { return splat_half(scales[i / GROUP]); }
    OB_MEMBER Floats at(uint32_t i, Floats scale) const { return mul(load(data + i), scale); }
};

OB_INLINE void prefetch(const void *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += LINE) _mm_prefetch((const char *)p + i, _MM_HINT_T0);
}

// scores[key, query] = query · key · scale for H queries and KEYS keys, the last of the `left` ones that
// there are standing for any beyond. Each product is added up in the same order whatever H and KEYS are.
template <int H, int KEYS, typename C>
OB_INLINE void products(const float *q, const C *k, uint32_t left, uint32_t dim, float scale, float *scores) {
    Floats sum[KEYS * H];
    Row<C> keys[KEYS];
    for (uint32_t j = 0; j < KEYS; j++) keys[j] = Row<C>(k + (j < left ? j : left - 1) * row_of(k, dim), dim);
    for (int i = 0; i < KEYS * H; i++) sum[i] = splat(0);
    for (uint32_t i = 0, end; i < dim; i = end) {
        Floats scales[KEYS];
        for (int j = 0; j < KEYS; j++) scales[j] = keys[j].scale(i);
        for (end = Row<C>::SCALED ? least(i + GROUP, dim) : dim; i < end; i += WIDTH, q += H * WIDTH) {
            Floats key[KEYS];
            for (int j = 0; j < KEYS; j++) key[j] = keys[j].at(i, scales[j]);
            for (int h = 0; h < H; h++) {
                Floats query = load_once(q + h * WIDTH);
                for (int j = 0; j < KEYS; j++) sum[j * H + h] = fma(query, key[j], sum[j * H + h]);
            }
        }
    }
    for (int i = 0; i < KEYS * H; i += 4) _mm_storeu_ps(scores + i, _mm_mul_ps(sums(sum + i), _mm_set1_ps(scale)));
}

// y[h, :] = y[h, :] · rescale[h] + Σ_j weights[j, h] · v[j, :] for H queries and WIDTH · CHUNKS columns from
// `column` on, `dim` of a query, of `count` rows of `row` numbers.
template <int H, int CHUNKS, typename C>
OB_INLINE void add_columns(float *y, const float *rescale, const float *weights, const C *v, uint32_t count,
                           uint32_t column, uint32_t dim, uint32_t row) {
    Floats sum[H * CHUNKS];
    y += column;
    for (int h = 0; h < H; h++) {
        for (int c = 0; c < CHUNKS; c++) sum[h * CHUNKS + c] = mul(load(y + h * dim + c * WIDTH), splat(rescale[h]));
    }
    for (uint32_t j = 0; j < count; j++, v += row_of(v, row), weights += H) {
        Row<C> values(v, row);
        Floats value[CHUNKS], scale = values.scale(column);
        for (int c = 0; c < CHUNKS; c++) value[c] = values.at(column + c * WIDTH, scale);
        for (int h = 0; h < H; h++) {
            Floats weight = splat(weights[h]);
            for (int c = 0; c < CHUNKS; c++) sum[h * CHUNKS + c] = fma(weight, value[c], sum[h * CHUNKS + c]);
        }
    }
    for (int h = 0; h < H; h++) {
        for (int c = 0; c < CHUNKS; c++) store(y + h * dim + c * WIDTH, sum[h * CHUNKS + c]);
    }
}

// How many chunks of columns go through the rows together: of q8 no more than share a scale.
template <typename C>
struct Chunks {
    enum : uint32_t { MOST = SUMS / 4 };
};
template <>
struct Chunks<q8> {
    enum : uint32_t { MOST = 2 };
};

// The same for all `dim` columns.
template <int H, typename C>
OB_INLINE void add_values(float *y, const float *rescale, const float *weights, const C *v, uint32_t count,
                          uint32_t dim, uint32_t row) {
    enum : uint32_t { MOST = Chunks<C>::MOST };
    for (uint32_t i = 0, n; i < dim; i += n * WIDTH) {
        uint32_t left = (dim - i) / WIDTH;
        n = left == MOST || left >= MOST + 2 ? (uint32_t)MOST : least(left, 2);
        if (n == MOST) add_columns<H, MOST>(y, rescale, weights, v, count, i, dim, row);
        else if (n == 2) add_columns<H, 2>(y, rescale, weights, v, count, i, dim, row);
        else add_columns<H, 1>(y, rescale, weights, v, count, i, dim, row);
    }
}

// y += weight · v for one query and row.
template <typename C>
OB_INLINE void add_row(float *y, float weight, const C *v, uint32_t dim, uint32_t row) {
    Row<C> values(v, row);
    for (uint32_t i = 0; i < dim; i += WIDTH)
        store(y + i, fma(splat(weight), values.at(i, values.scale(i)), load(y + i)));
}

}  // namespace OB_NAMESPACE

#endif
