#import "OBMFence.h"

#import "OBMDevice.h"

@implementation OBMFence

- (id)initWithDevice:(OBMDevice *)device {
    self = [super init];
    if (self != nil) _device = [device retain];
    return self;
}

- (void)dealloc {
    [_device release];
    [super dealloc];
}

- (id<MTLDevice>)device {
    return _device;
}

@end
