// An event, shared with the host or not: both are the same here. Any thread may use it.
#import "OBMEventValue.h"
#import "OBMObject.h"
#import "OBMMetal.h"

@class OBMDevice;

@interface OBMEvent : OBMObject <MTLSharedEvent> {
    OBMDevice *_device;
    obm_event *_event;
}

- (id)initWithDevice:(OBMDevice *)device;
- (obm_event *)event;

@end
