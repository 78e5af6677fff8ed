#define _GNU_SOURCE
#include "CheckFiber.h"

#include <stdlib.h>
#include <sys/mman.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// The object formats of Linux and macOS have other directives for a function that only this library calls.
#if defined(__APPLE__)
#define BEGIN(name) ".text\n.p2align 2\n.private_extern _" name "\n.globl _" name "\n_" name ":\n"
#define END(name) ""
#else
#if defined(__aarch64__)
#define FUNCTION "%function"
#else
#define FUNCTION "@function"
#endif
#define BEGIN(name) ".text\n.type " name ", " FUNCTION "\n.hidden " name "\n.globl " name "\n" name ":\n"
#define END(name) ".size " name ", . - " name "\n"
#endif

// A switch saves what the C calling convention says a call preserves, and changes stacks.
#if defined(__x86_64__)

__asm__(BEGIN("check_exchange")  //
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq (%rsi), %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  ret\n" END("check_exchange") BEGIN("check_begin")  //
        "  movq %r12, %rdi\n"
        "  callq *%r13\n"
        "  ud2\n" END("check_begin"));

// The ninth word aligns the stack as a call expects it.
enum { SAVED = 9, PLACE_OF_ARGUMENT = 3, PLACE_OF_BODY = 2, PLACE_OF_RETURN = 6 };

#elif defined(__aarch64__)

__asm__(BEGIN("check_exchange")  //
        "  sub sp, sp, #176\n"
        "  stp x19, x20, [sp, #0]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n"
        "  stp x25, x26, [sp, #48]\n  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
        "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
        "  mov x9, sp\n  str x9, [x0]\n  ldr x9, [x1]\n  mov sp, x9\n"
        "  ldp x19, x20, [sp, #0]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n"
        "  ldp x25, x26, [sp, #48]\n  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
        "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
        "  add sp, sp, #176\n"
        "  ret\n" END("check_exchange") BEGIN("check_begin")  //
        "  mov x0, x19\n"
        "  blr x20\n"
        "  brk #1\n" END("check_begin"));

enum { SAVED = 22, PLACE_OF_ARGUMENT = 0, PLACE_OF_BODY = 1, PLACE_OF_RETURN = 11 };

#else
#error "fibers need a switch for this processor"
#endif

void check_begin(void);
void check_exchange(check_context *from, const check_context *to);

bool check_stacks_make(check_stacks *stacks, uint32_t count) {
    size_t each = CHECK_STACK + CHECK_GUARD;
    char *memory = mmap(NULL, each * count, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    *stacks = (check_stacks){memory, each * count, count};
    for (uint32_t i = 0; i < count; i++) {
        if (mprotect(memory + each * i + CHECK_GUARD, CHECK_STACK, PROT_READ | PROT_WRITE) == 0) continue;
        check_stacks_free(stacks);
        return false;
    }
    return true;
}

void check_stacks_free(check_stacks *stacks) {
    if (stacks->memory != NULL) munmap(stacks->memory, stacks->length);
    *stacks = (check_stacks){NULL, 0, 0};
}

void check_fiber_start(check_context *fiber, const check_stacks *stacks, uint32_t index, void (*body)(void *),
                       void *argument) {
    char *top = stacks->memory + (size_t)(CHECK_STACK + CHECK_GUARD) * (index + 1);
    void **saved = (void **)top - SAVED;
    for (int i = 0; i < SAVED; i++) saved[i] = NULL;
    saved[PLACE_OF_ARGUMENT] = argument;
    saved[PLACE_OF_BODY] = (void *)body;
    saved[PLACE_OF_RETURN] = (void *)check_begin;
    fiber->stack_pointer = saved;
#ifdef __SANITIZE_ADDRESS__
    fiber->bottom = top - CHECK_STACK;
    fiber->size = CHECK_STACK;
    __asan_unpoison_memory_region(fiber->bottom, fiber->size);
#endif
}

#ifdef __SANITIZE_ADDRESS__

void check_switch(check_context *from, const check_context *to) {
    __sanitizer_start_switch_fiber(&from->fake, to->bottom, to->size);
    check_exchange(from, to);
    __sanitizer_finish_switch_fiber(from->fake, NULL, NULL);
}

void check_arrive(check_context *from) { __sanitizer_finish_switch_fiber(NULL, &from->bottom, &from->size); }

#else

void check_switch(check_context *from, const check_context *to) { check_exchange(from, to); }
void check_arrive(check_context *from) { (void)from; }

#endif
