// Commands that are recorded once, as a CUDA graph: one node per dispatch, one launch for all.
#ifndef CUDA_GRAPH_H
#define CUDA_GRAPH_H

#include "CUDACode.h"
#include "metal/base/OBMCommands.h"

// Launches the commands `first` to `first + count` in the context's stream, as a graph that is made at the first call
// and again when the commands have changed. The context is current. One thread at a time per commands.
CUresult cuda_graph_launch(const cuda_context *context, obm_commands *commands, uint32_t first, uint32_t count);

// Lets go of the graph.
void cuda_graph_forget(const cuda_context *context, obm_commands *commands);

#endif
