// MLX's quantisation (mlx.core.quantize). Columns are whole groups, integers are packed lowest bits first.
//
//   affine, 3, 4, 6 or 8 bits   w = q · scale + bias for each group of 32, 64 or 128
//   mxfp4                       w = E2M1 code · 2^(e - 127) for each 32 (OCP Microscaling Formats 1.0)
#ifndef OB_WEIGHTS_AFFINE_H
#define OB_WEIGHTS_AFFINE_H

#include "scale.h"

// A power of two: 2^(e - 127), or infinity for 255.
struct E8M0 {
    uchar e;
};

template <typename S>
METAL_FUNC GroupScale group_scale(device const S *scales, device const S *biases, uint g) {
    return group_scale(float(scales[g]), float(biases[g]));
}

METAL_FUNC GroupScale group_scale(device const E8M0 *scales, device const E8M0 *, uint g) {
    uint e = scales[g].e;
    return group_scale(e == 255 ? INFINITY : half_power(e), 0);
}

// Words that follow each other as one number, lowest first.
METAL_FUNC ulong wide(device const ushort *p, uint i) { return ulong(p[i]) | ulong(p[i + 1]) << 16 | ulong(p[i + 2]) << 32; }

// The integers of a chunk.
template <uint bits>
METAL_FUNC Lanes unpack(device const uint *words, uint chunk) {
    if (bits == 4) return lanes_unpack4(words + 2 * chunk);
    if (bits == 8) return lanes_unpack8(words + 4 * chunk);
    device const ushort *p = (device const ushort *)words + bits * chunk;
    ulong low = wide(p, 0), high = bits == 3 ? low >> 24 : wide(p, bits - 3);
    return lanes_convert(lanes_spread<bits == 3 ? 3 : 6>(low, high));
}

template <uint bits, typename S>
struct AffineRow {
    device const uint *data;
    device const S *scales;
    device const S *biases;
    uint columns, group;

    METAL_FUNC uint group_chunks() const { return group / 16; }
    METAL_FUNC GroupScale scale(uint g) const { return group_scale(scales, biases, g); }
    METAL_FUNC Lanes lanes(uint chunk, GroupScale s) const { return lanes_fma(unpack<bits>(data, chunk), s.scale, s.bias); }
};

template <>
struct AffineRow<4, E8M0> {
    device const uint *data;
    device const E8M0 *scales;
    device const E8M0 *biases;
    uint columns, group;

    METAL_FUNC uint group_chunks() const { return 2; }
    METAL_FUNC GroupScale scale(uint g) const { return group_scale(scales, biases, g); }
    METAL_FUNC Lanes lanes(uint chunk, GroupScale s) const {
        device const uint *p = data + 2 * chunk;
        return lanes_mul(lanes_convert(lanes_e2m1(lanes_spread<4>(p[0], p[1]))), s.scale);
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

#endif
