// The counts of threadgroups that an indirect dispatch takes from memory: who wrote them, and whether they are possible.
#include <stdio.h>

#include "CheckState.h"

enum { CELL = 4, COUNTS = 3, ALL = 15 };

static const char WHAT[] = "counts of threadgroups";

static check_finding finding_about(check_state *state, check_kind kind, size_t offset, size_t length) {
    check_finding finding = check_finding_here(state, kind);
    snprintf(finding.name, sizeof finding.name, "%s", WHAT);
    finding.offset = offset;
    finding.length = length;
    finding.size = COUNTS * sizeof(uint32_t);
    return finding;
}

static void begin(check_dispatch *dispatch) {
    dispatch->state->dispatch = dispatch;
    dispatch->state->running = NULL;
}

static void find_race(check_state *state, const check_memory *memory, size_t offset) {
    for (size_t cell = offset / CELL; cell < offset / CELL + COUNTS; cell++) {
        for (int i = 0; i < 2; i++) {
            const check_record *record = &memory->cells[cell].writes[i];
            if (record->segment == 0 || record->segment < state->phase_segment) continue;
            check_finding finding = finding_about(state, CHECK_RACE_OF_DISPATCHES, offset, memory->length);
            check_side_of_record(&finding.there, state, record);
            finding.there.write = true;
            check_findings_add(&state->findings, &finding);
            return;
        }
    }
}

// Remembers the read, so that a dispatch of this phase that writes them later is a race.
static bool remember(check_dispatch *dispatch, check_memory *memory, size_t offset) {
    static const uint32_t one[3] = {1, 1, 1};
    check_state *state = dispatch->state;
    dispatch->counts_segment = state->next_segment++;
    if (!check_note_past(state, dispatch->counts_segment, one, one)) return false;
    check_record now = {.segment = dispatch->counts_segment, .mask = ALL};
    for (size_t cell = offset / CELL; cell < offset / CELL + COUNTS; cell++) {
        check_record *reads = memory->cells[cell].reads;
        reads[reads[0].segment >= state->phase_segment] = now;
    }
    return true;
}

bool check_indirect(check_dispatch *dispatch, check_memory *memory, size_t offset) {
    check_state *state = dispatch->state;
    begin(dispatch);
    check_memory_take_over(memory, dispatch->command_buffer);
    for (size_t cell = offset / CELL; cell < offset / CELL + COUNTS; cell++) {
        if ((memory->written[cell] & ALL) == ALL) continue;
        check_finding finding = finding_about(state, CHECK_UNINITIALISED, offset, memory->length);
        snprintf(finding.text, sizeof finding.text, "nothing has written them");
        check_findings_add(&state->findings, &finding);
        break;
    }
    find_race(state, memory, offset);
    return remember(dispatch, memory, offset);
}

void check_indirect_too_many(check_dispatch *dispatch, const uint32_t counts[3], const check_memory *memory,
                             size_t offset) {
    begin(dispatch);
    const uint32_t *threads = dispatch->recorded->launch.threads;
    check_finding finding = finding_about(dispatch->state, CHECK_OUT_OF_BOUNDS, offset, memory->length);
    snprintf(finding.text, sizeof finding.text,
             "%u x %u x %u, of %u x %u x %u threads each; a grid has at most 2^32 - 1 threads", counts[0], counts[1],
             counts[2], threads[0], threads[1], threads[2]);
    finding.pointer = CHECK_COUNTS;
    check_findings_add(&dispatch->state->findings, &finding);
}
