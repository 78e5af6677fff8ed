// An archive of compiled kernels. The kernels of these devices are compiled already: an archive notes which it was given,
// by what they are compiled from, so that programs that keep archives run here.
//
// Any thread may use it.
#import "OBMObject.h"
#import "OBMMetal.h"

@class OBMDevice, OBMFunction;

@interface OBMBinaryArchive : OBMObject <MTLBinaryArchive> {
    OBMDevice *_device;
    NSMutableSet *_functions;  // their keys
}

// That of a file, or an empty one where the URL is nil. nil and an error where the file cannot be read or is no whole
// archive of this version.
- (id)initWithDevice:(OBMDevice *)device url:(NSURL *)url error:(NSError **)error;

- (BOOL)hasFunction:(OBMFunction *)function;

@end
