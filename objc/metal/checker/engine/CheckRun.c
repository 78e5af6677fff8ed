#include "CheckRun.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "CheckOutputs.h"
#include "CheckState.h"

enum { FLOAT = 3, HALF = 16, BFLOAT = 121, LARGEST_CELLS = 1 << 20 };

// Making and giving back

check_state *check_state_new(void) {
    check_state *state = calloc(1, sizeof *state);
    if (state == NULL) return NULL;
    state->schedules = 1;
    pthread_mutex_init(&state->findings.lock, NULL);
    state->next_segment = 1;
    state->ready = malloc(CHECK_READY_ROOM * sizeof *state->ready);
    state->groups = calloc(CHECK_IN_FLIGHT, sizeof *state->groups);
    bool made = state->ready != NULL && state->groups != NULL &&
                check_stacks_make(&state->stacks, CHECK_IN_FLIGHT * CHECK_MAX_THREADS) &&
                check_windows_make(&state->windows, METALLIB_MAX_BUFFERS + CHECK_IN_FLIGHT);
    for (uint32_t i = 0; made && i < CHECK_IN_FLIGHT; i++) {
        check_group *group = &state->groups[i];
        group->index = i;
        for (uint32_t k = 0; made && k < CHECK_VARIABLES; k++)
            made = check_memory_shadow(&group->variables[k].shadow, CHECK_THREADGROUP_MEMORY);
    }
    if (made) return state;
    check_state_free(state);
    return NULL;
}

void check_state_free(check_state *state) {
    if (state == NULL) return;
    check_stacks_free(&state->stacks);
    check_windows_free(&state->windows);
    for (uint32_t i = 0; state->groups != NULL && i < CHECK_IN_FLIGHT; i++) {
        for (uint32_t k = 0; k < CHECK_VARIABLES; k++) check_memory_unshadow(&state->groups[i].variables[k].shadow);
    }
    for (uint32_t i = 0; state->groups != NULL && i < CHECK_IN_FLIGHT; i++) free(state->groups[i].messages);
    free(state->messages);
    free(state->findings.list);
    pthread_mutex_destroy(&state->findings.lock);
    free(state->past);
    free(state->groups);
    free(state->ready);
    free(state);
}

check_findings *check_state_findings(check_state *state) { return &state->findings; }
void check_state_forget(check_state *state, const check_memory *memory) { check_windows_drop(&state->windows, memory); }
uint32_t check_state_schedules(const check_state *state) { return state->schedules; }
void check_state_set_schedules(check_state *state, uint32_t count) { state->schedules = count; }

// Who did what

static void side_of(check_side *side, const check_past *past, uint32_t group, uint32_t thread) {
    side->kernel = past->kernel;
    side->label = past->label;
    side->library = past->library;
    const uint32_t *groups = past->threadgroups, *threads = past->threads;
    uint32_t place[2][3] = {{thread % threads[0], thread / threads[0] % threads[1], thread / threads[0] / threads[1]},
                            {group % groups[0], group / groups[0] % groups[1], group / groups[0] / groups[1]}};
    memcpy(side->thread, place[0], sizeof side->thread);
    memcpy(side->group, place[1], sizeof side->group);
}

void check_side_of_fiber(check_side *side, const check_state *state, const check_fiber *fiber) {
    side->kernel = state->dispatch->signature->name;
    side->label = state->dispatch->recorded->label;
    side->library = state->dispatch->code->library;
    memcpy(side->thread, fiber->thread.position, sizeof side->thread);
    memcpy(side->group, fiber->thread.threadgroup, sizeof side->group);
}

void check_side_of_record(check_side *side, const check_state *state, const check_record *record) {
    for (size_t i = state->past_count; i-- > 0;) {
        const check_past *past = &state->past[i];
        if (record->segment < past->first) continue;
        side_of(side, past, record->segment - past->first, record->thread);
        break;
    }
    side->pc = record->pc;
    side->atomic = record->atomic;
}

check_finding check_finding_here(check_state *state, check_kind kind) {
    check_finding finding = {.kind = kind, .index = -1, .owner = state->dispatch->owner};
    if (state->running != NULL) check_side_of_fiber(&finding.here, state, state->running);
    else {
        finding.here.kernel = state->dispatch->signature->name;
        finding.here.label = state->dispatch->recorded->label;
        finding.here.library = state->dispatch->code->library;
    }
    return finding;
}

void check_name_finding(check_finding *finding, const check_binding *binding) {
    snprintf(finding->name, sizeof finding->name, "%s", binding->name);
    finding->index = binding->index == CHECK_NO_INDEX ? -1 : (int32_t)binding->index;
}

// Threadgroup memory

check_variable *check_add_variable(check_state *state, check_group *group, const char *name, uint32_t size,
                                   metallib_place at, int32_t index) {
    uint32_t window = METALLIB_MAX_BUFFERS + group->index, number = group->variable_count;
    if (number == CHECK_VARIABLES || group->used + size > CHECK_THREADGROUP_MEMORY) return NULL;
    check_variable *variable = &group->variables[number];
    variable->address =
        check_windows_piece(&state->windows, window, number << CHECK_VARIABLE_BITS, CHECK_THREADGROUP_MEMORY);
    if (variable->address == NULL) return NULL;
    variable->name = name;
    variable->at = at;
    variable->size = size;
    variable->index = index;
    variable->shadow.length = size;
    check_memory_forget(&variable->shadow);
    memset(variable->address, 0xFF, size);  // NaN
    group->used += size;
    group->variable_count++;
    return variable;
}

