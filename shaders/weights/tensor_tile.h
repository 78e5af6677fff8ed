// A tile of sixteen outputs by the tensor cores of an NVIDIA GPU: the simdgroups of a threadgroup share the columns.
//
// Chunk number c of the columns is simdgroup c % shares's. A product is the sum of the shares' sums, in order, and
// each of these adds its chunks in order. So its bits depend on nothing but the weights and the row.
#ifndef OB_WEIGHTS_TENSOR_TILE_H
#define OB_WEIGHTS_TENSOR_TILE_H

#include "../early.h"
#include "tensor.h"

#define OB_TENSOR_SHARES (OB_AFFINE_THREADS / 32)  // of experts
#define OB_TENSOR_ROWS 32                          // of activations that a threadgroup multiplies with what it loads
#define OB_TENSOR_BUSY 256                         // threadgroups that keep a GPU busy
static_assert(OB_LINEAR_OUTPUTS == 16 && OB_LINEAR_ROWS == 4, "tiles of tensor cores");

// The sums of shares: [share][row][output] for each of M matrices.
template <uint M, uint shares>
struct TensorMemory {
    TensorStage<OB_LINEAR_ROWS> stages[shares];
    float sums[M][shares][OB_TENSOR_ROWS][OB_LINEAR_OUTPUTS];
};

// The rows of M matrices that make the outputs of a tile: this lane's two of each.
template <uint M, uint shares, typename Row, bool aligned>
struct TensorTile {
    typedef TensorRow<Row> Tensor;
    typedef TensorMemory<M, shares> Memory;
    Row rows[M][2];
    Tensor held[M];  // chunk number `number`
    uint chunks, number;

    METAL_FUNC void begin(uint columns) {
        chunks = columns / Tensor::chunk;
        number = chunks;
    }

    // Makes the sums of all shares for `count` ≤ OB_TENSOR_ROWS rows of activations, which x.row(r) gives. `early`: only
    // weights may be read before wait_for_kernels(), which this calls.
    template <bool early, typename X>
    METAL_FUNC void multiply(thread const X &x, uint count, threadgroup Memory &memory, Place place) {
        uint next = place.group;
        load(next, place);
        if (early) wait_for_kernels();
        const uint step = X::staged ? 2 * OB_LINEAR_ROWS : OB_LINEAR_ROWS;
        OB_ROLLED
        for (uint chunk = next; chunk < chunks; chunk = next) {
            next += shares;
            OB_ROLLED
            for (uint first = 0; first < count; first += step)
                multiply_rows<step / OB_LINEAR_ROWS>(x, first, metal::min(count - first, step), chunk, next, count,
                                                     memory, place);
        }
        metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    }

    METAL_FUNC void load(uint wanted, Place place) {
        if (wanted >= chunks || wanted == number) return;
        number = wanted;
        OB_UNROLL
        for (uint m = 0; m < M; m++) held[m].template load<aligned>(rows[m], wanted, place.lane);
    }

    // Multiplies a chunk with up to 4P rows; behind the last ones it loads chunk `next`, matrix by matrix.
    template <uint P, typename X>
    METAL_FUNC void multiply_rows(thread const X &x, uint first, uint some, uint chunk, uint next, uint count,
                                  threadgroup Memory &memory, Place place) {
        uint lane = place.lane;
        if constexpr (X::staged) {
            typename Tensor::Held parts[P];
            OB_UNROLL
            for (uint p = 0; p < P; p++) {
                uint row = metal::min(4 * p + lane / 8, some - 1), mine = metal::min(4 * p + lane % 4, some - 1);
                parts[p].read(x.rows, x.row(first + row), x.row(first + mine), chunk, lane);
            }
            add_products<P>(parts, first, some, chunk, next, count, memory, place);
        } else {
            threadgroup TensorStage<OB_LINEAR_ROWS> &stage = memory.stages[place.group];
            metal::metallib_barrier();
            OB_ROLLED
            for (uint r = 0; r < some; r++)
                stage_octet<Tensor, aligned>(x.row(first + r) + chunk * Tensor::chunk, r, stage, lane);
            metal::metallib_barrier();
            typename Tensor::template Staged<OB_LINEAR_ROWS> part = {stage, some, lane};
            add_products<1>(&part, first, some, chunk, next, count, memory, place);
        }
    }

    template <uint P, typename X>
    METAL_FUNC void add_products(thread const X *parts, uint first, uint some, uint chunk, uint next, uint count,
                                 threadgroup Memory &memory, Place place) {
        uint lane = place.lane;
        bool loads = first + P * OB_LINEAR_ROWS >= count && next < chunks;
        OB_UNROLL
        for (uint m = 0; m < M; m++) {
            float own[2 * P];
            held[m].template multiply<P>(parts, own);
            if (loads) held[m].template load<aligned>(rows[m], next, lane);
            OB_UNROLL
            for (uint i = 0; i < 2 * P; i++) {
                uint row = i / 2 * 4 + lane % 4;
                if (row >= some) continue;
                threadgroup float &sum = memory.sums[m][place.group][first + row][lane / 4 + 8 * (i % 2)];
                sum = chunk == place.group ? own[i] : sum + own[i];
            }
        }
        if (loads) number = next;
    }

    // The product of output `output` with row `row` of those that multiply() had.
    METAL_FUNC float product(uint m, uint row, uint output, threadgroup const Memory &memory) const {
        float sum = 0;
        OB_UNROLL
        for (uint share = 0; share < shares; share++) sum += share < chunks ? memory.sums[m][share][row][output] : 0.0f;
        return sum;
    }
};

// Rows of activations one behind another.
struct TensorInputs {
    enum { staged = 0 };
    device const float *x;
    ulong stride;
    METAL_FUNC TensorInputs from(ulong row) const { return {x + row * stride, stride}; }
    METAL_FUNC device const float *row(uint r) const { return x + r * stride; }
};

// The same, staged before, from row `first` on.
struct StagedInputs {
    enum { staged = 1 };
    StagedRows rows;
    ulong first;
    METAL_FUNC StagedInputs from(ulong row) const { return {rows, first + row}; }
    METAL_FUNC ulong row(uint r) const { return first + r; }
};

#endif
