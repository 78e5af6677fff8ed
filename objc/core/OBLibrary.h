// A library of compiled shaders and the kernels made from it so far.
#import "OBMetal.h"

@class OBKernel;

@interface OBLibrary : NSObject {
    id<MTLDevice> _device;
    id<MTLLibrary> _library;
    NSMutableDictionary *_kernels;
    NSLock *_lock;
}

// nil when there is no memory.
+ (OBLibrary *)libraryWithLibrary:(id<MTLLibrary>)library device:(id<MTLDevice>)device;

// Names of all kernels, sorted.
- (NSArray *)kernelNames;

// The kernel of that name, its pipeline state made at the first request and kept. nil and an error
// when the library has none. Safe from any thread.
- (OBKernel *)kernelNamed:(NSString *)name error:(NSError **)error;

@end
