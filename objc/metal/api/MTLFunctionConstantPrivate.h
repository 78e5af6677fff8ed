// How function constants are made from a library's tables, and values taken from those that a caller set.
#import "MTLFunctionConstantValues.h"
#import "MTLLibrary.h"
#import "metal/abi/metallib.h"

// Bytes of a scalar or a vector; 0 for other types.
NSUInteger MTLSizeOfConstant(MTLDataType type);

@interface MTLFunctionConstantValues (Private)
// An array of the type's number and the value's NSData; nil where none is set.
- (NSArray *)entryForName:(NSString *)name index:(NSUInteger)index;
@end

@interface MTLFunctionConstant (Private)
- (id)initWithConstant:(const metallib_constant *)constant;
@end
