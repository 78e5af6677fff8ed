// The threads of a dispatch: which goes on, who waits for whom, and when all may go on.
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "CheckState.h"

enum { MEM_DEVICE = 1, MEM_THREADGROUP = 2 };

__thread check_state *check_current CHECK_AT_ONCE;

uint32_t check_random(check_state *state, uint32_t below) {
    uint64_t x = state->random;  // xorshift64*
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    state->random = x;
    return (uint32_t)((x * 0x2545F4914F6CDD1Dull >> 32) * below >> 32);
}

// Ready threads

static void make_ready(check_state *state, check_fiber *fiber) {
    fiber->waiting = CHECK_READY;
    if (state->ready_end == CHECK_READY_ROOM) {
        state->ready_end -= state->ready_begin;
        memmove(state->ready, state->ready + state->ready_begin, state->ready_end * sizeof *state->ready);
        state->ready_begin = 0;
    }
    state->ready[state->ready_end++] = fiber;
}

static check_fiber *take_ready(check_state *state) {
    uint32_t last = state->ready_end - 1, spins = state->ready[last]->spins;
    // One that waits goes on looking for a while in every order, and then must let the others come.
    if (spins > 0 && spins < CHECK_MANY_SPINS) return state->ready[--state->ready_end];
    if (state->order == CHECK_FIRST_COME) return state->ready[state->ready_begin++];
    bool by_place = state->order == CHECK_LAST_COME && spins == 0;
    uint32_t at = by_place ? last : state->ready_begin + check_random(state, state->ready_end - state->ready_begin);
    check_fiber *fiber = state->ready[at];
    state->ready[at] = state->ready[last];
    state->ready_end--;
    return fiber;
}

void check_wait(check_state *state) {
    check_fiber *self = state->running;
    if (self->waiting == CHECK_READY) make_ready(state, self);
    check_switch(&self->context, &state->host);
}

void check_stop(check_state *state) {
    state->running->group->stopped = true;
    state->failed = true;
    check_switch(&state->running->context, &state->host);
    abort();
}

// Waiting

static void count_waiting(check_state *state, check_waiting waiting, uint32_t kind, metallib_place at) {
    check_fiber *self = state->running;
    self->waiting = waiting;
    self->kind = kind;
    self->at = at;
    self->group->waiting++;
    self->group->simdgroups[self->thread.simdgroup].waiting++;
    if (waiting == CHECK_AT_BARRIER) self->group->at_barrier++;
}

static bool same_place(const check_fiber *a, const check_fiber *b) {
    return a->waiting == b->waiting && a->kind == b->kind && a->at.line == b->at.line && a->at.file == b->at.file;
}

static void go_on(check_state *state, check_fiber *fiber) {
    fiber->group->waiting--;
    fiber->group->simdgroups[fiber->thread.simdgroup].waiting--;
    make_ready(state, fiber);
}

static check_fiber *lanes_of(check_group *group, uint32_t simdgroup) { return &group->fibers[simdgroup * CHECK_WIDTH]; }

static uint32_t lane_count(const check_group *group, uint32_t simdgroup) {
    uint32_t left = group->threads - simdgroup * CHECK_WIDTH;
    return left < CHECK_WIDTH ? left : CHECK_WIDTH;
}

static void report_barrier(check_state *state, const check_fiber *here, const check_fiber *there, const char *text) {
    check_finding finding = check_finding_here(state, CHECK_DIVERGENT_BARRIER);
    check_side_of_fiber(&finding.here, state, here);
    finding.here.file = here->at.file;
    finding.here.line = here->at.line;
    if (there != NULL) {
        check_side_of_fiber(&finding.there, state, there);
        finding.there.file = there->waiting == CHECK_DONE ? NULL : there->at.file;
        finding.there.line = there->waiting == CHECK_DONE ? 0 : there->at.line;
    }
    snprintf(finding.text, sizeof finding.text, "%s", text);
    check_findings_add(&state->findings, &finding);
}

