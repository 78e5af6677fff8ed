#import "OBMIndirectCommandBuffer.h"

#import <stdlib.h>

#import "OBMDevice.h"
#import "OBMDispatchFaults.h"
#import "OBMError.h"
#import "OBMIndirectComputeCommand.h"

static void check(MTLIndirectCommandBufferDescriptor *descriptor, NSUInteger count) {
    NSString *method = @"newIndirectCommandBufferWithDescriptor";
    MTLIndirectCommandType possible =
        MTLIndirectCommandTypeConcurrentDispatch | MTLIndirectCommandTypeConcurrentDispatchThreads;
    MTLIndirectCommandType types = [descriptor commandTypes];
    if (descriptor == nil) OBMRaise(@"%@: the descriptor is nil", method);
    if (types == 0 || (types & ~possible) != 0) {
        OBMRaise(@"%@: commandTypes 0x%lx are not possible; use MTLIndirectCommandTypeConcurrentDispatch, "
                 @"MTLIndirectCommandTypeConcurrentDispatchThreads or both",
                 method, (unsigned long)types);
    }
    if ([descriptor inheritPipelineState] || [descriptor inheritBuffers]) {
        OBMRaise(@"%@: commands inherit nothing from the encoder here; set inheritPipelineState and inheritBuffers to "
                 @"NO",
                 method);
    }
    if ([descriptor maxKernelBufferBindCount] > METALLIB_MAX_BUFFERS) {
        OBMRaise(@"%@: maxKernelBufferBindCount is %lu; use 0 to %d", method,
                 (unsigned long)[descriptor maxKernelBufferBindCount], METALLIB_MAX_BUFFERS);
    }
    if ([descriptor maxKernelThreadgroupMemoryBindCount] > METALLIB_MAX_THREADGROUP) {
        OBMRaise(@"%@: maxKernelThreadgroupMemoryBindCount is %lu; use 0 to %d", method,
                 (unsigned long)[descriptor maxKernelThreadgroupMemoryBindCount], METALLIB_MAX_THREADGROUP);
    }
    if (count == 0 || count > UINT32_MAX)
        OBMRaise(@"%@: a maxCommandCount of %lu; use 1 to 2^32 - 1", method, (unsigned long)count);
}

@implementation OBMIndirectCommandBuffer

- (void)addAllocated:(NSUInteger)bytes {
    _allocated += bytes;
    [_device addAllocatedBytes:(int64_t)bytes];
}

- (id)initWithDevice:(OBMDevice *)device
          descriptor:(MTLIndirectCommandBufferDescriptor *)descriptor
               count:(NSUInteger)count
             options:(MTLResourceOptions)options {
    self = [super initWithDevice:device options:options];
    if (self == nil) return nil;
    @try {
        check(descriptor, count);
    } @catch (NSException *exception) {
        [self release];
        @throw;
    }
    _types = [descriptor commandTypes];
    _bufferCount = [descriptor maxKernelBufferBindCount];
    _threadgroupCount = [descriptor maxKernelThreadgroupMemoryBindCount];
    _commands.executor = [device executor];
    _commands.list = calloc(count, sizeof *_commands.list);
    _states = calloc(count, sizeof *_states);
    _bounds = calloc(count, (_bufferCount + 1) * sizeof *_bounds);
    if (_commands.list == NULL || _states == NULL || _bounds == NULL) {
        [self release];
        return nil;
    }
    _commands.count = (uint32_t)count;
    for (NSUInteger i = 0; i < count; i++) _states[i].table.buffers = _bounds + i * _bufferCount;
    [self addAllocated:count * (sizeof *_commands.list + sizeof *_states + _bufferCount * sizeof *_bounds)];
    return self;
}

- (void)dealloc {
    const obm_executor *executor = _commands.executor;
    if (executor != NULL && executor->forget != NULL) executor->forget(executor->context, &_commands);
    [_device addAllocatedBytes:-(int64_t)_allocated];
    obm_arena_free(&_arena);
    free(_bounds);
    free(_states);
    free(_commands.list);
    [super dealloc];
}

- (NSUInteger)size {
    return _commands.count;
}
- (NSUInteger)allocatedSize {
    return _allocated;
}
- (OBMCommandState *)stateAtIndex:(NSUInteger)index {
    return &_states[index];
}
- (MTLIndirectCommandType)commandTypes {
    return _types;
}
- (NSUInteger)bufferCount {
    return _bufferCount;
}
- (NSUInteger)threadgroupCount {
    return _threadgroupCount;
}
- (BOOL)lacksMemory {
    return _full;
}

