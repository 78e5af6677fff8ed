// Eight neighbouring numbers of a row of the KV cache, as they are stored: they become floats where they are used.
#ifndef OB_CACHE_EIGHT_H
#define OB_CACHE_EIGHT_H

#include "attention.h"

template <typename C>
struct CacheEight;

template <>
struct CacheEight<half> {
    metal::uint4 q;

    METAL_FUNC void clear() thread { q = metal::uint4(0); }
    // Reads numbers i to i + 7 of a row of `dim`, with zeros from `end` on. `whole`: they are aligned, and all exist.
    template <bool whole>
    METAL_FUNC void read(device const half *row, uint i, uint end, uint) thread {
        if (whole) {
            q = *(device const metal::uint4 *)(row + i);
            return;
        }
        OB_UNROLL
        for (uint c = 0; c < 8; c++) {
            uint bits = i + c < end ? uint(metal::as_type<ushort>(row[i + c])) : 0;
            q[c / 2] |= bits << (16 * (c % 2));
        }
    }
    // Returns numbers 4j to 4j + 3.
    METAL_FUNC metal::float4 four(uint j) const thread {
        metal::half2 a = metal::as_type<metal::half2>(q[2 * j]), b = metal::as_type<metal::half2>(q[2 * j + 1]);
        return metal::float4(float(a.x), float(a.y), float(b.x), float(b.y));
    }
};

template <>
struct CacheEight<float> {
    metal::float4 a, b;

    METAL_FUNC void clear() thread { a = b = metal::float4(0); }
    template <bool whole>
    METAL_FUNC void read(device const float *row, uint i, uint end, uint) thread {
        if (whole) {
            a = *(device const metal::float4 *)(row + i);
            b = *(device const metal::float4 *)(row + i + 4);
            return;
        }
        OB_UNROLL
        for (uint c = 0; c < 4; c++) a[c] = i + c < end ? row[i + c] : 0.0f;
        OB_UNROLL
        for (uint c = 0; c < 4; c++) b[c] = i + 4 + c < end ? row[i + 4 + c] : 0.0f;
    }
    METAL_FUNC metal::float4 four(uint j) const thread { return j == 0 ? a : b; }
};

// A q8 row: all eight have one scale. Integers are kept with 128 added.
template <>
struct CacheEight<char> {
    metal::uint2 q;
    float scale;

    METAL_FUNC void clear() thread {
        q = metal::uint2(0x80808080u);
        scale = 0;
    }
    template <bool whole>
    METAL_FUNC void read(device const char *row, uint i, uint end, uint dim) thread {
        scale = float(((device const half *)row)[i / OB_CACHE_GROUP]);
        device const char *integers = row + 2 * cache_groups(dim) + i;
        if (whole) {
            q.x = *(device const uint *)integers ^ 0x80808080u;
            q.y = *(device const uint *)(integers + 4) ^ 0x80808080u;
            return;
        }
        OB_UNROLL
        for (uint c = 0; c < 8; c++) {
            uint bits = i + c < end ? uint(uchar(integers[c])) : 0;
            q[c / 4] ^= bits << (8 * (c % 4));
        }
    }
    // An integer's bits become the last ones of the mantissa of a number above 2²³.
    METAL_FUNC metal::float4 four(uint j) const thread {
        uint w = q[j];
        metal::uint4 bits = metal::uint4(w & 0xFF, (w >> 8) & 0xFF, (w >> 16) & 0xFF, w >> 24) | 0x4B000000u;
        return (metal::as_type<metal::float4>(bits) - metal::float4(0x1p23f + 128)) * scale;
    }
};

template <typename P>
METAL_FUNC bool is_multiple(P p, uint bytes) {
    return reinterpret_cast<ulong>(p) % bytes == 0;
}

// Whether all eights of queries, keys, values and results are aligned and whole.
template <typename C>
METAL_FUNC bool cache_whole(AttentionHeads<C> all, constant AttentionArgs &args) {
    return (args.head_dim | args.v_dim | args.v_row) % 8 == 0 && is_multiple(all.q, 16) && is_multiple(all.keys, 16) &&
           is_multiple(all.values, 16) && is_multiple(all.y, 16);
}
METAL_FUNC bool cache_whole(AttentionHeads<char> all, constant AttentionArgs &args) {
    uint groups = cache_groups(args.head_dim) | cache_groups(args.v_row);
    return (args.head_dim | args.v_dim) % 8 == 0 && groups % 2 == 0 && is_multiple(all.q, 16) &&
           is_multiple(all.keys, 4) && is_multiple(all.values, 4) && is_multiple(all.y, 16);
}

#endif
