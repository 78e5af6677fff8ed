// How the tensor cores of an NVIDIA GPU take quantised weights: a simdgroup holds a chunk of sixteen rows and multiplies it
// by the same columns of up to four rows of activations. This is CUDA's own; everywhere else simd.h has the products.
//
// Weights are integers, and activations become integers of 16 bits, with a scale per 64: their largest is ±32,512. Both
// bytes of an activation are columns of one factor, so products and sums are exact; an activation is off by at most
// 1 / 65,024 of the largest of its 64.
//
// Lane 4g + t holds its part of weight rows g and g + 8. The columns of a product may come in any order, if they do on both
// sides: a lane's part is what lies together in memory, and the activations are staged in that order.
#ifndef OB_WEIGHTS_TENSOR_H
#define OB_WEIGHTS_TENSOR_H

#include "packed.h"

#define OB_TENSOR_LARGEST 32512.0f  // of an activation as an integer
#define OB_TENSOR_OCTETS 32         // of a chunk, at most

// The activations of a chunk as one simdgroup stages them, eight by eight: their high bytes, then their low ones. Four more
// per row keep two rows in different banks of memory.
template <uint R>
struct TensorStage {
    metal::uint4 octets[R][OB_TENSOR_OCTETS + 4];
    metal::float2 groups[R][OB_TENSOR_OCTETS / 8];  // scale and sum of 64
};

// Rows of activations that a kernel has staged in device memory, for all that read them: octets [rows, columns / 8] in
// the order of a stage, groups [rows, columns / 64].
struct StagedRows {
    device const metal::uint4 *octets;
    device const metal::float2 *groups;
    uint columns;
};

// Copies `n` words from p; element by element unless p is aligned.
template <bool aligned, uint n, typename T>
METAL_FUNC void copy_words(device const T *p, thread uint *words) {
    if (!aligned || n == 1) {
        OB_UNROLL
        for (uint i = 0; i < n; i++) words[i] = element_bits(p, i * 4 / sizeof(T), (i + 1) * 4 / sizeof(T));
    } else if (n == 2) {
        metal::uint2 all = *(device const metal::uint2 *)p;
        words[0] = all.x;
        words[1] = all.y;
    } else {
        metal::uint4 all = *(device const metal::uint4 *)p;
        OB_UNROLL
        for (uint i = 0; i < n; i++) words[i] = all[i % 4];
    }
}
template <bool aligned, uint n>
METAL_FUNC void copy_words(device const uint *p, thread uint *words) {
    copy_words<aligned, n>((device const float *)p, words);
}

METAL_FUNC float word_value(thread const uint *words, uint i, float) { return metal::as_type<float>(words[i]); }
template <typename S>
METAL_FUNC float word_value(thread const uint *words, uint i, S) {
    return stored_value(metal::as_type<S>(ushort(words[i / 2] >> i % 2 * 16)));
}

template <uint bytes, typename P>
METAL_FUNC bool is_multiple(P p) {
    return reinterpret_cast<ulong>(p) % bytes == 0;
}

// No format but these:
template <typename Row>
struct TensorRow {
    enum { exists = 0 };
};

// Integers of 4 or 8 bits with a scale per 64. A lane takes a quarter of such a group: two octets.
template <uint bits, typename S>
struct TensorIntegers {
    typedef AffineRow<bits, S> Row;
    enum { exists = 1, chunk = bits == 4 ? 256 : 128, groups = chunk / 64 };
    enum { length = bits / 2, scale_words = groups * sizeof(S) / 4 };
    uint words[2][groups][length];
    uint scales[2][scale_words], biases[2][scale_words];

    // Fewer chunks would leave simdgroups without work.
    static METAL_FUNC bool fits(Row row) {
        return row.columns % chunk == 0 && row.columns >= 3 * chunk && row.group == 64;
    }
    static METAL_FUNC bool is_aligned(Row row) {
        const uint bytes = 4 * scale_words;
        return is_multiple<16>(row.data) && is_multiple<bytes>(row.scales) && is_multiple<bytes>(row.biases);
    }

