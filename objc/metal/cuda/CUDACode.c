#include "CUDACode.h"

#include <string.h>

CUresult cuda_code_load(cuda_code *code, const cuda_context *context, const void *image, const char *symbol) {
    const cuda_driver *driver = context->driver;
    int threads = 0;
    code->context = context;
    CUresult result = driver->cuModuleLoadData(&code->module, image);
    if (result != CUDA_SUCCESS) return result;
    result = driver->cuModuleGetFunction(&code->function, code->module, symbol);
    if (result == CUDA_SUCCESS)
        result = driver->cuFuncGetAttribute(&threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, code->function);
    if (result == CUDA_SUCCESS) code->max_threads = (uint32_t)threads;
    else cuda_code_unload(code);
    return result;
}

void cuda_code_unload(cuda_code *code) {
    if (code->module == NULL || cuda_is_out_of_reach(code->context)) return;
    cuda_enter(code->context);
    code->context->driver->cuModuleUnload(code->module);
    cuda_leave(code->context);
    code->module = NULL;
    code->function = NULL;
}

// Places the threadgroup memory one after another; returns its bytes. The encoder has seen to it that they fit.
static uint32_t place_threadgroup_memory(metallib_cuda_launch *sizes, const obm_dispatch *dispatch) {
    uint32_t used = 0;
    for (uint32_t i = 0; i < dispatch->kernel->threadgroup_slots && i < METALLIB_CUDA_THREADGROUP; i++) {
        sizes->threadgroup[i] = used;
        used += dispatch->threadgroup_lengths[i];
    }
    return used;
}

static CUresult address_of(void **address, const obm_dispatch *dispatch, uint32_t index, cuda_take_bytes take,
                           void *taker) {
    const obm_binding *binding = &dispatch->bindings[index];
    *address = dispatch->launch.buffers[index];
    if (binding->memory != NULL)
        return cuda_memory_reach(((cuda_code *)dispatch->kernel->code)->context, binding->memory);
    void *copy = take != NULL ? take(taker, binding->length) : NULL;
    if (copy == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
    *address = memcpy(copy, *address, binding->length);
    return CUDA_SUCCESS;
}

bool cuda_prepare(cuda_launch *launch, const obm_dispatch *dispatch, uint32_t number, cuda_take_bytes take, void *taker,
                  CUresult *result) {
    const obm_kernel *kernel = dispatch->kernel;
    const cuda_code *code = kernel->code;
    const uint32_t *groups = dispatch->launch.threadgroups, *threads = dispatch->launch.threads;
    *result = CUDA_SUCCESS;
    if (groups[0] == 0 || groups[1] == 0 || groups[2] == 0) return false;
    for (uint32_t i = 0; i < kernel->argument_count && *result == CUDA_SUCCESS; i++) {
        *result = address_of(&launch->addresses[i], dispatch, kernel->arguments[i].index, take, taker);
        launch->parameters[i] = &launch->addresses[i];
    }
    launch->parameters[kernel->argument_count] = &launch->sizes;
    memset(&launch->sizes, 0, sizeof launch->sizes);
    launch->sizes.number = number;
    launch->sizes.started = code->context->started;
    memcpy(launch->sizes.grid, dispatch->launch.grid, sizeof launch->sizes.grid);
    launch->node = (CUDA_KERNEL_NODE_PARAMS){
        .func = code->function,
        .gridDimX = groups[0],
        .gridDimY = groups[1],
        .gridDimZ = groups[2],
        .blockDimX = threads[0],
        .blockDimY = threads[1],
        .blockDimZ = threads[2],
        .sharedMemBytes = place_threadgroup_memory(&launch->sizes, dispatch),
        .kernelParams = launch->parameters,
    };
    return true;
}
