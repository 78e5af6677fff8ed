// A recording is what a command buffer is to do: phases of dispatches between barriers, copies, fills, events to
// signal and to wait for; and how far it got. Nothing here says how a device shares the work out among its threads.
//
// The dispatches of a phase may run at the same time; a phase starts when the one before it has finished. One thread
// builds a recording, all of it in the recording's arena, and then commits it. From then on it belongs to the executor
// until its status says that it has completed. The queue that made it frees it.
#ifndef OBM_RECORDING_H
#define OBM_RECORDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "OBMArena.h"
#include "OBMAtomic.h"
#include "OBMEventValue.h"
#include "OBMKernel.h"

enum { OBM_MAX_THREADGROUP_MEMORY = 32768 };  // bytes of a threadgroup, on every device

typedef struct obm_recording obm_recording;
typedef struct obm_commands obm_commands;  // OBMCommands.h

// Memory that a buffer stands for.
typedef struct obm_memory {
    char *bytes;    // where the host sees it
    char *address;  // where the device's kernels see it
    size_t length;
    void *own;  // what the device keeps with it
} obm_memory;

// The memory that is bound to one [[buffer(n)]] of a dispatch, from the address in its launch on.
typedef struct obm_binding {
    const obm_memory *memory;  // NULL: bytes that were given with the call, which lie in the arena
    size_t length;             // bytes that are meant
} obm_binding;

// Memory that a dispatch may reach by an address in an argument buffer, as useResource: names it.
typedef struct obm_use {
    const struct obm_use *next;
    const obm_memory *memory;
    bool writes;
} obm_use;

typedef struct obm_dispatch {
    struct obm_dispatch *next;
    const obm_kernel *kernel;
    metallib_launch launch;               // the sizes, and for each [[buffer(n)]] of the kernel its address
    const obm_binding *bindings;          // by [[buffer(n)]], like launch.buffers; NULL: the executor does without
    const uint32_t *threadgroup_lengths;  // bytes by [[threadgroup(n)]]: the kernel's threadgroup_slots of them
    const obm_memory *indirect;  // has three counts of threadgroups when the phase starts; NULL: launch has them
    size_t indirect_offset;
    const obm_use *uses;  // NULL: none
    const char *label;    // of the innermost debug group, else of the encoder, else NULL
} obm_dispatch;

// A copy of `size` bytes, or a fill with `value` where there is no source.
typedef struct obm_blit {
    const obm_memory *to, *from;
    size_t to_offset, from_offset, size;
    uint8_t value;
} obm_blit;

typedef enum {
    OBM_PHASE_DISPATCHES,
    OBM_PHASE_BLIT,
    OBM_PHASE_SIGNAL,
    OBM_PHASE_WAIT,
    OBM_PHASE_COMMANDS,  // only for an executor that takes commands
} obm_phase_kind;

typedef struct obm_phase {
    struct obm_phase *next;
    obm_phase_kind kind;
    bool indirect;  // some dispatch has its size in a buffer
    obm_dispatch *first, *last;
    const obm_blit *blit;
    obm_event *event;
    uint64_t value;          // that the event takes, or that it must have
    obm_commands *commands;  // of which it executes command_count from first_command on
    uint32_t first_command, command_count;
} obm_phase;

// An executor runs the recordings of a device. Every call may come from any thread.
typedef struct obm_executor {
    // Bytes of a phase and of a dispatch with what the executor keeps for each: structs that begin with obm_phase and
    // obm_dispatch. That memory is as the arena gives it, not zeroed.
    size_t phase_size, dispatch_size;

    // Dispatches have their `bindings`. Without, the addresses in their launch are all that is recorded, which takes
    // less time.
    bool bindings;

    // It runs phases of commands itself. Without, encoders copy the commands' dispatches into ordinary phases.
    bool takes_commands;

    // An indirect command buffer goes: lets go of what it keeps in `own`. NULL: there is nothing to do. No recording
    // that executes the commands is unfinished.
    void (*forget)(void *context, obm_commands *commands);

    // Gives the recording its place in the order. Committing an enqueued recording keeps that place.
    void (*enqueue)(void *context, obm_recording *recording);

    // Takes an enqueued recording back that is not committed.
    void (*withdraw)(void *context, obm_recording *recording);

    // NULL, or why the recording cannot run: a static text. `completed` is then not called.
    const char *(*commit)(void *context, obm_recording *recording);

    // Blocks until ready(argument), which changes when a recording is scheduled or completes; meanwhile the thread may
    // take part in the work. Returns early in a child process after fork.
    void (*wait)(void *context, bool (*ready)(void *argument), void *argument);

    void *context;
} obm_executor;

