// Encodes dispatches of kernels.
//
// Arguments stay bound from dispatch to dispatch and across setComputePipelineState:. A dispatch
// takes them as they are when it is encoded. In MTLDispatchTypeSerial each dispatch sees what the
// earlier ones wrote; in MTLDispatchTypeConcurrent dispatches between two barriers may overlap.
#import "MTLCommandBuffer.h"
#import "MTLCommandEncoder.h"
#import "MTLTypes.h"

@protocol MTLBuffer;
@protocol MTLComputePipelineState;
@protocol MTLFence;
@protocol MTLIndirectCommandBuffer;
@protocol MTLResource;

typedef struct {
    uint32_t threadgroupsPerGrid[3];
} MTLDispatchThreadgroupsIndirectArguments;

@protocol MTLComputeCommandEncoder <MTLCommandEncoder>

@property(readonly) MTLDispatchType dispatchType;

- (void)setComputePipelineState:(id<MTLComputePipelineState>)state;

// Copies up to 4,096 bytes now; the caller's memory is not read again.
- (void)setBytes:(const void *)bytes length:(NSUInteger)length atIndex:(NSUInteger)index;
- (void)setBuffer:(id<MTLBuffer>)buffer offset:(NSUInteger)offset atIndex:(NSUInteger)index;
- (void)setBufferOffset:(NSUInteger)offset atIndex:(NSUInteger)index;
- (void)setBuffers:(const id<MTLBuffer>[])buffers offsets:(const NSUInteger[])offsets withRange:(NSRange)range;

// The length is in bytes and a multiple of 16.
- (void)setThreadgroupMemoryLength:(NSUInteger)length atIndex:(NSUInteger)index;

- (void)dispatchThreadgroups:(MTLSize)threadgroupsPerGrid threadsPerThreadgroup:(MTLSize)threadsPerThreadgroup;
- (void)dispatchThreads:(MTLSize)threadsPerGrid threadsPerThreadgroup:(MTLSize)threadsPerThreadgroup;

// Reads MTLDispatchThreadgroupsIndirectArguments when the dispatch starts. A count of 0 runs nothing.
- (void)dispatchThreadgroupsWithIndirectBuffer:(id<MTLBuffer>)indirectBuffer
                          indirectBufferOffset:(NSUInteger)indirectBufferOffset
                         threadsPerThreadgroup:(MTLSize)threadsPerThreadgroup;

// The commands behave like dispatches of a concurrent encoder, whatever the type of this one.
- (void)executeCommandsInBuffer:(id<MTLIndirectCommandBuffer>)indirectCommandBuffer withRange:(NSRange)executionRange;

// Later dispatches see what earlier ones wrote. Naming resources promises no less order here.
- (void)memoryBarrierWithScope:(MTLBarrierScope)scope;
- (void)memoryBarrierWithResources:(const id<MTLResource>[])resources count:(NSUInteger)count;

// Encoders run one after another here, so a fence holds as soon as it is encoded.
- (void)updateFence:(id<MTLFence>)fence;
- (void)waitForFence:(id<MTLFence>)fence;

- (void)useResource:(id<MTLResource>)resource usage:(MTLResourceUsage)usage;
- (void)useResources:(const id<MTLResource>[])resources count:(NSUInteger)count usage:(MTLResourceUsage)usage;

@end
