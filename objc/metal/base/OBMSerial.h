// An executor for devices that do one phase at a time: one thread of its own runs recordings in their order.
//
// The thread starts with the first commit. A thread that waits only waits.
#ifndef OBM_SERIAL_H
#define OBM_SERIAL_H

#include "OBMRecording.h"

typedef struct obm_serial obm_serial;

// The work of the device; `context` is its own. Calls come from the executor's thread, one after another.
typedef struct obm_serial_work {
    size_t phase_size, dispatch_size;  // as in obm_executor

    // A recording begins, before its first phase.
    void (*begin)(void *context, obm_recording *recording);

    // A phase has indirect dispatches: reads their sizes, as obm_phase_resolve does, which is called where this is NULL.
    bool (*resolve)(void *context, obm_recording *recording, obm_phase *phase);

    // Runs the dispatches of a phase, whose sizes are known, or its commands. What goes wrong fails the recording.
    void (*run)(void *context, obm_recording *recording, const obm_phase *phase);

    // As in obm_executor; forget comes from any thread.
    bool takes_commands;
    void (*forget)(void *context, obm_commands *commands);

    void *context;
} obm_serial_work;

// NULL when there is no memory left.
obm_serial *obm_serial_create(obm_serial_work work);

// Lets the thread end. No recording may be unfinished; may be called by `completed` of the last one. NULL is allowed.
void obm_serial_destroy(obm_serial *serial);

const obm_executor *obm_serial_executor(const obm_serial *serial);

#endif
