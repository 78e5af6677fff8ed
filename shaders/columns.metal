// Columns of activations in another order, for weights whose groups of inputs are no neighbours in a row.
#include "args.h"
#include "reduce.h"

using namespace metal;

// y[row, i] = x[row, order[i]]. x, y [rows, columns], order [columns], each below columns.
// Grid: tiles of `tile` columns × rows. Step `in_order`.
kernel void order_columns(device const float *x [[buffer(0)]], device const uint *order [[buffer(1)]],
                          device float *y [[buffer(2)]], constant OrderArgs &args [[buffer(3)]],
                          uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    Place place = OB_PLACE;
    uint row = at.y;
    if (row >= args.rows) return;
    ulong own = ulong(row) * args.columns;
    uint end = min((at.x + 1) * args.tile, args.columns);
    for (uint i = at.x * args.tile + place.thread_index; i < end; i += place.threads) y[own + i] = x[own + order[i]];
}