static void pass_step(check_group *group, uint32_t simdgroup, uint32_t flags) {
    if (flags & MEM_DEVICE) group->simdgroups[simdgroup].step[CHECK_DEVICE]++;
    if (flags & MEM_THREADGROUP) group->simdgroups[simdgroup].step[CHECK_THREADGROUP]++;
}

// All lanes of a simdgroup that have not ended wait. Those at the first place in the code go on
// together: a GPU, too, lets the lanes that are behind catch up.
static void resolve_simdgroup(check_state *state, check_group *group, uint32_t simdgroup) {
    check_fiber *lanes = lanes_of(group, simdgroup), *first = NULL;
    uint32_t count = lane_count(group, simdgroup), active = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (lanes[i].waiting == CHECK_AT_SIMD && (first == NULL || check_order_of(&lanes[i], first) < 0))
            first = &lanes[i];
    }
    if (first == NULL) return;
    for (uint32_t i = 0; i < count; i++) {
        if (same_place(&lanes[i], first) && check_order_of(&lanes[i], first) == 0) active |= 1u << i;
    }
    if (first->value == NULL) {  // a barrier of the simdgroup
        for (uint32_t i = 0; i < count; i++) {
            if (active >> i & 1) continue;
            report_barrier(state, first, &lanes[i], "not every lane of the simdgroup comes to this simdgroup_barrier");
            break;
        }
        pass_step(group, simdgroup, first->kind);
    }
    check_fiber *model = first;
    for (uint32_t i = 0; i < count; i++) {
        if (!(active >> i & 1)) continue;
        lanes[i].active = active;
        if (model->value != NULL)
            memcpy(group->simdgroups[simdgroup].values + i * model->size, lanes[i].value, model->size);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (active >> i & 1) go_on(state, &lanes[i]);
    }
}

// Every thread of a threadgroup that has not ended waits at a barrier.
static void resolve_barrier(check_state *state, check_group *group) {
    check_fiber *first = NULL, *ended = NULL;
    for (uint32_t i = 0; i < group->threads; i++) {
        check_fiber *fiber = &group->fibers[i];
        if (fiber->waiting == CHECK_DONE) {
            if (ended == NULL) ended = fiber;
        } else if (first == NULL) {
            first = fiber;
        } else {
            check_difference found = check_difference_of(fiber, first);
            bool other = !same_place(fiber, first) || found == CHECK_OTHER_STATEMENT;
            if (!other && found == CHECK_SAME) continue;
            report_barrier(state, first, fiber,
                           other ? "threads of the threadgroup wait at different barriers"
                                 : "threads of the threadgroup wait here in different turns of a loop");
            break;
        }
    }
    if (ended != NULL)
        report_barrier(state, first, ended, "a thread of the threadgroup ended without coming to this barrier");
    uint32_t flags = first->kind;
    for (int space = 0; space < CHECK_SPACES; space++) {
        if ((flags & (space == CHECK_DEVICE ? MEM_DEVICE : MEM_THREADGROUP)) == 0) continue;
        group->epoch[space]++;
        for (uint32_t i = 0; i < CHECK_SIMDGROUPS; i++) group->simdgroups[i].step[space] = 0;
    }
    group->at_barrier = 0;
    for (uint32_t i = 0; i < group->threads; i++) {
        if (group->fibers[i].waiting == CHECK_AT_BARRIER) go_on(state, &group->fibers[i]);
    }
}

// Called when a thread of a group starts to wait or has ended.
static void resolve(check_state *state, check_group *group, uint32_t simdgroup) {
    check_simdgroup *lanes = &group->simdgroups[simdgroup];
    if (lanes->live > 0 && lanes->waiting == lanes->live) resolve_simdgroup(state, group, simdgroup);
    if (group->live > 0 && group->at_barrier == group->live) resolve_barrier(state, group);
}

static void threadgroup_barrier(uint32_t flags, metallib_place at) {
    check_state *state = check_current;
    check_note_way(state, __builtin_frame_address(0));
    count_waiting(state, CHECK_AT_BARRIER, flags, at);
    check_wait(state);
}

