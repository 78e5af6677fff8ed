// An event, shared with the host or not: both are the same here.
#import "OBMObject.h"
#import "OBMEventValue.h"
#import "metal/api/MTLEvent.h"

@class CPUDevice;

@interface OBMEvent : OBMObject <MTLSharedEvent> {
    CPUDevice *_device;
    obm_event *_event;
}

- (id)initWithDevice:(CPUDevice *)device;
- (obm_event *)event;

@end
