#include "CheckerExecutor.h"

// A recording that goes on after it waited for an event counts as another one: the host may have written meanwhile.
static void begin(void *context, obm_recording *recording) {
    checker_context *checker = context;
    (void)recording;
    checker->command_buffer = check_new_command_buffer(checker->state);
}

static check_binding bound_to(const metallib_argument *argument, const obm_dispatch *dispatch) {
    const char *address = dispatch->launch.buffers[argument->index];
    obm_binding bound = dispatch->bindings[argument->index];
    check_binding binding = {.argument = argument, .length = bound.length};
    if (bound.memory == NULL) {
        binding.bytes = address;
    } else {
        binding.memory = bound.memory->own;
        binding.offset = (size_t)(address - bound.memory->address);
    }
    return binding;
}

static void run_dispatch(const checker_context *checker, obm_recording *recording, const obm_dispatch *recorded) {
    const metallib_signature *signature = recorded->kernel->signature;
    check_dispatch dispatch = {.state = checker->state,
                               .recorded = recorded,
                               .signature = signature,
                               .code = recorded->kernel->code,
                               .owner = recording,
                               .command_buffer = checker->command_buffer};
    const uint32_t *groups = recorded->launch.threadgroups;
    if (groups[0] == 0 || groups[1] == 0 || groups[2] == 0) return;
    for (uint32_t i = 0; i < signature->argument_count; i++) {
        if (signature->arguments[i].kind != METALLIB_BUFFER) continue;
        dispatch.bindings[dispatch.binding_count++] = bound_to(&signature->arguments[i], recorded);
    }
    bool done = check_run(&dispatch);
    if (check_findings_lost(check_state_findings(checker->state))) obm_recording_fail_for_memory(recording);
    if (done) return;
    obm_recording_fail(recording, OBM_ERROR_PAGE_FAULT, "a kernel was stopped; the command buffer's logs say why");
}

static void run_phase(void *context, obm_recording *recording, const obm_phase *phase) {
    const checker_context *checker = context;
    check_begin_phase(checker->state);
    for (const obm_dispatch *d = phase->first; d != NULL; d = d->next) run_dispatch(checker, recording, d);
}

obm_serial *checker_executor_create(checker_context *context) {
    return obm_serial_create((obm_serial_work){.phase_size = sizeof(obm_phase),
                                               .dispatch_size = sizeof(obm_dispatch),
                                               .begin = begin,
                                               .run = run_phase,
                                               .context = context});
}
