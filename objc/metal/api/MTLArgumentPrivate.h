// How the classes of MTLArgument.h and MTLComputePipeline.h are made from a library's tables.
#import "MTLArgument.h"
#import "MTLComputePipeline.h"
#import "metal/abi/metallib.h"

@interface MTLStructMember (Private)
- (id)initWithMember:(const metallib_member *)member slot:(const metallib_slot *)slot;  // NULL: it has none
@end

@interface MTLStructType (Private)
- (id)initWithArgument:(const metallib_argument *)argument slots:(const metallib_slots *)slots;
@end

@interface MTLArrayType (Private)
- (id)initWithElement:(MTLDataType)element length:(NSUInteger)length pointerType:(MTLPointerType *)pointerType;
@end

@interface MTLPointerType (Private)
- (id)initWithElement:(MTLDataType)element
           structType:(MTLStructType *)structType
             argument:(const metallib_argument *)argument;
- (id)initWithSlot:(const metallib_slot *)slot;
@end

@interface MTLComputePipelineReflection (Private)
- (id)initWithBindings:(NSArray *)bindings;
@end
