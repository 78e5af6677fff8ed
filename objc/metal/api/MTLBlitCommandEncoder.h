// Encodes copies and fills. Each sees what the ones before it wrote.
#import "MTLCommandEncoder.h"
#import "MTLTypes.h"

@protocol MTLBuffer;
@protocol MTLFence;
@protocol MTLResource;

@protocol MTLBlitCommandEncoder <MTLCommandEncoder>

// Makes what the device wrote visible to the host, in MTLStorageModeManaged only.
- (void)synchronizeResource:(id<MTLResource>)resource;

- (void)fillBuffer:(id<MTLBuffer>)buffer range:(NSRange)range value:(uint8_t)value;

// The ranges must not overlap.
- (void)copyFromBuffer:(id<MTLBuffer>)sourceBuffer
          sourceOffset:(NSUInteger)sourceOffset
              toBuffer:(id<MTLBuffer>)destinationBuffer
     destinationOffset:(NSUInteger)destinationOffset
                  size:(NSUInteger)size;

- (void)updateFence:(id<MTLFence>)fence;
- (void)waitForFence:(id<MTLFence>)fence;

@end
