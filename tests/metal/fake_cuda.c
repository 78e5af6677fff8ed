// A driver of CUDA without a GPU, for tests of the device of objc/metal/cuda: the host runs the kernels of a library
// written in C, on one thread per stream, later than they are launched, as a GPU would.
//
// Machine code is the path of such a library. FAKE_CUDA_FAIL has faults, each FUNCTION:NUMBER=RESULT: that call of that
// function, counted from 1, gives the result. A result from 700 to 719 breaks the process: all later calls give it, too.
// FAKE_CUDA_HANG is the number of a kernel that never ends, counted from 1. FAKE_CUDA_MEMORY is the bytes of the memory,
// of which other processes use nothing. A kernel that accesses an address that the host cannot access breaks the process
// as a GPU would, FAKE_CUDA_FAULT microseconds later. With FAKE_CUDA_IDLE, all machine code loads, and kernels do nothing: what is launched can be seen.
// With FAKE_CUDA_COUNT, the calls of each function are written to the file of that name when the process ends; with
// FAKE_CUDA_EDGES, the number of programmatic edges of graphs.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "metal/abi/metallib_cuda.h"
#include "metal/cuda/CUDADriver.h"

#define EXPORT __attribute__((visibility("default")))

enum { SUCCESS = 0, INVALID_VALUE = 1, MAX_ARGUMENTS = 32, HEAD = 256 };  // bytes before memory, which have its length

enum {
#define NUMBER(name, suffix, parameters) CALL_##name,
    CUDA_DRIVER_FUNCTIONS(NUMBER)
#undef NUMBER
        CALLS
};

static const char *const names[] = {
#define NAME(name, suffix, parameters) #name,
    CUDA_DRIVER_FUNCTIONS(NAME)
#undef NAME
};
static atomic_uint counts[CALLS];
static atomic_uint programmatic;  // edges of graphs
static _Atomic CUresult broken;  // what every call gives that needs a context

// ---- faults

static CUresult fault(int call) {
    unsigned number = atomic_fetch_add(&counts[call], 1) + 1;
    const char *text = getenv("FAKE_CUDA_FAIL");
    char start[64];
    snprintf(start, sizeof start, "%s:", names[call]);
    for (const char *at = text; at != NULL && *at != '\0';) {
        unsigned wanted;
        int result;
        if (strncmp(at, start, strlen(start)) == 0 && sscanf(at + strlen(start), "%u=%d", &wanted, &result) == 2 &&
            wanted == number) {
            if (result >= 700 && result < 720) broken = result;
            return result;
        }
        at = strchr(at, ',');
        if (at != NULL) at++;
    }
    return call > CALL_cuCtxCreate ? broken : SUCCESS;  // what comes before needs no context
}

