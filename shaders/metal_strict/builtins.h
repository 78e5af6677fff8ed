// Builtins of Apple's compiler that published shaders name.
#pragma once

#define __METAL_MAYBE_FAST_MATH__ true
#define __METAL_MEMORY_SCOPE_DEVICE__ 2
