#include "OBMBindingTable.h"

// Memory for a dispatch, what the executor keeps with it, and its arrays.
static obm_dispatch *take(const obm_kernel *kernel, obm_recording *recording) {
    const obm_executor *executor = recording->executor;
    size_t own = executor->dispatch_size, slots = kernel->buffer_slots;
    size_t bound = executor->bindings ? slots : 0;
    size_t size =
        own + bound * sizeof(obm_binding) + slots * sizeof(void *) + kernel->threadgroup_slots * sizeof(uint32_t);
    obm_dispatch *dispatch = obm_arena_take(&recording->arena, size);
    if (dispatch == NULL) return NULL;
    obm_binding *bindings = (obm_binding *)((char *)dispatch + own);
    void **addresses = (void **)(bindings + bound);
    // One by one, which is faster than zeroing all of it first.
    dispatch->kernel = kernel;
    dispatch->launch.buffers = addresses;
    dispatch->launch.threadgroup = NULL;
    dispatch->launch.thread = NULL;
    dispatch->launch.constants = NULL;
    dispatch->bindings = executor->bindings ? bindings : NULL;
    dispatch->threadgroup_lengths = (uint32_t *)(addresses + slots);
    dispatch->indirect = NULL;
    dispatch->label = NULL;
    return dispatch;
}

// Fills in the lengths of threadgroup memory; false if they are more than there is.
static bool place_threadgroup_memory(const obm_binding_table *table, const obm_kernel *kernel, uint32_t *lengths) {
    uint32_t used = kernel->signature->static_threadgroup_length;
    for (uint32_t i = 0; i < kernel->threadgroup_slots; i++) {
        lengths[i] = kernel->threadgroup >> i & 1 ? table->threadgroup_lengths[i] : 0;
        used += lengths[i];
    }
    return used <= OBM_MAX_THREADGROUP_MEMORY;
}

obm_dispatch *obm_table_snapshot(const obm_binding_table *table, const obm_kernel *kernel, obm_recording *recording,
                                 bool *fits) {
    obm_dispatch *dispatch = take(kernel, recording);
    if (dispatch == NULL) return NULL;
    void **addresses = (void **)dispatch->launch.buffers;
    obm_binding *bindings = (obm_binding *)dispatch->bindings;
    uintptr_t wrong = 0;
    for (uint32_t i = 0; i < kernel->argument_count; i++) {
        uint32_t index = kernel->arguments[i].index;
        const obm_bound *bound = &table->buffers[index];
        addresses[index] = bound->address;
        if (bindings != NULL) bindings[index] = bound->binding;
        wrong |= ((uintptr_t)bound->address & kernel->arguments[i].alignment_mask) |
                 (bound->available < kernel->arguments[i].smallest);
    }
    *fits = wrong == 0;
    if (kernel->threadgroup_slots > 0)
        *fits &= place_threadgroup_memory(table, kernel, (uint32_t *)dispatch->threadgroup_lengths);
    return dispatch;
}
