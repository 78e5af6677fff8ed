// Projections: y = x · wᵀ, the weights in any stored format, activations in f32.
#include "args.h"
#include "reduce.h"
#include "weights.h"

using namespace metal;

// O outputs from `output` on, for R rows.
template <uint O, uint R, typename W>
METAL_FUNC void linear_block(W weight, device const float *x, device float *y, uint inputs, uint outputs, uint output,
                             uint width, Place place) {
    typename W::Row rows[O];
    float sums[O * R];
    for (uint o = 0; o < O; o++) rows[o] = weight.row(output + o);
    dots<O, R>(rows, inputs_of<R>(x, inputs), place.lane, width, sums);
    for (uint o = 0; o < O; o++) {
        for (uint r = 0; r < R; r++) {
            float sum = simd_sum(sums[o * R + r]);
            if (place.lane == 0) y[ulong(r) * outputs + output + o] = sum;
        }
    }
}

// A tile of OB_LINEAR_OUTPUTS outputs for OB_LINEAR_ROWS rows: simdgroups share the outputs, lanes
// the inputs. A row's result is the same whether it is computed with others or alone.
template <typename W>
METAL_FUNC void linear_tile(W weight, device const float *x, device float *y, uint rows, uint inputs, uint outputs,
                            uint tile, uint row_tile, Place place) {
    uint first = row_tile * OB_LINEAR_ROWS;
    if (first >= rows) return;
    uint count = min(uint(OB_LINEAR_ROWS), rows - first);
    uint end = min((tile + 1) * OB_LINEAR_OUTPUTS, outputs);
    uint width = place.threads / place.groups;
    x += ulong(first) * inputs;
    y += ulong(first) * outputs;
    uint block = OB_LINEAR_BLOCK;  // outputs that share what is read of x
    for (uint output = tile * OB_LINEAR_OUTPUTS + block * place.group; output < end; output += block * place.groups) {
        bool whole = output + block <= end;
        uint last = min(output + block, end);
        if (count == OB_LINEAR_ROWS) {
            for (uint o = output; o < last; o++) {
                linear_block<1, OB_LINEAR_ROWS>(weight, x, y, inputs, outputs, o, width, place);
            }
            continue;
        }
        for (uint r = 0; r < count; r++) {
            device const float *row = x + ulong(r) * inputs;
            device float *out = y + ulong(r) * outputs;
            if (whole) {
                linear_block<OB_LINEAR_BLOCK, 1>(weight, row, out, inputs, outputs, output, width, place);
            } else {
                for (uint o = output; o < last; o++) linear_block<1, 1>(weight, row, out, inputs, outputs, o, width, place);
            }
        }
    }
}

// weight [outputs, inputs], x [rows, inputs], y [rows, outputs]. Grid: output tiles × row tiles.
template <typename T>
kernel void linear(device const T *weight [[buffer(0)]], device const float *x [[buffer(1)]],
                   device float *y [[buffer(2)]], constant LinearArgs &args [[buffer(3)]],
                   uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    linear_tile(Plain<T>(weight, args.inputs), x, y, args.rows, args.inputs, args.outputs, at.x, at.y, OB_PLACE);
}

template <uint bits, typename S>
kernel void linear_affine(device const uint *weight [[buffer(0)]], device const S *scales [[buffer(1)]],
                          device const S *biases [[buffer(2)]], device const float *x [[buffer(3)]],
                          device float *y [[buffer(4)]], constant LinearArgs &args [[buffer(5)]],
                          uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    linear_tile(Affine<bits, S>(weight, scales, biases, args.inputs, args.group_size), x, y, args.rows, args.inputs,
                args.outputs, at.x, at.y, OB_PLACE);
}

// Three matrices over one input, such as query, key and value, in one dispatch. Tiles of the first
// come first.
METAL_FUNC uint tiles(uint outputs) { return (outputs + OB_LINEAR_OUTPUTS - 1) / OB_LINEAR_OUTPUTS; }

template <typename T>
kernel void linear3(device const T *weight0 [[buffer(0)]], device const T *weight1 [[buffer(1)]],
                    device const T *weight2 [[buffer(2)]], device const float *x [[buffer(3)]],
                    device float *y0 [[buffer(4)]], device float *y1 [[buffer(5)]], device float *y2 [[buffer(6)]],
                    constant Linear3Args &args [[buffer(7)]], uint3 at [[threadgroup_position_in_grid]],
                    OB_PLACE_PARAMETERS) {
    uint tile = at.x, tiles0 = tiles(args.outputs0), tiles1 = tiles(args.outputs1);
    device const T *weight = tile < tiles0 ? weight0 : tile < tiles0 + tiles1 ? weight1 : weight2;
    device float *y = tile < tiles0 ? y0 : tile < tiles0 + tiles1 ? y1 : y2;
    uint outputs = tile < tiles0 ? args.outputs0 : tile < tiles0 + tiles1 ? args.outputs1 : args.outputs2;
    tile -= tile < tiles0 ? 0 : tile < tiles0 + tiles1 ? tiles0 : tiles0 + tiles1;
    linear_tile(Plain<T>(weight, args.inputs), x, y, args.rows, args.inputs, outputs, tile, at.y, OB_PLACE);
}

template <uint bits, typename S>
kernel void linear3_affine(device const uint *weight0 [[buffer(0)]], device const S *scales0 [[buffer(1)]],
                           device const S *biases0 [[buffer(2)]], device const uint *weight1 [[buffer(3)]],
                           device const S *scales1 [[buffer(4)]], device const S *biases1 [[buffer(5)]],
                           device const uint *weight2 [[buffer(6)]], device const S *scales2 [[buffer(7)]],
                           device const S *biases2 [[buffer(8)]], device const float *x [[buffer(9)]],
                           device float *y0 [[buffer(10)]], device float *y1 [[buffer(11)]],
                           device float *y2 [[buffer(12)]], constant Linear3Args &args [[buffer(13)]],
                           uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    uint tile = at.x, tiles0 = tiles(args.outputs0), tiles1 = tiles(args.outputs1);
    device const uint *weight = tile < tiles0 ? weight0 : tile < tiles0 + tiles1 ? weight1 : weight2;
    device const S *scales = tile < tiles0 ? scales0 : tile < tiles0 + tiles1 ? scales1 : scales2;
    device const S *biases = tile < tiles0 ? biases0 : tile < tiles0 + tiles1 ? biases1 : biases2;
    device float *y = tile < tiles0 ? y0 : tile < tiles0 + tiles1 ? y1 : y2;
    uint outputs = tile < tiles0 ? args.outputs0 : tile < tiles0 + tiles1 ? args.outputs1 : args.outputs2;
    tile -= tile < tiles0 ? 0 : tile < tiles0 + tiles1 ? tiles0 : tiles0 + tiles1;
    linear_tile(Affine<bits, S>(weight, scales, biases, args.inputs, args.group_size), x, y, args.rows, args.inputs,
                outputs, tile, at.y, OB_PLACE);
}

#define OB_INSTANTIATE(name, T)                                                     \
    template [[host_name("linear_" #name)]] kernel decltype(linear<T>) linear<T>;   \
    template [[host_name("linear3_" #name)]] kernel decltype(linear3<T>) linear3<T>;
OB_PLAIN_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE

#define OB_INSTANTIATE(name, bits, S)                                                                           \
    template [[host_name("linear_" #name)]] kernel decltype(linear_affine<bits, S>) linear_affine<bits, S>;     \
    template [[host_name("linear3_" #name)]] kernel decltype(linear3_affine<bits, S>) linear3_affine<bits, S>;
OB_AFFINE_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE
