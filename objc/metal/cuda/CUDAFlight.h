// What is in flight: markers in the GPU's stream, in their order. A marker is reached when the GPU has done all that
// was launched before it.
//
// One thread at a time puts markers, one at a time takes them.
#ifndef CUDA_FLIGHT_H
#define CUDA_FLIGHT_H

#include <pthread.h>

#include "CUDAContext.h"
#include "metal/base/OBMRecording.h"

typedef enum {
    CUDA_PART,    // a part of a recording, which goes on later
    CUDA_SIGNAL,  // a part behind which the host signals an event, and then lets the recording go on
    CUDA_END,     // the end of a recording
} cuda_marker_kind;

typedef struct cuda_block cuda_block;  // pinned memory for bytes that were given with a call

typedef struct cuda_marker {
    struct cuda_marker *next;
    CUevent begin, end;
    cuda_marker_kind kind;
    obm_recording *recording;
    obm_phase *phase;     // the signal
    cuda_block *blocks;   // of the part
    uint32_t launched;    // dispatches of the part, which are numbered from 1 on
    bool began;           // its begin is in the stream; else it begins where the one before it ends
    uint64_t first_seen;  // nanoseconds: when it became the next that is waited for; 0: it is not yet
} cuda_marker;

typedef struct cuda_flight {
    const cuda_context *context;
    pthread_mutex_t lock;
    cuda_marker *head, *tail;
    obm_atomic_text lost;  // why the GPU can do nothing any more; said before the marker that shows it is taken out
    cuda_marker *free;
    cuda_block *free_blocks;
    CUevent last;  // the end of the marker that was asked for its times before, and when that was
    double last_end;
} cuda_flight;

void cuda_flight_open(cuda_flight *flight, const cuda_context *context);
void cuda_flight_close(cuda_flight *flight);

// A marker whose part begins now; NULL when there is no memory left, or for what else `result` says. The context is
// current.
cuda_marker *cuda_marker_begin(cuda_flight *flight, CUresult *result);

// Memory for bytes of the marker's part.
void *cuda_marker_take(cuda_flight *flight, cuda_marker *marker, size_t length);

// Puts its end into the stream. True if it is the only one in flight.
bool cuda_marker_end(cuda_flight *flight, cuda_marker *marker);

// The marker that is reached next, or NULL.
cuda_marker *cuda_flight_head(cuda_flight *flight);

// The first marker in flight whose recording launches kernels, or the head where none does.
cuda_marker *cuda_flight_launcher(cuda_flight *flight);

// Takes the head out.
void cuda_flight_pop(cuda_flight *flight);

// Keeps a marker that was taken out for later use.
void cuda_marker_give_back(cuda_flight *flight, cuda_marker *marker);

// When its part began and ended, in the host's seconds, of a marker that was just taken out: the GPU's clock tells how
// long after the last one that was, and no end is later than `now`. The context is current.
void cuda_marker_times(cuda_flight *flight, cuda_marker *marker, double now, double *begin, double *end);

#endif
