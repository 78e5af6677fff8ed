// A kernel of a compiled library, prepared for fast checks when it is dispatched.
//
// A kernel never changes once its pipeline state is made, so any thread may read it. It refers to tables of the
// library, which the pipeline state keeps loaded.
#ifndef OBM_KERNEL_H
#define OBM_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "metal/abi/metallib.h"

typedef struct obm_kernel {
    const metallib_signature *signature;
    const void *code;              // what the device's executor runs, in a form of its own
    const void *const *constants;  // the values of the signature's constants, which its function keeps; NULL: none
    uint32_t max_threads;          // per threadgroup
    uint32_t buffers;              // bit n: there is a [[buffer(n)]]
    uint32_t threadgroup;          // bit n: there is a [[threadgroup(n)]]
    uint32_t buffer_slots;         // highest index + 1
    uint32_t threadgroup_slots;
    uint32_t argument_count;  // of buffer arguments
    struct {
        uint32_t index;
        uint32_t alignment_mask;
        uint32_t smallest;  // bytes that a reference needs, else 0
    } arguments[METALLIB_MAX_BUFFERS];
} obm_kernel;

obm_kernel obm_kernel_make(const metallib_signature *signature);

// NULL if the library's tables keep to the format, or what is wrong with them: a static text. `entries`: every
// function must have one.
const char *obm_metallib_problem(const metallib *library, bool entries);

// The function of that name; NULL if there is none.
const metallib_function *obm_metallib_find(const metallib *library, const char *name);

// The argument of a kind at an index; NULL if there is none.
const metallib_argument *obm_kernel_argument(const obm_kernel *kernel, uint32_t kind, uint32_t index);

#endif
