// A fence: an object with a device and a label.
#import "CPUObject.h"
#import "MTLFence.h"

@class CPUDevice;

@interface CPUFence : CPUObject <MTLFence> {
    CPUDevice *_device;
}

- (id)initWithDevice:(CPUDevice *)device;

@end
