// Formats of packed words and scales whose kernels share their code, as blocks_shared.h says of blocks: MLX's, and those
// of checkpoints of PyTorch, whose scales are in f32:
//
//   fp8    w = E4M3 number · scale for each 16, 32, 64 or 128
//   fp4    w = E2M1 code · scale for each 16
#ifndef OB_WEIGHTS_AFFINE_SHARED_H
#define OB_WEIGHTS_AFFINE_SHARED_H

#include "affine.h"
#include "shared.h"

// EACH(name, bits, type of the scales)
#define OB_SHARED_AFFINE(EACH) \
    EACH(q2_f32, 2, float)     \
    EACH(q2_f16, 2, half)      \
    EACH(q2_bf16, 2, bfloat)   \
    EACH(q5_f32, 5, float)     \
    EACH(q5_f16, 5, half)      \
    EACH(q5_bf16, 5, bfloat)   \
    EACH(mxfp8, 8, E8M0)       \
    EACH(nvfp4, 4, E4M3)       \
    EACH(fp8, 8, PlainScale)   \
    EACH(fp4, 4, PlainScale)

// Stands beside small floats, which have no bias; a float beside integers.
struct PlainScale {
    float value;
};

METAL_FUNC GroupScale group_scale(device const PlainScale *scales, device const PlainScale *, uint g) {
    return {0.5f * scales[g].value, 0};
}

#define OB_NUMBER(name, bits, S) shared_##name,
enum SharedFormat { OB_SHARED_AFFINE(OB_NUMBER) };
#undef OB_NUMBER

// Returns the sixteen integers of a chunk, or twice what its codes stand for, as scales of S want it.
template <uint bits, typename S>
struct Codes {
    static METAL_FUNC Lanes of(device const uint *data, uint chunk) { return unpack<bits>(data, chunk); }
};
template <>
struct Codes<4, E4M3> {
    static METAL_FUNC Lanes of(device const uint *data, uint chunk) {
        return lanes_convert(lanes_e2m1(lanes_nibbles(data + 2 * chunk)));
    }
};
template <>
struct Codes<8, E8M0> {
    static METAL_FUNC Lanes of(device const uint *data, uint chunk) {
        device const uchar *p = (device const uchar *)(data + 4 * chunk);
        float twice[16];
        OB_UNROLL
        for (uint i = 0; i < 16; i++) twice[i] = 2 * e4m3_value(p[i]);
        return lanes_load(twice);
    }
};
template <>
struct Codes<8, PlainScale> : Codes<8, E8M0> {};
template <>
struct Codes<4, PlainScale> : Codes<4, E4M3> {};

// A row, whose scales may be of any type.
struct SharedAffineRow {
    device const uint *data;
    device const uchar *scales;
    device const uchar *biases;
    uint columns, group, type;

    enum { unit = 1 };
    METAL_FUNC uint group_chunks() const { return 1; }
    METAL_FUNC GroupScale scale(uint) const { return {1, 0}; }
    METAL_FUNC void unit_scales(uint, thread GroupScale *out) const { out[0] = {1, 0}; }
    METAL_FUNC Lanes lanes(uint chunk, uint, GroupScale) const;

    template <uint bits, typename S>
    METAL_FUNC Lanes chunk_of(uint chunk) const {
        GroupScale s = group_scale((device const S *)scales, (device const S *)biases, chunk / (group / 16));
        return scaled_and_biased(Codes<bits, S>::of(data, chunk), s);
    }
};

OB_SHARED Lanes shared_affine_lanes(SharedAffineRow row, uint chunk) {
#define OB_CASE(name, bits, S) \
    case shared_##name:        \
        return row.chunk_of<bits, S>(chunk);
    switch (row.type) { OB_SHARED_AFFINE(OB_CASE) }
#undef OB_CASE
    return lanes_splat(0);
}

METAL_FUNC Lanes SharedAffineRow::lanes(uint chunk, uint, GroupScale) const {
    return shared_affine_lanes(*this, chunk);
}

struct SharedAffine {
    typedef SharedAffineRow Row;
    Row first;
    uint words, scale_bytes;  // of a row

    METAL_FUNC Row row(ulong i) const {
        Row r = first;
        r.data += i * words;
        r.scales += i * scale_bytes;
        r.biases += i * scale_bytes;
        return r;
    }
};

#define OB_OF(name, bits, S)                                                                                 \
    template <>                                                                                              \
    struct AffineOf<bits, S> {                                                                               \
        typedef SharedAffine Matrix;                                                                         \
        static METAL_FUNC Matrix of(device const uint *data, device const S *scales, device const S *biases, \
                                    uint columns, uint group) {                                              \
            Matrix m;                                                                                        \
            m.first.data = data;                                                                             \
            m.first.scales = (device const uchar *)scales;                                                   \
            m.first.biases = (device const uchar *)biases;                                                   \
            m.first.columns = columns;                                                                       \
            m.first.group = group;                                                                           \
            m.first.type = shared_##name;                                                                    \
            m.words = columns / 16 * bits / 2;                                                               \
            m.scale_bytes = columns / group * sizeof(S);                                                     \
            return m;                                                                                        \
        }                                                                                                    \
    };
OB_SHARED_AFFINE(OB_OF)
#undef OB_OF

#endif
