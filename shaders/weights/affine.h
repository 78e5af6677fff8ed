// MLX's quantisation (mlx.core.quantize). A row is a whole number of groups. Integers are packed lowest bits first.
//
//   affine, 2 to 6 or 8 bits   w = q · scale + bias for each group of 32, 64 or 128
//   mxfp4                      w = E2M1 code · 2^(e - 127) for each 32 (OCP Microscaling Formats 1.0)
//   mxfp8                      w = E4M3 number · 2^(e - 127) for each 32 (the same)
//   nvfp4                      w = E2M1 code · E4M3 scale for each 16
#ifndef OB_WEIGHTS_AFFINE_H
#define OB_WEIGHTS_AFFINE_H

#include "scale.h"

// A scale that is a power of two: 2^(e - 127), or infinity for e = 255.
struct E8M0 {
    uchar e;
};

// An E4M3 number: a sign, four bits of exponent and three of mantissa.
struct E4M3 {
    uchar bits;
};

// Returns it. There is no infinity, and of the largest exponent only the last number is NaN. Where they stand, its bits are
// a half that counts 2^-8.
METAL_FUNC float e4m3_value(uint bits) {
    if ((bits & 127) == 127) return NAN;
    return 256.0f * stored_value(metal::as_type<half>(ushort((bits & 127) << 7 | (bits & 128) << 8)));
}

template <typename S>
METAL_FUNC GroupScale group_scale(device const S *scales, device const S *biases, uint g) {
    return {stored_value(scales[g]), stored_value(biases[g])};
}

METAL_FUNC GroupScale group_scale(device const E8M0 *scales, device const E8M0 *, uint g) {
    uint e = scales[g].e;
    return {e == 0 ? half_power(0) : 0.5f * metal::as_type<float>(e << 23), 0};  // half: lanes_e2m1 doubles the value
}

METAL_FUNC GroupScale group_scale(device const E4M3 *scales, device const E4M3 *, uint g) {
    return {0.5f * e4m3_value(scales[g].bits), 0};
}

// Returns the sixteen integers of a chunk.
template <uint bits>
METAL_FUNC Lanes unpack(device const uint *words, uint chunk) {
    if (bits == 4) return lanes_unpack4(words + 2 * chunk);
    if (bits == 8) return lanes_unpack8(words + 4 * chunk);
    if (bits == 6) {
        device const uint *p = words + 3 * chunk;
        return lanes_convert(lanes_spread<6>(p[0] | ulong(p[1]) << 32, p[1] >> 16 | ulong(p[2]) << 16));
    }
    if (bits == 2) return lanes_convert(lanes_spread<2>(words[chunk], words[chunk] >> 16));
    if (bits == 5) {
        device const ushort *p = (device const ushort *)words + 5 * chunk;
        ulong low = ulong(p[0] | uint(p[1]) << 16) | ulong(p[2]) << 32, high = p[3] | uint(p[4]) << 16;
        return lanes_convert(lanes_spread<5>(low, high << 8 | p[2] >> 8));
    }
    device const ushort *p = (device const ushort *)words + 3 * chunk;
    ulong all = ulong(p[0] | uint(p[1]) << 16) | ulong(p[2]) << 32;
    return lanes_convert(lanes_spread<3>(all, all >> 24));
}

template <uint bits, typename S>
struct AffineRow {
    device const uint *data;
    device const S *scales;
    device const S *biases;
    uint columns, group;

    enum { unit = 1 };
    METAL_FUNC uint group_chunks() const { return group / 16; }
    METAL_FUNC GroupScale scale(uint g) const { return group_scale(scales, biases, g); }
    METAL_FUNC void unit_scales(uint u, thread GroupScale *out) const { out[0] = scale(u); }
    METAL_FUNC Lanes lanes(uint g, uint c, GroupScale s) const {
        return scaled_and_biased(unpack<bits>(data, g * (group / 16) + c), s);
    }
};

template <>
struct AffineRow<4, E8M0> {
    device const uint *data;
    device const E8M0 *scales;
    device const E8M0 *biases;
    uint columns, group;

    enum { unit = 1 };
    METAL_FUNC uint group_chunks() const { return 2; }
    METAL_FUNC GroupScale scale(uint g) const { return group_scale(scales, biases, g); }
    METAL_FUNC void unit_scales(uint u, thread GroupScale *out) const { out[0] = scale(u); }
    METAL_FUNC Lanes lanes(uint g, uint c, GroupScale s) const {
        return scaled(lanes_convert(lanes_e2m1(lanes_nibbles(data + 4 * g + 2 * c))), s);
    }
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

// A kernel's matrix of the format, from its bindings.
template <uint bits, typename S>
struct AffineOf {
    typedef Affine<bits, S> Matrix;
    static METAL_FUNC Matrix of(device const uint *data, device const S *scales, device const S *biases, uint columns,
                                uint group) {
        return Matrix(data, scales, biases, columns, group);
    }
};

#endif
