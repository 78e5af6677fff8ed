// The calls by which kernels compiled for the checker reach whoever runs them. Their accesses to memory arrive
// through the calls that the compiler's -fsanitize=thread puts before them.
#ifndef OB_METALLIB_CHECKER_H
#define OB_METALLIB_CHECKER_H

#include "metallib.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { METALLIB_ACCESS_READ = 1, METALLIB_ACCESS_WRITE = 2, METALLIB_ACCESS_ATOMIC = 4 };
enum { METALLIB_LANES = 32, METALLIB_VALUE = 64 };  // lanes of a simdgroup; bytes of what one can give

// A loop or a function that a thread is in: on the thread's stack, from where it begins until it is left. Turns count by
// two, so that a loop's condition and its body have numbers of their own; they begin with 2.
typedef struct metallib_loop {
    struct metallib_loop *outer;
    const void *place;  // in the code, before the loop
    uint32_t turn;      // 0: a function
    uint32_t at;        // the statement in this turn or function, in the order of the source; 0: before the first
} metallib_loop;

// Where in the shader a call stands.
typedef struct metallib_place {
    const char *file;
    uint32_t line;
} metallib_place;

typedef struct metallib_checker {
    void (*access)(const void *address, uint32_t size, uint32_t flags, const void *pc);
    // The memory of `threadgroup T name`: the same for all threads of a threadgroup.
    void *(*variable)(const char *name, uint32_t size, uint32_t alignment, metallib_place at);
    void (*threadgroup_barrier)(uint32_t flags, metallib_place at);
    // Waits for the other lanes and returns what each gave, [lanes × size], until the thread waits again;
    // `active` says which lanes did. `kind` keeps different functions at one place apart.
    const void *(*simdgroup)(uint32_t kind, const void *value, uint32_t size, uint32_t *active, metallib_place at);
    uint32_t (*lane)(void);  // of the thread that runs
    void (*simdgroup_barrier)(uint32_t flags, metallib_place at);
    void (*fence)(uint32_t flags, uint32_t order);
    void (*inactive_lane)(uint32_t lane, metallib_place at);
    void (*out_of_bounds)(const char *type, int64_t index, metallib_place at);
    void (*division)(metallib_place at);  // of an integer by zero
    void (*endless)(void);                // metallib_checker_turns has come to 2^31; does not return
    void (*misaligned)(const void *address, uint32_t alignment, const char *type, metallib_place at);
} metallib_checker;

// Set by whoever loads the library, before it runs a kernel of it.
extern __attribute__((visibility("default"))) const metallib_checker *metallib_checker_calls;

// The innermost loop or function of the thread that runs. Whoever changes threads keeps it for each.
extern __attribute__((visibility("default"))) metallib_loop *metallib_checker_places;

// Turns of all loops of the thread that runs, since it went on last.
extern __attribute__((visibility("default"))) uint32_t metallib_checker_turns;

// A loop or a function begins, and is left: kernels call these, in their own library.
__attribute__((visibility("hidden"))) void metallib_enter_loop(metallib_loop *loop);
__attribute__((visibility("hidden"))) void metallib_leave_loop(metallib_loop *loop);

#ifdef __cplusplus
}
#endif
#endif
