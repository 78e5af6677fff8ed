// The one place that knows where Metal comes from. Everything above this line of the code is
// written against Apple's protocols and runs on either.
#ifndef OB_METAL_H
#define OB_METAL_H

#import <Foundation/Foundation.h>

#if defined(__APPLE__)
#import <Metal/Metal.h>
#define OBSystemDeviceName @"metal"
#else
#import "metal/api/Metal.h"
#define OBSystemDeviceName @"cpu"
#endif

#endif
