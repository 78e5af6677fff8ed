// How the threads of the cpu device share a recording: each dispatch is cut into units by what it is known to cost.
//
// A phase and a dispatch of a recording begin a larger struct here, with what the schedule keeps for each. They are
// planned by the thread that commits; from then on the pool orders who touches them.
#ifndef CPU_SCHEDULE_H
#define CPU_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "CPUCost.h"
#include "metal/base/OBMRecording.h"
#include "metal/cpu/native/native.h"

// The code of a kernel on this device: obm_kernel's `code` points to it.
typedef struct cpu_code {
    metallib_entry entry;
    cpu_native_entry native;  // which runs instead, or NULL
} cpu_code;

typedef struct cpu_dispatch {
    obm_dispatch recorded;
    cpu_code code;
    cpu_cost cost;
    uint32_t total;  // threadgroups
    uint32_t units;  // pieces of them, of equal size but for one threadgroup
} cpu_dispatch;

typedef struct cpu_phase {
    obm_phase recorded;
    uint32_t units;
    uint32_t share, rest;  // units of a thread; the first `rest` threads have one more
    bool alone;            // not worth sharing
    bool measured;         // costs are noted
} cpu_phase;

// Splits the phases of a recording into units for `threads` threads, by what they are known to cost. `measured`: note
// all costs, not only those that are new. May be called again for another number of threads.
void cpu_plan(obm_recording *recording, cpu_costs *costs, uint32_t threads, bool measured);

// When an indirect phase starts, whose sizes are known now: splits it again.
void cpu_plan_resolved(cpu_phase *phase, uint32_t threads);

// Runs units first .. first + count - 1 of a phase. `scratch` is the calling thread's own:
// CPU_SCRATCH_BYTES, aligned to 64.
void cpu_phase_run(const cpu_phase *phase, uint32_t first, uint32_t count, char *scratch);

#endif
