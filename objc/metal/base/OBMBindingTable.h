// The table of what is bound to a compute encoder at present, and snapshots of it for dispatches.
//
// Plain data of one encoder, which one thread uses. Buffers are not retained here.
#ifndef OBM_BINDING_TABLE_H
#define OBM_BINDING_TABLE_H

#include "OBMRecording.h"

typedef struct obm_bound {
    char *address;
    size_t available;     // bytes from the address on
    obm_binding binding;  // what a dispatch records: of those, as many as the caller means
} obm_bound;

// All zero: nothing is bound.
typedef struct obm_binding_table {
    uint32_t bound;        // bit n: something is bound to [[buffer(n)]]
    uint32_t threadgroup;  // bit n: [[threadgroup(n)]] has memory
    obm_bound buffers[METALLIB_MAX_BUFFERS];
    uint32_t threadgroup_lengths[METALLIB_MAX_THREADGROUP];
} obm_binding_table;

static inline obm_bound obm_bound_to(const obm_memory *memory, size_t offset) {
    size_t available = memory->length - offset;
    return (obm_bound){memory->address + offset, available, {memory, available}};
}

// Whether an argument of the kernel is not bound.
static inline bool obm_table_lacks(const obm_binding_table *table, const obm_kernel *kernel) {
    return (kernel->buffers & ~table->bound) != 0 || (kernel->threadgroup & ~table->threadgroup) != 0;
}

// A dispatch of the kernel with what is bound now, in the recording's arena but in no phase yet; its sizes are the
// caller's to fill in. NULL when there is no memory left. *fits is false if an argument is misaligned, a reference has
// too few bytes, or the threadgroup memory is more than there is. Nothing may be lacking.
obm_dispatch *obm_table_snapshot(const obm_binding_table *table, const obm_kernel *kernel, obm_recording *recording,
                                 bool *fits);

#endif
