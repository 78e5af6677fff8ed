#include "CUDAPhases.h"

#include <stdio.h>

#include "CUDAGraph.h"

const char *const cuda_lost_to_another =
    "an earlier command buffer broke the GPU; its driver serves this process no more, start it again";

void cuda_phases_close(cuda_phases *phases) { cuda_staging_free(phases->context, phases->staging); }

static uint32_t code_of(CUresult result) {
    switch (result) {
    case CUDA_ERROR_OUT_OF_MEMORY:
    case CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES:
        return OBM_ERROR_OUT_OF_MEMORY;
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
        return OBM_ERROR_PAGE_FAULT;
    case CUDA_ERROR_LAUNCH_TIMEOUT:
        return CUDA_TIMED_OUT;
    default:
        return CUDA_INTERNAL;
    }
}

static void fail(obm_recording *recording, CUresult result, const char *kernel, const char *label, const char *cure) {
    char text[512], of[256] = "";
    if (kernel != NULL)
        snprintf(of, sizeof of, " (kernel %s%s%s)", kernel, label != NULL ? ", " : "", label != NULL ? label : "");
    if (result == CUDA_ERROR_LAUNCH_TIMEOUT)
        snprintf(text, sizeof text, "it did not end within the time that OB_CUDA_DEADLINE allows%s%s", of, cure);
    else snprintf(text, sizeof text, "the GPU's driver says: %s%s%s", cuda_text(result), of, cure);
    const char *kept = obm_arena_text(&recording->arena, text);
    obm_recording_fail(recording, code_of(result), kept != NULL ? kept : cuda_text(result));
}

void cuda_fail(obm_recording *recording, CUresult result, const char *kernel, const char *label) {
    fail(recording, result, kernel, label, "");
}

void cuda_fail_in_flight(cuda_flight *flight, obm_recording *recording, CUresult result, const char *kernel,
                         const char *label) {
    bool behind = cuda_flight_head(flight) != NULL;  // before it is asked whether the GPU is lost
    if (cuda_is_broken(result) && (behind || obm_load(&flight->lost) != NULL))
        obm_recording_fail(recording, OBM_ERROR_DEVICE_REMOVED, cuda_lost_to_another);
    else cuda_fail(recording, result, kernel, label);
}

// The dispatch of that number, from 1 on, in a recording's phases.
static const obm_dispatch *dispatch_of(const obm_recording *recording, uint32_t number) {
    for (const obm_phase *phase = recording->first; phase != NULL && number > 0; phase = phase->next) {
        if (phase->kind == OBM_PHASE_COMMANDS)
            return number <= phase->commands->count ? phase->commands->list[number - 1].dispatch : NULL;
        for (const obm_dispatch *d = phase->first; phase->kind == OBM_PHASE_DISPATCHES && d != NULL; d = d->next) {
            if (--number == 0) return d;
        }
    }
    return NULL;
}

void cuda_fail_started(obm_recording *recording, CUresult result, uint32_t number) {
    const obm_dispatch *dispatch = dispatch_of(recording, number);
    if (dispatch != NULL) recording->failed_dispatch = number;
    fail(recording, result, dispatch != NULL ? dispatch->kernel->signature->name : NULL,
         dispatch != NULL ? dispatch->label : NULL,
         cuda_is_broken(result) && result != CUDA_ERROR_LAUNCH_TIMEOUT ? cuda_cure : "; open the device again");
}

typedef struct taker {
    cuda_flight *flight;
    cuda_marker *marker;
} taker;

static void *take_bytes(void *context, size_t length) {
    taker *own = context;
    return cuda_marker_take(own->flight, own->marker, length);
}

// Reads the size of an indirect dispatch, which what runs before it may write.
static bool resolve(cuda_phases *phases, obm_recording *recording, obm_dispatch *dispatch) {
    const cuda_driver *driver = phases->context->driver;
    const obm_memory *memory = dispatch->indirect;
    uint32_t counts[3] = {0};
    CUresult result;
    if (memory->bytes == NULL) {
        CUdeviceptr from = (CUdeviceptr)memory->address + dispatch->indirect_offset;
        result = driver->cuMemcpyDtoHAsync(counts, from, sizeof counts, phases->context->stream);
        if (result == CUDA_SUCCESS) result = driver->cuStreamSynchronize(phases->context->stream);
    } else {
        result = driver->cuStreamSynchronize(phases->context->stream);
        for (int i = 0; i < 3; i++)
            counts[i] = ((const volatile uint32_t *)(memory->bytes + dispatch->indirect_offset))[i];
    }
    if (result == CUDA_SUCCESS) return obm_dispatch_resolve(recording, dispatch, counts);
    cuda_fail_in_flight(phases->flight, recording, result, dispatch->kernel->signature->name, dispatch->label);
    return false;
}

static void run_dispatch(cuda_phases *phases, obm_recording *recording, obm_dispatch *dispatch, cuda_marker *marker) {
    taker own = {phases->flight, marker};
    cuda_launch launch;
    CUresult result;
    if (dispatch->indirect != NULL && !resolve(phases, recording, dispatch)) return;
    if (!cuda_prepare(&launch, dispatch, ++marker->launched, take_bytes, &own, &result)) return;
    const CUDA_KERNEL_NODE_PARAMS *node = &launch.node;
    if (result == CUDA_SUCCESS)
        result = phases->context->driver->cuLaunchKernel(
            node->func, node->gridDimX, node->gridDimY, node->gridDimZ, node->blockDimX, node->blockDimY,
            node->blockDimZ, node->sharedMemBytes, phases->context->stream, node->kernelParams, NULL);
    if (result != CUDA_SUCCESS)
        cuda_fail_in_flight(phases->flight, recording, result, dispatch->kernel->signature->name, dispatch->label);
}

void cuda_phases_run(cuda_phases *phases, obm_recording *recording, obm_phase *phase, cuda_marker *marker) {
    CUresult result = CUDA_SUCCESS;
    if (phase->kind == OBM_PHASE_BLIT) {
        result = cuda_blit(phases->context, &phases->staging, phase->blit);
    } else if (phase->kind == OBM_PHASE_COMMANDS) {
        result = cuda_graph_launch(phases->context, phase->commands, phase->first_command, phase->command_count);
    } else {
        for (obm_dispatch *d = phase->first; d != NULL && obm_load(&recording->error) == NULL; d = d->next)
            run_dispatch(phases, recording, d, marker);
    }
    if (result != CUDA_SUCCESS) cuda_fail_in_flight(phases->flight, recording, result, NULL, NULL);
}
