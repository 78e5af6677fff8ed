#import "CheckerComputePipelineState.h"

@implementation CheckerComputePipelineState

- (id)initWithDevice:(OBMDevice *)device descriptor:(MTLComputePipelineDescriptor *)descriptor error:(NSError **)error {
    self = [super initWithDevice:device descriptor:descriptor error:error];
    if (self != nil) _supportsIndirectCommandBuffers = [descriptor supportIndirectCommandBuffers];
    return self;
}

- (BOOL)supportIndirectCommandBuffers {
    return _supportsIndirectCommandBuffers;
}

@end
