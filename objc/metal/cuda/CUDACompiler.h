// NVRTC, NVIDIA's compiler of CUDA C++, opened at run time.
#ifndef CUDA_COMPILER_H
#define CUDA_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The compiler's version, such as 13000 for 13.0; 0 where there is none. OB_NVRTC names its library; without, it is
// looked for as the system finds libraries.
int cuda_compiler_version(void);

// Compiles the kernel of that number in a text of CUDA C++, with a NULL-terminated list of macros. True, with machine code that the caller frees; else *image
// is NULL and *messages, which the caller frees, says why, or is NULL: no memory is left. Any thread may call it.
bool cuda_compile(const char *source, const char *name, uint32_t number, const char *const *macros,
                  const char *architecture, void **image, size_t *size, char **messages);

#endif
