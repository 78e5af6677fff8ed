// The expert kernels share this code, whether they work row by row or expert by expert.
#ifndef OB_EXPERTS_H
#define OB_EXPERTS_H

#include "epilogue.h"
#include "reduce.h"
#include "weights.h"

// The biases of gate and up, each [experts, outputs].
struct Biases {
    device const ushort *gate, *up;
};

// Adds the biases to the products of gate and up with an input, and joins them.
template <typename A>
METAL_FUNC float activated(float gate, float up, Biases biases, uint expert, uint output, constant A &args) {
    ulong i = ulong(expert) * args.outputs + output;
    return activate(add_bias(gate, biases.gate, args.bias, i), add_bias(up, biases.up, args.bias, i), args.activation);
}

#ifdef __METAL_CUDA__
// The tile of gate and up that makes outputs begin … end - 1 of an expert.
template <typename W, bool aligned>
struct GateUpTile : TensorTile<2, OB_TENSOR_SHARES, typename W::Row, aligned> {
    METAL_FUNC GateUpTile(W gate, W up, uint expert, uint begin, uint end, constant ExpertArgs &args, Place place) {
        for (uint i = 0; i < 2; i++) {
            uint output = metal::min(begin + place.lane / 4 + 8 * i, end - 1);
            ulong row = ulong(expert) * args.expert_rows + output * args.row_step;
            this->rows[0][i] = gate.row(row);
            this->rows[1][i] = up.row(row);
        }
        this->begin(args.inputs);
    }
};

template <typename W>
METAL_FUNC bool tensors_fit(W weight, Place place) {
    return TensorRow<typename W::Row>::fits(weight.row(0)) && place.groups == OB_TENSOR_SHARES;
}
template <typename W>
METAL_FUNC bool tensors_aligned(W weight, device const float *x) {
    return TensorRow<typename W::Row>::is_aligned(weight.row(0)) && is_aligned(x);
}
#endif

// Returns sum + weight · product. Experts are added one after another, in the order of a row's ids.
METAL_FUNC float add_expert(float sum, float weight, float product) { return metal::fma(weight, product, sum); }

#endif
