// A driver of CUDA that passes every call on to another one and counts it: what a program asks of a real GPU's driver.
//
// OB_CUDA_DRIVER names this library. It passes calls on to libcuda.so.1, or to the library that COUNT_CUDA_DRIVER names,
// and writes the calls of each function to the file COUNT_CUDA_FILE when the process ends, or calls write_counts().
//
// COUNT_CUDA_FAIL has faults, each FUNCTION:NUMBER=RESULT: that call of that function, counted from 1, gives the result
// and is not passed on. COUNT_CUDA_KERNELS is a file to which the name of each kernel is added that a process launches,
// when it does so first.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

// ---- kernels that are launched

enum { KERNELS = 4096 };
static struct {
    CUfunction function;
    char name[160];
    bool written;
} kernels[KERNELS];
static size_t kernel_count;
static pthread_mutex_t kernels_lock = PTHREAD_MUTEX_INITIALIZER;
static CUresult (*real_get_function)(CUfunction *, CUmodule, const char *);
static CUresult (*real_launch)(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                               CUstream, void **, void **);
static CUresult (*real_add_node)(CUgraphNode *, CUgraph, const CUgraphNode *, size_t, const CUDA_KERNEL_NODE_PARAMS *);

static CUresult get_function(CUfunction *function, CUmodule module, const char *name) {
    CUresult result = real_get_function(function, module, name);
    pthread_mutex_lock(&kernels_lock);
    if (result == CUDA_SUCCESS && kernel_count < KERNELS) {
        size_t i = 0;  // a module that is unloaded leaves its number to another one
        while (i < kernel_count && kernels[i].function != *function) i++;
        if (i == kernel_count) kernel_count++;
        kernels[i].function = *function;
        kernels[i].written = false;
        snprintf(kernels[i].name, sizeof kernels[i].name, "%s\n", name);
    }
    pthread_mutex_unlock(&kernels_lock);
    return result;
}

static void note(CUfunction function) {
    pthread_mutex_lock(&kernels_lock);
    for (size_t i = 0; i < kernel_count; i++) {
        if (kernels[i].function != function || kernels[i].written) continue;
        kernels[i].written = true;
        int file = open(getenv("COUNT_CUDA_KERNELS"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        size_t length = strlen(kernels[i].name);
        if (file < 0 || write(file, kernels[i].name, length) != (ssize_t)length) abort();
        close(file);
    }
    pthread_mutex_unlock(&kernels_lock);
}

static CUresult launch(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                       unsigned bz, unsigned memory, CUstream stream, void **parameters, void **extra) {
    note(function);
    return real_launch(function, gx, gy, gz, bx, by, bz, memory, stream, parameters, extra);
}

static CUresult add_node(CUgraphNode *node, CUgraph graph, const CUgraphNode *before, size_t count,
                         const CUDA_KERNEL_NODE_PARAMS *parameters) {
    note(parameters->func);
    return real_add_node(node, graph, before, count, parameters);
}

static void watch_kernels(void) {
    *(void **)&real_get_function = (void *)targets[CALL_cuModuleGetFunction];
    *(void **)&real_launch = (void *)targets[CALL_cuLaunchKernel];
    *(void **)&real_add_node = (void *)targets[CALL_cuGraphAddKernelNode];
    if (real_get_function == NULL || real_launch == NULL || real_add_node == NULL) return;
    *(void **)&targets[CALL_cuModuleGetFunction] = (void *)get_function;
    *(void **)&targets[CALL_cuLaunchKernel] = (void *)launch;
    *(void **)&targets[CALL_cuGraphAddKernelNode] = (void *)add_node;
}

// ---- faults

// What a call gives in place of the driver's result; 0: it is passed on.
static CUresult fault(int call, unsigned number) {
    char start[64];
    int length = snprintf(start, sizeof start, "%s:%u=", functions[call].name, number);
    for (const char *at = getenv("COUNT_CUDA_FAIL"); at != NULL;) {
        if (strncmp(at, start, (size_t)length) == 0) return (CUresult)atoi(at + length);
        at = strchr(at, ',');
        if (at != NULL) at++;
    }
    return CUDA_SUCCESS;
}

// ----

__attribute__((constructor)) static void find_targets(void) {
    const char *named = getenv("COUNT_CUDA_DRIVER");
    void *driver = dlopen(named != NULL ? named : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    for (int i = 0; driver != NULL && i < CALLS; i++) *(void **)&targets[i] = dlsym(driver, functions[i].symbol);
    if (getenv("COUNT_CUDA_KERNELS") != NULL) watch_kernels();
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
        void *arguments = __builtin_apply_args();                                                     \
        unsigned number = atomic_fetch_add_explicit(&counts[CALL_##name], 1, memory_order_relaxed) + 1; \
        CUresult result = fault(CALL_##name, number);                                                 \
        if (result != CUDA_SUCCESS) return result;                                                    \
        if (targets[CALL_##name] == NULL) return NOT_THERE;                                           \
        __builtin_return(__builtin_apply(targets[CALL_##name], arguments, STACK_BYTES));              \
    }
CUDA_DRIVER_FUNCTIONS(FORWARD)
