// A kernel in a library, which it keeps loaded.
#import "CPUObject.h"
#import "MTLLibrary.h"
#import "metallib.h"
#import "native/native.h"

@class CPULibrary;

@interface CPUFunction : CPUObject <MTLFunction> {
    CPULibrary *_library;
    const metallib_function *_function;
}

- (id)initWithLibrary:(CPULibrary *)library function:(const metallib_function *)function;
- (const metallib_function *)function;
- (cpu_native_entry)nativeEntry;  // or NULL

@end
