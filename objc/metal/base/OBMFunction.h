// A kernel in a library, which it keeps loaded. It never changes, so any thread may use it.
#import "OBMFunctionConstants.h"
#import "OBMObject.h"
#import "metal/abi/metallib.h"
#import "OBMMetal.h"

@class OBMLibrary;

@interface OBMFunction : OBMObject <MTLFunction> {
    OBMLibrary *_library;
    const metallib_function *_function;
    const void **_values;  // for each of the function's constants, NULL where none is given
    const void *_code;
    NSString *_given;  // the values of constants, in words
}

- (id)initWithLibrary:(OBMLibrary *)library function:(const metallib_function *)function;

// Takes values for its constants, once, before anyone else has the function. NO and an error where one is lacking or has
// another type.
- (BOOL)specialise:(OBMFunctionConstantValues *)values error:(NSError **)error;

- (const metallib_function *)function;

// Those of its argument buffers; NULL: it has none.
- (const metallib_slots *)slots;

// As metallib_launch has them; NULL: none.
- (const void *const *)constantValues;

// NO and an error when its code cannot be had, or when it lacks the values of constants.
- (BOOL)makeReady:(NSError **)error;

// The name of the function in an archive. It says what the function is compiled from.
- (NSString *)archiveKey;

// The executor of the device runs this. It lives as long as the library, and is complete once the function is ready.
- (const void *)code;

@end
