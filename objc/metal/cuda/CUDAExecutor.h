// The executor of a GPU: it hands recordings to the GPU's stream as fast as they are committed, so that the GPU goes
// from one to the next by itself, and notices when they are done.
//
// Whoever waits looks at the stream itself; a thread of the executor looks, less often, where nobody waits. What cannot
// be done on the GPU, an event's signal and a wait for one, the host does between two parts of a recording.
#ifndef CUDA_EXECUTOR_H
#define CUDA_EXECUTOR_H

#include "CUDAContext.h"
#include "metal/base/OBMRecording.h"

typedef struct cuda_executor cuda_executor;

// NULL when there is no memory left. `deadline`: seconds after which a recording counts as endless.
cuda_executor *cuda_executor_create(cuda_context *context, double deadline);

// No recording may be unfinished; may be called by `completed` of the last one. NULL is allowed. `closed` is called
// when nothing uses the context any more, perhaps on another thread.
void cuda_executor_destroy(cuda_executor *executor, void (*closed)(void *argument), void *argument);

const obm_executor *cuda_executor_calls(const cuda_executor *executor);

#endif
