#import "CPUEvent.h"

#import "CPUDevice.h"

@implementation CPUEvent

- (id)initWithDevice:(CPUDevice *)device {
    self = [super init];
    if (self == nil) return nil;
    _device = [device retain];
    _event = cpu_event_create();
    if (_event == NULL) {
        [self release];
        return nil;
    }
    return self;
}

- (void)dealloc {
    cpu_event_free(_event);
    [_device release];
    [super dealloc];
}

- (id<MTLDevice>)device { return _device; }
- (cpu_event *)event { return _event; }
- (uint64_t)signaledValue { return cpu_event_value(_event); }
- (void)setSignaledValue:(uint64_t)value {
    cpu_event_signal(_event, value);
}

@end
