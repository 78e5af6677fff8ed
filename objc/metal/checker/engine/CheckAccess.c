// Each access: within bounds, to something written, and in no race with another.
#include <stdio.h>
#include <string.h>

#include "CheckState.h"

enum { CELL = 4, LARGEST_LIBRARY = 256 << 20 };

// An address belongs to one of these.
typedef struct {
    check_memory *shadow;  // NULL: constant bytes, which only bounds are known of
    size_t offset;         // in the shadow
    ptrdiff_t at;          // from the start of what is bound
    size_t length;         // bound
    bool writable;
    int space;
    const char *name;
    int32_t index;
    const void *address;
} place;

static void name_place(check_finding *finding, const place *where, uint32_t size) {
    snprintf(finding->name, sizeof finding->name, "%s", where->name);
    finding->index = where->index;
    finding->threadgroup = where->space == CHECK_THREADGROUP;
    finding->offset = (uint64_t)where->at;
    finding->length = where->length;
    finding->size = size;
}

static check_finding access_finding(check_state *state, check_kind kind, const place *where, uint32_t size,
                                    uint32_t flags, uint32_t pc) {
    check_finding finding = check_finding_here(state, kind);
    name_place(&finding, where, size);
    finding.here.pc = pc;
    finding.here.write = (flags & METALLIB_ACCESS_WRITE) != 0;
    finding.here.atomic = (flags & METALLIB_ACCESS_ATOMIC) != 0;
    return finding;
}

// Says where an address is that lies `at` bytes from what is bound.
static void set_place(place *where, const check_binding *binding, ptrdiff_t at) {
    where->at = at;
    where->shadow = binding->memory;
    where->offset = binding->offset + (size_t)at;
    where->length = binding->length;
    where->writable = binding->writes;
    where->space = CHECK_DEVICE;
    where->name = binding->name;
    where->index = binding->index == CHECK_NO_INDEX ? -1 : (int32_t)binding->index;
}

static bool find_reached(const check_state *state, uintptr_t address, place *where) {
    const check_binding *binding = check_reached(state->dispatch, address);
    if (binding != NULL) set_place(where, binding, (ptrdiff_t)(address - (uintptr_t)binding->memory->apart));
    return binding != NULL;
}

// False where no argument or variable has the address in its window, and no argument buffer points there.
static bool find_place(check_state *state, uintptr_t address, place *where) {
    where->address = (const void *)address;
    size_t from = address - (uintptr_t)state->windows.base;
    if (from >= (size_t)state->windows.count << CHECK_WINDOW_BITS) return find_reached(state, address, where);
    size_t window = from >> CHECK_WINDOW_BITS;
    if (window < METALLIB_MAX_BUFFERS) {
        if (state->slots[window] < 0) return false;
        const check_binding *binding = &state->dispatch->bindings[state->slots[window]];
        set_place(where, binding, (ptrdiff_t)(address - (uintptr_t)state->addresses[window]));
        return true;
    }
    check_group *group = state->running->group;
    if (window - METALLIB_MAX_BUFFERS != group->index || group->variable_count == 0) return false;
    size_t inside = address - (uintptr_t)group->variables[0].address;
    size_t number = inside >> CHECK_VARIABLE_BITS;
    if ((ptrdiff_t)inside < 0) number = 0;
    else if ((inside & ((1u << CHECK_VARIABLE_BITS) - 1)) >> (CHECK_VARIABLE_BITS - 1)) number++;  // below the next
    if (number >= group->variable_count) number = group->variable_count - 1;
    check_variable *variable = &group->variables[number];
    where->at = (ptrdiff_t)(address - (uintptr_t)variable->address);
    where->shadow = &variable->shadow;
    where->offset = (size_t)where->at;
    where->length = variable->size;
    where->writable = true;
    where->space = CHECK_THREADGROUP;
    where->name = variable->name;
    where->index = variable->index;
    return true;
}

static __attribute__((noinline)) void wild(check_state *state, const void *address, uint32_t size, uint32_t flags,
                                           uint32_t pc) {
    check_finding finding = check_finding_here(state, CHECK_OUT_OF_BOUNDS);
    finding.here.pc = pc;
    finding.here.write = (flags & METALLIB_ACCESS_WRITE) != 0;
    finding.size = size;
    check_explain_wild(state->dispatch, &finding, address);
    check_findings_add(&state->findings, &finding);
    check_stop(state);
}

