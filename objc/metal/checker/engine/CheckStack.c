// Stacks that overflow: below each lies memory that nobody may touch, and a signal tells who did.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ucontext.h>

#include "CheckState.h"

enum { SIGNALS = 2, ALTERNATE = 64 << 10 };
static const int numbers[SIGNALS] = {SIGSEGV, SIGBUS};

// Handlers are the process's: the first checker that runs installs its own, the last one puts back what was there.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t users;
static struct sigaction before[SIGNALS];
// Stacks and masks are a system thread's.
static __thread stack_t stack_before;
static __thread sigset_t mask_before;

static uintptr_t pc_of(const void *context) {
#if defined(__linux__) && defined(__x86_64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__linux__) && defined(__aarch64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.pc;
#elif defined(__APPLE__) && defined(__x86_64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext->__ss.__rip;
#elif defined(__APPLE__) && defined(__aarch64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext->__ss.__pc;
#else
    (void)context;
    return 0;
#endif
}

// A fault that is no thread's of a kernel, of any thread of the process: as if this handler were not there.
static void pass_on(int number, siginfo_t *info, void *context) {
    const struct sigaction *earlier = &before[number == numbers[0] ? 0 : 1];
    if (earlier->sa_flags & SA_SIGINFO) earlier->sa_sigaction(number, info, context);
    else if (earlier->sa_handler != SIG_DFL && earlier->sa_handler != SIG_IGN) earlier->sa_handler(number);
    else sigaction(number, earlier, NULL);  // and the access is tried again
}

// The kernel's code touched the memory below its stack: a finding, and the thread goes no further.
static void on_signal(int number, siginfo_t *info, void *context) {
    check_state *state = check_current;
    size_t at = state == NULL ? SIZE_MAX : (size_t)((uintptr_t)info->si_addr - (uintptr_t)state->stacks.memory);
    if (state == NULL || state->running == NULL || at >= state->stacks.length ||
        at % (CHECK_STACK + CHECK_GUARD) >= CHECK_GUARD) {
        pass_on(number, info, context);
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
    pthread_mutex_lock(&lock);
    for (int i = 0; i < SIGNALS; i++) {
        if (users == 0) sigaction(numbers[i], &action, &before[i]);
        sigaddset(&mask, numbers[i]);
    }
    users++;
    pthread_mutex_unlock(&lock);
    pthread_sigmask(SIG_UNBLOCK, &mask, &mask_before);  // one that is blocked ends the program
    return true;
}

void check_leave_stacks(void) {
    stack_t own;
    pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
    pthread_mutex_lock(&lock);
    users--;
    for (int i = 0; users == 0 && i < SIGNALS; i++) {
        struct sigaction now;
        bool mine = sigaction(numbers[i], NULL, &now) == 0 && now.sa_sigaction == on_signal;
        if (mine) sigaction(numbers[i], &before[i], NULL);
    }
    pthread_mutex_unlock(&lock);
    if (sigaltstack(&stack_before, &own) == 0) free(own.ss_sp);
}
