// The devices there are: each folder adds its own, and the last is always there. The first is the system's default.
#import "metal/base/OBMDevice.h"
#import "metal/checker/CheckerDevice.h"
#import "metal/cpu/CPUDevice.h"
#import "metal/cuda/CUDADevice.h"

static void add(NSMutableArray *devices, OBMDevice *device) {
    if (device == nil) return;
    [devices addObject:device];
    [device release];
}

static NSMutableArray *newDevices(void) {
    NSMutableArray *devices = [[NSMutableArray alloc] init];
    CUDAAddDevices(devices);
    add(devices, CPUNewDevice());
    add(devices, CheckerNewDevice());
    return devices;
}

NSArray *MTLCopyAllDevices(void) { return newDevices(); }

id<MTLDevice> MTLCreateSystemDefaultDevice(void) {
    NSMutableArray *devices = newDevices();
    id<MTLDevice> first = [devices count] > 0 ? [[devices objectAtIndex:0] retain] : nil;
    [devices release];
    return first;
}

// The core declares it, beside Apple's Metal, where there is none.
NSString *OBMProblemOfDevice(NSString *name);

NSString *OBMProblemOfDevice(NSString *name) {
    NSString *kind = [[[name lowercaseString] componentsSeparatedByString:@":"] objectAtIndex:0];
    if ([kind isEqualToString:@"metal"]) return @"Apple's GPUs are on macOS";
    return [kind isEqualToString:@"cuda"] ? CUDAProblem() : nil;
}