- (id<MTLIndirectComputeCommand>)indirectComputeCommandAtIndex:(NSUInteger)commandIndex {
    if (commandIndex >= _commands.count) {
        OBMRaise(@"indirectComputeCommandAtIndex: indirect command buffer%@ has %u commands, and none at index %lu",
                 [self labelSuffix], _commands.count, (unsigned long)commandIndex);
    }
    if ([self storageMode] == MTLStorageModePrivate) {
        OBMRaise(
            @"indirectComputeCommandAtIndex: indirect command buffer%@ is in MTLStorageModePrivate, which the host "
            @"cannot reach; make it with MTLResourceStorageModeShared",
            [self labelSuffix]);
    }
    return [[[OBMIndirectComputeCommand alloc] initWithBuffer:self index:commandIndex] autorelease];
}

- (void)resetWithRange:(NSRange)range {
    if (range.location > _commands.count || range.length > _commands.count - range.location) {
        OBMRaise(@"resetWithRange: commands %lu to %lu of indirect command buffer%@, which has %u",
                 (unsigned long)range.location, (unsigned long)(range.location + range.length - 1), [self labelSuffix],
                 _commands.count);
    }
    for (NSUInteger i = range.location; i < range.location + range.length; i++) {
        OBMCommandState *state = &_states[i];
        state->kernel = NULL;
        state->dispatched = NO;
        state->table = (obm_binding_table){.buffers = state->table.buffers};
        _commands.list[i].barrier = false;
        [self recordAtIndex:i];
    }
}

// Memory for the command's dispatch; that of an earlier one where it is large enough.
- (obm_dispatch *)dispatchOf:(OBMCommandState *)state {
    size_t size = obm_dispatch_size(_commands.executor, state->kernel);
    if (state->capacity >= size) return state->own;
    state->own = obm_arena_take(&_arena, size);
    state->capacity = state->own != NULL ? size : 0;
    if (state->own != NULL) [self addAllocated:size];
    else _full = YES;
    return state->own;
}

// The dispatch as the state says; NULL if something is lacking or does not fit.
- (obm_dispatch *)record:(OBMCommandState *)state {
    if (state->kernel == NULL || !state->dispatched) return NULL;
    if (OBMFaultOfThreads(state->kernel, state->sizes.threads) != nil) return NULL;
    if (obm_table_lacks(&state->table, state->kernel)) return NULL;
    obm_dispatch *dispatch = [self dispatchOf:state];
    if (dispatch == NULL) return NULL;
    if (!obm_table_snapshot(&state->table, state->kernel, _commands.executor, dispatch)) return NULL;
    OBMSetSizes(&dispatch->launch, &state->sizes);
    return dispatch;
}

- (void)recordAtIndex:(NSUInteger)index {
    OBMCommandState *state = &_states[index];
    obm_command *command = &_commands.list[index];
    command->dispatch = [self record:state];
    BOOL begun = state->kernel != NULL || state->dispatched || state->table.bound != 0 || state->table.threadgroup != 0;
    _unfinished -= state->unfinished;
    state->unfinished = begun && command->dispatch == NULL;
    _unfinished += state->unfinished;
    _commands.version++;
}

- (void)setBarrier:(BOOL)barrier atIndex:(NSUInteger)index {
    _commands.list[index].barrier = barrier;
    _commands.version++;
}

static NSString *faultOf(const OBMCommandState *state) {
    if (state->kernel == NULL) return @"it has no pipeline state; call setComputePipelineState";
    if (!state->dispatched)
        return @"it dispatches nothing; call concurrentDispatchThreadgroups or concurrentDispatchThreads";
    NSString *fault = OBMFaultOfThreads(state->kernel, state->sizes.threads);
    return fault != nil ? fault : OBMFaultOfBindings(state->kernel, &state->table, @"setKernelBuffer");
}

- (NSString *)faultOfRange:(NSRange)range {
    if (range.location > _commands.count || range.length > _commands.count - range.location) {
        return [NSString stringWithFormat:@"commands %lu to %lu of indirect command buffer%@, which has %u",
                                          (unsigned long)range.location,
                                          (unsigned long)(range.location + range.length - 1), [self labelSuffix],
                                          _commands.count];
    }
    for (NSUInteger i = range.location; _unfinished > 0 && !_full && i < range.location + range.length; i++) {
        if (!_states[i].unfinished) continue;
        return [NSString stringWithFormat:@"command %lu of indirect command buffer%@ is not complete: %@",
                                          (unsigned long)i, [self labelSuffix], faultOf(&_states[i])];
    }
    return nil;
}

@end

NSString *OBMFaultOfExecution(id buffer, OBMDevice *device, NSRange range) {
    if (buffer == nil) return @"the indirect command buffer is nil";
    if (object_getClass(buffer) != [OBMIndirectCommandBuffer class] ||
        ((OBMIndirectCommandBuffer *)buffer)->_device != device) {
        return @"the indirect command buffer belongs to another device";
    }
    return [(OBMIndirectCommandBuffer *)buffer faultOfRange:range];
}
