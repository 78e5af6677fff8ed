// The choice of experts by one simdgroup of OB_ROUTING_LANES lanes, which keep all experts in registers: lane l has
// experts l, l + OB_ROUTING_LANES, …
#ifndef OB_ROUTING_SIMD_H
#define OB_ROUTING_SIMD_H

#include "args.h"
#include "reduce.h"

#ifndef __METAL_CPU__

// Chosen experts that a lane keeps: number k is with lane k modulo OB_ROUTING_LANES.
#define OB_ROUTING_SLOTS (OB_MAX_TOP_K / OB_ROUTING_LANES)

// Returns an integer that is larger for a larger number, equal for both zeros, and 0 for NaN.
METAL_FUNC uint order_of(float x) {
    uint bits = metal::as_type<uint>(x == 0 ? 0.0f : x);
    uint order = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return x == x ? order : 0;
}

// Returns the number again; for 0, which stands for none, it is NaN.
METAL_FUNC float number_of(uint order) {
    return metal::as_type<float>(order & 0x80000000u ? order & 0x7FFFFFFFu : ~order);
}

// The largest and the least of all lanes of a simdgroup that is whole.
METAL_FUNC uint most_of(uint x) {
#ifdef __METAL_CUDA__
    return metal::metallib_max(x);
#else
    return metal::simd_max(x);
#endif
}
METAL_FUNC uint least_of(uint x) {
#ifdef __METAL_CUDA__
    return metal::metallib_min(x);
#else
    return metal::simd_min(x);
#endif
}

struct Chosen {
    uint id[OB_ROUTING_SLOTS];     // OB_NONE where no expert is left
    uint order[OB_ROUTING_SLOTS];  // of its number
};

template <uint E>
struct SimdExperts {
    uint order[E];  // of each expert's number; 0: it cannot be chosen

    // Returns the largest of all lanes.
    METAL_FUNC uint top() const thread {
        uint most = order[0];
        OB_UNROLL
        for (uint e = 1; e < E; e++) most = metal::max(most, order[e]);
        return most_of(most);
    }

    // Chooses the expert with the largest number, on a tie the lower id, and returns it; OB_NONE where none is left. It is
    // gone from here. `most`: the order of its number.
    METAL_FUNC uint next(uint lane, thread uint &most) thread {
        most = top();
        if (most == 0) return OB_NONE;
        uint mine = OB_NONE;
        OB_UNROLL
        for (uint e = E; e-- > 0;) mine = order[e] == most ? lane + e * OB_ROUTING_LANES : mine;
        uint id = least_of(mine);
        OB_UNROLL
        for (uint e = 0; e < E; e++) order[e] = id == lane + e * OB_ROUTING_LANES ? 0 : order[e];
        return id;
    }

    // Chooses up to `count` experts, one after another.
    METAL_FUNC Chosen choose(uint count, uint lane) thread {
        Chosen chosen;
        OB_UNROLL
        for (uint n = 0; n < OB_ROUTING_SLOTS; n++) {
            chosen.id[n] = OB_NONE;
            chosen.order[n] = 0;
        }
        OB_ROLLED
        for (uint k = 0; k < count; k++) {
            uint most, id = next(lane, most);
            if (id == OB_NONE) break;
            OB_UNROLL
            for (uint n = 0; n < OB_ROUTING_SLOTS; n++) {
                bool here = k == lane + n * OB_ROUTING_LANES;
                chosen.id[n] = here ? id : chosen.id[n];
                chosen.order[n] = here ? most : chosen.order[n];
            }
        }
        return chosen;
    }
};

#endif
#endif
