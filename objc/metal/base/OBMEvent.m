#import "OBMEvent.h"

#import "OBMDevice.h"

@implementation OBMEvent

- (id)initWithDevice:(OBMDevice *)device {
    self = [super init];
    if (self == nil) return nil;
    _device = [device retain];
    _event = obm_event_create();
    if (_event == NULL) {
        [self release];
        return nil;
    }
    return self;
}

- (void)dealloc {
    obm_event_free(_event);
    [_device release];
    [super dealloc];
}

- (id<MTLDevice>)device {
    return _device;
}
- (obm_event *)event {
    return _event;
}
- (uint64_t)signaledValue {
    return obm_event_value(_event);
}
- (void)setSignaledValue:(uint64_t)value {
    obm_event_signal(_event, value);
}

@end