#define CALL(name)                         \
    do {                                   \
        CUresult fault_ = fault(CALL_##name); \
        if (fault_ != SUCCESS) return fault_; \
    } while (0)

__attribute__((destructor)) static void write_counts(void) {
    const char *path = getenv("FAKE_CUDA_COUNT");
    FILE *file = path != NULL ? fopen(path, "w") : NULL;
    for (int i = 0; file != NULL && i < CALLS; i++) fprintf(file, "%s %u\n", names[i], counts[i]);
    if (file != NULL) fclose(file);
    path = getenv("FAKE_CUDA_EDGES");
    file = path != NULL ? fopen(path, "w") : NULL;
    if (file == NULL) return;
    fprintf(file, "%u\n", programmatic);
    fclose(file);
}

// ---- operations: what a stream does later

typedef struct operation {
    struct operation *next;
    void (*run)(struct operation *);
    const struct metallib_function *kernel;
    CUDA_KERNEL_NODE_PARAMS sizes;
    void *addresses[MAX_ARGUMENTS];
    metallib_cuda_launch launch;
    char *to;
    const char *from;
    size_t size;
    int value;
    struct CUevent_st *event;
    uint64_t ticket;
    struct CUgraphExec_st *graph;
} operation;

struct CUevent_st {
    _Atomic uint64_t recorded, reached;  // tickets
    _Atomic double time;
};

struct CUstream_st {
    CUcontext context;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    operation *head, *tail;
    bool busy, stop;
    pthread_t thread;
};

// The contexts that are current in this thread, the last one on top.
static _Thread_local CUcontext current[16];
static _Thread_local size_t depth;

static CUresult push(CUcontext context) {
    if (context == NULL || depth == sizeof current / sizeof *current) return INVALID_VALUE;
    current[depth++] = context;
    return SUCCESS;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void *work(void *argument) {
    struct CUstream_st *stream = argument;
    pthread_mutex_lock(&stream->lock);
    for (;;) {
        while (stream->head == NULL && !stream->stop) pthread_cond_wait(&stream->changed, &stream->lock);
        operation *next = stream->head;
        if (next == NULL) break;
        stream->head = next->next;
        stream->busy = true;
        pthread_mutex_unlock(&stream->lock);
        if (broken == SUCCESS) next->run(next);
        free(next);
        pthread_mutex_lock(&stream->lock);
        stream->busy = false;
        pthread_cond_broadcast(&stream->changed);
    }
    pthread_mutex_unlock(&stream->lock);
    return NULL;
}

static void put(CUstream stream, operation given) {
    operation *own = malloc(sizeof *own);
    if (own == NULL) abort();
    *own = given;
    own->next = NULL;
    pthread_mutex_lock(&stream->lock);
    if (stream->head == NULL) stream->head = own;
    else stream->tail->next = own;
    stream->tail = own;
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->lock);
}

// ---- kernels

static atomic_bool hung;  // until another context is made
static bool broken_context(void) { return !atomic_load(&hung); }

enum { FAULT = 5000 };  // microseconds from an illegal access until the driver knows of it
static _Thread_local sigjmp_buf *running;  // where to go on when a kernel accesses an illegal address

static void illegal_access(int number) {
    if (running == NULL) {  // not a kernel's
        signal(number, SIG_DFL);
        return;
    }
    siglongjmp(*running, 1);
}

static void catch_illegal_accesses(void) {
    struct sigaction action = {.sa_handler = illegal_access};
    sigaction(SIGSEGV, &action, NULL);
}

static void call_kernel(const struct metallib_function *kernel, metallib_launch *launch, uint32_t count) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    sigjmp_buf here;
    pthread_once(&once, catch_illegal_accesses);
    running = &here;
    if (sigsetjmp(here, 1) == 0) {
        kernel->entry(launch, 0, count);
    } else {
        const char *text = getenv("FAKE_CUDA_FAULT");
        usleep(text != NULL ? (useconds_t)atoi(text) : FAULT);
        broken = 700;
    }
    running = NULL;
}

static void run_kernel(operation *own) {
    if (own->kernel == NULL) return;  // idle
    const metallib_signature *signature = &own->kernel->signature;
    const CUDA_KERNEL_NODE_PARAMS *sizes = &own->sizes;
    char *memory = sizes->sharedMemBytes > 0 ? aligned_alloc(256, (sizes->sharedMemBytes + 255) / 256 * 256) : NULL;
    void *buffers[METALLIB_MAX_BUFFERS] = {0}, *threadgroup[METALLIB_MAX_THREADGROUP] = {0};
    int argument = 0;
    static atomic_int run;
    const char *hang = getenv("FAKE_CUDA_HANG");
    if (own->launch.started != NULL) __atomic_store_n(own->launch.started, own->launch.number, __ATOMIC_SEQ_CST);
    while (atomic_fetch_add(&run, 1) + 1 == (hang != NULL ? atoi(hang) : 0)) {
        atomic_store(&hung, true);
        while (!broken_context()) usleep(1000);
        return;
    }
    for (uint32_t i = 0; i < signature->argument_count; i++) {
        const metallib_argument *a = &signature->arguments[i];
        if (a->kind == METALLIB_BUFFER) buffers[a->index] = own->addresses[argument++];
        else threadgroup[a->index] = memory + own->launch.threadgroup[a->index];
    }
    metallib_launch launch = {.buffers = buffers,
                              .threadgroup = threadgroup,
                              .threadgroups = {sizes->gridDimX, sizes->gridDimY, sizes->gridDimZ},
                              .threads = {sizes->blockDimX, sizes->blockDimY, sizes->blockDimZ},
                              .grid = {own->launch.grid[0], own->launch.grid[1], own->launch.grid[2]}};
    call_kernel(own->kernel, &launch, sizes->gridDimX * sizes->gridDimY * sizes->gridDimZ);
    free(memory);
}

