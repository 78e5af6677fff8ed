// The interface of Metal's standard library, declared in C++ for OpenCL: the dialect of Clang that has Metal's address
// spaces. It serves to check shaders, never to run them, so it has declarations only.
#pragma once

#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#pragma OPENCL EXTENSION __cl_clang_bitfields : enable
#pragma OPENCL EXTENSION __cl_clang_function_pointers : enable

#define device __global
#define constant const __constant
#define threadgroup __local
#define thread __private
#define METAL_FUNC inline __attribute__((always_inline))
#define METAL_INTERNAL METAL_FUNC
#define METAL_ALIGN(n) alignas(n)
#define METAL_CONST __attribute__((const))
#define assert(condition) ((void)0)
#define METAL_PURE __attribute__((pure))

#include "types.h"
#include "traits.h"
#include "limits.h"
#include "math.h"
#include "integer.h"
#include "pack.h"
#include "relational.h"
#include "matrix.h"
#include "atomic.h"
#include "compute.h"
#include "simdgroup.h"
#include "builtins.h"
#include "texture.h"
#include "logging.h"
