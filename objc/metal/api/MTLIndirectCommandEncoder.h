// One command of an indirect command buffer.
//
// It is complete once it has a pipeline state, every argument of the kernel, and a dispatch, which comes last. What is
// set later changes the command. It keeps none of what it refers to, which must live until the command buffers that
// execute it have completed; and it must not change while they run. One thread at a time records a command.
#import "MTLTypes.h"

@protocol MTLBuffer;
@protocol MTLComputePipelineState;

@protocol MTLIndirectComputeCommand <NSObject>

// The state must say supportIndirectCommandBuffers.
- (void)setComputePipelineState:(id<MTLComputePipelineState>)pipelineState;

- (void)setKernelBuffer:(id<MTLBuffer>)buffer offset:(NSUInteger)offset atIndex:(NSUInteger)index;

// The length is in bytes and a multiple of 16.
- (void)setThreadgroupMemoryLength:(NSUInteger)length atIndex:(NSUInteger)index;

- (void)concurrentDispatchThreadgroups:(MTLSize)threadgroupsPerGrid
                 threadsPerThreadgroup:(MTLSize)threadsPerThreadgroup;
- (void)concurrentDispatchThreads:(MTLSize)threadsPerGrid threadsPerThreadgroup:(MTLSize)threadsPerThreadgroup;

// Whether all commands before it finish first; without, they may overlap.
- (void)setBarrier;
- (void)clearBarrier;

// Nothing is set any more, and executing the command does nothing.
- (void)reset;

@end
