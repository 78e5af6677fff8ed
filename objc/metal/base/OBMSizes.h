// The sizes of a dispatch, from either of the two calls that give them.
#ifndef OBM_SIZES_H
#define OBM_SIZES_H

#import "metal/abi/metallib.h"
#import "OBMMetal.h"

typedef struct {
    MTLSize threadgroups, threads, grid;
} OBMSizes;

static inline BOOL OBMGridFits(MTLSize size) {
    __uint128_t count = (__uint128_t)size.width * size.height;
    return count - 1 < UINT32_MAX && size.depth - 1 < UINT32_MAX && count * size.depth <= UINT32_MAX;
}

static inline BOOL OBMIsOneThread(MTLSize threads) {
    return threads.width == 1 && threads.height == 1 && threads.depth == 1;
}

// No size of `threads` is 0. NO where the grid is empty or has more than 2^32 - 1 threads.
static inline BOOL OBMSizesOfThreadgroups(MTLSize threadgroups, MTLSize threads, OBMSizes *sizes) {
    MTLSize grid = MTLSizeMake(threadgroups.width * threads.width, threadgroups.height * threads.height,
                               threadgroups.depth * threads.depth);
    *sizes = (OBMSizes){threadgroups, threads, grid};
    return OBMGridFits(threadgroups) && OBMGridFits(grid);
}

static inline BOOL OBMSizesOfGrid(MTLSize grid, MTLSize threads, OBMSizes *sizes) {
    MTLSize threadgroups = MTLSizeMake((grid.width - 1) / threads.width + 1, (grid.height - 1) / threads.height + 1,
                                       (grid.depth - 1) / threads.depth + 1);
    *sizes = (OBMSizes){threadgroups, threads, grid};
    return OBMGridFits(grid);
}

static inline void OBMSetSize(uint32_t *target, MTLSize size) {
    target[0] = (uint32_t)size.width;
    target[1] = (uint32_t)size.height;
    target[2] = (uint32_t)size.depth;
}

static inline void OBMSetSizes(metallib_launch *launch, const OBMSizes *sizes) {
    OBMSetSize(launch->threadgroups, sizes->threadgroups);
    OBMSetSize(launch->threads, sizes->threads);
    OBMSetSize(launch->grid, sizes->grid);
}

#endif
