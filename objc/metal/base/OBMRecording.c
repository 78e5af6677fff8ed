#include "OBMRecording.h"

#include "OBMCommands.h"

#include <string.h>
#include <time.h>

uint64_t obm_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

double obm_seconds(void) { return (double)obm_nanoseconds() * 1e-9; }

void obm_recording_reset(obm_recording *recording, const obm_executor *executor) {
    obm_arena arena = recording->arena;
    obm_arena_reset(&arena);
    *recording = (obm_recording){.arena = arena, .executor = executor};
}

void obm_recording_fail(obm_recording *recording, uint32_t code, const char *text) {
    if (obm_load(&recording->error) != NULL) return;
    recording->error_code = code;
    obm_store(&recording->error, text);
}

void obm_recording_fail_for_memory(obm_recording *recording) {
    obm_recording_fail(recording, OBM_ERROR_OUT_OF_MEMORY, "no memory left for its commands");
}

obm_phase *obm_recording_add_phase(obm_recording *recording, obm_phase_kind kind) {
    obm_phase *phase = obm_arena_take(&recording->arena, recording->executor->phase_size);
    if (phase == NULL) return NULL;
    *phase = (obm_phase){.kind = kind};
    if (recording->last != NULL) recording->last->next = phase;
    else recording->first = phase;
    recording->last = phase;
    return phase;
}

static bool resolve(obm_dispatch *dispatch, const uint32_t counts[3]) {
    uint64_t total = 1;
    for (int i = 0; i < 3; i++) {
        uint64_t grid = (uint64_t)counts[i] * dispatch->launch.threads[i];
        if (grid > UINT32_MAX) return false;
        dispatch->launch.threadgroups[i] = counts[i];
        dispatch->launch.grid[i] = (uint32_t)grid;
        if (counts[i] != 0 && total > UINT32_MAX / counts[i]) return false;
        total *= counts[i];
    }
    return true;
}

bool obm_dispatch_resolve(obm_recording *recording, obm_dispatch *dispatch, const uint32_t counts[3]) {
    if (resolve(dispatch, counts)) return true;
    obm_recording_fail(recording, OBM_ERROR_INVALID_RESOURCE,
                       "an indirect dispatch asks for more than 2^32 - 1 threads");
    return false;
}

bool obm_phase_resolve(obm_recording *recording, obm_phase *phase) {
    for (obm_dispatch *dispatch = phase->first; dispatch != NULL; dispatch = dispatch->next) {
        uint32_t counts[3];
        if (dispatch->indirect == NULL) continue;
        obm_indirect_counts(dispatch, counts);
        if (!obm_dispatch_resolve(recording, dispatch, counts)) return false;
    }
    return true;
}

static uint64_t threadgroups_of(const obm_dispatch *dispatch) {
    const uint32_t *size = dispatch->launch.threadgroups;
    return dispatch->indirect != NULL ? 0 : (uint64_t)size[0] * size[1] * size[2];
}

uint64_t obm_recording_threadgroups(const obm_recording *recording) {
    uint64_t total = 0;
    for (const obm_phase *phase = recording->first; phase != NULL; phase = phase->next) {
        for (const obm_dispatch *each = phase->first; each != NULL; each = each->next) total += threadgroups_of(each);
        for (uint32_t i = 0; phase->kind == OBM_PHASE_COMMANDS && i < phase->command_count; i++) {
            const obm_dispatch *recorded = phase->commands->list[phase->first_command + i].dispatch;
            if (recorded != NULL) total += threadgroups_of(recorded);
        }
    }
    return total;
}

void obm_blit_run(const obm_blit *blit, size_t start, size_t size) {
    char *to = blit->to->bytes + blit->to_offset + start;
    if (blit->from != NULL) memcpy(to, blit->from->bytes + blit->from_offset + start, size);
    else memset(to, blit->value, size);
}
