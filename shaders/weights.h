// A weight matrix [rows, columns] in each of the formats that checkpoints store, behind one
// interface: at(row, column) is one weight, dot(…) a partial product of a row with rows of x.
#ifndef OB_WEIGHTS_H
#define OB_WEIGHTS_H

#include "lanes.h"

// acc[r] += w · x[r · stride + 16 chunk …]
template <uint R>
METAL_FUNC void accumulate(thread Lanes *acc, Lanes w, device const float *x, ulong stride, uint chunk) {
    for (uint r = 0; r < R; r++) acc[r] = lanes_fma(w, lanes_load(x + r * stride + 16 * chunk), acc[r]);
}

// float, half or bfloat, row by row.
template <typename T>
struct Plain {
    device const T *data;
    uint columns;

    Plain(device const T *data_, uint columns_) : data(data_), columns(columns_) {}

    // The matrix that starts `rows` rows further on: an expert of a stack.
    METAL_FUNC Plain skip(ulong rows) const { return Plain(data + rows * columns, columns); }

    METAL_FUNC float at(ulong row, uint column) const { return float(data[row * columns + column]); }

    // out[r] = part of the product of `row` with x[r · stride …], r < R: the chunks of sixteen
    // columns first, first + step, …; what the threads of a simdgroup return adds up to the product.
    template <uint R>
    METAL_FUNC void dot(ulong row, device const float *x, ulong stride, uint first, uint step, thread float *out) const {
        Lanes acc[R];
        for (uint r = 0; r < R; r++) acc[r] = lanes_splat(0);
        device const T *p = data + row * columns;
        for (uint chunk = first; chunk < columns / 16; chunk += step) {
            accumulate<R>(acc, lanes_load(p + 16 * chunk), x, stride, chunk);
        }
        for (uint r = 0; r < R; r++) {
            out[r] = lanes_sum(acc[r]);
            for (uint i = columns / 16 * 16 + first; i < columns; i += step) out[r] += float(p[i]) * x[r * stride + i];
        }
    }
};

// MLX affine quantisation (mlx.core.quantize): w = q · scale + bias for each group of a row, q of
// `bits` bits packed into words, lowest bits first. Columns are whole groups of 32, 64 or 128.
template <uint bits, typename S>
struct Affine {
    device const uint *data;
    device const S *scales;
    device const S *biases;
    uint columns, group;

    Affine(device const uint *data_, device const S *scales_, device const S *biases_, uint columns_, uint group_)
        : data(data_), scales(scales_), biases(biases_), columns(columns_), group(group_) {}

    METAL_FUNC Affine skip(ulong rows) const {
        return Affine(data + rows * (columns / 32 * bits), scales + rows * (columns / group),
                      biases + rows * (columns / group), columns, group);
    }

    METAL_FUNC float at(ulong row, uint column) const {
        uint bit = column * bits;
        uint q = (data[row * (columns / 32 * bits) + bit / 32] >> (bit % 32)) & ((1u << bits) - 1);
        ulong g = row * (columns / group) + column / group;
        return float(q) * float(scales[g]) + float(biases[g]);
    }

    METAL_FUNC Lanes unpack(device const uint *p, uint chunk) const {
        return bits == 4 ? lanes_unpack4(p + 2 * chunk) : lanes_unpack8(p + 4 * chunk);
    }

    template <uint R>
    METAL_FUNC void dot(ulong row, device const float *x, ulong stride, uint first, uint step, thread float *out) const {
        Lanes acc[R];
        for (uint r = 0; r < R; r++) acc[r] = lanes_splat(0);
        device const uint *p = data + row * (columns / 32 * bits);
        device const S *s = scales + row * (columns / group);
        device const S *b = biases + row * (columns / group);
        uint size = group / 16;  // chunks of a group
        if (step == 1) {         // one thread has the whole row: each scale is read once
            for (uint g = 0, chunk = 0; g < columns / group; g++) {
                Lanes scale = lanes_splat(float(s[g])), bias = lanes_splat(float(b[g]));
                for (uint end = chunk + size; chunk < end; chunk++) {
                    accumulate<R>(acc, lanes_fma(unpack(p, chunk), scale, bias), x, stride, chunk);
                }
            }
        } else {
            for (uint chunk = first; chunk < columns / 16; chunk += step) {
                Lanes scale = lanes_splat(float(s[chunk / size])), bias = lanes_splat(float(b[chunk / size]));
                accumulate<R>(acc, lanes_fma(unpack(p, chunk), scale, bias), x, stride, chunk);
            }
        }
        for (uint r = 0; r < R; r++) out[r] = lanes_sum(acc[r]);
    }
};

// The formats that every kernel over weights is made for. X(name, kind, element types …)
#define OB_PLAIN_FORMATS(X) X(f32, float) X(f16, half) X(bf16, bfloat)
#define OB_AFFINE_FORMATS(X)                                     \
    X(q4_f32, 4, float) X(q4_f16, 4, half) X(q4_bf16, 4, bfloat) \
    X(q8_f32, 8, float) X(q8_f16, 8, half) X(q8_bf16, 8, bfloat)

#endif
