// The devices there are: each folder adds its own, and the last is always there. The first is the default.
#import "metal/devices.h"

#import "metal/base/OBMDevice.h"
#import "metal/checker/CheckerDevice.h"
#import "metal/cpu/CPUDevice.h"

static void add(NSMutableArray *devices, OBMDevice *device) {
    if (device == nil) return;
    [devices addObject:device];
    [device release];
}

NSArray *OBMCopyAllDevices(void) {
    NSMutableArray *devices = [[NSMutableArray alloc] init];
    OBMAddGPUs(devices);
    add(devices, CPUNewDevice());
    add(devices, CheckerNewDevice());
    return devices;
}

static id<MTLDevice> copyFirstGPU(NSString *name) {
    NSMutableArray *devices = [[NSMutableArray alloc] init];
    id<MTLDevice> found = nil;
    OBMAddGPUs(devices);
    for (id<MTLDevice> device in devices) {
        BOOL named = name == nil || [[device name] isEqualToString:name] ||
                     [[device name] isEqualToString:[name stringByAppendingString:@":0"]];
        if (found == nil && named) found = [device retain];
    }
    [devices release];
    return found;
}

id<MTLDevice> OBMCreateDefaultDevice(void) {
    id<MTLDevice> first = copyFirstGPU(nil);
    return first != nil ? first : CPUNewDevice();
}

static BOOL isGPU(NSString *name) { return [name isEqualToString:@"cuda"] || [name hasPrefix:@"cuda:"]; }

id<MTLDevice> OBMCopyDeviceNamed(NSString *name) {
    NSString *plain = [name lowercaseString];
    if ([plain isEqualToString:@"cpu"]) return CPUNewDevice();
    if ([plain isEqualToString:@"checker"]) return CheckerNewDevice();
    return isGPU(plain) ? copyFirstGPU(plain) : nil;
}

NSString *OBMProblemOfDevice(NSString *name) {
    NSString *plain = [name lowercaseString];
    if ([plain isEqualToString:@"metal"]) return OBMProblemOfGPU(@"metal");
    return isGPU(plain) ? OBMProblemOfGPU(@"cuda") : nil;
}
