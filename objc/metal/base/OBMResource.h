// What buffers and indirect command buffers share as resources of a device.
//
// Any thread may read its properties.
#import "OBMObject.h"
#import "OBMMetal.h"

@class OBMDevice;

@interface OBMResource : OBMObject <MTLResource> {
@public
    OBMDevice *_device;  // the encoders read it directly

@private
    MTLResourceOptions _options;
}

- (id)initWithDevice:(OBMDevice *)device options:(MTLResourceOptions)options;

@end
