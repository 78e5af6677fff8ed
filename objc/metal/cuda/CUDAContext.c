#include "CUDAContext.h"

#include <stdio.h>

enum { OLDEST_MAJOR = 8 };

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
    if (result == CUDA_SUCCESS)
        result = driver->cuDeviceGetAttribute(&context->cores, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device);
    if (result == CUDA_SUCCESS) result = driver->cuDeviceTotalMem(&context->memory, device);
    *problem = result != CUDA_SUCCESS          ? cuda_text(result)
               : context->major < OLDEST_MAJOR ? "it is older than compute capability 8.0"
                                               : NULL;
    // The variant with a letter has the instructions that only this generation has.
    snprintf(context->architecture, sizeof context->architecture, "sm_%u%u%s", (unsigned)context->major % 100,
             (unsigned)context->minor % 10, context->major >= 9 ? "a" : "");
    return *problem == NULL;
}

CUresult cuda_context_open(cuda_context *context) {
    const cuda_driver *driver = context->driver;
    CUdevice device;
    CUresult result = driver->cuDeviceGet(&device, context->ordinal);
    if (result == CUDA_SUCCESS) result = driver->cuCtxCreate(&context->context, CU_CTX_SCHED_AUTO, device);
    if (result != CUDA_SUCCESS) return result;
    result = driver->cuStreamCreate(&context->stream, CU_STREAM_NON_BLOCKING);
    if (result == CUDA_SUCCESS)
        result = driver->cuMemHostAlloc((void **)&context->started, sizeof *context->started,
                                        CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
    if (result == CUDA_SUCCESS) *context->started = 0;
    cuda_leave(context);
    if (result != CUDA_SUCCESS) cuda_context_close(context);
    return result;
}

void cuda_context_close(cuda_context *context) {
    if (context->context == NULL || cuda_is_out_of_reach(context)) return;
    cuda_enter(context);
    if (context->started != NULL) context->driver->cuMemFreeHost(context->started);
    if (context->stream != NULL) context->driver->cuStreamDestroy(context->stream);
    cuda_leave(context);
    context->driver->cuCtxDestroy(context->context);
    context->context = NULL;
}
