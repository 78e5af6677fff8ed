// Whether anything depends on values that nothing wrote: the dispatch runs again with other values in their place, and
// what it does and leaves behind must be the same.
#include <stdlib.h>
#include <string.h>

#include "CheckState.h"

enum { CELL = 4, MOST_UNDONE = 1 << 16, SLACK = 1 << 16 };

// In place of the values: no bits, all of them (NaN, -1), and middling, very large and very small numbers.
static const unsigned char PATTERNS[] = {0x00, 0xFF, 0x3F, 0x7F, 0xFE};
enum { COUNT = sizeof PATTERNS };

void check_note_unwritten(check_state *state, uint32_t pc) {
    check_trial *trial = &state->trial;
    for (uint32_t i = 0; i < trial->site_count; i++) {
        if (trial->sites[i] == pc) return;
    }
    if (trial->site_count < CHECK_SITES) trial->sites[trial->site_count++] = pc;
    else trial->too_many = true;
}

void check_trial_access(check_state *state, const void *address, uint32_t flags, uint32_t pc) {
    check_trial *trial = &state->trial;
    uint64_t word = (uint64_t)(uintptr_t)address ^ (uint64_t)pc << 40 ^ (uint64_t)flags << 32;
    trial->hash = (trial->hash ^ word) * 0x9E3779B97F4A7C15ull;
    trial->hash ^= trial->hash >> 29;
    if (++trial->accesses > trial->budget) check_stop(state);  // another value makes it run longer
}

void check_trial_read(check_state *state, char *bytes, uint8_t mask, uint32_t pc) {
    check_trial *trial = &state->trial;
    unsigned char pattern = pc == trial->site ? PATTERNS[trial->pattern] : PATTERNS[0];
    for (int i = 0; i < CELL; i++) {
        if ((mask >> i & 1) == 0 || (unsigned char)bytes[i] == pattern) continue;
        if (trial->undone == MOST_UNDONE) trial->too_many = true;
        else trial->undo[trial->undone++] = (check_undo){bytes + i, bytes[i]};
        bytes[i] = (char)pattern;
    }
}

// Runs the dispatch once with a pattern at a site. False where a thread had to be stopped.
static bool run(check_state *state, uint32_t site, int pattern) {
    check_trial *trial = &state->trial;
    trial->site = site;
    trial->pattern = pattern;
    trial->hash = trial->accesses = 0;
    trial->undone = 0;
    state->failed = false;
    bool done = check_run_order(state, 0);
    while (trial->undone > 0) {
        check_undo undo = trial->undo[--trial->undone];
        *undo.address = undo.value;
    }
    return done;
}

// `before` are the outputs as the dispatch found them, then as it left them. True where nothing depends on the values
// that are read at a site.
static bool is_idle(check_state *state, check_outputs *before, check_outputs *first, uint32_t site) {
    check_trial *trial = &state->trial;
    uint64_t hash = 0, accesses = 0;
    for (int pattern = 0; pattern < COUNT; pattern++) {
        check_outputs_restore(state->dispatch, before);
        trial->budget = pattern == 0 ? UINT64_MAX : 2 * accesses + SLACK;
        if (!run(state, site, pattern) || trial->too_many) return false;
        if (pattern == 0) {
            hash = trial->hash;
            accesses = trial->accesses;
            check_outputs_save(state->dispatch, first);
        } else if (trial->hash != hash || !check_outputs_are(state->dispatch, first)) {
            return false;
        }
    }
    return true;
}

void check_try_values(check_state *state, check_outputs *before) {
    check_trial *trial = &state->trial;
    check_outputs first = {0}, after = {0};
    uint32_t segment = state->run_segment;
    trial->undo = malloc(MOST_UNDONE * sizeof *trial->undo);
    bool room = trial->undo != NULL && check_outputs_make(state->dispatch, &first) &&
                check_outputs_make(state->dispatch, &after);
    if (room) {
        check_outputs_save(state->dispatch, &after);
        state->findings.quiet = trial->on = true;
        bool idle[CHECK_SITES];
        for (uint32_t i = 0; i < trial->site_count; i++)
            idle[i] = !trial->too_many && is_idle(state, before, &first, trial->sites[i]);
        state->findings.quiet = trial->on = false;
        for (uint32_t i = 0; i < trial->site_count; i++)
            check_findings_grade(&state->findings, state->dispatch->owner, trial->sites[i], idle[i]);
        check_outputs_restore(state->dispatch, &after);
    }
    check_outputs_free(&first);
    check_outputs_free(&after);
    free(trial->undo);
    trial->undo = NULL;
    state->run_segment = segment;
    state->failed = false;
}
