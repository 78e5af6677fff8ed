// One argument of a kernel, as reflection shows it. Copies what it says out of the library.
#import "metal/api/MTLArgument.h"
#import "metal/abi/metallib.h"

@interface OBMBinding : NSObject <MTLBinding> {
    NSString *_name;
    MTLBindingType _type;
    MTLBindingAccess _access;
    NSUInteger _index;
    NSUInteger _alignment;
    NSUInteger _dataSize;
}

// A OBMBufferBinding or a OBMThreadgroupBinding, owned by the caller.
+ (OBMBinding *)newBindingWithArgument:(const metallib_argument *)argument;

@end

@interface OBMBufferBinding : OBMBinding <MTLBufferBinding> {
    MTLDataType _dataType;
    MTLStructType *_structType;
    MTLPointerType *_pointerType;
}
@end

@interface OBMThreadgroupBinding : OBMBinding <MTLThreadgroupBinding>
@end
