// An event, shared with the host or not: both are the same here.
#import "CPUObject.h"
#import "CPUSignal.h"
#import "MTLEvent.h"

@class CPUDevice;

@interface CPUEvent : CPUObject <MTLSharedEvent> {
    CPUDevice *_device;
    cpu_event *_event;
}

- (id)initWithDevice:(CPUDevice *)device;
- (cpu_event *)event;

@end
