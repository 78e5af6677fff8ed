// How the classes of MTLArgument.h and MTLComputePipeline.h are made from a library's tables.
#import "MTLArgument.h"
#import "MTLComputePipeline.h"
#import "metal/abi/metallib.h"

@interface MTLStructMember (Private)
- (id)initWithMember:(const metallib_member *)member;
@end

@interface MTLStructType (Private)
- (id)initWithMembers:(const metallib_member *)members count:(NSUInteger)count;
@end

@interface MTLArrayType (Private)
- (id)initWithElement:(MTLDataType)element length:(NSUInteger)length;
@end

@interface MTLPointerType (Private)
- (id)initWithElement:(MTLDataType)element
           structType:(MTLStructType *)structType
             argument:(const metallib_argument *)argument;
@end

@interface MTLComputePipelineReflection (Private)
- (id)initWithBindings:(NSArray *)bindings;
@end