// The same values as MTLCommandBufferStatus and MTLCommandBufferError.
enum {
    OBM_NOT_ENQUEUED,
    OBM_ENQUEUED,
    OBM_COMMITTED,
    OBM_SCHEDULED,
    OBM_COMPLETED,
    OBM_FAILED,

    OBM_ERROR_TIMEOUT = 2,
    OBM_ERROR_PAGE_FAULT = 3,
    OBM_ERROR_OUT_OF_MEMORY = 8,
    OBM_ERROR_INVALID_RESOURCE = 9,
    OBM_ERROR_DEVICE_REMOVED = 11,
};

// How far an executor that runs ahead of its device got with a recording.
enum {
    OBM_STAGE_TO_START,   // from its first phase, or from `resume`
    OBM_STAGE_PARKED,     // the executor has it and will let it go on; later ones of its queue wait
    OBM_STAGE_HANDED_ON,  // the device has all of it; later ones of its queue may start
};

struct obm_recording {
    obm_arena arena;
    const obm_executor *executor;
    obm_phase *first, *last;
    obm_atomic_u32 status;     // OBM_NOT_ENQUEUED and so on
    obm_atomic_text error;     // a static text, set before the status says that it failed
    uint32_t error_code;       // MTLCommandBufferError, set before the text
    uint32_t failed_dispatch;  // which one it was about, from 1 on in their order; 0: not known
    double committed_time, scheduled_time, start_time, end_time;  // seconds, monotonic

    void (*completed)(obm_recording *);  // the last thing done with the recording, on any thread
    void *owner;

    // The order's (OBMOrder.h), from enqueue until completion.
    obm_recording *next;
    const void *queue;                // recordings of one queue keep their order
    obm_atomic_u32 *in_flight;        // counts the queue's recordings that have not completed
    obm_atomic_u32 *committed_count;  // and those of them that are committed
    obm_event *blocked_on;
    obm_waiter waiter;
    obm_phase *resume;  // where it goes on after waiting for an event
    uint32_t stage;     // OBM_STAGE_TO_START and so on, under the order's lock
};

// Empties a recording and keeps its memory.
void obm_recording_reset(obm_recording *recording, const obm_executor *executor);

// NULL when there is no memory left.
obm_phase *obm_recording_add_phase(obm_recording *recording, obm_phase_kind kind);

static inline void obm_phase_append(obm_phase *phase, obm_dispatch *dispatch) {
    dispatch->next = NULL;
    if (phase->last != NULL) phase->last->next = dispatch;
    else phase->first = dispatch;
    phase->last = dispatch;
}

// Notes why the recording fails; the first error stays.
void obm_recording_fail(obm_recording *recording, uint32_t code, const char *text);
void obm_recording_fail_for_memory(obm_recording *recording);

// For executors, when a phase starts: reads the sizes of its indirect dispatches. False, and the recording fails, if
// one is too large.
bool obm_phase_resolve(obm_recording *recording, obm_phase *phase);

// The counts of one dispatch, from the host's view of its memory.
static inline void obm_indirect_counts(const obm_dispatch *dispatch, uint32_t counts[3]) {
    memcpy(counts, dispatch->indirect->bytes + dispatch->indirect_offset, 3 * sizeof *counts);
}

// The same for one dispatch, whose three counts of threadgroups were read already.
bool obm_dispatch_resolve(obm_recording *recording, obm_dispatch *dispatch, const uint32_t counts[3]);

// For executors: does a part of a blit on the host's view of the memory, `size` bytes from `start` on.
void obm_blit_run(const obm_blit *blit, size_t start, size_t size);

// The threadgroups of all dispatches whose number is known, those of commands included.
uint64_t obm_recording_threadgroups(const obm_recording *recording);

double obm_seconds(void);
uint64_t obm_nanoseconds(void);

#endif
