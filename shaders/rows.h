// The parts of rows.metal, for tensor cores of CUDA: a simdgroup stages one chunk of a row, and multiplies it with tiles of
// sixteen rows of weights, all of which are on their way at once. A product has the bits that it has in tensor_tile.h: the
// sums of chunks are kept apart here, and added in the same order.
#ifndef OB_ROWS_H
#define OB_ROWS_H

#include "early.h"
#include "epilogue.h"
#include "squares.h"
#include "weights.h"

#ifdef __METAL_CUDA__

// MLX's matrices whose scales are S.
template <typename S>
struct RowMatrix {
    device const uint *data;
    device const S *scales, *biases;
};

template <typename S>
METAL_FUNC bool is_aligned(RowMatrix<S> m) {
    return is_multiple<16>(m.data) && is_multiple<16>(m.scales) && is_multiple<16>(m.biases);
}

// The sums of chunks with sixteen outputs.
typedef float RowSums[OB_LINEAR_OUTPUTS];

// The chunk of a row as a simdgroup stages it.
template <uint bits>
struct RowStage {
    typedef TensorIntegers<bits, float> Tensor;

    static METAL_FUNC void put(thread const float *v, threadgroup TensorStage<1> &stage, uint lane) {
        if (bits == 8) return stage_values<Tensor>(v, 0, stage, lane);
        metal::float2 group;
        stage.octets[0][lane] = octet_of<Tensor>(v, group);
        if (lane % 8 == 0) stage.groups[0][lane / 8] = group;
    }
};

// A lane's part of a chunk of T tiles: of each two rows, lane / 4 and eight more. It takes sixteen bytes at a time, so that
// a row's lines are asked for half as often as in TensorIntegers<4>. Of 4 bits these are half a group: lanes 0 and 1 of four
// have one group, 2 and 3 the next. So there are four columns of activations, two bytes for each of both groups, and two
// lanes get their sums.
template <uint T, uint bits, typename S>
struct RowTiles {
    typedef TensorIntegers<bits, S> Tensor;
    uint words[T][2][8], scales[T][2][Tensor::scale_words], biases[T][2][Tensor::scale_words];

    // `row`: the first row of the first tile. Rows are `step` apart; `count`: tiles that there are.
    template <bool aligned>
    METAL_FUNC void load(RowMatrix<S> matrix, uint row, uint step, uint count, uint chunk, uint chunks,
                         uint lane) thread {
        ulong place = ulong(row + lane / 4 * step) * chunks + chunk;
        uint stride = 8 * step * chunks;
        OB_UNROLL
        for (uint t = 0; t < T; t++) {
            OB_UNROLL
            for (uint r = 0; r < 2; r++, place += stride) {
                if (T > 1 && t >= count) continue;
                device const uint *p = matrix.data + place * 32 + lane % 4 * 4;
                copy_words<aligned, 4>(p, words[t][r]);
                copy_words<aligned, 4>(p + 16, words[t][r] + 4);
                copy_words<aligned, Tensor::scale_words>(matrix.scales + place * Tensor::groups, scales[t][r]);
                copy_words<aligned, Tensor::scale_words>(matrix.biases + place * Tensor::groups, biases[t][r]);
            }
        }
    }

    // The activations that word j of half h of a row meets.
    METAL_FUNC metal::uint2 octet(threadgroup const TensorStage<1> &stage, uint h, uint j, uint lane) const {
        uint column = lane / 4, own = lane % 4;
        threadgroup const metal::uint2 *halves;
        if (bits == 4) {
            if (column >= 4 || column / 2 != own / 2) return metal::uint2(0);
            halves = (threadgroup const metal::uint2 *)&stage.octets[0][16 * h + 4 * own + j];
        } else {
            if (column >= 2) return metal::uint2(0);
            halves = (threadgroup const metal::uint2 *)&stage.octets[0][8 * h + 4 * j + own];
        }
        return halves[column % 2];
    }