static bool is_idle(void) { return getenv("FAKE_CUDA_IDLE") != NULL; }

// A launch takes its parameters when it is made.
static operation kernel_operation(const CUDA_KERNEL_NODE_PARAMS *node) {
    operation made = {.run = run_kernel, .kernel = (const struct metallib_function *)node->func, .sizes = *node};
    int count = 0;
    if (is_idle()) return (operation){.run = run_kernel};
    for (uint32_t i = 0; i < made.kernel->signature.argument_count; i++)
        if (made.kernel->signature.arguments[i].kind == METALLIB_BUFFER) {
            made.addresses[count] = *(void **)node->kernelParams[count];
            count++;
        }
    made.launch = *(metallib_cuda_launch *)node->kernelParams[count];
    return made;
}

// ---- the driver

EXPORT CUresult cuInit(unsigned flags) {
    CALL(cuInit);
    return flags == 0 ? SUCCESS : INVALID_VALUE;
}
EXPORT CUresult cuDriverGetVersion(int *version) {
    CALL(cuDriverGetVersion);
    const char *text = getenv("FAKE_CUDA_VERSION");
    *version = text != NULL ? atoi(text) : 13000;
    return SUCCESS;
}
EXPORT CUresult cuGetErrorName(CUresult result, const char **text) {
    *text = result == SUCCESS ? "CUDA_SUCCESS" : "CUDA_ERROR";
    return SUCCESS;
}
EXPORT CUresult cuGetErrorString(CUresult result, const char **text) {
    *text = result == 2     ? "out of memory"
            : result == 700 ? "an illegal memory access was encountered"
            : result == 719 ? "unspecified launch failure"
                            : "an error of the fake driver";
    return SUCCESS;
}
EXPORT CUresult cuDeviceGetCount(int *count) {
    CALL(cuDeviceGetCount);
    const char *text = getenv("FAKE_CUDA_DEVICES");
    *count = text != NULL ? atoi(text) : 1;
    return SUCCESS;
}
EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    CALL(cuDeviceGet);
    *device = ordinal;
    return SUCCESS;
}
EXPORT CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    CALL(cuDeviceGetName);
    snprintf(name, (size_t)length, "Fake GPU %d", device);
    return SUCCESS;
}
EXPORT CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
    CALL(cuDeviceGetAttribute);
    (void)device;
    const char *text = getenv("FAKE_CUDA_MAJOR");
    int major = text != NULL ? atoi(text) : 9;
    *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? major
             : attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT   ? 132
                                                                       : 0;
    return SUCCESS;
}
static size_t memory(void) {
    const char *text = getenv("FAKE_CUDA_MEMORY");
    return text != NULL ? strtoull(text, NULL, 10) : (size_t)8 << 30;
}
static atomic_size_t used;  // by this process
EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    CALL(cuDeviceTotalMem);
    (void)device;
    *bytes = memory();
    return SUCCESS;
}
EXPORT CUresult cuCtxCreate_v2(CUcontext *context, unsigned flags, CUdevice device) {
    (void)flags;
    (void)device;
    atomic_store(&hung, false);
    CALL(cuCtxCreate);
    if (broken != SUCCESS) return broken;  // in this process for good
    static atomic_uint contexts;
    *context = (CUcontext)(uintptr_t)(atomic_fetch_add(&contexts, 1) + 1);
    return push(*context);
}
EXPORT CUresult cuCtxDestroy_v2(CUcontext context) {
    (void)context;
    atomic_fetch_add(&counts[CALL_cuCtxDestroy], 1);
    return SUCCESS;
}
EXPORT CUresult cuCtxPushCurrent_v2(CUcontext context) { return push(context); }
EXPORT CUresult cuCtxPopCurrent_v2(CUcontext *context) {
    if (depth == 0) return INVALID_VALUE;
    *context = current[--depth];
    return SUCCESS;
}
EXPORT CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
    CALL(cuMemGetInfo);
    *total = memory();
    *free = *total - used;
    return SUCCESS;
}

