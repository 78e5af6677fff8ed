// The phases of a recording, put into the GPU's stream.
#ifndef CUDA_PHASES_H
#define CUDA_PHASES_H

#include "CUDABlit.h"
#include "CUDAFlight.h"

extern const char *const cuda_lost_to_another;  // what later recordings say once one broke the GPU

enum { CUDA_INTERNAL = 1, CUDA_TIMED_OUT = 2 };  // MTLCommandBufferErrors that only GPUs have

typedef struct cuda_phases {
    const cuda_context *context;
    cuda_flight *flight;
    cuda_staging *staging;  // made when first used
} cuda_phases;

void cuda_phases_close(cuda_phases *phases);

// Puts the dispatches, commands or blit of a phase into the stream, as a part of the marker. What goes wrong fails the
// recording. The context is current. One thread at a time.
void cuda_phases_run(cuda_phases *phases, obm_recording *recording, obm_phase *phase, cuda_marker *marker);

// Fails a recording with the driver's words, and what they are about if that is known.
void cuda_fail(obm_recording *recording, CUresult result, const char *kernel, const char *label);

// Fails a recording because of a call of the driver while others may be in flight: where one of these broke the GPU, the
// driver says so in all later calls.
void cuda_fail_in_flight(cuda_flight *flight, obm_recording *recording, CUresult result, const char *kernel,
                         const char *label);

// The same for a recording that broke the GPU, in which the dispatch of that number was the last to start.
void cuda_fail_started(obm_recording *recording, CUresult result, uint32_t number);

#endif
