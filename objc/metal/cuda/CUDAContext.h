// One GPU as this process uses it: a context of its own with the one stream that all work goes through.
//
// Any thread may use it between cuda_enter and cuda_leave, which make it the thread's current one for that time.
#ifndef CUDA_CONTEXT_H
#define CUDA_CONTEXT_H

#include <stdbool.h>

#include "CUDADriver.h"

typedef struct cuda_context {
    const cuda_driver *driver;
    CUcontext context;
    CUstream stream;
    int ordinal;
    char hardware[128];    // the GPU's name
    char architecture[8];  // what its code is compiled for, such as "sm_90a"
    int major, minor;      // compute capability
    int cores;             // multiprocessors
    size_t memory;         // bytes
    uint32_t *started;     // the number of the last kernel that started, in memory of the host
    bool abandoned;        // a kernel on it does not end, and whoever gives memory back would wait for that
} cuda_context;

// GPUs that the driver shows; 0 without a driver.
int cuda_device_count(void);

// Fills in what is known of a GPU without using it. False, with the driver's words in *problem, if it cannot be used.
bool cuda_context_describe(cuda_context *context, int ordinal, const char **problem);

// Makes the context and its stream.
CUresult cuda_context_open(cuda_context *context);
void cuda_context_close(cuda_context *context);

// Whether what belongs to the context is to be left as it is: it is another process's, or abandoned.
static inline bool cuda_is_out_of_reach(const cuda_context *context) {
    return __atomic_load_n(&context->abandoned, __ATOMIC_RELAXED) || cuda_driver_forked();
}

static inline void cuda_enter(const cuda_context *context) { context->driver->cuCtxPushCurrent(context->context); }
static inline void cuda_leave(const cuda_context *context) {
    CUcontext own;
    context->driver->cuCtxPopCurrent(&own);
}

#endif
