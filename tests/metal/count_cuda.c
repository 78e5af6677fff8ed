// A driver of CUDA that passes every call on to another one and counts it: what a program asks of a real GPU's driver.
//
// OB_CUDA_DRIVER names this library. It passes calls on to libcuda.so.1, or to the library that COUNT_CUDA_DRIVER names,
// and writes the calls of each function to the file COUNT_CUDA_FILE when the process ends, or calls write_counts().
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "metal/cuda/CUDADriver.h"

enum { NOT_THERE = 303, STACK_BYTES = 128 };  // the driver's number for a library that does not load; parameters

enum {
#define NUMBER(name, suffix, parameters) CALL_##name,
    CUDA_DRIVER_FUNCTIONS(NUMBER)
#undef NUMBER
        CALLS
};

static const struct {
    const char *name, *symbol;
} functions[] = {
#define FUNCTION(name, suffix, parameters) {#name, #name suffix},
    CUDA_DRIVER_FUNCTIONS(FUNCTION)
#undef FUNCTION
};
static atomic_uint counts[CALLS];
static void (*targets[CALLS])();

__attribute__((constructor)) static void find_targets(void) {
    const char *named = getenv("COUNT_CUDA_DRIVER");
    void *driver = dlopen(named != NULL ? named : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    for (int i = 0; driver != NULL && i < CALLS; i++) *(void **)&targets[i] = dlsym(driver, functions[i].symbol);
}

__attribute__((destructor, visibility("default"))) void write_counts(void) {
    const char *path = getenv("COUNT_CUDA_FILE");
    FILE *file = path != NULL ? fopen(path, "w") : NULL;
    for (int i = 0; file != NULL && i < CALLS; i++) fprintf(file, "%s %u\n", functions[i].name, counts[i]);
    if (file != NULL) fclose(file);
}

// The compiler passes parameters on that the function does not name.
#define FORWARD(name, suffix, parameters)                                                             \
    CUresult forward_##name() __asm__(#name suffix);                                                  \
    __attribute__((visibility("default"), noinline)) CUresult forward_##name() {                      \
        atomic_fetch_add_explicit(&counts[CALL_##name], 1, memory_order_relaxed);                     \
        if (targets[CALL_##name] == NULL) return NOT_THERE;                                           \
        __builtin_return(__builtin_apply(targets[CALL_##name], __builtin_apply_args(), STACK_BYTES)); \
    }
CUDA_DRIVER_FUNCTIONS(FORWARD)
