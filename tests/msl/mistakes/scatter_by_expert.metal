// Counts the tokens of each expert and files the tokens under them. An id out of range is no expert's.
#include <metal_stdlib>
using namespace metal;

kernel void count_tokens(device const uint *ids [[buffer(0)]], device atomic_uint *counts [[buffer(1)]],
                         constant uint &experts [[buffer(2)]], uint i [[thread_position_in_grid]]) {
    uint id = ids[i];
#if !MISTAKE
    if (id >= experts) return;
#endif
    atomic_fetch_add_explicit(&counts[id], 1u, memory_order_relaxed);  // here: out of bounds
}

kernel void mark_tokens(device const uint *ids [[buffer(0)]], device uint *rows [[buffer(1)]],
                        constant uint &experts [[buffer(2)]], uint i [[thread_position_in_grid]]) {
    uint id = ids[i];
    if (id >= experts) return;
#if MISTAKE
    rows[id] = i;  // here: race between threadgroups
#else
    rows[i] = id;
#endif
}
