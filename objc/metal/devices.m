// The devices there are. Each is one line of this table: a function that makes one, owned by the caller, or nil where
// this machine has none. The first is the system's default.
#import "metal/base/OBMDevice.h"
#import "metal/checker/CheckerDevice.h"
#import "metal/cpu/CPUDevice.h"

static OBMDevice *(*const makers[])(void) = {
    CPUNewDevice,
    CheckerNewDevice,
};

id<MTLDevice> MTLCreateSystemDefaultDevice(void) { return makers[0](); }

NSArray *MTLCopyAllDevices(void) {
    NSMutableArray *devices = [NSMutableArray array];
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++) {
        OBMDevice *device = makers[i]();
        if (device == nil) continue;
        [devices addObject:device];
        [device release];
    }
    return [devices retain];
}
