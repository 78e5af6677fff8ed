// Kernels written by hand for a processor, under the names and bindings of shaders that do the same.
//
// The shader is the specification: tests hold the two equal. Sources are C++ without its library,
// compiled once for each instruction set into an object of the shader bundle's native/ folder.
#ifndef OB_NATIVE_H
#define OB_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#include "metal/abi/metallib.h"

enum { CPU_NATIVE_ABI = 1 };
enum { CPU_SCRATCH_BYTES = 1 << 20 };  // memory of its own that each thread gives to what it runs

#ifdef __cplusplus
extern "C" {
#endif

// Runs threadgroups first .. first + count - 1 of the grid. Which index stands for which threadgroup is
// the kernel's choice, the same in all calls for one launch. `scratch` is the calling thread's, aligned
// to 64 bytes. `shader` is the shader's own entry, for what the native kernel leaves to it.
typedef void (*cpu_native_entry)(const metallib_launch *launch, uint32_t first, uint32_t count, void *scratch,
                                 metallib_entry shader);

typedef struct {
    const char *name;
    cpu_native_entry entry;
} cpu_native;

// The native kernels of one source file.
typedef struct {
    const cpu_native *rows;
    size_t count;
} cpu_native_table;

// An object of a bundle's native/ folder exports this as ob_native.
typedef struct {
    uint32_t abi;  // CPU_NATIVE_ABI
    uint32_t table_count;
    const cpu_native_table *const *tables;
} cpu_native_library;

extern __attribute__((visibility("default"))) const cpu_native_library ob_native;

#ifdef __cplusplus
}
#endif
#endif
