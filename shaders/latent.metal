// Latent attention (DeepSeek-AI 2024): all heads share one compressed row of keys and values per position. The matrix
// from that row to a head's keys is absorbed into the queries; the matrix to its values follows the weighted sum.
#include "args.h"
#include "cache.h"
#include "weights.h"

using namespace metal;

// Numbers turned by their position: number i turns with number i + half_dim, or, interleaved, with its neighbour.
struct Turned {
    device const float *x;
    device const float *table;
    uint half_dim;
    bool interleaved;

    METAL_FUNC float at(uint i) const {
        uint pair = interleaved ? i / 2 : i % half_dim, step = interleaved ? 1 : half_dim;
        uint first = interleaved ? 2 * pair : pair;
        float a = x[first], b = x[first + step], c = table[pair], s = table[half_dim + pair];
        return i == first ? a * c - b * s : b * c + a * s;
    }
};

// A row of the cache: first the normed compressed numbers, then the numbers that turn.
template <typename T>
struct LatentRow {
    device const float *x;
    device const T *weight;
    float scale;
    uint rank;
    Turned turned;

    METAL_FUNC float at(uint i) const { return i < rank ? x[i] * scale * float(weight[i]) : turned.at(i - rank); }
};

// The cache's row of (slot, position) = norm(kv[: rank]) · weight, then turn(kv[rank :]);
// q_out[head, rank :] = turn(q[head, nope :]).
// Per row: kv [rank + 2 · half_dim], q [heads, nope + 2 · half_dim], q_out [heads, rank + 2 · half_dim].
// cache [blocks, 1, OB_CACHE_BLOCK, rank + 2 · half_dim] of C, blocks [slots, width] (cache.h). One threadgroup per row,
// one simdgroup per head.
// A row whose slot, position or block the cache does not have fails with `step` and changes nothing there.
// Step `latent_to_cache`.
template <typename T, typename C>
kernel void latent_to_cache(device const float *q [[buffer(0)]], device const float *kv [[buffer(1)]],
                            device const T *norm [[buffer(2)]], device const float *table [[buffer(3)]],
                            device const uint *slots [[buffer(4)]], device const uint *positions [[buffer(5)]],
                            device const uint *blocks [[buffer(6)]], device float *q_out [[buffer(7)]],
                            device C *cache [[buffer(8)]], device atomic_uint *status [[buffer(9)]],
                            constant LatentArgs &args [[buffer(10)]], uint3 at [[threadgroup_position_in_grid]],
                            OB_PLACE_PARAMETERS) {
    Place place = OB_PLACE;
    uint row = at.y, turns = 2 * args.half_dim, dim = args.rank + turns;
    if (row >= args.rows) return;
    device const float *turn = table + ulong(row) * turns;
    bool interleaved = args.interleaved != 0;
    for (uint head = place.group; head <= args.heads; head += place.groups) {
        if (head < args.heads) {
            ulong query = ulong(row) * args.heads + head;
            Turned turned = {q + query * (args.nope + turns) + args.nope, turn, args.half_dim, interleaved};
            cache_store_row(q_out + query * dim + args.rank, turned, turns, place);
        } else {
            uint position = positions[row], block = cache_block(blocks, slots[row], position, false, args);
            if (block == OB_NONE) {
                if (place.lane == 0) fail_row(status, row, args.step);
                continue;
            }
            device const float *x = kv + ulong(row) * dim;
            LatentRow<T> latent = {x,
                                   norm,
                                   norm_scale(x, args.rank, args.eps, place),
                                   args.rank,
                                   {x + args.rank, turn, args.half_dim, interleaved}};
            ulong to = ulong(block) * OB_CACHE_BLOCK + position % OB_CACHE_BLOCK;
            cache_store_row(cache + to * cache_row(cache, dim), latent, dim, place);
        }
    }
}

