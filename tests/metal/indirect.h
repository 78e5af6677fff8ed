// For the programs that test indirect command buffers.
#import "check.h"

#define ONE MTLSizeMake(1, 1, 1)

__attribute__((unused)) static MTLIndirectCommandBufferDescriptor *describe(MTLIndirectCommandType types, NSUInteger buffers) {
    MTLIndirectCommandBufferDescriptor *descriptor = [[[MTLIndirectCommandBufferDescriptor alloc] init] autorelease];
    [descriptor setCommandTypes:types];
    [descriptor setInheritPipelineState:NO];
    [descriptor setInheritBuffers:NO];
    [descriptor setMaxKernelBufferBindCount:buffers];
    return descriptor;
}

__attribute__((unused)) static id<MTLIndirectCommandBuffer> newCommands(fixture *f, NSUInteger count) {
    MTLIndirectCommandType types =
        MTLIndirectCommandTypeConcurrentDispatch | MTLIndirectCommandTypeConcurrentDispatchThreads;
    return [f->device newIndirectCommandBufferWithDescriptor:describe(types, 31)
                                             maxCommandCount:count
                                                     options:MTLResourceStorageModeShared];
}

// A pipeline state for indirect command buffers, on every device.
__attribute__((unused)) static id<MTLComputePipelineState> indirectState(fixture *f, NSString *name) {
    MTLComputePipelineDescriptor *descriptor = [[[MTLComputePipelineDescriptor alloc] init] autorelease];
    [descriptor setComputeFunction:[[f->library newFunctionWithName:name] autorelease]];
    [descriptor setSupportIndirectCommandBuffers:YES];
    return [[f->device newComputePipelineStateWithDescriptor:[[descriptor copy] autorelease]
                                                     options:MTLPipelineOptionNone
                                                  reflection:NULL
                                                       error:NULL] autorelease];
}

// Records kernel(a, b, value) over `groups` threadgroups of one thread, with the value at an offset.
__attribute__((unused)) static void record3(id<MTLIndirectComputeCommand> command, id<MTLComputePipelineState> state, id<MTLBuffer> a,
                    id<MTLBuffer> b, id<MTLBuffer> values, NSUInteger index, NSUInteger groups) {
    [command setComputePipelineState:state];
    [command setKernelBuffer:a offset:0 atIndex:0];
    [command setKernelBuffer:b offset:0 atIndex:1];
    [command setKernelBuffer:values offset:index * 4 atIndex:2];
    [command concurrentDispatchThreadgroups:MTLSizeMake(groups, 1, 1) threadsPerThreadgroup:ONE];
}
