// What a kernel reads before the kernels ahead of it are done. A GPU may start a kernel while the ones before still run.
// A kernel whose user_annotation says "early: names" reads the buffers of these names at once: weights, which no kernel
// writes. Before it reads or writes anything else that is not in the constant address space, it calls this.
#ifndef OB_EARLY_H
#define OB_EARLY_H

#include <metal_stdlib>

METAL_FUNC void wait_for_kernels() {
#ifdef __METAL_CUDA__
    metal::metallib_wait();
#endif
    metal::simdgroup_barrier(metal::mem_flags::mem_none);  // the loads before this are issued before it
}

#endif
