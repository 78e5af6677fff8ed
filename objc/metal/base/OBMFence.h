// A fence: an object with a device and a label.
#import "OBMObject.h"
#import "metal/api/MTLFence.h"

@class CPUDevice;

@interface OBMFence : OBMObject <MTLFence> {
    CPUDevice *_device;
}

- (id)initWithDevice:(CPUDevice *)device;

@end
