// Copies and fills. Memory of the GPU and memory that it reaches go through its stream; the caller's memory goes
// through pinned memory, piece by piece, because the GPU's copy engines read nothing else at full speed.
#ifndef CUDA_BLIT_H
#define CUDA_BLIT_H

#include "CUDAMemory.h"

typedef struct cuda_staging cuda_staging;

// Makes the staging memory at its first use. The context is current for all but the free.
CUresult cuda_blit(const cuda_context *context, cuda_staging **staging, const obm_blit *blit);
void cuda_staging_free(const cuda_context *context, cuda_staging *staging);

#endif
