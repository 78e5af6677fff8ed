// A kernel in a library, which it keeps loaded. It never changes, so any thread may use it.
#import "OBMObject.h"
#import "metal/abi/metallib.h"
#import "metal/api/MTLLibrary.h"

@class OBMLibrary;

@interface OBMFunction : OBMObject <MTLFunction> {
    OBMLibrary *_library;
    const metallib_function *_function;
}

- (id)initWithLibrary:(OBMLibrary *)library function:(const metallib_function *)function;
- (const metallib_function *)function;

// The executor of the device runs this. It lives as long as the library.
- (const void *)code;

@end
