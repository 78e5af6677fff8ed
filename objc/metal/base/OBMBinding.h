// One argument of a kernel, as reflection shows it. It copies what it says out of the library, never changes, and may be
// used by any thread.
#import "OBMReflection.h"
#import "metal/abi/metallib.h"

@interface OBMBinding : NSObject <MTLBinding> {
    NSString *_name;
    MTLBindingType _type;
    MTLBindingAccess _access;
    NSUInteger _index;
    NSUInteger _alignment;
    NSUInteger _dataSize;
}

// An OBMBufferBinding or an OBMThreadgroupBinding, owned by the caller. `slots` are those of the kernel; NULL: it has
// none.
+ (OBMBinding *)newBindingWithArgument:(const metallib_argument *)argument slots:(const metallib_slots *)slots;

@end

@interface OBMBufferBinding : OBMBinding <MTLBufferBinding> {
    MTLDataType _dataType;
    OBMStructType *_structType;
    OBMPointerType *_pointerType;
}
@end

@interface OBMThreadgroupBinding : OBMBinding <MTLThreadgroupBinding>
@end