static __attribute__((noinline)) void outside(check_state *state, const place *where, uint32_t size, uint32_t flags,
                                              uint32_t pc) {
    check_finding finding = access_finding(state, CHECK_OUT_OF_BOUNDS, where, size, flags, pc);
    snprintf(finding.text, sizeof finding.text, "bytes %td to %td of %zu", where->at, where->at + (ptrdiff_t)size - 1,
             where->length);
    check_findings_add(&state->findings, &finding);
    check_stop(state);
}

static __attribute__((noinline)) void report(check_state *state, check_kind kind, const place *where, uint32_t size,
                                             uint32_t flags, uint32_t pc, const check_record *other,
                                             bool other_writes) {
    check_finding finding = access_finding(state, kind, where, size, flags, pc);
    if (other != NULL) {
        finding.lanes = kind == CHECK_RACE && other->thread / CHECK_WIDTH == state->running->thread.simdgroup;
        finding.alone = state->running->thread.simdgroups == 1;
        check_side_of_record(&finding.there, state, other);
        finding.there.write = other_writes;
    }
    bool both_write = other != NULL && other_writes && flags == METALLIB_ACCESS_WRITE && !other->atomic;
    if (!both_write || !check_defer(state, &finding, where->address, size))
        check_findings_add(&state->findings, &finding);
}

// Whether an earlier access is over and its effect there, as far as the running thread can rely on.
static inline bool is_before(const check_state *state, const check_record *record, const check_record *now) {
    if (record->segment < state->phase_segment) return true;
    if (record->segment != now->segment) {
        if (record->segment >= state->run_segment) return check_heard_of(state->running->group, record);
        return record->segment >= state->dispatch_segment || record->segment == state->dispatch->counts_segment;
    }
    if (record->thread == now->thread || record->epoch != now->epoch) return true;
    return record->thread / CHECK_WIDTH == now->thread / CHECK_WIDTH && record->step != now->step;
}

static check_kind kind_of_race(const check_state *state, const check_record *record, const check_record *now) {
    if (record->segment == now->segment) return CHECK_RACE;
    return record->segment >= state->dispatch_segment ? CHECK_RACE_OF_GROUPS : CHECK_RACE_OF_DISPATCHES;
}

static inline bool conflicts(const check_state *state, const check_record *record, const check_record *now) {
    return record->segment != 0 && (record->mask & now->mask) != 0 && !(record->atomic && now->atomic) &&
           !is_before(state, record, now);
}

// How far apart two accesses that nothing orders are.
static int distance(const check_state *state, const check_record *a, const check_record *b) {
    if (a->segment == b->segment) return a->thread / CHECK_WIDTH != b->thread / CHECK_WIDTH;
    bool a_here = a->segment >= state->dispatch_segment, b_here = b->segment >= state->dispatch_segment;
    return a_here != b_here ? 3 : 2;
}

static inline void remember_read(check_state *state, check_cell *cell, const check_record *now) {
    check_record *reads = cell->reads;
    if (reads[0].segment == 0 || is_before(state, &reads[0], now)) reads[0] = *now;
    else if (reads[1].segment == 0 || is_before(state, &reads[1], now)) reads[1] = *now;
    else if (distance(state, &reads[0], now) > distance(state, &reads[0], &reads[1])) reads[1] = *now;
}

static inline void remember_write(check_cell *cell, const check_record *now) {
    check_record *writes = cell->writes;
    bool first = writes[0].segment == 0 || (writes[0].mask & ~now->mask) == 0;
    bool second = (writes[1].mask & ~now->mask) == 0;
    if (first) writes[0] = *now;
    else writes[1] = *now;
    if (first && second) memset(&writes[1], 0, sizeof writes[1]);
    // A read before this write either was in a race with it, or is ordered before it.
    for (int i = 0; i < 2; i++) {
        if ((cell->reads[i].mask & ~now->mask) == 0) memset(&cell->reads[i], 0, sizeof cell->reads[i]);
    }
}

