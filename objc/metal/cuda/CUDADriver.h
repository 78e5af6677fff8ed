// NVIDIA's driver, opened at run time: one build serves machines with and without it.
//
// The types and values are those of the driver's published interface (CUDA Driver API 12.3 and newer). Every function
// may be called from any thread that has a context current.
#ifndef CUDA_DRIVER_H
#define CUDA_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int CUresult, CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphNode_st *CUgraphNode;
typedef struct CUgraphExec_st *CUgraphExec;

enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_READY = 600,
    CUDA_ERROR_ILLEGAL_ADDRESS = 700,
    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701,
    CUDA_ERROR_LAUNCH_TIMEOUT = 702,
    CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED = 712,
    CUDA_ERROR_HARDWARE_STACK_ERROR = 714,
    CUDA_ERROR_ILLEGAL_INSTRUCTION = 715,
    CUDA_ERROR_MISALIGNED_ADDRESS = 716,
    CUDA_ERROR_INVALID_ADDRESS_SPACE = 717,
    CUDA_ERROR_INVALID_PC = 718,
    CUDA_ERROR_LAUNCH_FAILED = 719,
};

enum {
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
    CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 0,
    CU_CTX_SCHED_AUTO = 0,
    CU_STREAM_NON_BLOCKING = 1,
    CU_EVENT_DEFAULT = 0,
    CU_MEMHOSTALLOC_PORTABLE = 1,
    CU_MEMHOSTALLOC_DEVICEMAP = 2,
    CU_MEMHOSTREGISTER_DEVICEMAP = 2,
    CU_MEMHOSTREGISTER_READ_ONLY = 8,
    CU_GRAPH_PORT_PROGRAMMATIC = 1,
    CU_GRAPH_DEPENDENCY_PROGRAMMATIC = 1,
};

typedef struct CUDA_KERNEL_NODE_PARAMS {
    CUfunction func;
    unsigned gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
    void **kernelParams, **extra;
    void *kern;
    CUcontext ctx;
} CUDA_KERNEL_NODE_PARAMS;

typedef struct CUgraphEdgeData {
    unsigned char from_port, to_port, type, reserved[5];
} CUgraphEdgeData;

// Each function with the symbol's suffix and its parameters.
#define CUDA_DRIVER_FUNCTIONS(F)                                                                                      \
    F(cuInit, "", (unsigned))                                                                                         \
    F(cuDriverGetVersion, "", (int *))                                                                                \
    F(cuGetErrorName, "", (CUresult, const char **))                                                                  \
    F(cuGetErrorString, "", (CUresult, const char **))                                                                \
    F(cuDeviceGetCount, "", (int *))                                                                                  \
    F(cuDeviceGet, "", (CUdevice *, int))                                                                             \
    F(cuDeviceGetName, "", (char *, int, CUdevice))                                                                   \
    F(cuDeviceGetAttribute, "", (int *, int, CUdevice))                                                               \
    F(cuDeviceTotalMem, "_v2", (size_t *, CUdevice))                                                                  \
    F(cuCtxCreate, "_v2", (CUcontext *, unsigned, CUdevice))                                                          \
    F(cuCtxDestroy, "_v2", (CUcontext))                                                                               \
    F(cuCtxPushCurrent, "_v2", (CUcontext))                                                                           \
    F(cuCtxPopCurrent, "_v2", (CUcontext *))                                                                          \
    F(cuMemGetInfo, "_v2", (size_t *, size_t *))                                                                      \
    F(cuMemAlloc, "_v2", (CUdeviceptr *, size_t))                                                                     \
    F(cuMemFree, "_v2", (CUdeviceptr))                                                                                \
    F(cuMemHostAlloc, "", (void **, size_t, unsigned))                                                                \
    F(cuMemFreeHost, "", (void *))                                                                                    \
    F(cuMemHostGetDevicePointer, "_v2", (CUdeviceptr *, void *, unsigned))                                            \
    F(cuMemHostRegister, "_v2", (void *, size_t, unsigned))                                                           \
    F(cuMemHostUnregister, "", (void *))                                                                              \
    F(cuMemcpyAsync, "", (CUdeviceptr, CUdeviceptr, size_t, CUstream))                                                \
    F(cuMemcpyHtoDAsync, "_v2", (CUdeviceptr, const void *, size_t, CUstream))                                        \
    F(cuMemcpyDtoHAsync, "_v2", (void *, CUdeviceptr, size_t, CUstream))                                              \
    F(cuMemsetD8Async, "", (CUdeviceptr, unsigned char, size_t, CUstream))                                            \
    F(cuStreamCreate, "", (CUstream *, unsigned))                                                                     \
    F(cuStreamDestroy, "_v2", (CUstream))                                                                             \
    F(cuStreamSynchronize, "", (CUstream))                                                                            \
    F(cuEventCreate, "", (CUevent *, unsigned))                                                                       \
    F(cuEventDestroy, "_v2", (CUevent))                                                                               \
    F(cuEventRecord, "", (CUevent, CUstream))                                                                         \
    F(cuEventQuery, "", (CUevent))                                                                                    \
    F(cuEventElapsedTime, "", (float *, CUevent, CUevent))                                                            \
    F(cuModuleLoadData, "", (CUmodule *, const void *))                                                               \
    F(cuModuleUnload, "", (CUmodule))                                                                                 \
    F(cuModuleGetFunction, "", (CUfunction *, CUmodule, const char *))                                                \
    F(cuFuncGetAttribute, "", (int *, int, CUfunction))                                                               \
    F(cuLaunchKernel, "",                                                                                             \
      (CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, void **, void **)) \
    F(cuGraphCreate, "", (CUgraph *, unsigned))                                                                       \
    F(cuGraphDestroy, "", (CUgraph))                                                                                  \
    F(cuGraphAddKernelNode, "_v2",                                                                                    \
      (CUgraphNode *, CUgraph, const CUgraphNode *, size_t, const CUDA_KERNEL_NODE_PARAMS *))                         \
    F(cuGraphAddDependencies, "_v2",                                                                                  \
      (CUgraph, const CUgraphNode *, const CUgraphNode *, const CUgraphEdgeData *, size_t))                           \
    F(cuGraphInstantiateWithFlags, "", (CUgraphExec *, CUgraph, unsigned long long))                                  \
    F(cuGraphUpload, "", (CUgraphExec, CUstream))                                                                     \
    F(cuGraphLaunch, "", (CUgraphExec, CUstream))                                                                     \
    F(cuGraphExecDestroy, "", (CUgraphExec))

typedef struct cuda_driver {
#define CUDA_MEMBER(name, suffix, parameters) CUresult(*name) parameters;
    CUDA_DRIVER_FUNCTIONS(CUDA_MEMBER)
#undef CUDA_MEMBER
    int version;  // 12030 for 12.3
} cuda_driver;

// The driver, opened and initialised at the first call; NULL where it cannot be used. OB_CUDA_DRIVER names a library
// to open in place of the system's.
const cuda_driver *cuda_driver_open(void);

// Why there is no driver: one line that says what to do; NULL where there is one.
const char *cuda_driver_problem(void);

// True in a child process after fork, in which nothing of the driver may be called: what it holds is the parent's.
bool cuda_driver_forked(void);

// The driver's words for a result, never NULL.
const char *cuda_text(CUresult result);

// Whether a result means that a kernel broke the GPU for this process: the driver then gives it nothing any more, not
// even another context. `cuda_cure` says so to whoever reads the error.
bool cuda_is_broken(CUresult result);
extern const char *const cuda_cure;

#endif
