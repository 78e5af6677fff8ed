// Stacks that overflow: below each lies memory that nobody may touch, and a signal tells who did.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include "CheckState.h"

enum { SIGNALS = 2, ALTERNATE = 64 << 10 };
static const int numbers[SIGNALS] = {SIGSEGV, SIGBUS};

// What a system thread had before its checker ran.
static __thread struct sigaction before[SIGNALS];
static __thread stack_t stack_before;
static __thread sigset_t mask_before;

static uintptr_t pc_of(const void *context) {
#if defined(__linux__) && defined(__x86_64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__linux__) && defined(__aarch64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.pc;
#else
    (void)context;
    return 0;
#endif
}

// The kernel's code touched the memory below its stack: a finding, and the thread goes no further. Whatever else it is,
// the handler from before finds when the access is tried again.
static void on_signal(int number, siginfo_t *info, void *context) {
    check_state *state = check_current;
    size_t at = state == NULL ? SIZE_MAX : (size_t)((uintptr_t)info->si_addr - (uintptr_t)state->stacks.memory);
    if (state == NULL || state->running == NULL || at >= state->stacks.length ||
        at % (CHECK_STACK + CHECK_GUARD) >= CHECK_GUARD) {
        for (int i = 0; i < SIGNALS; i++) {
            if (numbers[i] == number) sigaction(number, &before[i], NULL);
        }
        return;
    }
    check_finding finding = check_finding_here(state, CHECK_STACK_OVERFLOW);
    uintptr_t from = pc_of(context) - (uintptr_t)state->dispatch->code->base;
    finding.here.code = true;
    if (from < UINT32_MAX) finding.here.pc = (uint32_t)from + 1;
    snprintf(finding.text, sizeof finding.text, "local variables and calls take more than %d bytes", CHECK_STACK);
    check_findings_add(&state->findings, &finding);
    check_stop(state);
}

bool check_watch_stacks(void) {
    stack_t own = {.ss_sp = malloc(ALTERNATE), .ss_size = ALTERNATE};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    if (own.ss_sp == NULL) return false;
    if (sigaltstack(&own, &stack_before) != 0) {
        free(own.ss_sp);
        return false;
    }
    sigset_t mask;
    sigemptyset(&action.sa_mask);
    sigemptyset(&mask);
    for (int i = 0; i < SIGNALS; i++) {
        sigaction(numbers[i], &action, &before[i]);
        sigaddset(&mask, numbers[i]);
    }
    pthread_sigmask(SIG_UNBLOCK, &mask, &mask_before);  // one that is blocked ends the program
    return true;
}

void check_leave_stacks(void) {
    stack_t own;
    pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
    for (int i = 0; i < SIGNALS; i++) sigaction(numbers[i], &before[i], NULL);
    if (sigaltstack(&stack_before, &own) == 0) free(own.ss_sp);
}
