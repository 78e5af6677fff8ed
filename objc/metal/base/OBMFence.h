// A fence: an object with a device and a label. Encoders run one after another, so it has nothing to do.
#import "OBMObject.h"
#import "OBMMetal.h"

@class OBMDevice;

@interface OBMFence : OBMObject <MTLFence> {
    OBMDevice *_device;
}

- (id)initWithDevice:(OBMDevice *)device;

@end
