// The epilogue changes a finished product before it is written: bias, gate, scale, softcap, addition; and it joins the
// products of gate and up.
//
// All of this is chosen at run time. It happens once per output, so it costs little, and kernels need to be compiled
// only per weight format.
#ifndef OB_EPILOGUE_H
#define OB_EPILOGUE_H

#include "args.h"
#include "lanes.h"

// Returns element i of a bias of the stored type `type`.
METAL_FUNC float bias_at(device const ushort *bias, uint type, ulong i) {
    if (type == OB_STORED_F32) return ((device const float *)bias)[i];
    if (type == OB_STORED_F16) return float(((device const half *)bias)[i]);
    return float(((device const bfloat *)bias)[i]);
}

METAL_FUNC float add_bias(float x, device const ushort *bias, uint type, ulong i) {
    return type == OB_NOT_STORED ? x : x + bias_at(bias, type, i);
}

// Returns x · σ(s).
METAL_FUNC float gated(float x, float s) { return x / (1.0f + metal::exp(-s)); }

// Returns the smaller of x and `most`; NaN stays NaN.
METAL_FUNC float at_most(float x, float most) { return x > most ? most : x; }

// Joins gate and up. gelu by the tanh formula, x · (1 + tanh(u)) / 2, equals x · σ(2u).
METAL_FUNC float activate(float gate, float up, uint activation) {
    if (activation == OB_SILU) return gated(gate, gate) * up;
    if (activation == OB_GELU_TANH) {
        float cube = gate * gate * gate;
        return gated(gate, 1.5957691216057308f * metal::fma(0.044715f, cube, gate)) * up;
    }
    if (activation == OB_GATE_ALONE) return gate;
    if (activation == OB_RELU) return gate < 0 ? 0 : gate * up;
    gate = at_most(gate, OB_SWIGLU_LIMIT);
    up = -at_most(-at_most(up, OB_SWIGLU_LIMIT), OB_SWIGLU_LIMIT);
    return gated(gate, OB_SWIGLU_ALPHA * gate) * (up + 1.0f);
}

// The destination of a projection's products: y[row, output] = add[row, output] + softcap(scale · σ(gate[row]) ·
// (product + bias[output])), softcap(v) = c · tanh(v / c). Each part may be left out.
struct Output {
    device float *y;
    device const ushort *bias;
    device const float *add, *gate;
    uint outputs, bias_type;
    float scale, softcap;
};

METAL_FUNC Output output_of(device float *y, device const ushort *bias, uint bias_type, uint outputs) {
    Output out;
    out.y = y;
    out.bias = bias;
    out.add = out.gate = nullptr;
    out.outputs = outputs;
    out.bias_type = bias_type;
    out.scale = 1;
    out.softcap = 0;
    return out;
}

METAL_FUNC void write_output(thread const Output &out, uint row, uint output, float product) {
    ulong i = ulong(row) * out.outputs + output;
    float v = add_bias(product, out.bias, out.bias_type, output);
    if (out.gate != nullptr) v = gated(v, out.gate[row]);
    float scale = out.scale;
    if (out.softcap > 0) {
        v *= scale;
        v = metal::tanh(v / out.softcap) + v * 0.0f;  // capped, ±inf would look like a number
        scale = out.softcap;
    }
    out.y[i] = out.add != nullptr ? metal::fma(v, scale, out.add[i]) : v * scale;
}

// Returns element i of n, which is not a constant; an index would move the array to memory.
template <uint n>
METAL_FUNC float sum_at(thread const float *sums, uint i) {
    float sum = sums[0];
    OB_UNROLL
    for (uint k = 1; k < n; k++) sum = i == k ? sums[k] : sum;
    return sum;
}

#endif
