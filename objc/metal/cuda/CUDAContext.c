#include "CUDAContext.h"

#include <stdio.h>
#include <time.h>

enum { OLDEST_MAJOR = 8, CLOSING_WAITS = 2000 };  // milliseconds

// Contexts that are open or being closed and that a kernel broke: until they are gone, the driver makes no new one.
static int broken;

static void nap(void) { nanosleep(&(struct timespec){0, 1000000}, NULL); }

void cuda_context_break(cuda_context *context) {
    if (!__atomic_exchange_n(&context->broken, true, __ATOMIC_SEQ_CST))
        __atomic_add_fetch(&broken, 1, __ATOMIC_SEQ_CST);
}

int cuda_device_count(void) {
    const cuda_driver *driver = cuda_driver_open();
    int count = 0;
    return driver != NULL && driver->cuDeviceGetCount(&count) == CUDA_SUCCESS ? count : 0;
}

bool cuda_context_describe(cuda_context *context, int ordinal, const char **problem) {
    const cuda_driver *driver = cuda_driver_open();
    CUdevice device;
    *context = (cuda_context){.driver = driver, .ordinal = ordinal};
    CUresult result = driver->cuDeviceGet(&device, ordinal);
    if (result == CUDA_SUCCESS) result = driver->cuDeviceGetName(context->hardware, sizeof context->hardware, device);
    if (result == CUDA_SUCCESS)
        result = driver->cuDeviceGetAttribute(&context->major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device);
    if (result == CUDA_SUCCESS)
        result = driver->cuDeviceGetAttribute(&context->minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device);
    if (result == CUDA_SUCCESS) result = driver->cuDeviceTotalMem(&context->memory, device);
    *problem = result != CUDA_SUCCESS          ? cuda_text(result)
               : context->major < OLDEST_MAJOR ? "it is older than compute capability 8.0"
                                               : NULL;
    // The variant with a letter has the instructions that only this generation has.
    snprintf(context->architecture, sizeof context->architecture, "sm_%u%u%s", (unsigned)context->major % 100,
             (unsigned)context->minor % 10, context->major >= 9 ? "a" : "");
    return *problem == NULL;
}

bool cuda_context_open(cuda_context *context, const char **problem) {
    const cuda_driver *driver = context->driver;
    CUdevice device;
    for (int i = 0; i < CLOSING_WAITS && __atomic_load_n(&broken, __ATOMIC_SEQ_CST) > 0; i++) nap();
    CUresult result = driver->cuDeviceGet(&device, context->ordinal);
    if (result == CUDA_SUCCESS) result = driver->cuCtxCreate(&context->context, CU_CTX_SCHED_AUTO, device);
    *problem = cuda_text(result);
    if (result != CUDA_SUCCESS) return false;
    result = driver->cuStreamCreate(&context->stream, CU_STREAM_NON_BLOCKING);
    if (result == CUDA_SUCCESS)
        result = driver->cuMemHostAlloc((void **)&context->started, sizeof *context->started,
                                        CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
    if (result == CUDA_SUCCESS) *context->started = 0;
    cuda_leave(context);
    if (result == CUDA_SUCCESS) return true;
    *problem = cuda_text(result);
    cuda_context_close(context);
    return false;
}

void cuda_context_close(cuda_context *context) {
    if (context->context == NULL || cuda_is_out_of_reach(context)) return;
    cuda_enter(context);
    if (context->started != NULL) context->driver->cuMemFreeHost(context->started);
    if (context->stream != NULL) context->driver->cuStreamDestroy(context->stream);
    cuda_leave(context);
    context->driver->cuCtxDestroy(context->context);
    context->context = NULL;
    if (context->broken) __atomic_sub_fetch(&broken, 1, __ATOMIC_SEQ_CST);
}
