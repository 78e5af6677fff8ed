// The memory behind a buffer: on the GPU, of the host and mapped into the GPU's addresses, or the caller's own.
#ifndef CUDA_MEMORY_H
#define CUDA_MEMORY_H

#include <pthread.h>

#include "CUDAContext.h"
#include "metal/base/OBMRecording.h"

typedef enum {
    CUDA_PRIVATE,  // of the GPU
    CUDA_SHARED,   // of the host, seen by both
    CUDA_CALLERS,  // of the caller: the GPU sees it from the first dispatch on that binds it; copies do without
} cuda_memory_kind;

typedef struct cuda_memory {
    cuda_memory_kind kind;
    bool reachable;       // the GPU can reach it at the host's address
    bool registered;      // and that is to be undone
    uint64_t written_in;  // the graph last built in which a kernel writes it
} cuda_memory;

// Zeroed memory, and the caller's. `memory` is filled in, and its `own` is a cuda_memory. False, with the driver's
// result in *result, if there is none left.
bool cuda_memory_new(const cuda_context *context, cuda_memory_kind kind, size_t length, obm_memory *memory,
                     CUresult *result);
bool cuda_memory_wrap(void *bytes, size_t length, obm_memory *memory);
void cuda_memory_free(const cuda_context *context, obm_memory *memory);

// Makes memory of the caller reachable for kernels. The context is current.
CUresult cuda_memory_reach(const cuda_context *context, const obm_memory *memory);

#endif
