// A kernel in a library, which it keeps loaded.
#import "OBMObject.h"
#import "metal/api/MTLLibrary.h"
#import "metal/abi/metallib.h"
#import "metal/cpu/native/native.h"

@class OBMLibrary;

@interface OBMFunction : OBMObject <MTLFunction> {
    OBMLibrary *_library;
    const metallib_function *_function;
}

- (id)initWithLibrary:(OBMLibrary *)library function:(const metallib_function *)function;
- (const metallib_function *)function;
- (cpu_native_entry)nativeEntry;  // or NULL

@end