    // Leaves the sums of the chunk that is staged: those of tile t at sums + t · apart.
    METAL_FUNC void multiply(threadgroup const TensorStage<1> &stage, threadgroup RowSums *sums, uint apart,
                             uint lane) const {
        const uint steps = bits == 4 ? 4 : 2;
        metal::uint2 x[2][steps];
        metal::float2 groups[Tensor::groups];
        OB_UNROLL
        for (uint i = 0; i < 2 * steps; i++) x[i / steps][i % steps] = octet(stage, i / steps, i % steps, lane);
        OB_UNROLL
        for (uint i = 0; i < Tensor::groups; i++) groups[i] = stage.groups[0][i];
        OB_UNROLL
        for (uint t = 0; t < T; t++) {
            float products[2][2];
            OB_UNROLL
            for (uint h = 0; h < 2; h++) {
                int c[4] = {};
                OB_UNROLL
                for (uint j = 0; j < steps; j++) {
                    uint a[4];
                    OB_UNROLL
                    for (uint k = 0; k < 4; k++) {
                        uint word = words[t][k % 2][4 * h + (bits == 4 ? j : 2 * j + k / 2)];
                        a[k] = bits == 4 ? word >> k / 2 * 4 & 0x0F0F0F0Fu : word;
                    }
                    metal::metallib_multiply(c, a[0], a[1], a[2], a[3], x[h][j].x, x[h][j].y);
                }
                float scale = groups[bits == 4 ? 2 * h : h].x;
                if (bits == 4 && lane % 2 == 1) scale = groups[(2 * h + 1) % Tensor::groups].x;
                OB_UNROLL
                for (uint r = 0; r < 2; r++) products[h][r] = float(c[2 * r] * 256 + c[2 * r + 1]) * scale;
            }
            OB_UNROLL
            for (uint r = 0; r < 2; r++) {
                float sum = 0;
                OB_UNROLL
                for (uint i = 0; i < Tensor::groups; i++) {
                    float product = products[bits == 4 ? i / 2 : i % 2][r];
                    if (bits == 4 && i % 2 == 1) product = metal::metallib_shuffle_xor(product, 1);
                    sum = metal::fma(word_value(scales[t][r], i, S(0)), product,
                                     metal::fma(word_value(biases[t][r], i, S(0)), groups[i].y, sum));
                }
                if (lane % 4 == 0) sums[t * apart][lane / 4 + 8 * r] = sum;
            }
        }
    }
};

// A product with output `o` of sixteen: its chunks' sums in the order of tensor_tile.h, where there are so many shares.
template <uint shares>
METAL_FUNC float row_product(threadgroup const RowSums *sums, uint o, uint chunks) {
    float parts[shares] = {};
    OB_ROLLED
    for (uint first = 0; first < chunks; first += 8) {
        OB_UNROLL
        for (uint i = 0; i < 8; i++) parts[i % shares] += first + i < chunks ? sums[first + i][o] : 0;
    }
    float sum = 0;
    OB_UNROLL
    for (uint share = 0; share < shares; share++) sum += parts[share];
    return sum;
}

// The lane's eight columns of a chunk of a row, and their norm.
template <typename Tensor, typename S>
struct RowInput {
    float v[8];
    uint words[4 * sizeof(S) / 2];

    static METAL_FUNC uint column(uint chunk, uint lane) {
        return chunk * Tensor::chunk + lane % (Tensor::chunk / 8) * 8;
    }

    template <bool aligned>
    METAL_FUNC void read_norm(device const S *norm, uint chunk, uint lane) thread {
        OB_UNROLL
        for (uint i = 0; i < sizeof(S) / 2; i++)
            copy_words<aligned, 4>(norm + column(chunk, lane) + i * 16 / sizeof(S), words + 4 * i);
    }
    template <bool aligned>
    METAL_FUNC void read(device const float *x, uint chunk, uint lane) thread {
        read_octet<aligned>(x + column(chunk, lane), v);
    }
    METAL_FUNC void norm(float factor, float offset) thread {
        OB_UNROLL
        for (uint i = 0; i < 8; i++) v[i] = v[i] * factor * (offset + word_value(words, i, S(0)));
    }
    METAL_FUNC void stage(threadgroup TensorStage<1> &stage, uint lane) const {
        metal::metallib_barrier();
        RowStage<Tensor::length * 2>::put(v, stage, lane);
        metal::metallib_barrier();
    }
};

// 1 / √(mean(x²) + ε) of a row, as norm.metal has it.
METAL_FUNC float row_factor(device const float *squares, uint columns, float eps, uint lane) {
    return metal::rsqrt(sum_of_sums(squares, columns / OB_SQUARES, lane) / float(columns) + eps);
}

#endif
#endif
