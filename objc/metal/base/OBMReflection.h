// Reflection: what a library's tables say of a kernel, as objects that answer to Metal's classes of these names. They are
// none of those: on macOS they are Apple's, which only Apple's own devices can make. They copy what they say, never
// change, and any thread may use them.
#import "OBMMetal.h"
#import "metal/abi/metallib.h"

@interface OBMType : NSObject {
    MTLDataType _dataType;
}
@end

@class OBMArrayType, OBMPointerType;

@interface OBMStructMember : NSObject {
    NSString *_name;
    NSUInteger _offset;
    MTLDataType _dataType;
    OBMArrayType *_arrayType;
    OBMPointerType *_pointerType;
    NSUInteger _argumentIndex;
}

- (id)initWithMember:(const metallib_member *)member slot:(const metallib_slot *)slot;  // NULL: it has none

@end

@interface OBMStructType : OBMType {
    NSArray *_members;
}

- (id)initWithArgument:(const metallib_argument *)argument slots:(const metallib_slots *)slots;

@end

@interface OBMArrayType : OBMType {
    MTLDataType _elementType;
    NSUInteger _arrayLength;
    NSUInteger _stride;
    OBMPointerType *_elementPointerType;
}

- (id)initWithElement:(MTLDataType)element length:(NSUInteger)length pointerType:(OBMPointerType *)pointerType;

@end

@interface OBMPointerType : OBMType {
    MTLDataType _elementType;
    MTLBindingAccess _access;
    NSUInteger _alignment;
    NSUInteger _dataSize;
    OBMStructType *_elementStructType;
}

- (id)initWithElement:(MTLDataType)element
           structType:(OBMStructType *)structType
             argument:(const metallib_argument *)argument;
- (id)initWithSlot:(const metallib_slot *)slot;

@end

@interface OBMComputePipelineReflection : NSObject {
    NSArray *_bindings;
}

- (id)initWithBindings:(NSArray *)bindings;

@end
