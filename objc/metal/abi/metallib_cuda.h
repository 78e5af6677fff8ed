// How kernels compiled as CUDA C++ are found and called: what the shader compiler writes beside ob_metallib, and what
// the CUDA device of the Metal stand-in reads. Plain C and C++.
//
// The bundle's folder cuda/ has one file of CUDA C++ per unit, which needs no other file. NVRTC compiles one function
// of it with -DMETALLIB_KERNEL=number. Its parameters are the address of each buffer argument, in the order of the
// signature's arguments of kind METALLIB_BUFFER, and then one metallib_cuda_launch. A cubin that was compiled ahead is
// cuda/ARCHITECTURE/UNIT-NUMBER.cubin, with the unit's file name without .cu. A block has at most the signature's
// max_total_threads; a threadgroup at the edge of a grid of threads has a whole block, whose last threads return.
#ifndef OB_METALLIB_CUDA_H
#define OB_METALLIB_CUDA_H

#include "metallib.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { METALLIB_CUDA_THREADGROUP = 8 };  // [[threadgroup(n)]] with n below this

// What a kernel cannot read from its grid: the threads of the grid, which need not be whole threadgroups, and the
// offset of each [[threadgroup(n)]] in the dynamic shared memory, in bytes. A kernel that starts writes `number` to
// *started, memory of the host that outlives a kernel which breaks the GPU; NULL: it does not.
typedef struct metallib_cuda_launch {
    uint32_t grid[3];
    uint32_t threadgroup[METALLIB_CUDA_THREADGROUP];
    uint32_t number;
    uint32_t *started;
} metallib_cuda_launch;

typedef struct metallib_cuda_function {
    const char *symbol;  // name of the extern "C" __global__ function
    uint32_t unit;
    uint32_t number;
} metallib_cuda_function;

typedef struct metallib_cuda {
    uint32_t abi;  // METALLIB_ABI
    uint32_t unit_count;
    const char *const *units;                 // file names in the folder cuda/, which change with their contents
    const metallib_cuda_function *functions;  // in the order of ob_metallib's
} metallib_cuda;

extern __attribute__((visibility("default"))) const metallib_cuda ob_metallib_cuda;

#ifdef __cplusplus
}
#endif
#endif
