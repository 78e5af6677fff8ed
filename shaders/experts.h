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
METAL_FUNC float activated(float gate, float up, Biases biases, uint expert, uint output, constant ExpertArgs &args) {
    ulong i = ulong(expert) * args.outputs + output;
    return activate(add_bias(gate, biases.gate, args.bias, i), add_bias(up, biases.up, args.bias, i), args.activation);
}

// Returns sum + weight · product. Experts are added one after another, in the order of a row's ids.
METAL_FUNC float add_expert(float sum, float weight, float product) { return metal::fma(weight, product, sum); }

#endif
