// The cost of a dispatch's threadgroups, as measured when the same dispatch ran before.
//
// A dispatch is known again by its kernel and by what is bound to it. The figures only decide how
// work is cut into pieces: two dispatches that share an entry cost time, never correctness. Any
// thread may read and note at any time.
#ifndef CPU_COST_H
#define CPU_COST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "metal/base/OBMAtomic.h"

enum { CPU_COSTS = 4096, CPU_COST_PLACES = 4, CPU_COST_NS = 16, CPU_COST_NOTES = 8 };

// From the low bits: the cost, in sixteenths of a nanosecond; how often it was noted (8 bits): up to
// CPU_COST_NOTES in phases that threads shared, up to twice that in others; which dispatch it is of
// (24 bits).
typedef struct {
    obm_atomic_u64 entries[CPU_COSTS + CPU_COST_PLACES - 1];
} cpu_costs;

typedef struct {
    obm_atomic_u64 *entry;  // NULL: its cost is not followed
    uint32_t tag;
} cpu_cost;

static inline uint64_t cpu_cost_mix(uint64_t key, const void *address) {
    return (key << 9 | key >> 55) ^ (uintptr_t)address;
}

static inline cpu_cost cpu_cost_find(cpu_costs *costs, uint64_t key) {
    key *= 0x9E3779B97F4A7C15u;
    return (cpu_cost){&costs->entries[key >> 52], (uint32_t)(key >> 28) & 0xFFFFFF};
}

// Moves on to one of the following entries where another dispatch has the one that was found.
void cpu_cost_place(cpu_cost *cost);

// The cost of a threadgroup; 0 if it is not known. `noted` says how often it was measured.
static inline uint32_t cpu_cost_read(cpu_cost cost, uint32_t *noted) {
    uint64_t entry = cost.entry != NULL ? obm_load_relaxed(cost.entry) : 0;
    uint64_t found = entry >> 40 == cost.tag ? entry : 0;
    *noted = (uint32_t)(found >> 32) & 0xFF;
    return (uint32_t)found;
}

void cpu_cost_note(cpu_cost cost, uint64_t nanoseconds, uint32_t threadgroups, bool shared);

#endif
