// The commands of an indirect command buffer: dispatches that are recorded once and run by any number of recordings.
//
// Plain data. The thread that records commands orders that against their execution, as Metal asks: no command changes
// while a recording that executes it is committed and has not completed.
#ifndef OBM_COMMANDS_H
#define OBM_COMMANDS_H

#include "OBMRecording.h"

typedef struct obm_command {
    obm_dispatch *dispatch;  // in no phase: its `next` says nothing; NULL: none is recorded
    bool barrier;            // all commands before it finish first; it counts without a dispatch too
} obm_command;

struct obm_commands {
    obm_command *list;
    uint32_t count;
    uint64_t version;  // changes whenever a command changes
    void *own;         // what the executor keeps with it, NULL at first
    const obm_executor *executor;
};

// Lets a recording execute `count` commands from `first` on. If the executor takes commands, they are a phase of their
// own. Else their dispatches are copied into the recording: they begin in `phase`, if it is not NULL, and each barrier
// opens a phase; `label` and `uses` are theirs. Returns the phase that a dispatch after them may share, or NULL. When there is no
// memory left, the recording fails.
obm_phase *obm_commands_execute(obm_commands *commands, uint32_t first, uint32_t count, obm_recording *recording,
                                obm_phase *phase, const char *label, const obm_use *uses);

#endif
