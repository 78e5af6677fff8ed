// A kernel with its limits, ready for the encoder. It never changes, so any thread may use it. It keeps its function
// and thereby the library that the kernel's code is in.
#import "OBMKernel.h"
#import "OBMObject.h"
#import "OBMMetal.h"

@class OBMDevice;
@class OBMFunction;

@interface OBMComputePipelineState : OBMObject <MTLComputePipelineState> {
@public
    obm_kernel _kernel;  // the encoder reads these two directly
    OBMDevice *_device;

@private
    OBMFunction *_function;
}

// Whatever the descriptor said: no device has to prepare a kernel for indirect commands. A device's class may say NO.
- (BOOL)supportIndirectCommandBuffers;

// Raises misuse when the descriptor has no function of this device. nil and an error when its code cannot be had.
- (id)initWithDevice:(OBMDevice *)device descriptor:(MTLComputePipelineDescriptor *)descriptor error:(NSError **)error;

// Autoreleased.
- (MTLComputePipelineReflection *)reflection;

@end
