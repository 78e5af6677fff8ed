// A kernel with its limits, ready for the encoder.
#import "OBMKernel.h"
#import "OBMObject.h"
#import "metal/api/MTLComputePipeline.h"

@class CPUDevice;
@class OBMFunction;

@interface OBMComputePipelineState : OBMObject <MTLComputePipelineState> {
  @public
    obm_kernel _kernel;  // the encoder reads it directly

  @private
    CPUDevice *_device;
    OBMFunction *_function;
}

- (id)initWithDevice:(CPUDevice *)device descriptor:(MTLComputePipelineDescriptor *)descriptor;
- (MTLComputePipelineReflection *)reflection;

@end
