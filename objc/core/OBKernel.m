#import "OBKernel.h"
#import "OBArchive.h"
#import "OBError.h"
#import "OBExtensions.h"

@implementation OBKernel

// Its name is NULL when there is no memory for it.
static OBArgument argumentFromBinding(id<MTLBinding> binding) {
    OBArgument argument;
    memset(&argument, 0, sizeof argument);
    const char *name = [[binding name] UTF8String];
    if (name != NULL) argument.name = strdup(name);
    argument.index = [binding index];
    if ([binding type] == MTLBindingTypeThreadgroupMemory) {
        argument.threadgroup = YES;
        argument.alignment = [(id<MTLThreadgroupBinding>)binding threadgroupMemoryAlignment];
        argument.size = [(id<MTLThreadgroupBinding>)binding threadgroupMemoryDataSize];
    } else {
        argument.writes = [binding access] != MTLBindingAccessReadOnly;
        argument.alignment = [(id<MTLBufferBinding>)binding bufferAlignment];
        argument.size = [(id<MTLBufferBinding>)binding bufferDataSize];
    }
    return argument;
}

+ (OBKernel *)kernelWithFunction:(id<MTLFunction>)function
                          device:(id<MTLDevice>)device
                         archive:(OBArchive *)archive
                           error:(NSError **)error {
    NSError *cause = nil;
    MTLComputePipelineReflection *reflection = nil;
    MTLPipelineOption options = MTLPipelineOptionArgumentInfo | MTLPipelineOptionBufferTypeInfo;
    id<MTLComputePipelineState> state = archive != nil ? [archive newStateWithFunction:function
                                                                               options:options
                                                                            reflection:&reflection
                                                                                 error:&cause]
                                                       : [device newComputePipelineStateWithFunction:function
                                                                                             options:options
                                                                                          reflection:&reflection
                                                                                               error:&cause];
    if (state == nil) {
        return OBFail(error, OBErrorCompile, @"kernel '%@': %@", [function name], [cause localizedDescription]);
    }
    OBKernel *kernel = [[[OBKernel alloc] init] autorelease];
    if (kernel == nil || reflection == nil) {
        [state release];
        return OBFail(error, OBErrorMemory, @"no memory for kernel '%@'", [function name]);
    }
    kernel->_state = state;
    kernel->_name = [[function name] copy];
    kernel->_bindings = [[reflection bindings] retain];
    for (id<MTLBinding> binding in kernel->_bindings) {
        MTLBindingType type = [binding type];
        if (type != MTLBindingTypeBuffer && type != MTLBindingTypeThreadgroupMemory) {
            return OBFail(error, OBErrorCompile,
                          @"kernel '%@': argument '%@' is neither a buffer nor threadgroup memory", [function name],
                          [binding name]);
        }
        OBArgument argument = argumentFromBinding(binding);
        kernel->_arguments[kernel->_argumentCount++] = argument;
        if (argument.name == NULL) return OBFail(error, OBErrorMemory, @"no memory for kernel '%@'", [function name]);
    }
    return kernel;
}

- (void)dealloc {
    [_state release];
    [_name release];
    [_bindings release];
    for (NSUInteger i = 0; i < _argumentCount; i++) free((char *)_arguments[i].name);
    [super dealloc];
}

- (NSString *)name {
    return _name;
}
- (id<MTLComputePipelineState>)state {
    return _state;
}
- (NSUInteger)argumentCount {
    return _argumentCount;
}

- (const OBArgument *)argumentAtIndex:(NSUInteger)index {
    if (index >= _argumentCount)
        [NSException raise:NSRangeException format:@"kernel '%@': argument out of range", _name];
    return &_arguments[index];
}

- (const OBArgument *)bufferArgumentAtSlot:(NSUInteger)slot {
    for (NSUInteger i = 0; i < _argumentCount; i++) {
        if (!_arguments[i].threadgroup && _arguments[i].index == slot) return &_arguments[i];
    }
    return NULL;
}

- (NSArray *)membersOfArgument:(NSUInteger)index {
    if ([self argumentAtIndex:index]->threadgroup) return nil;
    return [[(id<MTLBufferBinding>)[_bindings objectAtIndex:index] bufferStructType] members];
}

- (NSUInteger)memberCountOfArgument:(NSUInteger)index {
    return [[self membersOfArgument:index] count];
}

- (OBMember)member:(NSUInteger)member ofArgument:(NSUInteger)index {
    NSArray *members = [self membersOfArgument:index];
    if (member >= [members count])
        [NSException raise:NSRangeException format:@"kernel '%@': member out of range", _name];
    MTLStructMember *found = [members objectAtIndex:member];
    MTLArrayType *array = [found arrayType];
    MTLPointerType *pointer = array != nil ? [array elementPointerType] : [found pointerType];
    OBMember result = {.name = [found name], .offset = [found offset], .type = [found dataType], .count = 1};
    if (array != nil) {
        result.type = [array elementType];
        result.count = [array arrayLength];
    }
    if (pointer != nil) {
        result.size = [pointer dataSize];
        result.writes = [pointer access] != MTLBindingAccessReadOnly;
    }
    return result;
}

- (BOOL)isNative {
    return [_state conformsToProtocol:@protocol(OBNativePipelineState)] && [(id<OBNativePipelineState>)_state isNative];
}

- (NSUInteger)threadsPerThreadgroup {
    NSUInteger threads = [_state maxTotalThreadsPerThreadgroup];
    NSUInteger width = [_state threadExecutionWidth];
    return threads > width ? threads - threads % width : threads;
}

@end
