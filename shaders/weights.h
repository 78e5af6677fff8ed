// A weight matrix [rows, columns] in each of the formats that checkpoints store, behind one
// interface: at(row, column) is one weight, row(i) a row whose products `dots` computes.
#ifndef OB_WEIGHTS_H
#define OB_WEIGHTS_H

#include "lanes.h"

// float, half or bfloat, row by row.
template <typename T>
struct PlainRow {
    device const T *data;
    uint columns;
};

template <typename T>
struct Plain {
    typedef PlainRow<T> Row;
    device const T *data;
    uint columns;

    Plain(device const T *data_, uint columns_) : data(data_), columns(columns_) {}

    METAL_FUNC float at(ulong row, uint column) const { return float(data[row * columns + column]); }

    METAL_FUNC Row row(ulong i) const {
        Row r;
        r.data = data + i * columns;
        r.columns = columns;
        return r;
    }
};

// MLX affine quantisation (mlx.core.quantize): w = q · scale + bias for each group of a row, q of
// `bits` bits packed into words, lowest bits first. Columns are whole groups of 32, 64 or 128.
template <uint bits, typename S>
struct AffineRow {
    device const uint *data;
    device const S *scales;
    device const S *biases;
    uint columns, group;
};

template <uint bits, typename S>
struct Affine {
    typedef AffineRow<bits, S> Row;
    device const uint *data;
    device const S *scales;
    device const S *biases;
    uint columns, group;

    Affine(device const uint *data_, device const S *scales_, device const S *biases_, uint columns_, uint group_)
        : data(data_), scales(scales_), biases(biases_), columns(columns_), group(group_) {}

    METAL_FUNC float at(ulong row, uint column) const {
        uint bit = column * bits;
        uint q = (data[row * (columns / 32 * bits) + bit / 32] >> (bit % 32)) & ((1u << bits) - 1);
        ulong g = row * (columns / group) + column / group;
        return float(q) * float(scales[g]) + float(biases[g]);
    }

    METAL_FUNC Row row(ulong i) const {
        Row r;
        r.data = data + i * (columns / 32 * bits);
        r.scales = scales + i * (columns / group);
        r.biases = biases + i * (columns / group);
        r.columns = columns;
        r.group = group;
        return r;
    }
};

// R rows of activations, wherever each of them is.
template <uint R>
struct Inputs {
    device const float *row[R];
};

// Rows that follow each other `stride` elements apart.
template <uint R>
METAL_FUNC Inputs<R> inputs_of(device const float *x, ulong stride) {
    Inputs<R> result;
    for (uint r = 0; r < R; r++) result.row[r] = x + r * stride;
    return result;
}

// out[o · R + r] = part of the product of weight row o with x.row[r], o < O, r < R: the chunks of
// sixteen columns first, first + step, …. What the threads of a simdgroup get adds up to the
// product. Each product is added up in the same order whatever O and R are.
template <uint O, uint R, typename T>
METAL_FUNC void dots(thread const PlainRow<T> *w, thread const Inputs<R> &x, uint first, uint step, thread float *out) {
    Lanes acc[O * R];
    uint columns = w[0].columns;
    for (uint i = 0; i < O * R; i++) acc[i] = lanes_splat(0);
    for (uint chunk = first; chunk < columns / 16; chunk += step) {
        for (uint o = 0; o < O; o++) {
            Lanes v = lanes_load(w[o].data + 16 * chunk);
            for (uint r = 0; r < R; r++) acc[o * R + r] = lanes_fma(v, lanes_load(x.row[r] + 16 * chunk), acc[o * R + r]);
        }
    }
    for (uint o = 0; o < O; o++) {
        for (uint r = 0; r < R; r++) {
            float sum = lanes_sum(acc[o * R + r]);
            for (uint i = columns / 16 * 16 + first; i < columns; i += step) sum += float(w[o].data[i]) * x.row[r][i];
            out[o * R + r] = sum;
        }
    }
}

template <uint bits>
METAL_FUNC Lanes unpack(device const uint *words, uint chunk) {
    return bits == 4 ? lanes_unpack4(words + 2 * chunk) : lanes_unpack8(words + 4 * chunk);
}

template <uint O, uint R, uint bits, typename S>
METAL_FUNC void dots(thread const AffineRow<bits, S> *w, thread const Inputs<R> &x, uint first, uint step,
                     thread float *out) {
    Lanes acc[O * R], scale[O], bias[O];
    uint size = w[0].group / 16;  // chunks of a group
    for (uint i = 0; i < O * R; i++) acc[i] = lanes_splat(0);
    // With one thread a row (step 1) the inner loop runs through a group and its scale is read once.
    for (uint next = first; next < w[0].columns / 16;) {
        uint g = next / size;
        for (uint o = 0; o < O; o++) {
            scale[o] = lanes_splat(float(w[o].scales[g]));
            bias[o] = lanes_splat(float(w[o].biases[g]));
        }
        for (uint end = (g + 1) * size; next < end; next += step) {
            for (uint o = 0; o < O; o++) {
                Lanes v = lanes_fma(unpack<bits>(w[o].data, next), scale[o], bias[o]);
                for (uint r = 0; r < R; r++) acc[o * R + r] = lanes_fma(v, lanes_load(x.row[r] + 16 * next), acc[o * R + r]);
            }
        }
    }
    for (uint i = 0; i < O * R; i++) out[i] = lanes_sum(acc[i]);
}

// The formats that every kernel over weights is made for. X(name, element type …)
#define OB_PLAIN_FORMATS(X) X(f32, float) X(f16, half) X(bf16, bfloat)
#define OB_AFFINE_FORMATS(X)                                     \
    X(q4_f32, 4, float) X(q4_f16, 4, half) X(q4_bf16, 4, bfloat) \
    X(q8_f32, 8, float) X(q8_f16, 8, half) X(q8_bf16, 8, bfloat)

#endif
