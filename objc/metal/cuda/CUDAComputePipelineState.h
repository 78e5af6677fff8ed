// A kernel on the GPU.
#import "metal/base/OBMComputePipelineState.h"

@interface CUDAComputePipelineState : OBMComputePipelineState
@end
