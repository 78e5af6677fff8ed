// A kernel with its limits, ready for the encoder.
#import "CPUKernel.h"
#import "CPUObject.h"
#import "MTLComputePipeline.h"

@class CPUDevice;
@class CPUFunction;

@interface CPUComputePipelineState : CPUObject <MTLComputePipelineState> {
  @public
    cpu_kernel _kernel;  // the encoder reads it directly

  @private
    CPUDevice *_device;
    CPUFunction *_function;
}

- (id)initWithDevice:(CPUDevice *)device descriptor:(MTLComputePipelineDescriptor *)descriptor;
- (MTLComputePipelineReflection *)reflection;

@end
