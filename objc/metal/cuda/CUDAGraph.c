#include "CUDAGraph.h"

#include <stdlib.h>
#include <string.h>

// The nodes that start together are a phase: all of them wait for all of the phase before. A kernel may wait in the
// kernel itself, so that it starts while the one before still runs (programmatic dependent launch).
typedef struct graph_builder {
    const cuda_context *context;
    CUgraph graph;
    CUgraphNode *nodes;
    size_t count;          // of nodes
    size_t before, phase;  // first nodes of the phase before, and of this one
    bool programmatic;
} graph_builder;

// What the commands keep.
typedef struct kept_graph {
    CUgraphExec exec;
    uint64_t version;
    uint32_t first, count;
} kept_graph;

static bool is_early(const metallib_argument *argument) {
    return argument->early || (argument->constant && argument->reference);
}

// A kernel reads its constant arguments, and what its shader says, before it waits for the kernels before it. So none
// of these may write them. Later ones may: the graph that comes next starts when this one is done.
static bool early_stay(const obm_commands *commands, uint32_t first, uint32_t count) {
    static uint64_t graphs;
    uint64_t mark = __atomic_add_fetch(&graphs, 1, __ATOMIC_RELAXED);
    for (uint32_t i = first; i < first + count; i++) {
        const obm_dispatch *dispatch = commands->list[i].dispatch;
        if (dispatch == NULL) continue;
        const metallib_signature *signature = dispatch->kernel->signature;
        for (int writes = 0; writes < 2; writes++) {
            for (uint32_t a = 0; a < signature->argument_count; a++) {
                const metallib_argument *argument = &signature->arguments[a];
                if (argument->kind != METALLIB_BUFFER) continue;
                cuda_memory *own = dispatch->bindings[argument->index].memory->own;
                if (writes && argument->access != METALLIB_READ) own->written_in = mark;
                if (!writes && is_early(argument) && own->written_in == mark) return false;
            }
        }
    }
    return true;
}

static CUresult add_edges(graph_builder *builder, CUgraphNode node) {
    size_t count = builder->phase - builder->before;
    // One kernel before and no other beside: the only case in which both sides are sure to allow it.
    bool programmatic = builder->programmatic && count == 1;
    CUgraphEdgeData edge = {0};
    if (programmatic) {
        edge.from_port = CU_GRAPH_PORT_PROGRAMMATIC;
        edge.type = CU_GRAPH_DEPENDENCY_PROGRAMMATIC;
    }
    for (size_t i = builder->before; i < builder->phase; i++) {
        CUresult result =
            builder->context->driver->cuGraphAddDependencies(builder->graph, &builder->nodes[i], &node, &edge, 1);
        if (result != CUDA_SUCCESS) return result;
    }
    return CUDA_SUCCESS;
}

// A command's number is its place among all, from 1 on.
static CUresult add_command(graph_builder *builder, const obm_command *command, uint32_t number) {
    cuda_launch launch;
    CUresult result;
    if (command->barrier && builder->count > builder->phase) {
        builder->before = builder->phase;
        builder->phase = builder->count;
    }
    if (command->dispatch == NULL || !cuda_prepare(&launch, command->dispatch, number, NULL, NULL, &result))
        return CUDA_SUCCESS;
    if (result != CUDA_SUCCESS) return result;
    CUgraphNode *node = &builder->nodes[builder->count];
    result = builder->context->driver->cuGraphAddKernelNode(node, builder->graph, NULL, 0, &launch.node);
    if (result != CUDA_SUCCESS) return result;
    result = add_edges(builder, *node);
    builder->count++;
    return result;
}

static CUresult build(const cuda_context *context, const obm_commands *commands, kept_graph *kept) {
    const cuda_driver *driver = context->driver;
    graph_builder builder = {.context = context};
    CUresult result = driver->cuGraphCreate(&builder.graph, 0);
    if (result != CUDA_SUCCESS) return result;
    builder.nodes = malloc((kept->count + 1) * sizeof *builder.nodes);
    builder.programmatic = context->major >= 9 && early_stay(commands, kept->first, kept->count);
    if (builder.nodes == NULL) result = CUDA_ERROR_OUT_OF_MEMORY;
    for (uint32_t i = 0; i < kept->count && result == CUDA_SUCCESS; i++)
        result = add_command(&builder, &commands->list[kept->first + i], kept->first + i + 1);
    if (result == CUDA_SUCCESS) result = driver->cuGraphInstantiateWithFlags(&kept->exec, builder.graph, 0);
    if (result == CUDA_SUCCESS) result = driver->cuGraphUpload(kept->exec, context->stream);
    driver->cuGraphDestroy(builder.graph);
    free(builder.nodes);
    return result;
}

CUresult cuda_graph_launch(const cuda_context *context, obm_commands *commands, uint32_t first, uint32_t count) {
    kept_graph *kept = commands->own;
    if (kept == NULL || kept->version != commands->version || kept->first != first || kept->count != count) {
        cuda_graph_forget(context, commands);
        kept = calloc(1, sizeof *kept);
        if (kept == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
        *kept = (kept_graph){.version = commands->version, .first = first, .count = count};
        CUresult result = build(context, commands, kept);
        commands->own = kept;
        if (result != CUDA_SUCCESS) {
            cuda_graph_forget(context, commands);
            return result;
        }
    }
    return context->driver->cuGraphLaunch(kept->exec, context->stream);
}

void cuda_graph_forget(const cuda_context *context, obm_commands *commands) {
    kept_graph *kept = commands->own;
    if (kept == NULL) return;
    if (kept->exec != NULL) context->driver->cuGraphExecDestroy(kept->exec);
    free(kept);
    commands->own = NULL;
}
