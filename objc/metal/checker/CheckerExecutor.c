#include "CheckerExecutor.h"

#include <stdlib.h>

// A recording that goes on after it waited for an event counts as another one: the host may have written meanwhile.
static void begin(void *context, obm_recording *recording) {
    checker_context *checker = context;
    (void)recording;
    checker->command_buffer = check_new_command_buffer(checker->state);
}

void checker_context_clear(checker_context *context) { free(context->bindings); }

static check_binding bound_to(const metallib_argument *argument, const obm_dispatch *dispatch) {
    const char *address = dispatch->launch.buffers[argument->index];
    obm_binding bound = dispatch->bindings[argument->index];
    check_binding binding = {.name = argument->name,
                             .index = argument->index,
                             .type = argument->type,
                             .writes = argument->access != METALLIB_READ,
                             .length = bound.length};
    if (bound.memory == NULL) {
        binding.bytes = address;
    } else {
        binding.memory = bound.memory->own;
        binding.offset = (size_t)(address - bound.memory->address);
    }
    return binding;
}

static bool make_room(checker_context *checker, const obm_dispatch *recorded) {
    size_t count = recorded->kernel->signature->argument_count;
    for (const obm_use *use = recorded->uses; use != NULL; use = use->next) count++;
    if (count <= checker->room) return true;
    check_binding *grown = realloc(checker->bindings, count * sizeof *grown);
    if (grown == NULL) return false;
    checker->bindings = grown;
    checker->room = count;
    return true;
}

// Memory that useResource names, each once. Where nobody has asked for its address, nothing points to it.
static void add_used(check_dispatch *dispatch, const obm_use *use) {
    check_memory *memory = use->memory->own;
    if (memory->apart == NULL) return;
    for (uint32_t i = dispatch->argument_count; i < dispatch->binding_count; i++) {
        check_binding *known = &dispatch->bindings[i];
        if (known->memory != memory) continue;
        known->writes |= use->writes;
        return;
    }
    dispatch->bindings[dispatch->binding_count++] =
        (check_binding){.memory = memory, .length = memory->length, .writes = use->writes};
}

static check_dispatch dispatch_of(const checker_context *checker, const obm_recording *recording,
                                  const obm_dispatch *recorded) {
    return (check_dispatch){.state = checker->state,
                            .recorded = recorded,
                            .signature = recorded->kernel->signature,
                            .code = recorded->kernel->code,
                            .owner = recording,
                            .command_buffer = checker->command_buffer};
}

static void run_dispatch(checker_context *checker, obm_recording *recording, const obm_dispatch *recorded) {
    const metallib_signature *signature = recorded->kernel->signature;
    check_dispatch dispatch = dispatch_of(checker, recording, recorded);
    if (!make_room(checker, recorded)) {
        obm_recording_fail_for_memory(recording);
        return;
    }
    dispatch.bindings = checker->bindings;
    if (recorded->indirect != NULL && !check_indirect(&dispatch, recorded->indirect->own, recorded->indirect_offset))
        obm_recording_fail_for_memory(recording);
    const uint32_t *groups = recorded->launch.threadgroups;
    if (groups[0] == 0 || groups[1] == 0 || groups[2] == 0) return;
    for (uint32_t i = 0; i < signature->argument_count; i++) {
        if (signature->arguments[i].kind != METALLIB_BUFFER) continue;
        dispatch.bindings[dispatch.binding_count++] = bound_to(&signature->arguments[i], recorded);
    }
    dispatch.argument_count = dispatch.binding_count;
    for (const obm_use *use = recorded->uses; use != NULL; use = use->next) add_used(&dispatch, use);
    bool done = check_run(&dispatch);
    if (check_findings_lost(check_state_findings(checker->state))) obm_recording_fail_for_memory(recording);
    if (done) return;
    obm_recording_fail(recording, OBM_ERROR_PAGE_FAULT, "a kernel was stopped; the command buffer's logs say why");
}

static bool resolve_phase(void *context, obm_recording *recording, obm_phase *phase) {
    const checker_context *checker = context;
    for (obm_dispatch *recorded = phase->first; recorded != NULL; recorded = recorded->next) {
        uint32_t counts[3];
        if (recorded->indirect == NULL) continue;
        // Looking at memory gives it pages, which must not count as written by the host.
        check_memory_take_over(recorded->indirect->own, checker->command_buffer);
        obm_indirect_counts(recorded, counts);
        check_memory_give_back(recorded->indirect->own, 0, 0);
        if (obm_dispatch_resolve(recording, recorded, counts)) continue;
        check_dispatch dispatch = dispatch_of(checker, recording, recorded);
        check_indirect_too_many(&dispatch, counts, recorded->indirect->own, recorded->indirect_offset);
        return false;
    }
    return true;
}

static void run_phase(void *context, obm_recording *recording, const obm_phase *phase) {
    checker_context *checker = context;
    check_begin_phase(checker->state);
    for (const obm_dispatch *d = phase->first; d != NULL; d = d->next) run_dispatch(checker, recording, d);
}

obm_serial *checker_executor_create(checker_context *context) {
    return obm_serial_create((obm_serial_work){.phase_size = sizeof(obm_phase),
                                               .dispatch_size = sizeof(obm_dispatch),
                                               .begin = begin,
                                               .resolve = resolve_phase,
                                               .run = run_phase,
                                               .context = context});
}