// Computes rows `first` … first + R - 1 of one head. The order of additions is the same for every R.
template <uint R, typename W>
METAL_FUNC void head_rows(W weight, device const float *x, device float *y, uint first, uint head,
                          constant HeadLinearArgs &args, Place place) {
    ulong x_row = ulong(args.heads) * args.x_head, y_row = ulong(args.heads) * args.y_head;
    ulong base = ulong(head) * args.head_rows + args.first_row;
    x += first * x_row + ulong(head) * args.x_head;
    y += first * y_row + ulong(head) * args.y_head;
    if (args.transposed) {
        for (uint i = 16 * place.thread_index; i < args.outputs; i += 16 * place.threads) {
            Lanes acc[R];
            for (uint r = 0; r < R; r++) acc[r] = lanes_splat(0);
            for (uint j = 0; j < args.inputs; j++) {
                Lanes w = row_lanes(weight.row(base + j), i / 16);
                for (uint r = 0; r < R; r++) acc[r] = lanes_fma(w, lanes_splat(x[r * x_row + j]), acc[r]);
            }
            for (uint r = 0; r < R; r++) lanes_write(y + r * y_row, i, args.outputs, acc[r]);
        }
        return;
    }
    for (uint o = place.group; o < args.outputs; o += place.groups) {
        typename W::Row rows[1] = {weight.row(base + o)};
        float sums[R];
        dots<1, R>(rows, inputs_of<R>(x, x_row), place.lane, place.threads / place.groups, sums);
        for (uint r = 0; r < R; r++) {
            float sum = simd_sum(sums[r]);
            if (place.lane == 0) y[r * y_row + o] = sum;
        }
    }
}

// Computes a tile of OB_LINEAR_ROWS rows of one head.
template <typename W>
OB_SHARED void head_tile(W weight, device const float *x, device float *y, uint head, uint tile,
                         constant HeadLinearArgs &args, Place place) {
    uint first = tile * OB_LINEAR_ROWS;
    if (first >= args.rows) return;
    if (args.rows - first >= OB_LINEAR_ROWS) {
        head_rows<OB_LINEAR_ROWS>(weight, x, y, first, head, args, place);
    } else {
        for (uint r = first; r < args.rows; r++) head_rows<1>(weight, x, y, r, head, args, place);
    }
}

// y[row, head, o] = w[head, o, :] · x[row, head, :], or transposed
// y[row, head, c] = Σ_i x[row, head, i] · w[head, i, c].
// weight [heads · head_rows, columns], x [rows, heads, x_head], y [rows, heads, y_head]. Grid: heads × row tiles.
// Step `latent_attention`.
template <typename T>
kernel void head_linear(device const T *weight [[buffer(0)]], device const float *x [[buffer(1)]],
                        device float *y [[buffer(2)]], constant HeadLinearArgs &args [[buffer(3)]],
                        uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    head_tile(matrix_of(weight, args.columns), x, y, at.x, at.y, args, OB_PLACE);
}

// `head_linear` for weights in MLX's affine format: packed integers, scales and biases.
template <uint bits, typename S>
kernel void head_linear_affine(device const uint *weight [[buffer(0)]], device const S *scales [[buffer(1)]],
                               device const S *biases [[buffer(2)]], device const float *x [[buffer(3)]],
                               device float *y [[buffer(4)]], constant HeadLinearArgs &args [[buffer(5)]],
                               uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    head_tile(AffineOf<bits, S>::of(weight, scales, biases, args.columns, args.group_size), x, y, at.x, at.y, args,
              OB_PLACE);
}

#define OB_INSTANTIATE(name, T) \
    template [[host_name("head_linear_" #name)]] kernel decltype(head_linear<T>) head_linear<T>;
OB_PLAIN_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE

#define OB_INSTANTIATE(name, bits, S) \
    template                          \
        [[host_name("head_linear_" #name)]] kernel decltype(head_linear_affine<bits, S>) head_linear_affine<bits, S>;
OB_AFFINE_FORMATS(OB_INSTANTIATE)
#undef OB_INSTANTIATE

// T is the type of the norm's weights, C that of the cache.
#define OB_INSTANTIATE(name, T, C) \
    template [[host_name("latent_to_cache_" #name)]] kernel decltype(latent_to_cache<T, C>) latent_to_cache<T, C>;
OB_INSTANTIATE(f32_f32, float, float)
OB_INSTANTIATE(f16_f32, half, float)
OB_INSTANTIATE(bf16_f32, bfloat, float)
OB_INSTANTIATE(f32_f16, float, half)
OB_INSTANTIATE(f16_f16, half, half)
OB_INSTANTIATE(bf16_f16, bfloat, half)
OB_INSTANTIATE(f32_q8, float, char)
OB_INSTANTIATE(f16_q8, half, char)
OB_INSTANTIATE(bf16_q8, bfloat, char)
