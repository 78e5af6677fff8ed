#define _GNU_SOURCE
#include "CUDABlit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

// While the GPU fetches one piece, threads of the host fill the next.
enum { PIECES = 3, COPIERS = 12 };
static const size_t PIECE = (size_t)32 << 20, PAGE = 4096;

typedef struct piece {
    char *bytes;
    CUevent free;  // recorded when the GPU has taken it
} piece;

struct cuda_staging {
    piece pieces[PIECES];
    int next;
};

static CUresult make_staging(const cuda_context *context, cuda_staging **made) {
    cuda_staging *staging = calloc(1, sizeof *staging);
    if (staging == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
    *made = staging;
    for (int i = 0; i < PIECES; i++) {
        CUresult result = context->driver->cuMemHostAlloc((void **)&staging->pieces[i].bytes, PIECE, 0);
        if (result == CUDA_SUCCESS) result = context->driver->cuEventCreate(&staging->pieces[i].free, CU_EVENT_DEFAULT);
        if (result != CUDA_SUCCESS) {
            cuda_staging_free(context, staging);
            *made = NULL;
            return result;
        }
    }
    return CUDA_SUCCESS;
}

void cuda_staging_free(const cuda_context *context, cuda_staging *staging) {
    if (staging == NULL || cuda_is_out_of_reach(context)) return;
    cuda_enter(context);
    for (int i = 0; i < PIECES; i++) {
        if (staging->pieces[i].free != NULL) context->driver->cuEventDestroy(staging->pieces[i].free);
        if (staging->pieces[i].bytes != NULL) context->driver->cuMemFreeHost(staging->pieces[i].bytes);
    }
    cuda_leave(context);
    free(staging);
}

typedef struct slice {
    pthread_t thread;
    char *to;
    const char *from;
    size_t size;
} slice;

static void *copy_slice(void *argument) {
    const slice *own = argument;
#ifdef MADV_POPULATE_READ  // pages of a file's map one by one would take longer than their bytes
    madvise((void *)((uintptr_t)own->from / PAGE * PAGE), own->size + PAGE, MADV_POPULATE_READ);
#endif
    memcpy(own->to, own->from, own->size);
    return NULL;
}

// One core copies slower than the bus takes it.
static void copy_in_parallel(char *to, const char *from, size_t size) {
    slice slices[COPIERS];
    size_t share = size / COPIERS / PAGE * PAGE, done = 0;
    int started = 0;
    for (; share > 0 && started < COPIERS - 1; started++) {
        slices[started] = (slice){.to = to + done, .from = from + done, .size = share};
        if (pthread_create(&slices[started].thread, NULL, copy_slice, &slices[started]) != 0) break;
        done += share;
    }
    copy_slice(&(slice){.to = to + done, .from = from + done, .size = size - done});
    for (int i = 0; i < started; i++) pthread_join(slices[i].thread, NULL);
}

static CUresult wait_for(const cuda_context *context, CUevent event) {
    CUresult result;
    while ((result = context->driver->cuEventQuery(event)) == CUDA_ERROR_NOT_READY) obm_pause();
    return result;
}

static CUresult upload(const cuda_context *context, cuda_staging *staging, CUdeviceptr to, const char *from,
                       size_t size) {
    const cuda_driver *driver = context->driver;
    CUresult result = CUDA_SUCCESS;
    for (size_t done = 0; done < size && result == CUDA_SUCCESS;) {
        piece *own = &staging->pieces[staging->next++ % PIECES];
        size_t part = size - done < PIECE ? size - done : PIECE;
        result = wait_for(context, own->free);
        if (result != CUDA_SUCCESS) break;
        copy_in_parallel(own->bytes, from + done, part);
        result = driver->cuMemcpyHtoDAsync(to + done, own->bytes, part, context->stream);
        if (result == CUDA_SUCCESS) result = driver->cuEventRecord(own->free, context->stream);
        done += part;
    }
    return result;
}

static CUresult download(const cuda_context *context, cuda_staging *staging, char *to, CUdeviceptr from, size_t size) {
    const cuda_driver *driver = context->driver;
    piece *own = &staging->pieces[staging->next++ % PIECES];
    CUresult result = wait_for(context, own->free);
    for (size_t done = 0; done < size && result == CUDA_SUCCESS;) {
        size_t part = size - done < PIECE ? size - done : PIECE;
        result = driver->cuMemcpyDtoHAsync(own->bytes, from + done, part, context->stream);
        if (result == CUDA_SUCCESS) result = driver->cuStreamSynchronize(context->stream);
        if (result == CUDA_SUCCESS) copy_in_parallel(to + done, own->bytes, part);
        done += part;
    }
    return result;
}

static bool is_callers(const obm_memory *memory) { return ((cuda_memory *)memory->own)->kind == CUDA_CALLERS; }

// Between two pieces of the caller's memory, and fills of it: the host does them once the stream is empty.
static CUresult on_host(const cuda_context *context, const obm_blit *blit) {
    CUresult result = context->driver->cuStreamSynchronize(context->stream);
    if (result == CUDA_SUCCESS) obm_blit_run(blit, 0, blit->size);
    return result;
}

CUresult cuda_blit(const cuda_context *context, cuda_staging **staging, const obm_blit *blit) {
    CUdeviceptr to = (CUdeviceptr)blit->to->address + blit->to_offset;
    if (blit->from == NULL) {
        if (is_callers(blit->to)) return on_host(context, blit);
        return context->driver->cuMemsetD8Async(to, blit->value, blit->size, context->stream);
    }
    CUdeviceptr from = (CUdeviceptr)blit->from->address + blit->from_offset;
    bool up = is_callers(blit->from), down = is_callers(blit->to);
    if (!up && !down) return context->driver->cuMemcpyAsync(to, from, blit->size, context->stream);
    if (blit->to->bytes != NULL && blit->from->bytes != NULL) return on_host(context, blit);
    CUresult result = *staging != NULL ? CUDA_SUCCESS : make_staging(context, staging);
    if (result != CUDA_SUCCESS) return result;
    return up ? upload(context, *staging, to, (const char *)from, blit->size)
              : download(context, *staging, (char *)to, from, blit->size);
}