void *check_variable_at(const char *name, uint32_t size, uint32_t alignment, metallib_place at) {
    (void)alignment;  // pages are aligned to anything
    check_state *state = check_current;
    check_group *group = state->running->group;
    for (uint32_t i = 0; i < group->variable_count; i++) {
        check_variable *variable = &group->variables[i];
        if (variable->at.line == at.line && variable->at.file == at.file && variable->name == name)
            return variable->address;
    }
    check_variable *variable = check_add_variable(state, group, name, size, at, -1);
    if (variable != NULL) return variable->address;
    check_finding finding = check_finding_here(state, CHECK_OUT_OF_BOUNDS);
    snprintf(finding.name, sizeof finding.name, "%s", name);
    finding.here.file = at.file;
    finding.here.line = at.line;
    snprintf(finding.text, sizeof finding.text,
             "threadgroup memory of %u bytes and %u more is above %d bytes, or in too many pieces", group->used, size,
             CHECK_THREADGROUP_MEMORY);
    check_findings_add(&state->findings, &finding);
    check_stop(state);
}

// NaN

static bool is_nan(const char *bytes, uint32_t type) {
    uint32_t word = 0;
    memcpy(&word, bytes, type == FLOAT ? 4 : 2);
    if (type == FLOAT) return (word & 0x7FFFFFFF) > 0x7F800000;
    return (word & 0x7FFF) > (type == HALF ? 0x7C00 : 0x7F80);
}

static bool is_finite(const char *bytes, uint32_t type) {
    uint32_t word = 0, exponent = type == FLOAT ? 0x7F800000 : type == HALF ? 0x7C00 : 0x7F80;
    memcpy(&word, bytes, type == FLOAT ? 4 : 2);
    return (word & exponent) != exponent;
}

static uint32_t float_size(uint32_t type) {
    for (uint32_t first = 1; first <= BFLOAT; first++) {
        if (first != FLOAT && first != HALF && first != BFLOAT) continue;
        if (type >= first && type < first + 4) return first == FLOAT ? 4 : 2;  // a scalar or its vectors
    }
    return 0;
}

static uint32_t scalar_of(uint32_t type) { return type < HALF ? FLOAT : type < BFLOAT ? HALF : BFLOAT; }

// The first value that `wanted` picks among those that the dispatch wrote, or among all that anything wrote; or -1.
static ptrdiff_t find_value(const check_state *state, uint32_t number, bool own,
                            bool (*wanted)(const char *, uint32_t)) {
    const check_binding *binding = &state->dispatch->bindings[number];
    uint32_t size = float_size(binding->type);
    if (size == 0 || binding->memory == NULL) return -1;
    const char *view = check_memory_view(binding->memory);
    for (size_t at = binding->offset; at + size <= binding->offset + binding->length; at += size) {
        const check_cell *cell = &binding->memory->cells[at / 4];
        bool there = own ? cell->writes[0].segment >= state->run_segment : binding->memory->written[at / 4] != 0;
        if (there && wanted(view + at, scalar_of(binding->type))) return (ptrdiff_t)(at - binding->offset);
    }
    return -1;
}

static bool is_not_finite(const char *bytes, uint32_t type) { return !is_finite(bytes, type); }

// Whether an argument of the kind asked for holds what is not finite.
static bool holds_odd(const check_state *state, bool outputs) {
    for (uint32_t i = 0; i < state->dispatch->binding_count; i++) {
        if (check_is_output(&state->dispatch->bindings[i]) == outputs &&
            find_value(state, i, false, is_not_finite) >= 0)
            return true;
    }
    return false;
}

// `odd` tells that an output held what is not finite before.
static void look_for_nan(check_state *state, bool odd) {
    const check_dispatch *dispatch = state->dispatch;
    for (uint32_t i = 0; i < dispatch->binding_count; i++) {
        ptrdiff_t at = dispatch->bindings[i].writes ? find_value(state, i, true, is_nan) : -1;
        if (at < 0) continue;
        if (odd || holds_odd(state, false)) return;
        const check_binding *binding = &dispatch->bindings[i];
        const check_record *record = &binding->memory->cells[(binding->offset + (size_t)at) / 4].writes[0];
        check_finding finding = check_finding_here(state, CHECK_NAN);
        check_side_of_record(&finding.here, state, record);
        finding.here.write = true;
        check_name_finding(&finding, binding);
        finding.offset = (uint64_t)at;
        finding.length = binding->length;
        finding.size = float_size(binding->type);
        check_findings_add(&state->findings, &finding);
        return;
    }
}

// Dispatches

uint64_t check_new_command_buffer(check_state *state) {
    return __atomic_add_fetch(&state->command_buffers, 1, __ATOMIC_RELAXED);
}

