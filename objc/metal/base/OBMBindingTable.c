#include "OBMBindingTable.h"

// Fills in the lengths of threadgroup memory; false if they are more than there is.
static bool place_threadgroup_memory(const obm_binding_table *table, const obm_kernel *kernel, uint32_t *lengths) {
    uint32_t used = kernel->signature->static_threadgroup_length;
    for (uint32_t i = 0; i < kernel->threadgroup_slots; i++) {
        lengths[i] = kernel->threadgroup >> i & 1 ? table->threadgroup_lengths[i] : 0;
        used += lengths[i];
    }
    return used <= OBM_MAX_THREADGROUP_MEMORY;
}

bool obm_table_snapshot(const obm_binding_table *table, const obm_kernel *kernel, const obm_executor *executor,
                        obm_dispatch *dispatch) {
    // One by one, which is faster than zeroing all of it first.
    dispatch->kernel = kernel;
    dispatch->launch.threadgroup = NULL;
    dispatch->launch.thread = NULL;
    dispatch->launch.constants = kernel->constants;
    dispatch->indirect = NULL;
    dispatch->uses = NULL;
    dispatch->label = NULL;
    obm_dispatch_place_arrays(dispatch, executor);
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
    if (kernel->threadgroup_slots == 0) return wrong == 0;
    return place_threadgroup_memory(table, kernel, (uint32_t *)dispatch->threadgroup_lengths) && wrong == 0;
}
