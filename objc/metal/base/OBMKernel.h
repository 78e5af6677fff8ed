// A function of a compiled library, prepared for fast checks when it is dispatched.
#ifndef OBM_KERNEL_H
#define OBM_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "metal/abi/metallib.h"
#include "metal/cpu/native/native.h"

typedef struct obm_kernel {
    const metallib_function *function;
    metallib_entry entry;
    cpu_native_entry native;  // or NULL
    uint32_t max_threads;   // per threadgroup
    uint32_t buffers;       // bit n: there is a [[buffer(n)]]
    uint32_t threadgroup;   // bit n: there is a [[threadgroup(n)]]
    uint32_t buffer_slots;  // highest index + 1
    uint32_t threadgroup_slots;
    uint32_t argument_count;  // of buffer arguments
    struct {
        uint32_t index;
        uint32_t alignment_mask;
        uint32_t smallest;  // bytes that a reference needs, else 0
    } arguments[METALLIB_MAX_BUFFERS];
} obm_kernel;

obm_kernel obm_kernel_make(const metallib_function *function);

// NULL if the library's tables keep to the format, or what is wrong with them: a static text.
const char *obm_metallib_problem(const metallib *library);

// The argument of a kind at an index; NULL if there is none.
const metallib_argument *obm_kernel_argument(const obm_kernel *kernel, uint32_t kind, uint32_t index);

#endif
