// Pieces of a row, the unit in which a thread works on it: sixteen neighbouring floats on the processor, four on a GPU,
// whose threads are many.
#ifndef OB_PIECES_H
#define OB_PIECES_H

#include "reduce.h"

#ifdef __METAL_CPU__

#define OB_PIECE 16
typedef Lanes Piece;

METAL_FUNC Piece piece_splat(float x) { return lanes_splat(x); }
METAL_FUNC Piece piece_add(Piece a, Piece b) { return lanes_add(a, b); }
METAL_FUNC Piece piece_mul(Piece a, Piece b) { return lanes_mul(a, b); }
METAL_FUNC Piece piece_fma(Piece a, Piece b, Piece c) { return lanes_fma(a, b, c); }

template <bool whole, typename T>
METAL_FUNC Piece piece_read(device const T *p, uint i, uint n) {
    return lanes_read(p, i, n);
}

template <bool whole, typename T>
METAL_FUNC void piece_write(device T *p, uint i, uint n, Piece a) {
    lanes_write(p, i, n, a);
}

template <typename P>
METAL_FUNC bool pieces_aligned(P) {
    return true;
}

typedef LaneSum PieceSum;
METAL_FUNC PieceSum piece_sum_of_none() { return lane_sum_of_none(); }
METAL_FUNC void piece_sum_count(thread PieceSum &s) { lane_sum_count(s); }
METAL_FUNC float piece_sum_total(PieceSum s) { return lane_sum_total(s); }

#else

#define OB_PIECE 4
typedef metal::float4 Piece;

METAL_FUNC Piece piece_splat(float x) { return Piece(x); }
METAL_FUNC Piece piece_add(Piece a, Piece b) { return a + b; }
METAL_FUNC Piece piece_mul(Piece a, Piece b) { return a * b; }
METAL_FUNC Piece piece_fma(Piece a, Piece b, Piece c) { return metal::fma(a, b, c); }
METAL_FUNC float piece_total(Piece a) { return (a.x + a.z) + (a.y + a.w); }

METAL_FUNC Piece piece_load(device const float *p) { return *(device const metal::float4 *)p; }
METAL_FUNC Piece piece_load(device const half *p) { return Piece(*(device const metal::half4 *)p); }
METAL_FUNC Piece piece_load(device const bfloat *p) {
    metal::uint2 q = *(device const metal::uint2 *)p;
    return metal::as_type<Piece>(metal::uint4(q.x << 16, q.x & 0xFFFF0000u, q.y << 16, q.y & 0xFFFF0000u));
}

METAL_FUNC void piece_store(device float *p, Piece a) { *(device metal::float4 *)p = a; }
METAL_FUNC void piece_store(device bfloat *p, Piece a) {
    metal::uint2 q;
    q.x = uint(metal::as_type<ushort>(bfloat(a.x))) | uint(metal::as_type<ushort>(bfloat(a.y))) << 16;
    q.y = uint(metal::as_type<ushort>(bfloat(a.z))) | uint(metal::as_type<ushort>(bfloat(a.w))) << 16;
    *(device metal::uint2 *)p = q;
}

// Whether pieces from p on can be read and written at once.
template <typename T>
METAL_FUNC bool pieces_aligned(device const T *p) {
    return reinterpret_cast<ulong>(p) % (OB_PIECE * sizeof(T)) == 0;
}

// Returns elements i to i + 3 of the n elements at p, with zeros from n on. `whole`: p is aligned, and all four exist.
template <bool whole, typename T>
METAL_FUNC Piece piece_read(device const T *p, uint i, uint n) {
    if (whole) return piece_load(p + i);
    Piece r;
    OB_UNROLL
    for (uint c = 0; c < OB_PIECE; c++) r[c] = i + c < n ? float(p[i + c]) : 0.0f;
    return r;
}

// Writes elements i to i + 3 of the n elements at p; nothing is written from n on.
template <bool whole, typename T>
METAL_FUNC void piece_write(device T *p, uint i, uint n, Piece a) {
    if (whole) {
        piece_store(p + i, a);
        return;
    }
    OB_UNROLL
    for (uint c = 0; c < OB_PIECE && i + c < n; c++) p[i + c] = T(a[c]);
}

// A sum of pieces in one fixed order, as LaneSum is.
struct PieceSum {
    Piece block, group, total;
    uint count;
};

METAL_FUNC PieceSum piece_sum_of_none() { return {Piece(0), Piece(0), Piece(0), 0}; }

// Callers call this after each addition to s.block.
METAL_FUNC void piece_sum_count(thread PieceSum &s) {
    s.count++;
    if (s.count % 16 != 0) return;
    s.group = s.group + s.block;
    s.block = Piece(0);
    if (s.count % 256 != 0) return;
    s.total = s.total + s.group;
    s.group = Piece(0);
}

METAL_FUNC float piece_sum_total(PieceSum s) { return piece_total(s.total + (s.group + s.block)); }

#endif
#endif