void check_begin_phase(check_state *state) {
    state->phase_segment = state->next_segment;
    state->past_count = 0;
}

bool check_note_past(check_state *state, uint32_t first, const uint32_t threadgroups[3], const uint32_t threads[3]) {
    if (state->past_count == state->past_room) {
        size_t room = state->past_room == 0 ? 64 : 2 * state->past_room;
        check_past *past = realloc(state->past, room * sizeof *past);
        if (past == NULL) {
            check_findings_lose(&state->findings);
            return false;
        }
        state->past = past;
        state->past_room = room;
    }
    check_past *past = &state->past[state->past_count++];
    const check_dispatch *dispatch = state->dispatch;
    *past = (check_past){.first = first,
                         .kernel = dispatch->signature->name,
                         .label = dispatch->recorded->label,
                         .library = dispatch->code->library};
    memcpy(past->threadgroups, threadgroups, sizeof past->threadgroups);
    memcpy(past->threads, threads, sizeof past->threads);
    return true;
}

static bool place_bindings(check_state *state, void **buffers) {
    const check_dispatch *dispatch = state->dispatch;
    memset(state->slots, -1, sizeof state->slots);
    for (uint32_t i = 0; i < dispatch->argument_count; i++) {
        const check_binding *binding = &dispatch->bindings[i];
        uint32_t index = binding->index;
        if (binding->memory == NULL) {
            state->addresses[index] = check_windows_fill(&state->windows, index, binding->length);
            if (state->addresses[index] != NULL) memcpy(state->addresses[index], binding->bytes, binding->length);
        } else {
            check_memory_take_over(binding->memory, dispatch->command_buffer);
            state->addresses[index] =
                check_windows_map(&state->windows, index, binding->memory, binding->offset, binding->length);
        }
        if (state->addresses[index] == NULL) return false;
        state->slots[index] = (int8_t)i;
        buffers[index] = state->addresses[index];
    }
    for (uint32_t i = dispatch->argument_count; i < dispatch->binding_count; i++)
        check_memory_take_over(dispatch->bindings[i].memory, dispatch->command_buffer);
    return true;
}

bool check_run_order(check_state *state, uint32_t number) {
    // The first order is a random one; those by place come next.
    static const uint32_t begin[3] = {2, CHECK_FIRST_COME, CHECK_LAST_COME};
    uint32_t order = number < 3 ? begin[number] : number;
    state->order = order;
    state->random = 0x9E3779B97F4A7C15ull * (order + 1);
    state->run_segment = state->next_segment;
    state->message_count = 0;
    state->next_segment += state->group_count;
    state->running = NULL;
    if (!check_note_past(state, state->run_segment, state->launch->threadgroups, state->launch->threads)) return false;
    check_run_threads(state);
    state->running = NULL;
    return !state->failed;
}

// Each order starts from the same memory; the last one's result stays.
static bool run_orders(check_state *state) {
    check_outputs before = {0}, first = {0};
    bool several = state->schedules > 1, done = true;
    if (several && !(check_outputs_make(state->dispatch, &before) && check_outputs_make(state->dispatch, &first))) {
        check_findings_lose(&state->findings);
        several = false;
    }
    state->trial.site_count = 0;
    state->trial.too_many = false;
    if (several) check_outputs_save(state->dispatch, &before);
    for (uint32_t order = 0; done && order < (several ? state->schedules : 1); order++) {
        if (order > 0) check_outputs_restore_bytes(state->dispatch, &before);
        done = check_run_order(state, order);
        if (!several || !done) continue;
        if (order == 0) check_outputs_save(state->dispatch, &first);
        else check_report_difference(state, &first, order);
    }
    if (several && done && state->trial.site_count > 0) check_try_values(state, &before);
    check_outputs_free(&before);
    check_outputs_free(&first);
    return done;
}

bool check_run(check_dispatch *dispatch) {
    check_state *state = dispatch->state, *outer = check_current;
    void *buffers[METALLIB_MAX_BUFFERS] = {NULL};
    const metallib_launch *launch = &dispatch->recorded->launch;
    metallib_launch own = *launch;
    own.buffers = buffers;
    state->dispatch = dispatch;
    state->launch = &own;
    state->group_count = launch->threadgroups[0] * launch->threadgroups[1] * launch->threadgroups[2];
    state->dispatch_segment = state->next_segment;
    state->failed = false;
    state->running = NULL;
    if (!place_bindings(state, buffers)) {
        check_findings_lose(&state->findings);
        return false;
    }
    check_name_reached(dispatch);
    check_current = state;
    bool odd = holds_odd(state, true), watched = check_watch_stacks(), done = run_orders(state);
    if (watched) check_leave_stacks();
    else check_findings_lose(&state->findings);
    if (done) look_for_nan(state, odd);
    check_current = outer;
    for (uint32_t i = 0; i < dispatch->binding_count; i++) {
        const check_binding *binding = &dispatch->bindings[i];
        if (binding->memory != NULL)
            check_memory_give_back(binding->memory, binding->offset, binding->writes ? binding->length : 0);
    }
    return done;
}
