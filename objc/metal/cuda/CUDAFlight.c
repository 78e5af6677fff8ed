#include "CUDAFlight.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64 << 10, ALIGNMENT = 256 };

struct cuda_block {
    cuda_block *next;
    char *bytes, *address;
    size_t used, size;
};

void cuda_flight_open(cuda_flight *flight, const cuda_context *context) {
    *flight = (cuda_flight){.context = context};
    pthread_mutex_init(&flight->lock, NULL);
}

static void free_marker(cuda_flight *flight, cuda_marker *marker) {
    const cuda_driver *driver = flight->context->driver;
    if (marker->begin != NULL) driver->cuEventDestroy(marker->begin);
    if (marker->end != NULL) driver->cuEventDestroy(marker->end);
    free(marker);
}

void cuda_flight_close(cuda_flight *flight) {
    if (cuda_is_out_of_reach(flight->context)) return;
    cuda_enter(flight->context);
    if (flight->last != NULL) flight->context->driver->cuEventDestroy(flight->last);
    for (cuda_marker *marker = flight->free; marker != NULL;) {
        cuda_marker *next = marker->next;
        free_marker(flight, marker);
        marker = next;
    }
    for (cuda_block *block = flight->free_blocks; block != NULL;) {
        cuda_block *next = block->next;
        flight->context->driver->cuMemFreeHost(block->bytes);
        free(block);
        block = next;
    }
    cuda_leave(flight->context);
    pthread_mutex_destroy(&flight->lock);
}

// Makes the events that a marker lacks.
static CUresult complete(cuda_flight *flight, cuda_marker *marker) {
    const cuda_driver *driver = flight->context->driver;
    CUresult result = marker->begin != NULL ? CUDA_SUCCESS : driver->cuEventCreate(&marker->begin, CU_EVENT_DEFAULT);
    if (result != CUDA_SUCCESS || marker->end != NULL) return result;
    return driver->cuEventCreate(&marker->end, CU_EVENT_DEFAULT);
}

cuda_marker *cuda_marker_begin(cuda_flight *flight, CUresult *result) {
    pthread_mutex_lock(&flight->lock);
    cuda_marker *marker = flight->free;
    if (marker != NULL) flight->free = marker->next;
    pthread_mutex_unlock(&flight->lock);
    if (marker == NULL) marker = calloc(1, sizeof *marker);
    *result = marker != NULL ? complete(flight, marker) : CUDA_ERROR_OUT_OF_MEMORY;
    if (marker != NULL && *result != CUDA_SUCCESS) {
        free_marker(flight, marker);
        marker = NULL;
    }
    if (marker == NULL) return NULL;
    CUevent begin = marker->begin, end = marker->end;
    *marker = (cuda_marker){.begin = begin, .end = end};
    // Behind something that is in flight its begin is known; one thing less for the driver and the GPU to do.
    if (cuda_flight_head(flight) == NULL)
        marker->began = flight->context->driver->cuEventRecord(begin, flight->context->stream) == CUDA_SUCCESS;
    return marker;
}

static cuda_block *make_block(cuda_flight *flight) {
    const cuda_driver *driver = flight->context->driver;
    cuda_block *block = calloc(1, sizeof *block);
    CUdeviceptr address = 0;
    if (block == NULL) return NULL;
    if (driver->cuMemHostAlloc((void **)&block->bytes, BLOCK, CU_MEMHOSTALLOC_DEVICEMAP) != CUDA_SUCCESS) {
        free(block);
        return NULL;
    }
    if (driver->cuMemHostGetDevicePointer(&address, block->bytes, 0) != CUDA_SUCCESS) {
        driver->cuMemFreeHost(block->bytes);
        free(block);
        return NULL;
    }
    block->address = (char *)address;
    block->size = BLOCK;
    return block;
}

// The host's and the GPU's addresses of pinned memory are the same on every system that the driver supports.
void *cuda_marker_take(cuda_flight *flight, cuda_marker *marker, size_t length) {
    size_t whole = (length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    cuda_block *block = marker->blocks;
    if (whole > BLOCK) return NULL;
    if (block == NULL || block->size - block->used < whole) {
        pthread_mutex_lock(&flight->lock);
        block = flight->free_blocks;
        if (block != NULL) flight->free_blocks = block->next;
        pthread_mutex_unlock(&flight->lock);
        if (block == NULL) block = make_block(flight);
        if (block == NULL) return NULL;
        block->used = 0;
        block->next = marker->blocks;
        marker->blocks = block;
    }
    void *memory = block->address + block->used;
    block->used += whole;
    return memory;
}

bool cuda_marker_end(cuda_flight *flight, cuda_marker *marker) {
    // Where the stream is broken this fails, and so does the query that waits for it.
    flight->context->driver->cuEventRecord(marker->end, flight->context->stream);
    pthread_mutex_lock(&flight->lock);
    bool alone = flight->head == NULL;
    marker->next = NULL;
    if (alone) flight->head = marker;
    else flight->tail->next = marker;
    flight->tail = marker;
    pthread_mutex_unlock(&flight->lock);
    return alone;
}

cuda_marker *cuda_flight_head(cuda_flight *flight) {
    pthread_mutex_lock(&flight->lock);
    cuda_marker *head = flight->head;
    pthread_mutex_unlock(&flight->lock);
    return head;
}

static bool launches(const cuda_marker *marker) {
    const obm_phase *phase = marker->recording != NULL ? marker->recording->first : NULL;
    while (phase != NULL && phase->kind != OBM_PHASE_COMMANDS && phase->kind != OBM_PHASE_DISPATCHES)
        phase = phase->next;
    return phase != NULL;
}

cuda_marker *cuda_flight_launcher(cuda_flight *flight) {
    pthread_mutex_lock(&flight->lock);
    cuda_marker *marker = flight->head;
    while (marker != NULL && !launches(marker)) marker = marker->next;
    if (marker == NULL) marker = flight->head;
    pthread_mutex_unlock(&flight->lock);
    return marker;
}

void cuda_flight_pop(cuda_flight *flight) {
    pthread_mutex_lock(&flight->lock);
    flight->head = flight->head->next;
    pthread_mutex_unlock(&flight->lock);
}

void cuda_marker_give_back(cuda_flight *flight, cuda_marker *marker) {
    pthread_mutex_lock(&flight->lock);
    while (marker->blocks != NULL) {
        cuda_block *block = marker->blocks;
        marker->blocks = block->next;
        block->next = flight->free_blocks;
        flight->free_blocks = block;
    }
    marker->next = flight->free;
    flight->free = marker;
    pthread_mutex_unlock(&flight->lock);
}

static double seconds_between(const cuda_flight *flight, CUevent from, CUevent to) {
    float milliseconds = 0;
    CUresult result = flight->context->driver->cuEventElapsedTime(&milliseconds, from, to);
    return result == CUDA_SUCCESS ? (double)milliseconds * 1e-3 : 0;
}

void cuda_marker_times(cuda_flight *flight, cuda_marker *marker, double now, double *begin, double *end) {
    *end = now;
    if (flight->last != NULL) *end = flight->last_end + seconds_between(flight, flight->last, marker->end);
    if (*end > now || cuda_flight_head(flight) == NULL) *end = now;  // where nothing follows, the host has just seen it
    *begin = flight->last_end;
    if (marker->began) *begin = *end - seconds_between(flight, marker->begin, marker->end);
    if (*begin < flight->last_end) *begin = flight->last_end;
    CUevent before = flight->last;
    flight->last = marker->end;
    flight->last_end = *end;
    marker->end = before;
}
