// A library of compiled shaders and the kernels made from it so far.
#import "OBMetal.h"

@class OBArchive, OBKernel;

@interface OBLibrary : NSObject {
    id<MTLDevice> _device;
    id<MTLLibrary> _library;
    OBArchive *_archive;
    NSMutableDictionary *_kernels;
    NSLock *_lock;
}

// nil when there is no memory.
+ (OBLibrary *)libraryWithLibrary:(id<MTLLibrary>)library device:(id<MTLDevice>)device;

// Where compiled kernels are kept in a file; nil: nowhere. Kernels made before it is set are not in it.
@property(retain) OBArchive *archive;

// Names of all kernels, sorted.
- (NSArray *)kernelNames;

// The kernel of that name, its pipeline state made at the first request and kept. nil and an error
// when the library has none. Safe from any thread.
- (OBKernel *)kernelNamed:(NSString *)name error:(NSError **)error;

// A new object for the values of function constants, of the class that the device reads. The next method takes it.
- (MTLFunctionConstantValues *)constantValues;

// A kernel with values for its function constants, which the caller keeps. nil and an error where one is lacking.
- (OBKernel *)kernelNamed:(NSString *)name values:(MTLFunctionConstantValues *)values error:(NSError **)error;

// The MTLFunctionConstants that a kernel uses, by index; nil and an error when the library has no such kernel.
- (NSArray *)constantsOfKernel:(NSString *)name error:(NSError **)error;

@end