static CUresult allocate(void **bytes, size_t length) {
    *bytes = aligned_alloc(256, (length + 255) / 256 * 256);
    return *bytes != NULL ? SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t length) {
    CALL(cuMemAlloc);
    if (atomic_fetch_add(&used, length) + length > memory()) {
        atomic_fetch_sub(&used, length);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    CUresult result = allocate((void **)address, length + HEAD);
    if (result != SUCCESS) return result;
    *(size_t *)*address = length;
    *address += HEAD;
    return SUCCESS;
}
static void wait_for_streams(void);

// The driver frees no memory before what runs is done with it.
static CUresult release(int call, void *bytes) {
    atomic_fetch_add(&counts[call], 1);
    wait_for_streams();
    free(bytes);
    return SUCCESS;
}
EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
    atomic_fetch_sub(&used, *(size_t *)(address - HEAD));
    return release(CALL_cuMemFree, (void *)(address - HEAD));
}
EXPORT CUresult cuMemHostAlloc(void **bytes, size_t length, unsigned flags) {
    (void)flags;
    CALL(cuMemHostAlloc);
    return allocate(bytes, length);
}
EXPORT CUresult cuMemFreeHost(void *bytes) { return release(CALL_cuMemFreeHost, bytes); }
EXPORT CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *address, void *bytes, unsigned flags) {
    (void)flags;
    CALL(cuMemHostGetDevicePointer);
    *address = (CUdeviceptr)bytes;
    return SUCCESS;
}
EXPORT CUresult cuMemHostRegister_v2(void *bytes, size_t length, unsigned flags) {
    (void)bytes;
    (void)length;
    (void)flags;
    CALL(cuMemHostRegister);
    return SUCCESS;
}
EXPORT CUresult cuMemHostUnregister(void *bytes) {
    (void)bytes;
    atomic_fetch_add(&counts[CALL_cuMemHostUnregister], 1);
    return SUCCESS;
}

static void run_copy(operation *own) { memmove(own->to, own->from, own->size); }
static void run_fill(operation *own) { memset(own->to, own->value, own->size); }

static CUresult copy(CUstream stream, void *to, const void *from, size_t size) {
    put(stream, (operation){.run = run_copy, .to = to, .from = from, .size = size});
    return SUCCESS;
}
EXPORT CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream) {
    CALL(cuMemcpyAsync);
    return copy(stream, (void *)to, (void *)from, size);
}
EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, CUstream stream) {
    CALL(cuMemcpyHtoDAsync);
    return copy(stream, (void *)to, from, size);
}
EXPORT CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, CUstream stream) {
    CALL(cuMemcpyDtoHAsync);
    return copy(stream, to, (void *)from, size);
}
EXPORT CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t size, CUstream stream) {
    CALL(cuMemsetD8Async);
    put(stream, (operation){.run = run_fill, .to = (char *)to, .value = value, .size = size});
    return SUCCESS;
}

static CUstream streams[64];
static pthread_mutex_t streams_lock = PTHREAD_MUTEX_INITIALIZER;

static void put_stream(CUstream from, CUstream to) {
    pthread_mutex_lock(&streams_lock);
    size_t i = 0;
    while (streams[i] != from) i++;
    streams[i] = to;
    pthread_mutex_unlock(&streams_lock);
}

