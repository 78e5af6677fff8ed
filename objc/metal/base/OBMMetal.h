// Where the protocols, types and constants of Metal come from for these devices: Apple's own headers on macOS, where
// they stand beside Apple's devices, and those of metal/api elsewhere.
#ifndef OBM_METAL_H
#define OBM_METAL_H

#import <Foundation/Foundation.h>

#if defined(__APPLE__)
#import <Metal/Metal.h>
// Apple's protocols ask for graphics and textures, too. These devices have none: to call such a method of theirs is to
// call one that an object does not have.
#pragma clang diagnostic ignored "-Wprotocol"
#pragma clang diagnostic ignored "-Wobjc-protocol-property-synthesis"
#define MTL_BLOCK(result, ...) result (^)(__VA_ARGS__)
#else
#import "metal/api/Metal.h"
#endif

#endif
