// A command buffer as the worker threads see it: phases of dispatches in plain C.
//
// The dispatches of a phase may run at the same time; a phase starts when the one before it has
// finished. Everything lives in the job's arena and is built by one thread before it is committed.
#ifndef CPU_JOB_H
#define CPU_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "metal/base/OBMArena.h"
#include "metal/base/OBMAtomic.h"
#include "CPUCost.h"
#include "metal/abi/metallib.h"
#include "metal/cpu/native/native.h"

// A worker's scratch is threadgroup memory, or whatever a kernel written for this processor needs.
enum { OBM_MAX_THREADGROUP_MEMORY = 32768 };

typedef struct obm_event obm_event;
struct check_dispatch;
typedef struct cpu_job cpu_job;

typedef struct cpu_dispatch {
    struct cpu_dispatch *next;
    metallib_entry entry;
    cpu_native_entry native;  // which runs instead, or NULL
    metallib_launch launch;
    const uint32_t *indirect;             // three counts in a buffer, read when the phase starts
    const uint32_t *threadgroup_offsets;  // into a worker's threadgroup memory; NULL if it needs none
    uint32_t threadgroup_slots;
    const struct check_dispatch *watched;  // how the checker runs it; NULL on other devices
    cpu_cost cost;
    uint32_t total;  // threadgroups
    uint32_t units;  // pieces of them, of equal size but for one threadgroup
} cpu_dispatch;

typedef enum { CPU_PHASE_DISPATCH, CPU_PHASE_SIGNAL, CPU_PHASE_WAIT } cpu_phase_kind;

typedef struct cpu_phase {
    struct cpu_phase *next;
    cpu_dispatch *first;
    cpu_dispatch *last;
    obm_event *event;
    uint64_t value;
    uint32_t units;
    uint32_t share, rest;  // units of a thread; the first `rest` threads have one more
    cpu_phase_kind kind;
    bool indirect;  // some dispatch has its size in a buffer
    bool alone;     // not worth sharing
    bool measured;  // costs are noted
} cpu_phase;

// The same values as MTLCommandBufferStatus and MTLCommandBufferError.
enum {
    CPU_JOB_NOT_ENQUEUED,
    CPU_JOB_ENQUEUED,
    CPU_JOB_COMMITTED,
    CPU_JOB_SCHEDULED,
    CPU_JOB_COMPLETED,
    CPU_JOB_ERROR,

    CPU_ERROR_OUT_OF_MEMORY = 8,
    CPU_ERROR_INVALID_RESOURCE = 9,
    CPU_ERROR_DEVICE_REMOVED = 11,
};

// A job that waits for an event, as the event's list knows it.
typedef struct obm_waiter {
    struct obm_waiter *next;
    struct cpu_pool *pool;
    uint64_t value;
} obm_waiter;

struct cpu_job {
    obm_arena arena;
    cpu_phase *first;
    cpu_phase *last;
    cpu_phase *resume;      // where it goes on after waiting for an event
    obm_atomic_u32 status;  // CPU_JOB_...
    obm_atomic_text error;  // static text, set before the status says error
    uint32_t error_code;    // MTLCommandBufferError, set before the text

    // Owned by the pool from enqueue until completion.
    cpu_job *next;
    const void *queue;          // jobs of one queue keep their order
    obm_atomic_u32 *in_flight;  // counts the queue's unfinished jobs
    obm_atomic_u32 *committed;  // and those of them that are committed
    obm_event *blocked_on;
    obm_waiter waiter;

    void (*completed)(cpu_job *);  // the last thing done with the job, on any thread
    void *owner;
    uint64_t number;  // of the command buffer, where the checker gave it one

    double scheduled_time, queued_time, start_time, end_time;  // seconds, monotonic
};

// Empties a job and keeps its memory.
void cpu_job_reset(cpu_job *job);

// NULL when there is no memory left.
cpu_phase *cpu_job_add_phase(cpu_job *job, cpu_phase_kind kind);

static inline void cpu_phase_append(cpu_phase *phase, cpu_dispatch *dispatch) {
    dispatch->next = NULL;
    if (phase->last != NULL) phase->last->next = dispatch;
    else phase->first = dispatch;
    phase->last = dispatch;
}

// Splits the phases into units for `threads` threads, by what they are known to cost. `measured`:
// note all costs, not only those that are new.
void cpu_job_plan(cpu_job *job, uint32_t threads, bool measured);

// Reads the sizes of a phase's indirect dispatches and splits it again; false if one is too large.
bool cpu_phase_resolve(cpu_phase *phase, uint32_t threads);

// Runs units first .. first + count - 1 of a phase. `scratch` is the calling thread's own:
// CPU_SCRATCH_BYTES, aligned to 64.
void cpu_phase_run(const cpu_phase *phase, uint32_t first, uint32_t count, char *scratch);

// Notes why the job fails; the first error stays.
void cpu_job_fail(cpu_job *job, uint32_t code, const char *text);

double cpu_seconds(void);
uint64_t cpu_nanoseconds(void);

#endif
