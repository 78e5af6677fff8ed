// Memory that kernels reach: what the buffers of all devices share. A device has a class of its own that finds the
// memory and gives it back.
//
// Any thread may read a buffer's properties; its contents are the caller's to order.
#import "OBMRecording.h"
#import "OBMResource.h"
#import "OBMMetal.h"

@interface OBMBuffer : OBMResource <MTLBuffer> {
@public
    obm_memory _memory;  // the encoders read it directly
}

// For the classes of devices: a buffer of this memory, which counts as allocated until the buffer goes. What is there
// to free is freed in their dealloc.
- (id)initWithDevice:(OBMDevice *)device memory:(obm_memory)memory options:(MTLResourceOptions)options;

// Zeroed memory. nil when there is none. The classes of devices implement it.
- (id)initWithDevice:(OBMDevice *)device length:(NSUInteger)length options:(MTLResourceOptions)options;

// The caller's memory, which must outlive the buffer; nil when the device cannot use it. The classes of devices
// implement it.
- (id)initWithDevice:(OBMDevice *)device
              memory:(void *)memory
              length:(NSUInteger)length
             options:(MTLResourceOptions)options;

@end
