// Experts of one stack that differ in format: each format has a part of them.
#include "args.h"
#include "reduce.h"

using namespace metal;

// chosen[i] = numbers[ids[i]]: the number within a part, OB_NONE for an expert of another part. OB_NONE stays, and an id that
// is no expert stays none, so that its row fails.
// ids, chosen [rows, top_k]; numbers [experts]. Grid: 1 × rows. Step `experts`.
kernel void experts_of_part(device const uint *ids [[buffer(0)]], device const uint *numbers [[buffer(1)]],
                            device uint *chosen [[buffer(2)]], constant ExpertArgs &args [[buffer(3)]],
                            uint3 at [[threadgroup_position_in_grid]], OB_PLACE_PARAMETERS) {
    if (at.y >= args.rows) return;
    Place place = OB_PLACE;
    ulong first = ulong(at.y) * args.top_k;
    for (uint k = place.thread_index; k < args.top_k; k += place.threads) {
        uint id = ids[first + k];
        chosen[first + k] = id < args.experts ? numbers[id] : id == OB_NONE ? OB_NONE : OB_NONE - 1;
    }
}
