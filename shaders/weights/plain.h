// Weights that are stored as elements (float, half or bfloat), row by row. A row may have any length.
#ifndef OB_WEIGHTS_PLAIN_H
#define OB_WEIGHTS_PLAIN_H

#include "scale.h"

template <typename T>
struct PlainRow {
    device const T *data;
    uint columns;
};

template <typename T>
METAL_FUNC Lanes row_lanes(PlainRow<T> row, uint chunk) {
    return lanes_read(row.data, 16 * chunk, row.columns);
}

// out[o · R + r] = a part of the product of weight row o with x.row[r], o < O, r < R: the sum over the chunks of
// sixteen columns first, first + step, …. The parts of all threads of a simdgroup add up to the product. The order of
// additions is the same for every O and R.
template <uint O, uint R, typename T>
METAL_FUNC void dots(thread const PlainRow<T> *w, thread const Inputs<R> &x, uint first, uint step, thread float *out) {
    Lanes acc[O * R];
    uint columns = w[0].columns;
    for (uint i = 0; i < O * R; i++) acc[i] = lanes_splat(0);
    for (uint chunk = first; chunk < columns / 16; chunk += step) {
        for (uint o = 0; o < O; o++) {
            Lanes v = lanes_load(w[o].data + 16 * chunk);
            for (uint r = 0; r < R; r++)
                acc[o * R + r] = lanes_fma(v, lanes_load(x.row[r] + 16 * chunk), acc[o * R + r]);
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

#endif