static const void *simdgroup(uint32_t kind, const void *value, uint32_t size, uint32_t *active, metallib_place at) {
    check_state *state = check_current;
    check_fiber *self = state->running;
    self->value = value;
    self->size = size;
    check_note_way(state, __builtin_frame_address(0));
    count_waiting(state, CHECK_AT_SIMD, kind, at);
    check_wait(state);
    *active = self->active;
    return self->group->simdgroups[self->thread.simdgroup].values;
}

static uint32_t lane(void) { return check_current->running->thread.lane; }

static void simdgroup_barrier(uint32_t flags, metallib_place at) {
    check_state *state = check_current;
    state->running->value = NULL;
    check_note_way(state, __builtin_frame_address(0));
    count_waiting(state, CHECK_AT_SIMD, flags, at);
    check_wait(state);
}

static void inactive_lane(uint32_t lane, metallib_place at) {
    check_state *state = check_current;
    check_finding finding = check_finding_here(state, CHECK_INACTIVE_LANE);
    finding.here.file = at.file;
    finding.here.line = at.line;
    snprintf(finding.text, sizeof finding.text, "it takes the value of lane %u, which takes no part", lane);
    check_findings_add(&state->findings, &finding);
}

const metallib_checker check_calls = {
    .access = check_access,
    .variable = check_variable_at,
    .threadgroup_barrier = threadgroup_barrier,
    .simdgroup = simdgroup,
    .lane = lane,
    .simdgroup_barrier = simdgroup_barrier,
    .fence = check_fence,
    .inactive_lane = inactive_lane,
    .out_of_bounds = check_index,
    .division = check_division,
    .misaligned = check_misaligned,
    .endless = check_endless,
};

// Threadgroups

static void thread_body(void *argument) {
    check_fiber *self = argument;
    check_state *state = check_current;
    check_arrive(&state->host);
    state->dispatch->code->entry(&self->launch, 0, 1);
    self->waiting = CHECK_DONE;
    self->group->live--;
    self->group->ended++;
    self->group->simdgroups[self->thread.simdgroup].live--;
    check_switch(&self->context, &state->host);
}

static void start_fiber(check_state *state, check_group *group, uint32_t index, const uint32_t size[3]) {
    check_fiber *fiber = &group->fibers[index];
    const metallib_launch *launch = state->launch;
    metallib_thread *thread = &fiber->thread;
    uint32_t position[3] = {index % size[0], index / size[0] % size[1], index / size[0] / size[1]};
    for (int i = 0; i < 3; i++) {
        thread->position[i] = position[i];
        thread->threadgroup[i] = group->place[i];
        thread->grid[i] = group->place[i] * launch->threads[i] + position[i];
        thread->size[i] = size[i];
    }
    thread->index = index;
    thread->lane = index % CHECK_WIDTH;
    thread->simdgroup = index / CHECK_WIDTH;
    thread->simdgroups = (group->threads + CHECK_WIDTH - 1) / CHECK_WIDTH;
    fiber->launch = *launch;
    fiber->launch.threadgroup = group->arguments;
    fiber->launch.thread = thread;
    fiber->group = group;
    fiber->turns = fiber->spins = 0;
    fiber->loops = NULL;
    fiber->spun_pc = NULL;
    fiber->released = false;
    fiber->heard = 0;
    group->simdgroups[thread->simdgroup].live++;
    check_fiber_start(&fiber->context, &state->stacks, group->index * CHECK_MAX_THREADS + index, thread_body, fiber);
    make_ready(state, fiber);
}

