// A GPU may start a kernel while the ones ahead of it still run. A kernel whose user_annotation says "early: names" reads
// the buffers of these names at once: weights and the places of rows, which none of those writes. Before it reads or writes
// anything else that is not in the constant address space, it calls wait_for_kernels().
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
