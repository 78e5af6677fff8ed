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

// NO and an error when its code cannot be had.
- (BOOL)makeReady:(NSError **)error;

// The executor of the device runs this. It lives as long as the library, and is complete once the function is ready.
- (const void *)code;

@end
