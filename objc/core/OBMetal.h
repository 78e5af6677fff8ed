// The one place that knows where Metal comes from. Everything above this line of the code is
// written against Apple's protocols and runs on either.
#ifndef OB_METAL_H
#define OB_METAL_H

#import <Foundation/Foundation.h>

#if defined(__APPLE__)
#import <Metal/Metal.h>
// The system's default device goes by this name; its own is a product's.
#define OBSystemDeviceName @"metal"

static inline id<MTLDevice> OBCopyDeviceNamed(NSString *name) {
    id<MTLDevice> found = nil;
    NSArray *devices = MTLCopyAllDevices();
    for (id<MTLDevice> device in devices) {
        if (found == nil && [[device name] caseInsensitiveCompare:name] == NSOrderedSame) found = [device retain];
    }
    [devices release];
    return found;
}

static inline NSString *OBProblemOfDevice(NSString *name) {
    (void)name;  // Apple's Metal does not say why a device is absent
    return nil;
}
#else
#import "metal/api/Metal.h"
// Devices go by their own names.
#define OBSystemDeviceName ((NSString *)nil)
// The device of that name, its case ignored, owned by the caller, without making the others; nil where there is none. Of
// several devices of a kind, such as cuda:0 and cuda:1, the kind alone means the first.
id<MTLDevice> OBMCopyDeviceNamed(NSString *name);
#define OBCopyDeviceNamed(name) OBMCopyDeviceNamed(name)
// Why this machine has no device of that name, as one line that says what to do; nil where no such device is known.
NSString *OBMProblemOfDevice(NSString *name);
#define OBProblemOfDevice(name) OBMProblemOfDevice(name)
#endif

#endif