static void start_group(check_state *state, check_group *group) {
    const metallib_launch *launch = state->launch;
    uint32_t number = state->next_group++;
    if (state->order == CHECK_LAST_COME) number = state->group_count - 1 - number;
    uint32_t nx = launch->threadgroups[0], ny = launch->threadgroups[1];
    uint32_t place[3] = {number % nx, number / nx % ny, number / nx / ny}, size[3];
    group->segment = state->run_segment + number;
    group->threads = 1;
    for (int i = 0; i < 3; i++) {
        uint32_t left = launch->grid[i] - place[i] * launch->threads[i];
        group->place[i] = place[i];
        size[i] = left < launch->threads[i] ? left : launch->threads[i];
        group->threads *= size[i];
    }
    group->live = group->threads;
    group->waiting = group->at_barrier = group->ended = group->used = group->variable_count = group->message_count = 0;
    group->stopped = false;
    memset(group->epoch, 0, sizeof group->epoch);
    for (uint32_t i = 0; i < CHECK_SIMDGROUPS; i++) memset(&group->simdgroups[i], 0, offsetof(check_simdgroup, values));
    const check_dispatch *dispatch = state->dispatch;
    memset(group->arguments, 0, sizeof group->arguments);
    for (uint32_t i = 0; i < dispatch->signature->argument_count; i++) {
        const metallib_argument *argument = &dispatch->signature->arguments[i];
        if (argument->kind != METALLIB_THREADGROUP) continue;
        check_variable *variable =
            check_add_variable(state, group, argument->name, dispatch->recorded->threadgroup_lengths[argument->index],
                               (metallib_place){NULL, 0}, (int32_t)argument->index);
        if (variable != NULL) group->arguments[argument->index] = variable->address;
    }
    for (uint32_t i = 0; i < group->threads; i++) start_fiber(state, group, i, size);
}

static void drop_ready(check_state *state, const check_group *group) {
    uint32_t kept = state->ready_begin;
    for (uint32_t i = kept; i < state->ready_end; i++) {
        if (state->ready[i]->group != group) state->ready[kept++] = state->ready[i];
    }
    state->ready_end = kept;
}

static void report_no_end(check_state *state) {
    check_finding finding = check_finding_here(state, CHECK_NO_END);
    snprintf(finding.text, sizeof finding.text, "it waits for a change of an atomic that no thread makes");
    finding.here.pc = (uint32_t)((const char *)state->running->spun_pc - state->dispatch->code->base);
    finding.here.atomic = true;
    check_findings_add(&state->findings, &finding);
    state->failed = true;
}

void check_endless(void) {
    check_state *state = check_current;
    check_finding finding = check_finding_here(state, CHECK_NO_END);
    snprintf(finding.text, sizeof finding.text, "its loops turned 2^31 times without waiting for another thread");
    const metallib_loop *most = *state->dispatch->code->loops;
    for (const metallib_loop *loop = most; loop != NULL; loop = loop->outer)
        most = loop->turn > most->turn ? loop : most;
    finding.here.code = true;
    finding.here.pc = (uint32_t)((const char *)most->place - state->dispatch->code->base);
    check_findings_add(&state->findings, &finding);
    check_stop(state);
}

void check_run_threads(check_state *state) {
    uint32_t in_flight = state->order == CHECK_FIRST_COME ? 1 : CHECK_IN_FLIGHT;
    state->ready_begin = state->ready_end = 0;
    state->next_group = 0;
    for (uint32_t i = 0; i < in_flight && state->next_group < state->group_count; i++)
        start_group(state, &state->groups[i]);
    while (state->ready_end > state->ready_begin) {
        check_fiber *fiber = take_ready(state);
        check_group *group = fiber->group;
        state->running = fiber;
        metallib_loop **loops = state->dispatch->code->loops;
        if (loops != NULL) *loops = fiber->loops;
        if (state->dispatch->code->turns != NULL) *state->dispatch->code->turns = 0;
        check_switch(&state->host, &fiber->context);
        if (loops != NULL) fiber->loops = *loops;
        check_settle(state);
        if (fiber->spins > CHECK_MAX_SPINS) {
            report_no_end(state);
            return;
        }
        if (!group->stopped && fiber->waiting != CHECK_READY) resolve(state, group, fiber->thread.simdgroup);
        if (group->stopped) drop_ready(state, group);
        if ((group->stopped || group->live == 0) && state->next_group < state->group_count) start_group(state, group);
    }
}
