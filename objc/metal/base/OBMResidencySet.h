// A residency set. All memory of these devices is always within their reach: it only notes what it has, and checks what
// it is given. On macOS these devices have none, because older SDKs do not know of them.
//
// Any thread may use it.
#import "OBMObject.h"
#import "OBMMetal.h"

@class OBMDevice;

@interface OBMResidencySet : OBMObject <MTLResidencySet> {
    OBMDevice *_device;
    NSMutableArray *_allocations;  // with what is not committed
    uint64_t _allocatedSize;
}

- (id)initWithDevice:(OBMDevice *)device descriptor:(MTLResidencySetDescriptor *)descriptor;

@end
