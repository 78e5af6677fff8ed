// Token embeddings, and the first dispatch of a run.
#include "args.h"
#include "reduce.h"
#include "weights.h"

using namespace metal;

// status[row] = 0: no step of this run has failed yet. status [rows]. Grid: 1 × rows.
// Pipeline.status() puts it first in a chain that has steps that can fail.
kernel void clear_status(device uint *status [[buffer(0)]], constant StatusArgs &args [[buffer(1)]],
                         uint3 at [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]]) {
    if (thread_index == 0 && at.y < args.rows) status[at.y] = 0;
}

// y[row, :] = weight[token[row], :] · scale. A token outside the vocabulary gives zeros: the row failed in an earlier
// run.
template <typename W>
OB_SHARED void embed_row(W weight, device const uint *tokens, device float *y, constant EmbedArgs &args, uint row,
                         Place place) {
    if (row >= args.rows) return;
    uint token = tokens[row];
    for (uint chunk = place.thread_index; 16 * chunk < args.dim; chunk += place.threads) {
        Lanes v = token < args.vocab ? row_lanes(weight.row(token), chunk) : lanes_splat(0);
        lanes_write(y + ulong(row) * args.dim, 16 * chunk, args.dim, lanes_mul(v, lanes_splat(args.scale)));
    }
}

// y[row, :] = weight[token[row], :] · scale. weight [vocab, dim], tokens [rows] u32, y [rows, dim] f32.
// One threadgroup per row. Step `embed`.
template <typename T>
kernel void embed(device const T *weight [[buffer(0)]], device const uint *tokens [[buffer(1)]],
                  device float *y [[buffer(2)]], constant EmbedArgs &args [[buffer(3)]],
                  uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    embed_row(matrix_of(weight, args.dim), tokens, y, args, at.y, OB_PLACE);
}

// `embed` for weights in MLX's affine format: packed integers, scales and biases.
template <uint bits, typename S>
kernel void embed_affine(device const uint *weight [[buffer(0)]], device const S *scales [[buffer(1)]],
                         device const S *biases [[buffer(2)]], device const uint *tokens [[buffer(3)]],
                         device float *y [[buffer(4)]], constant EmbedArgs &args [[buffer(5)]],
                         uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    embed_row(AffineOf<bits, S>::of(weight, scales, biases, args.dim, args.group_size), tokens, y, args, at.y,
              OB_PLACE);
}

#define OB_INSTANTIATE(name, T) template [[host_name("embed_" #name)]] kernel decltype(embed<T>) embed<T>;
OB_PLAIN_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE

#define OB_INSTANTIATE(name, bits, S) \
    template [[host_name("embed_" #name)]] kernel decltype(embed_affine<bits, S>) embed_affine<bits, S>;
OB_AFFINE_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE
