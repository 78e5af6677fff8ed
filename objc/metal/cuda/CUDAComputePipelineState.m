#import "CUDAComputePipelineState.h"

#import "CUDACode.h"

@implementation CUDAComputePipelineState

- (id)initWithDevice:(OBMDevice *)device descriptor:(MTLComputePipelineDescriptor *)descriptor error:(NSError **)error {
    self = [super initWithDevice:device descriptor:descriptor error:error];
    if (self == nil) return nil;
    uint32_t most = ((const cuda_code *)_kernel.code)->max_threads;
    if (most < _kernel.max_threads) _kernel.max_threads = most;
    return self;
}

@end
