// Orders command buffers by a value that only grows: command buffers signal it and wait for it,
// and the host can do both with a shared event.
#import "MTLDefines.h"

@protocol MTLDevice;

@protocol MTLEvent <NSObject>

@property(readonly) id<MTLDevice> device;
@property(copy, atomic) NSString *label;

@end

@protocol MTLSharedEvent <MTLEvent>

// Any thread may read and write it. Writing wakes command buffers that wait for the value or less.
@property(readwrite) uint64_t signaledValue;

@end
