// One argument of a kernel, as reflection shows it. Copies what it says out of the library.
#import "MTLArgument.h"
#import "metallib.h"

@interface CPUBinding : NSObject <MTLBinding> {
    NSString *_name;
    MTLBindingType _type;
    MTLBindingAccess _access;
    NSUInteger _index;
    NSUInteger _alignment;
    NSUInteger _dataSize;
}

// A CPUBufferBinding or a CPUThreadgroupBinding, owned by the caller.
+ (CPUBinding *)newBindingWithArgument:(const metallib_argument *)argument;

@end

@interface CPUBufferBinding : CPUBinding <MTLBufferBinding> {
    MTLDataType _dataType;
    MTLStructType *_structType;
    MTLPointerType *_pointerType;
}
@end

@interface CPUThreadgroupBinding : CPUBinding <MTLThreadgroupBinding>
@end
