// The selective state space model of Mamba-2.
#include "recurrent_rows.h"

using namespace metal;

// What a head reads of a row (StateRow): its key is B, its query C.
struct ScanInputs {
    enum { corrects = 0 };
    device const float *x, *dt, *slope, *shift;
    device float *y;
    constant ScanArgs &args;
    uint head, key_dim;
    float eps, scale, skip;

    METAL_FUNC uint width() const { return args.heads * args.head_dim; }
    METAL_FUNC device const float *row_of(uint row) const {
        return x + ulong(row) * (width() + 2 * args.groups * key_dim);
    }
    METAL_FUNC device const float *key(uint row) const {
        return row_of(row) + width() + head / (args.heads / args.groups) * key_dim;
    }
    METAL_FUNC device const float *query(uint row) const { return key(row) + args.groups * key_dim; }
    METAL_FUNC device const float *values(uint row) const { return row_of(row) + head * args.head_dim; }
    METAL_FUNC device float *result(uint row) const { return y + ulong(row) * width() + head * args.head_dim; }
    METAL_FUNC Step step(uint row) const {
        float t = softplus(dt[ulong(row) * args.dt_row + args.dt_first + head] + shift[head]);
        t = isnan(t) ? t : min(max(t, args.least), args.most);
        return {exp(slope[head] * t), t};
    }
};

// Mamba-2 (Dao & Gu 2024). For each position t of a sequence and each head, with B and C of its group:
//   dt = softplus(dt_t + shift), limited; S = exp(slope · dt) · S + dt · x_t B_tᵀ; y_t = S C_t + skip · x_t
// x [rows, heads · head_dim + 2 · groups · state_dim]: x, B, C; dt [rows, dt_row] (args.h); slope, shift, skip [heads];
// slots, positions [rows], links [rows, 2]; state S [slots, heads, head_dim, state_dim], read and written; y [rows, heads,
// head_dim].
// Grid: 1 × rows × heads · tiles of OB_DELTA_VALUES numbers. Step `ssm_scan`.
[[max_total_threads_per_threadgroup(OB_DELTA_THREADS)]] kernel void ssm_scan(
    device const float *x [[buffer(0)]], device const float *dt [[buffer(1)]], device const float *slope [[buffer(2)]],
    device const float *shift [[buffer(3)]], device const float *skip [[buffer(4)]],
    device const uint *slots [[buffer(5)]], device const uint *positions [[buffer(6)]],
    device const uint *links [[buffer(7)]], device float *state [[buffer(8)]], device float *y [[buffer(9)]],
    constant ScanArgs &args [[buffer(10)]], uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    Place place = OB_PLACE;
    uint row = at.y;
    if (row >= args.rows || !row_leads(links, row)) return;
    uint tiles = (args.head_dim + OB_DELTA_VALUES - 1) / OB_DELTA_VALUES, head = at.z / tiles;
    uint first = at.z % tiles * OB_DELTA_VALUES, end = min(first + OB_DELTA_VALUES, args.head_dim);
    ScanInputs inputs = {x, dt, slope, shift, y, args, head, args.state_dim, 0, 1, skip[head]};
    if (row_fails(links, row)) {
        for (uint j = first + place.thread_index; j < end; j += place.threads) inputs.result(row)[j] = 0;
        return;
    }
    state += (ulong(slots[row]) * args.heads + head) * args.head_dim * args.state_dim;
    bool aligned = args.heads * args.head_dim % OB_PIECE == 0 && pieces_aligned(x);
    state_head(inputs, links, state, row, positions[row], first, end, aligned, place);
}
