#include "CUDAMemory.h"

#include <stdlib.h>
#include <string.h>

static CUresult allocate_private(const cuda_context *context, size_t length, obm_memory *memory) {
    const cuda_driver *driver = context->driver;
    CUdeviceptr address;
    CUresult result = driver->cuMemAlloc(&address, length);
    if (result != CUDA_SUCCESS) return result;
    result = driver->cuMemsetD8Async(address, 0, length, context->stream);
    if (result == CUDA_SUCCESS) {
        *memory = (obm_memory){.address = (char *)address, .length = length};
        return result;
    }
    driver->cuMemFree(address);
    return result;
}

static CUresult allocate_shared(const cuda_context *context, size_t length, obm_memory *memory) {
    const cuda_driver *driver = context->driver;
    void *bytes;
    CUdeviceptr address;
    CUresult result = driver->cuMemHostAlloc(&bytes, length, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
    if (result != CUDA_SUCCESS) return result;
    result = driver->cuMemHostGetDevicePointer(&address, bytes, 0);
    if (result == CUDA_SUCCESS) {
        memset(bytes, 0, length);
        *memory = (obm_memory){.bytes = bytes, .address = (char *)address, .length = length};
        return result;
    }
    driver->cuMemFreeHost(bytes);
    return result;
}

bool cuda_memory_new(const cuda_context *context, cuda_memory_kind kind, size_t length, obm_memory *memory,
                     CUresult *result) {
    cuda_memory *own = calloc(1, sizeof *own);
    *result = CUDA_ERROR_OUT_OF_MEMORY;
    if (own != NULL && cuda_is_out_of_reach(context)) *result = CUDA_ERROR_LAUNCH_TIMEOUT;
    if (own == NULL || cuda_is_out_of_reach(context)) {
        free(own);
        return false;
    }
    cuda_enter(context);
    *result =
        kind == CUDA_PRIVATE ? allocate_private(context, length, memory) : allocate_shared(context, length, memory);
    cuda_leave(context);
    if (*result != CUDA_SUCCESS) {
        free(own);
        return false;
    }
    own->kind = kind;
    own->reachable = true;
    memory->own = own;
    return true;
}

bool cuda_memory_wrap(void *bytes, size_t length, obm_memory *memory) {
    cuda_memory *own = calloc(1, sizeof *own);
    if (own == NULL) return false;
    own->kind = CUDA_CALLERS;
    *memory = (obm_memory){.bytes = bytes, .address = bytes, .length = length, .own = own};
    return true;
}

void cuda_memory_free(const cuda_context *context, obm_memory *memory) {
    cuda_memory *own = memory->own;
    if (own == NULL || cuda_is_out_of_reach(context)) return;
    cuda_enter(context);
    if (own->kind == CUDA_PRIVATE) context->driver->cuMemFree((CUdeviceptr)memory->address);
    else if (own->kind == CUDA_SHARED) context->driver->cuMemFreeHost(memory->bytes);
    else if (own->registered) context->driver->cuMemHostUnregister(memory->bytes);
    cuda_leave(context);
    free(own);
    memory->own = NULL;
}

CUresult cuda_memory_reach(const cuda_context *context, const obm_memory *memory) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  // rare: once per buffer over the caller's memory
    cuda_memory *own = memory->own;
    if (own->reachable) return CUDA_SUCCESS;
    pthread_mutex_lock(&lock);
    CUresult result = CUDA_SUCCESS;
    if (!own->reachable) {
        const cuda_driver *driver = context->driver;
        result = driver->cuMemHostRegister(memory->bytes, memory->length, CU_MEMHOSTREGISTER_DEVICEMAP);
        if (result == CUDA_SUCCESS) own->registered = true;
        else if (result != CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED)  // a file that is mapped to be read
            result = driver->cuMemHostRegister(memory->bytes, memory->length,
                                               CU_MEMHOSTREGISTER_DEVICEMAP | CU_MEMHOSTREGISTER_READ_ONLY);
        if (result == CUDA_SUCCESS) own->registered = true;
        if (result == CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED) result = CUDA_SUCCESS;  // by another buffer over it
        own->reachable = result == CUDA_SUCCESS;
    }
    pthread_mutex_unlock(&lock);
    return result;
}