static void wait_for_streams(void) {
    pthread_mutex_lock(&streams_lock);
    for (size_t i = 0; i < sizeof streams / sizeof *streams && !hung; i++) {
        CUstream stream = streams[i];
        if (stream == NULL || depth == 0 || stream->context != current[depth - 1]) continue;
        pthread_mutex_lock(&stream->lock);
        while (stream->head != NULL || stream->busy) pthread_cond_wait(&stream->changed, &stream->lock);
        pthread_mutex_unlock(&stream->lock);
    }
    pthread_mutex_unlock(&streams_lock);
}

EXPORT CUresult cuStreamCreate(CUstream *made, unsigned flags) {
    (void)flags;
    CALL(cuStreamCreate);
    CUstream stream = calloc(1, sizeof *stream);
    if (stream == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
    stream->context = depth > 0 ? current[depth - 1] : NULL;
    pthread_mutex_init(&stream->lock, NULL);
    pthread_cond_init(&stream->changed, NULL);
    if (pthread_create(&stream->thread, NULL, work, stream) != 0) abort();
    put_stream(NULL, stream);
    *made = stream;
    return SUCCESS;
}
EXPORT CUresult cuStreamDestroy_v2(CUstream stream) {
    put_stream(stream, NULL);
    atomic_store(&hung, false);
    atomic_fetch_add(&counts[CALL_cuStreamDestroy], 1);
    pthread_mutex_lock(&stream->lock);
    stream->stop = true;
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->lock);
    pthread_join(stream->thread, NULL);
    pthread_cond_destroy(&stream->changed);
    pthread_mutex_destroy(&stream->lock);
    free(stream);
    return SUCCESS;
}
EXPORT CUresult cuStreamSynchronize(CUstream stream) {
    CALL(cuStreamSynchronize);
    pthread_mutex_lock(&stream->lock);
    while (stream->head != NULL || stream->busy) pthread_cond_wait(&stream->changed, &stream->lock);
    pthread_mutex_unlock(&stream->lock);
    return broken;
}

static void run_event(operation *own) {
    own->event->time = seconds();
    own->event->reached = own->ticket;
}
EXPORT CUresult cuEventCreate(CUevent *event, unsigned flags) {
    (void)flags;
    CALL(cuEventCreate);
    *event = calloc(1, sizeof **event);
    return *event != NULL ? SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
EXPORT CUresult cuEventDestroy_v2(CUevent event) { return release(CALL_cuEventDestroy, event); }
EXPORT CUresult cuEventRecord(CUevent event, CUstream stream) {
    CALL(cuEventRecord);
    uint64_t ticket = ++event->recorded;
    put(stream, (operation){.run = run_event, .event = event, .ticket = ticket});
    return SUCCESS;
}
EXPORT CUresult cuEventQuery(CUevent event) {
    CALL(cuEventQuery);
    return event->reached == event->recorded ? SUCCESS : CUDA_ERROR_NOT_READY;
}
EXPORT CUresult cuEventElapsedTime(float *milliseconds, CUevent begin, CUevent end) {
    CALL(cuEventElapsedTime);
    *milliseconds = (float)((end->time - begin->time) * 1e3);
    return SUCCESS;
}

EXPORT CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    CALL(cuModuleLoadData);
    char path[4096];
    if (is_idle()) return *module = (CUmodule)(uintptr_t)1, SUCCESS;
    if (sscanf(image, "%4095[^\n]", path) != 1) return INVALID_VALUE;
    *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    return *module != NULL ? SUCCESS : INVALID_VALUE;
}
EXPORT CUresult cuModuleUnload(CUmodule module) {
    atomic_fetch_add(&counts[CALL_cuModuleUnload], 1);
    if (!is_idle()) dlclose(module);
    return SUCCESS;
}
EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    CALL(cuModuleGetFunction);
    if (is_idle()) return *function = (CUfunction)module, SUCCESS;
    const metallib *library = dlsym(module, "ob_metallib");
    for (uint32_t i = 0; library != NULL && i < library->function_count; i++) {
        if (strcmp(library->functions[i].signature.name, name) != 0) continue;
        *function = (CUfunction)(uintptr_t)&library->functions[i];
        return SUCCESS;
    }
    return INVALID_VALUE;
}
EXPORT CUresult cuFuncGetAttribute(int *value, int attribute, CUfunction function) {
    CALL(cuFuncGetAttribute);
    (void)attribute;
    (void)function;
    *value = 1024;
    return SUCCESS;
}
EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                               unsigned bz, unsigned memory, CUstream stream, void **parameters, void **extra) {
    (void)extra;
    CALL(cuLaunchKernel);
    CUDA_KERNEL_NODE_PARAMS node = {function, gx, gy, gz, bx, by, bz, memory, parameters, NULL, NULL, NULL};
    put(stream, kernel_operation(&node));
    return SUCCESS;
}

