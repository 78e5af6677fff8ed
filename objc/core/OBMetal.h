// The one place that knows where Metal comes from. Everything above this line of the code is
// written against Apple's protocols and runs on either.
#ifndef OB_METAL_H
#define OB_METAL_H

#import <Foundation/Foundation.h>

#if defined(__APPLE__)
#import <Metal/Metal.h>
// The system's default device goes by this name; its own is a product's.
#define OBSystemDeviceName @"metal"
#else
#import "metal/api/Metal.h"
// Devices go by their own names.
#define OBSystemDeviceName ((NSString *)nil)
#endif
#import "metal/devices.h"

// All devices, owned by the caller: on macOS Apple's, then our own, which are all there are elsewhere.
static inline NSArray *OBCopyAllDevices(void) {
#if defined(__APPLE__)
    NSArray *apples = MTLCopyAllDevices(), *own = OBMCopyAllDevices();
    NSArray *all = [[apples arrayByAddingObjectsFromArray:own] retain];
    [apples release];
    [own release];
    return all;
#else
    return OBMCopyAllDevices();
#endif
}

// The device of that name, its case ignored, owned by the caller; nil where there is none.
static inline id<MTLDevice> OBCopyDeviceNamed(NSString *name) {
    id<MTLDevice> found = OBMCopyDeviceNamed(name);
#if defined(__APPLE__)
    if (found != nil) return found;
    NSArray *devices = MTLCopyAllDevices();
    for (id<MTLDevice> device in devices) {
        if (found == nil && [[device name] caseInsensitiveCompare:name] == NSOrderedSame) found = [device retain];
    }
    [devices release];
#endif
    return found;
}

#endif
