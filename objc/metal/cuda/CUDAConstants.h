// Values of function constants as options of the compiler: on a GPU they are constants of the code.
#import "metal/abi/metallib.h"
#import "metal/api/MTLDefines.h"

// One macro for each value, and one that says it is defined; empty without values.
NSArray *CUDAMacrosOfConstants(const metallib_signature *signature, const void *const *values);

// A name for a list of macros that no other list of the same kernel has, but by a chance of 2^-64; empty for none.
NSString *CUDANameOfMacros(NSArray *macros);
