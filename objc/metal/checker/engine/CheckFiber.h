// Fibers: threads of a kernel that give way to one another by themselves, all on one system thread.
#ifndef CHECK_FIBER_H
#define CHECK_FIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHECK_STACK = 256 << 10, CHECK_GUARD = 64 << 10 };  // bytes of a fiber's stack, and below it

// A fiber goes on from its stack pointer: everything else lies there.
typedef struct check_context {
    void *stack_pointer;
#ifdef __SANITIZE_ADDRESS__
    // The address sanitizer wants to know these of stacks.
    void *fake;
    const void *bottom;
    size_t size;
#endif
} check_context;

// Stacks for `count` fibers in one piece of address space; memory comes as they are used.
typedef struct check_stacks {
    char *memory;
    size_t length;
    uint32_t count;
} check_stacks;

bool check_stacks_make(check_stacks *stacks, uint32_t count);
void check_stacks_free(check_stacks *stacks);

// A fiber that will call body(argument) on stack `index`. The body never returns: it switches away.
void check_fiber_start(check_context *fiber, const check_stacks *stacks, uint32_t index, void (*body)(void *),
                       void *argument);

// Saves where the caller is in `from` and goes on with `to`.
void check_switch(check_context *from, const check_context *to);

// The first thing that a fiber does; `from` is who started it.
void check_arrive(check_context *from);

#endif
