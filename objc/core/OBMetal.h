// The one place that knows where Metal comes from. Everything above this line of the code is
// written against Apple's protocols and runs on either.
#ifndef OB_METAL_H
#define OB_METAL_H

#import <Foundation/Foundation.h>

#if defined(__APPLE__)
#import <Metal/Metal.h>
// The system's default device goes by this name; its own is a product's.
#define OBSystemDeviceName @"metal"
#define OBProblemOfDevice(name) ((NSString *)nil)
#else
#import "metal/api/Metal.h"
// Devices go by their own names.
#define OBSystemDeviceName ((NSString *)nil)
// Why this machine has no device of that name, as one line that says what to do; nil where no such device is known.
NSString *OBMProblemOfDevice(NSString *name);
#define OBProblemOfDevice(name) OBMProblemOfDevice(name)
#endif

#endif