    template <bool aligned>
    METAL_FUNC void load(thread const Row *rows, uint number, uint lane) {
        OB_UNROLL
        for (uint r = 0; r < 2; r++) {
            device const uint *p = rows[r].data + (number * groups * 4 + lane % 4) * length;
            OB_UNROLL
            for (uint i = 0; i < groups; i++) copy_words<aligned, length>(p + i * 4 * length, words[r][i]);
            copy_words<aligned, scale_words>(rows[r].scales + number * groups, scales[r]);
            copy_words<aligned, scale_words>(rows[r].biases + number * groups, biases[r]);
        }
    }

    // Where an octet is staged: the j-th octets of a group's four lanes lie together.
    static METAL_FUNC uint slot(uint octet) { return (octet & ~7u) + octet % 2 * 4 + octet / 2 % 4; }
    // The activation that byte `i` of an octet's two words belongs to. Four bits become bytes every other one.
    static METAL_FUNC uint place(uint i) { return bits == 4 ? i % 4 * 2 + i / 4 : i; }

    // Words 0 and 1 of octet `j` of a group.
    METAL_FUNC uint word(uint r, uint i, uint j, uint k) const {
        if (bits == 4) return words[r][i][j] >> 4 * k & 0x0F0F0F0Fu;
        return words[r][i][(2 * j + k) % length];
    }

    // A lane's part of four rows of activations: octets of row lane / 8, groups of row lane % 4. It reads them from a
    // stage of which `count` rows are used when they are needed,
    template <uint R>
    struct Staged {
        threadgroup const TensorStage<R> &stage;
        uint count, lane;
        METAL_FUNC metal::uint2 octet(uint i, uint j) const {
            if (lane / 8 >= count) return metal::uint2(0);
            return ((threadgroup const metal::uint2 *)&stage
                        .octets[R == 1 ? 0 : lane / 8][8 * i + 4 * j + lane % 4])[lane / 4 % 2];
        }
        METAL_FUNC metal::float2 group(uint i) const { return stage.groups[R == 1 ? 0 : lane % 4][i]; }
    };
    // or has the octets in registers: chunk `number` of rows `row` and `mine` of those that a kernel has staged.
    struct Held {
        metal::uint2 octets[groups][2];
        device const metal::float2 *own;
        METAL_FUNC void read(thread const StagedRows &rows, ulong row, ulong mine, uint number, uint lane) thread {
            device const metal::uint4 *p = rows.octets + row * (rows.columns / 8) + number * (chunk / 8) + lane % 4;
            OB_UNROLL
            for (uint i = 0; i < 2 * groups; i++)
                octets[i / 2][i % 2] = ((device const metal::uint2 *)(p + 4 * i))[lane / 4 % 2];
            own = rows.groups + mine * (rows.columns / 64) + number * groups;
        }
        METAL_FUNC metal::uint2 octet(uint i, uint j) const { return octets[i][j]; }
        METAL_FUNC metal::float2 group(uint i) const { return own[i]; }
    };

    // sums[2p + r] = what row r of weights adds to the product with the activations in row lane % 4 of part p.
    template <uint P, typename X>
    METAL_FUNC void multiply(thread const X *x, thread float *sums) const {
        int c[P][groups][4] = {};
        OB_UNROLL
        for (uint i = 0; i < groups; i++) {
            OB_UNROLL
            for (uint j = 0; j < 2; j++) {
                OB_UNROLL
                for (uint p = 0; p < P; p++) {
                    metal::uint2 b = x[p].octet(i, j);
                    metal::metallib_multiply(c[p][i], word(0, i, j, 0), word(1, i, j, 0), word(0, i, j, 1),
                                             word(1, i, j, 1), b.x, b.y);
                }
            }
        }
        OB_UNROLL
        for (uint p = 0; p < P; p++) {
            sums[2 * p] = sums[2 * p + 1] = 0;
            OB_UNROLL
            for (uint i = 0; i < groups; i++) {
                metal::float2 group = x[p].group(i);
                OB_UNROLL
                for (uint r = 0; r < 2; r++) {
                    float product = float(c[p][i][2 * r] * 256 + c[p][i][2 * r + 1]) * group.x;
                    sums[2 * p + r] = metal::fma(word_value(scales[r], i, S(0)), product,
                                                 metal::fma(word_value(biases[r], i, S(0)), group.y, sums[2 * p + r]));
                }
            }
        }
    }
};

