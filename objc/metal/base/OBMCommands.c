#include "OBMCommands.h"

#include <string.h>

#include "OBMBindingTable.h"

// A copy of what is recorded. What the executor keeps for a dispatch is its own to fill in.
static obm_dispatch *copy(const obm_dispatch *recorded, obm_recording *recording, const char *label,
                          const obm_use *uses) {
    const obm_executor *executor = recording->executor;
    size_t size = obm_dispatch_size(executor, recorded->kernel), own = executor->dispatch_size;
    obm_dispatch *dispatch = obm_arena_take(&recording->arena, size);
    if (dispatch == NULL) return NULL;
    *dispatch = *recorded;
    obm_dispatch_place_arrays(dispatch, executor);
    memcpy((char *)dispatch + own, (const char *)recorded + own, size - own);
    dispatch->label = label;
    dispatch->uses = uses;
    return dispatch;
}

static obm_phase *expand(const obm_command *command, uint32_t count, obm_recording *recording, obm_phase *phase,
                         const char *label, const obm_use *uses) {
    for (const obm_command *end = command + count; command < end; command++) {
        if (command->barrier) phase = NULL;
        if (command->dispatch == NULL) continue;
        if (phase == NULL) phase = obm_recording_add_phase(recording, OBM_PHASE_DISPATCHES);
        obm_dispatch *dispatch = copy(command->dispatch, recording, label, uses);
        if (phase == NULL || dispatch == NULL) {
            obm_recording_fail_for_memory(recording);
            return NULL;
        }
        obm_phase_append(phase, dispatch);
    }
    return phase;
}

obm_phase *obm_commands_execute(obm_commands *commands, uint32_t first, uint32_t count, obm_recording *recording,
                                obm_phase *phase, const char *label, const obm_use *uses) {
    if (!recording->executor->takes_commands)
        return expand(commands->list + first, count, recording, phase, label, uses);
    obm_phase *own = obm_recording_add_phase(recording, OBM_PHASE_COMMANDS);
    if (own == NULL) {
        obm_recording_fail_for_memory(recording);
        return NULL;
    }
    own->commands = commands;
    own->first_command = first;
    own->command_count = count;
    return NULL;
}
