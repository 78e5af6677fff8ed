// Memory of the host that kernels reach: the device's and the host's memory are one.
#import "OBMObject.h"
#import "metal/api/MTLBuffer.h"

@class CPUDevice;

@interface OBMBuffer : OBMObject <MTLBuffer> {
  @public
    char *_bytes;  // the encoders read these two directly
    NSUInteger _length;
    CPUDevice *_device;

  @private
    MTLResourceOptions _options;
    NSUInteger _mapped;  // bytes to unmap; 0 if the memory comes from the heap or from the caller
    BOOL _owned;
}

// nil when there is no memory. The contents are zero.
- (id)initWithDevice:(CPUDevice *)device length:(NSUInteger)length options:(MTLResourceOptions)options;

// Uses the caller's memory.
- (id)initWithDevice:(CPUDevice *)device
              memory:(void *)memory
              length:(NSUInteger)length
             options:(MTLResourceOptions)options;

@end
