#include "CPUCost.h"

// Follows the larger measurements at once and smaller ones slowly, quicker at first, when the
// pages and caches that a dispatch touches may still be cold.
enum { FALL = 4, FALL_AT_FIRST = 2 };

void cpu_cost_place(cpu_cost *cost) {
    obm_atomic_u64 *empty = NULL;
    for (int i = 0; i < CPU_COST_PLACES && cost->entry != NULL; i++) {
        uint64_t entry = obm_load_relaxed(cost->entry + i);
        if (entry >> 40 == cost->tag && entry != 0) {
            cost->entry += i;
            return;
        }
        if (entry == 0 && empty == NULL) empty = cost->entry + i;
    }
    if (empty != NULL) cost->entry = empty;
}

void cpu_cost_note(cpu_cost cost, uint64_t nanoseconds, uint32_t threadgroups, bool shared) {
    uint32_t noted, before = cpu_cost_read(cost, &noted);
    uint64_t sample = nanoseconds * CPU_COST_NS / threadgroups + 1;
    if (sample > UINT32_MAX) sample = UINT32_MAX;
    uint64_t next = sample;
    if (sample < before) next = before - (before - sample) / (noted < CPU_COST_NOTES ? FALL_AT_FIRST : FALL);
    if (noted < (shared ? CPU_COST_NOTES : 2 * CPU_COST_NOTES)) noted++;
    obm_store_relaxed(cost.entry, (uint64_t)cost.tag << 40 | (uint64_t)noted << 32 | next);
}