template <typename S>
struct TensorRow<AffineRow<4, S>> : TensorIntegers<4, S> {};
template <typename S>
struct TensorRow<AffineRow<8, S>> : TensorIntegers<8, S> {};
template <>
struct TensorRow<AffineRow<4, E8M0>> {
    enum { exists = 0 };
};

// Reads eight activations at x.
template <bool aligned>
METAL_FUNC void read_octet(device const float *x, thread float *v) {
    if (aligned) {
        device const metal::float4 *p = (device const metal::float4 *)x;
        metal::float4 a = p[0], b = p[1];
        OB_UNROLL
        for (uint i = 0; i < 4; i++) {
            v[i] = a[i];
            v[i + 4] = b[i];
        }
    } else {
        OB_UNROLL
        for (uint i = 0; i < 8; i++) v[i] = x[i];
    }
}

// Returns eight activations as they are staged, high bytes first. `group`: scale and sum of the 64 that eight lanes have.
// Where 64 activations have NaN or inf among them, what is made of them is no finite number either.
// `placed`: the same eight in the order of their bytes.
METAL_FUNC metal::uint4 octet_of(thread const float *v, thread const float *placed, thread metal::float2 &group) {
    float sum = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7])), most = 0x1p-100f;
    OB_UNROLL
    for (uint i = 0; i < 8; i++) most = metal::max(most, metal::abs(v[i]));
    OB_UNROLL
    for (uint step = 1; step < 8; step *= 2) {
        sum += metal::metallib_shuffle_xor(sum, step);
        most = metal::max(most, metal::metallib_shuffle_xor(most, step));
    }
    // The bits of 1.5 · 2^23 + i end in those of the integer i. 128 more: the high byte is rounded, and the low one is
    // signed when its first bit is turned.
    float scale = OB_TENSOR_LARGEST * metal::metallib_reciprocal(most);
    uint q[8], bytes[4];
    OB_UNROLL
    for (uint i = 0; i < 8; i++) q[i] = metal::as_type<uint>(metal::fma(placed[i], scale, 12582912.0f + 128.0f));
    OB_UNROLL
    for (uint i = 0; i < 2; i++) {
        uint low = metal::metallib_bytes(q[4 * i], q[4 * i + 1], 0x5140);
        uint high = metal::metallib_bytes(q[4 * i + 2], q[4 * i + 3], 0x5140);
        bytes[i] = metal::metallib_bytes(low, high, 0x7632);
        bytes[2 + i] = metal::metallib_bytes(low, high, 0x5410) ^ 0x80808080u;
    }
    group = metal::float2(most * (1.0f / OB_TENSOR_LARGEST), sum);
    return metal::uint4(bytes[0], bytes[1], bytes[2], bytes[3]);
}

template <typename Tensor>
METAL_FUNC metal::uint4 octet_of(thread const float *v, thread metal::float2 &group) {
    float placed[8];
    OB_UNROLL
    for (uint i = 0; i < 8; i++) placed[i] = v[Tensor::place(i)];
    return octet_of(v, placed, group);
}

// Stages the octet of a chunk that the lane has, as part of row `row`.
template <typename Tensor, uint R>
METAL_FUNC void stage_values(thread const float *v, uint row, threadgroup TensorStage<R> &stage, uint lane) {
    uint octet = lane % (Tensor::chunk / 8);
    metal::float2 group;
    stage.octets[row][Tensor::slot(octet)] = octet_of<Tensor>(v, group);
    if (lane % 8 == 0) stage.groups[row][octet / 8] = group;
}

// Stages the octet of a chunk that the lane has, of row `row`, whose chunk begins at x.
template <typename Tensor, bool aligned, uint R>
METAL_FUNC void stage_octet(device const float *x, uint row, threadgroup TensorStage<R> &stage, uint lane) {
    float v[8];
    read_octet<aligned>(x + lane % (Tensor::chunk / 8) * 8, v);
    stage_values<Tensor>(v, row, stage, lane);
}

#endif
