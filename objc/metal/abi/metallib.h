// The C interface of a compiled shader library: what the shader compiler writes and the
// Metal stand-in reads. Plain C and C++; no Objective-C, so that generated code needs no runtime.
#ifndef OB_METALLIB_H
#define OB_METALLIB_H

#include <stdint.h>

#define METALLIB_ABI 7
#define METALLIB_MAX_BUFFERS 31      // Metal's limit on [[buffer(n)]]
#define METALLIB_MAX_THREADGROUP 31  // and on [[threadgroup(n)]]
#define METALLIB_MAX_CONSTANTS 256   // function constants of a shader

#ifdef __cplusplus
extern "C" {
#endif

// A member of a struct argument. `type` is an MTLDataType value; an array of `count` > 1 elements
// has the element's type.
typedef struct metallib_member {
    const char *name;
    uint32_t offset;
    uint32_t type;
    uint32_t count;
} metallib_member;

enum { METALLIB_BUFFER = 0, METALLIB_THREADGROUP = 1 };                   // MTLBindingType
enum { METALLIB_READ = 0, METALLIB_READ_WRITE = 1, METALLIB_WRITE = 2 };  // MTLBindingAccess

typedef struct metallib_argument {
    const char *name;  // parameter name in the shader
    uint32_t kind;     // METALLIB_BUFFER or METALLIB_THREADGROUP
    uint32_t index;    // n of [[buffer(n)]] or [[threadgroup(n)]]
    uint32_t access;
    uint32_t constant;   // 1 in the constant address space
    uint32_t reference;  // 1 for T &: the bound range must hold one whole T
    uint32_t type;       // MTLDataType of the element
    uint32_t size;       // sizeof(T) and alignof(T) for T *name or T &name
    uint32_t alignment;
    uint32_t member_count;  // of a struct element, else 0
    const metallib_member *members;
    uint32_t early;  // 1 where the kernel may read it before the kernels ahead of it are done
} metallib_argument;

// A member of an argument buffer, which is a struct with members that point to memory.
typedef struct metallib_slot {
    uint32_t argument;         // n of the struct's [[buffer(n)]]
    uint32_t member;           // its place among the struct's members
    uint32_t id;               // n of [[id(n)]], or of the place; elements of an array follow it
    uint32_t access;           // to the memory that it points to
    uint32_t type;             // MTLDataType of an element there
    uint32_t size, alignment;  // of an element; 0 where the member is no pointer
} metallib_slot;

// Those of a function.
typedef struct metallib_slots {
    const char *function;
    uint32_t count;
    const metallib_slot *slots;
} metallib_slots;

// Ends with NULL. A library without argument buffers has no such table.
extern __attribute__((visibility("default"))) const metallib_slots *const ob_metallib_slots[];

enum { METALLIB_UNUSED = 0, METALLIB_OPTIONAL = 1, METALLIB_REQUIRED = 2 };

// A function constant. `type` is an MTLDataType value; `use` is the function's: one that asks whether it is defined
// does without a value.
typedef struct metallib_constant {
    const char *name;
    uint32_t index;  // n of [[function_constant(n)]]
    uint32_t type;
    uint32_t use;
} metallib_constant;

// Where a thread stands, for kernels that are run thread by thread.
typedef struct metallib_thread {
    uint32_t grid[3];         // thread_position_in_grid
    uint32_t position[3];     // thread_position_in_threadgroup
    uint32_t threadgroup[3];  // threadgroup_position_in_grid
    uint32_t size[3];         // threads of this threadgroup: fewer at the edges of a grid of threads
    uint32_t index;           // in the threadgroup
    uint32_t lane, simdgroup, simdgroups;
} metallib_thread;

// One dispatch as a kernel sees it. Entries that the kernel does not name are undefined.
typedef struct metallib_launch {
    void *const *buffers;           // indexed by [[buffer(n)]]
    void *const *threadgroup;       // indexed by [[threadgroup(n)]]; memory of the calling worker
    uint32_t threadgroups[3];       // threadgroups per grid
    uint32_t threads[3];            // threads per threadgroup
    uint32_t grid[3];               // threads per grid
    const metallib_thread *thread;  // the thread to run, where kernels are run thread by thread
    // A value for each of the function's constants, in the order of its table; NULL where none is given,
    // and NULL for none at all. A constant without a value is zero and not defined.
    const void *const *constants;
} metallib_launch;

// Runs threadgroups first .. first + count - 1 of the grid, x fastest, then y, then z.
// Reentrant: several threads run disjoint ranges of one launch.
typedef void (*metallib_entry)(const metallib_launch *launch, uint32_t first, uint32_t count);

// The declaration of a kernel, which is the same whatever runs it.
typedef struct metallib_signature {
    const char *name;
    const metallib_argument *arguments;
    uint32_t argument_count;
    uint32_t max_total_threads;  // per threadgroup: 1 where a threadgroup is one thread
    uint32_t thread_execution_width;
    uint32_t static_threadgroup_length;  // bytes declared in the kernel's body
    const metallib_constant *constants;  // those of the shader that the function stands in
    uint32_t constant_count;
} metallib_signature;

typedef struct metallib_function {
    metallib_signature signature;
    metallib_entry entry;  // NULL where the code of the library is not in this object
} metallib_function;

typedef struct metallib {
    uint32_t abi;  // METALLIB_ABI
    uint32_t function_count;
    const char *isa;                     // "avx2", ...
    const metallib_function *functions;  // sorted by name
} metallib;

extern __attribute__((visibility("default"))) const metallib ob_metallib;

#ifdef __cplusplus
}
#endif
#endif