// ---- graphs: nodes in the order of their making, which is one that their edges allow

struct CUgraph_st {
    operation nodes[1024];
    size_t count;
};
struct CUgraphExec_st {
    atomic_int references;
    size_t count;
    operation nodes[];
};

EXPORT CUresult cuGraphCreate(CUgraph *graph, unsigned flags) {
    (void)flags;
    CALL(cuGraphCreate);
    *graph = calloc(1, sizeof **graph);
    return *graph != NULL ? SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
EXPORT CUresult cuGraphDestroy(CUgraph graph) {  // what was made of it goes on
    atomic_fetch_add(&counts[CALL_cuGraphDestroy], 1);
    free(graph);
    return SUCCESS;
}
EXPORT CUresult cuGraphAddKernelNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *before, size_t count,
                                        const CUDA_KERNEL_NODE_PARAMS *parameters) {
    (void)before;
    (void)count;
    CALL(cuGraphAddKernelNode);
    if (graph->count == sizeof graph->nodes / sizeof *graph->nodes) return CUDA_ERROR_OUT_OF_MEMORY;
    graph->nodes[graph->count] = kernel_operation(parameters);
    *node = (CUgraphNode)&graph->nodes[graph->count++];
    return SUCCESS;
}
EXPORT CUresult cuGraphAddDependencies_v2(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
                                          const CUgraphEdgeData *data, size_t count) {
    (void)graph;
    CALL(cuGraphAddDependencies);
    for (size_t i = 0; i < count; i++) {
        if ((operation *)from[i] >= (operation *)to[i]) return INVALID_VALUE;
        programmatic += data[i].type == CU_GRAPH_DEPENDENCY_PROGRAMMATIC;
    }
    return SUCCESS;
}
EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec *made, CUgraph graph, unsigned long long flags) {
    (void)flags;
    CALL(cuGraphInstantiateWithFlags);
    CUgraphExec exec = malloc(sizeof *exec + graph->count * sizeof(operation));
    if (exec == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
    exec->references = 1;
    exec->count = graph->count;
    memcpy(exec->nodes, graph->nodes, graph->count * sizeof(operation));
    *made = exec;
    return SUCCESS;
}
EXPORT CUresult cuGraphUpload(CUgraphExec exec, CUstream stream) {
    (void)exec;
    (void)stream;
    CALL(cuGraphUpload);
    return SUCCESS;
}
static void drop(CUgraphExec exec) {
    if (atomic_fetch_sub(&exec->references, 1) == 1) free(exec);
}
static void run_graph(operation *own) {
    for (size_t i = 0; broken == SUCCESS && i < own->graph->count; i++) run_kernel(&own->graph->nodes[i]);
    drop(own->graph);
}
EXPORT CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
    CALL(cuGraphLaunch);
    atomic_fetch_add(&exec->references, 1);
    put(stream, (operation){.run = run_graph, .graph = exec});
    return SUCCESS;
}
EXPORT CUresult cuGraphExecDestroy(CUgraphExec exec) {
    atomic_fetch_add(&counts[CALL_cuGraphExecDestroy], 1);
    drop(exec);
    return SUCCESS;
}