// A read of what nothing wrote is told once. A trial puts other values there.
static inline void check_unwritten(check_state *state, size_t at, const check_record *now, const place *where,
                                   uint32_t size, uint32_t flags) {
    uint8_t *written = &where->shadow->written[at / CELL];
    if (__builtin_expect(state->trial.on, 0)) {
        uint8_t unwritten = now->mask & (uint8_t)(~*written | *written >> CHECK_TOLD);
        // The cell may begin before what is accessed.
        char *bytes = (char *)(uintptr_t)where->address + (ptrdiff_t)(at - where->offset);
        if (unwritten != 0) check_trial_read(state, bytes, unwritten, now->pc);
    } else if ((now->mask & ~*written) != 0) {
        check_note_unwritten(state, now->pc);
        report(state, CHECK_UNINITIALISED, where, size, flags & ~METALLIB_ACCESS_WRITE, now->pc, NULL, false);
        *written |= (uint8_t)(now->mask & ~*written) << CHECK_TOLD | now->mask;
    }
}

// `at` is where the cell begins.
static inline void check_cell_access(check_state *state, size_t at, const check_record *now, const place *where,
                                     uint32_t size, uint32_t flags) {
    check_cell *cell = &where->shadow->cells[at / CELL];
    uint8_t *written = &where->shadow->written[at / CELL];
    bool writes = (flags & METALLIB_ACCESS_WRITE) != 0;
    for (int i = 0; i < 2; i++) {
        if (conflicts(state, &cell->writes[i], now)) {
            check_kind kind = kind_of_race(state, &cell->writes[i], now);
            report(state, kind, where, size, flags, now->pc, &cell->writes[i], true);
            memset(&cell->writes[i], 0, sizeof cell->writes[i]);
        }
        if (writes && conflicts(state, &cell->reads[i], now)) {
            check_kind kind = kind_of_race(state, &cell->reads[i], now);
            report(state, kind, where, size, flags, now->pc, &cell->reads[i], false);
            memset(&cell->reads[i], 0, sizeof cell->reads[i]);
        }
    }
    if ((flags & METALLIB_ACCESS_READ) != 0) check_unwritten(state, at, now, where, size, flags);
    if (writes) {
        *written = (*written | now->mask) & (uint8_t)~(now->mask << CHECK_TOLD);
        remember_write(cell, now);
    } else {
        remember_read(state, cell, now);
    }
}

static void watch(check_state *state, const place *where, uint32_t size, uint32_t flags, uint32_t pc) {
    const check_fiber *fiber = state->running;
    const check_group *group = fiber->group;
    check_record now = {.segment = group->segment,
                        .pc = pc,
                        .epoch = group->epoch[where->space],
                        .step = group->simdgroups[fiber->thread.simdgroup].step[where->space],
                        .thread = (uint16_t)fiber->thread.index,
                        .atomic = (flags & METALLIB_ACCESS_ATOMIC) != 0};
    size_t at = where->offset, end = at + size;
    while (at < end) {
        size_t cell = at / CELL, stop = (cell + 1) * CELL < end ? (cell + 1) * CELL : end;
        now.mask = (uint8_t)(((1u << (stop - at)) - 1) << at % CELL);
        check_cell_access(state, cell * CELL, &now, where, size, flags);
        at = stop;
    }
}

// The running thread waited, and others ran meanwhile. Where a lane of its own simdgroup made the change, the wait ended only
// because threads run one by one here: a GPU may run the waiting lane for ever, before the other.
static __attribute__((noinline)) void check_end_of_wait(check_state *state, const place *where, const void *address,
                                                        uint32_t size, uint32_t flags, uint32_t offset) {
    const check_fiber *self = state->running;
    uint64_t value = 0;
    memcpy(&value, address, size < sizeof value ? size : sizeof value);
    size_t cell = where->offset / CELL;
    if (self->spun_value == value || cell >= where->shadow->shadowed / CELL) return;
    for (const check_record *write = where->shadow->cells[cell].writes, *end = write + 2; write < end; write++) {
        if (write->segment != self->group->segment || write->thread == self->thread.index) continue;
        if (write->thread / CHECK_WIDTH != self->thread.simdgroup) continue;
        if (write->pc < offset) continue;  // lanes that run together have passed it before they wait
        check_finding finding = access_finding(state, CHECK_NO_END, where, size, flags, offset);
        snprintf(finding.text, sizeof finding.text,
                 "it waits for another lane of its simdgroup, which a GPU need not run before it goes on");
        check_side_of_record(&finding.there, state, write);
        finding.there.write = finding.lanes = true;
        check_findings_add(&state->findings, &finding);
        return;
    }
}

