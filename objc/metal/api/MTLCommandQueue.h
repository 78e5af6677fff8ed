// Makes command buffers and runs them in the order of commit (or of enqueue). Any thread may use it.
#import "MTLDefines.h"

@class MTLCommandBufferDescriptor;
@protocol MTLCommandBuffer;
@protocol MTLDevice;
@protocol MTLResidencySet;

@protocol MTLCommandQueue <NSObject>

@property(copy, atomic) NSString *label;
@property(readonly) id<MTLDevice> device;

// Autoreleased. Blocks while the queue's limit of unfinished command buffers is reached.
- (id<MTLCommandBuffer>)commandBuffer;
- (id<MTLCommandBuffer>)commandBufferWithDescriptor:(MTLCommandBufferDescriptor *)descriptor;

// The caller keeps every buffer and pipeline state alive until the command buffer has completed.
- (id<MTLCommandBuffer>)commandBufferWithUnretainedReferences;

@optional  // here: queues of macOS 14 and older lack them
// From the next commit on, all command buffers have what the set has.
- (void)addResidencySet:(id<MTLResidencySet>)residencySet;
- (void)removeResidencySet:(id<MTLResidencySet>)residencySet;

@end
