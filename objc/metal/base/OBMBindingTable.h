// The table of what is bound to a compute encoder, or to an indirect command, and snapshots of it for dispatches.
//
// Plain data of one encoder or command, which one thread uses. Buffers are not retained here.
#ifndef OBM_BINDING_TABLE_H
#define OBM_BINDING_TABLE_H

#include "OBMRecording.h"

typedef struct obm_bound {
    char *address;
    size_t available;     // bytes from the address on
    obm_binding binding;  // what a dispatch records: of those, as many as the caller means
} obm_bound;

// All zero but for the place of `buffers`: nothing is bound.
typedef struct obm_binding_table {
    uint32_t bound;        // bit n: something is bound to [[buffer(n)]]
    uint32_t threadgroup;  // bit n: [[threadgroup(n)]] has memory
    obm_bound *buffers;    // by [[buffer(n)]]; the owner knows how many there is room for
    uint32_t threadgroup_lengths[METALLIB_MAX_THREADGROUP];
} obm_binding_table;

static inline obm_bound obm_bound_to(const obm_memory *memory, size_t offset) {
    size_t available = memory->length - offset;
    return (obm_bound){memory->address + offset, available, {memory, available}};
}

static inline void obm_table_set_threadgroup_length(obm_binding_table *table, uint32_t length, uint32_t index) {
    table->threadgroup_lengths[index] = length;
    if (length > 0) table->threadgroup |= 1u << index;
    else table->threadgroup &= ~(1u << index);
}

// Whether an argument of the kernel is not bound.
static inline bool obm_table_lacks(const obm_binding_table *table, const obm_kernel *kernel) {
    return (kernel->buffers & ~table->bound) != 0 || (kernel->threadgroup & ~table->threadgroup) != 0;
}

// A dispatch has its arrays behind itself and what the executor keeps for it: the bindings, if the executor wants
// them, the addresses, and the lengths of threadgroup memory.
static inline size_t obm_dispatch_size(const obm_executor *executor, const obm_kernel *kernel) {
    size_t binding = executor->bindings ? sizeof(obm_binding) : 0;
    return executor->dispatch_size + kernel->buffer_slots * (binding + sizeof(void *)) +
           kernel->threadgroup_slots * sizeof(uint32_t);
}

// Points a dispatch, whose kernel is set, to its arrays.
static inline void obm_dispatch_place_arrays(obm_dispatch *dispatch, const obm_executor *executor) {
    uint32_t slots = dispatch->kernel->buffer_slots;
    obm_binding *bindings = (obm_binding *)((char *)dispatch + executor->dispatch_size);
    void **addresses = (void **)(bindings + (executor->bindings ? slots : 0));
    dispatch->bindings = executor->bindings ? bindings : NULL;
    dispatch->launch.buffers = addresses;
    dispatch->threadgroup_lengths = (uint32_t *)(addresses + slots);
}

// Makes a dispatch of the kernel with what is bound now, in memory of obm_dispatch_size; it is in no phase yet, and its
// sizes are the caller's to fill in. False if an argument is misaligned, a reference has too few bytes, or the
// threadgroup memory is more than there is. Nothing may be lacking.
bool obm_table_snapshot(const obm_binding_table *table, const obm_kernel *kernel, const obm_executor *executor,
                        obm_dispatch *dispatch);

#endif
