#import "CheckerComputePipelineState.h"

@implementation CheckerComputePipelineState

- (id)initWithDevice:(OBMDevice *)device descriptor:(MTLComputePipelineDescriptor *)descriptor {
    self = [super initWithDevice:device descriptor:descriptor];
    if (self != nil) _supportsIndirectCommandBuffers = [descriptor supportIndirectCommandBuffers];
    return self;
}

- (BOOL)supportIndirectCommandBuffers {
    return _supportsIndirectCommandBuffers;
}

@end
