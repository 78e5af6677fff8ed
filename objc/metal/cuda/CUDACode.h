// The code of one kernel on the GPU, and the parameters that a dispatch passes to it.
//
// Code never changes once it is loaded, so any thread may use it.
#ifndef CUDA_CODE_H
#define CUDA_CODE_H

#include "CUDAMemory.h"
#include "metal/abi/metallib_cuda.h"

typedef struct cuda_code {
    const cuda_context *context;
    CUmodule module;
    CUfunction function;
    uint32_t max_threads;  // per threadgroup, as many as its registers allow
} cuda_code;

// Loads a kernel from machine code. The driver's result; the context is current.
CUresult cuda_code_load(cuda_code *code, const cuda_context *context, const void *image, const char *symbol);
void cuda_code_unload(cuda_code *code);

// What a launch needs; it points into itself, so it stays where it is.
typedef struct cuda_launch {
    CUDA_KERNEL_NODE_PARAMS node;
    void *addresses[METALLIB_MAX_BUFFERS];
    void *parameters[METALLIB_MAX_BUFFERS + 1];
    metallib_cuda_launch sizes;
} cuda_launch;

// Memory that bytes given with a call are copied to, which kernels reach. NULL when there is none left.
typedef void *(*cuda_take_bytes)(void *context, size_t length);

// False if the dispatch has an empty grid, so that nothing is to be done. Otherwise *result says whether it can run;
// `number` is what it tells of itself when it starts; `take` may be NULL where no dispatch has bytes. The context is
// current.
bool cuda_prepare(cuda_launch *launch, const obm_dispatch *dispatch, uint32_t number, cuda_take_bytes take, void *taker,
                  CUresult *result);

#endif
