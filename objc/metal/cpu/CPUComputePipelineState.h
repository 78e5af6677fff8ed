// A kernel on the cpu device: it knows whether one that was written by hand runs in the shader's place.
#import "core/OBExtensions.h"
#import "metal/base/OBMComputePipelineState.h"

@interface CPUComputePipelineState : OBMComputePipelineState <OBNativePipelineState>
@end
