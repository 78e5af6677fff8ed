#import "OBMFence.h"

#import "metal/cpu/CPUDevice.h"

@implementation OBMFence

- (id)initWithDevice:(CPUDevice *)device {
    self = [super init];
    if (self != nil) _device = [device retain];
    return self;
}

- (void)dealloc {
    [_device release];
    [super dealloc];
}

- (id<MTLDevice>)device { return _device; }

@end