// A thread that only looks at atomics may be waiting for another: it gives way now and then.
static void take_turns(check_state *state, const void *address, uint32_t size, const void *pc) {
    check_fiber *self = state->running;
    uint64_t value = 0;
    memcpy(&value, address, size < sizeof value ? size : sizeof value);
    bool same = self->spun_pc == pc && self->spun_at == address && self->spun_value == value;
    self->spins = same ? self->spins + 1 : 0;
    self->spun_pc = pc;
    self->spun_at = address;
    self->spun_value = value;
    if (++self->turns % 4 != 0 && check_random(state, 4) != 0) return;
    check_wait(state);
}

// One that waits without atomics gives no way, and is stopped.
static inline void count_repeats(check_state *state, const void *address, const void *pc) {
    bool same = state->last_pc == pc && state->last_address == address;
    state->repeats = same ? state->repeats + 1 : 0;
    state->last_pc = pc;
    state->last_address = address;
    if (state->repeats < CHECK_MAX_REPEATS) return;
    check_finding finding = check_finding_here(state, CHECK_NO_END);
    snprintf(finding.text, sizeof finding.text, "it does nothing but look at one place");
    finding.here.pc = (uint32_t)((const char *)pc - state->dispatch->code->base);
    state->repeats = 0;
    check_findings_add(&state->findings, &finding);
    check_stop(state);
}

// An access of what threads share. Most accesses are of a thread's own stack, and need none of what this takes.
static __attribute__((noinline)) void check_shared(check_state *state, const void *address, uint32_t size,
                                                   uint32_t flags, const void *pc) {
    if (state->pending.count != 0) check_settle(state);
    uint32_t offset = (uint32_t)((const char *)pc - state->dispatch->code->base);
    place where;
    if (!find_place(state, (uintptr_t)address, &where)) {
        // The shader's own constants lie in its library, those that a launch gives with them; code also looks
        // its calls of this up.
        if ((uintptr_t)address - (uintptr_t)&check_calls < sizeof check_calls) return;
        size_t from = (size_t)((const char *)address - state->dispatch->code->base);
        if (from < LARGEST_LIBRARY) return;
        wild(state, address, size, flags, offset);
    }
    if (where.at < 0 || (size_t)where.at > where.length || size > where.length - (size_t)where.at)
        outside(state, &where, size, flags, offset);
    if (!where.writable && (flags & METALLIB_ACCESS_WRITE) != 0)
        report(state, CHECK_READ_ONLY, &where, size, flags, offset, NULL, false);
    if (state->trial.on) check_trial_access(state, address, flags, offset);
    if (where.shadow != NULL) watch(state, &where, size, flags, offset);
    if (flags & METALLIB_ACCESS_ATOMIC) {
        check_atomic(state, (uintptr_t)address, flags);
        take_turns(state, address, size, pc);
        if (state->running->spins >= CHECK_MANY_SPINS && where.shadow != NULL)
            check_end_of_wait(state, &where, address, size, flags, offset);
    } else {
        count_repeats(state, address, pc);
    }
}

void check_access(const void *address, uint32_t size, uint32_t flags, const void *pc) {
    check_state *state = check_current;
    if ((uintptr_t)address - (uintptr_t)state->stacks.memory < state->stacks.length) return;
    check_shared(state, address, size, flags, pc);
}

void check_misaligned(const void *address, uint32_t alignment, const char *type, metallib_place at) {
    check_state *state = check_current;
    check_finding finding = check_finding_here(state, CHECK_MISALIGNED);
    place where;
    if (find_place(state, (uintptr_t)address, &where)) name_place(&finding, &where, alignment);
    finding.here.file = at.file;
    finding.here.line = at.line;
    snprintf(finding.text, sizeof finding.text, "%s needs an address that is a multiple of %u", type, alignment);
    check_findings_add(&state->findings, &finding);
}

void check_index(const char *type, int64_t index, metallib_place at) {
    check_state *state = check_current;
    check_finding finding = check_finding_here(state, CHECK_OUT_OF_BOUNDS);
    finding.here.file = at.file;
    finding.here.line = at.line;
    snprintf(finding.text, sizeof finding.text, "index %lld of an array of type %s", (long long)index, type);
    check_findings_add(&state->findings, &finding);
    check_stop(state);
}

void check_division(metallib_place at) {
    check_state *state = check_current;
    check_finding finding = check_finding_here(state, CHECK_DIVISION);
    finding.here.file = at.file;
    finding.here.line = at.line;
    check_findings_add(&state->findings, &finding);
    check_stop(state);  // the processor would stop the program
}
