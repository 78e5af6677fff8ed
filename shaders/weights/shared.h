// Code that kernels share where shaders are compiled as C++: it is there once for each type of matrix, and a call away. On
// a GPU it is part of each kernel.
#ifndef OB_WEIGHTS_SHARED_H
#define OB_WEIGHTS_SHARED_H

#if defined(__METAL_CPU__) || defined(__METAL_CHECKER__)
#define OB_SHARED __attribute__((noinline, noclone))
#else
#define OB_SHARED METAL_FUNC
#endif

#endif
