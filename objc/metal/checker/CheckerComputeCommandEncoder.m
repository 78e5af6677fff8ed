#define _GNU_SOURCE
#import "CheckerComputeCommandEncoder.h"

#import <dlfcn.h>
#import <string.h>

#import "metal/checker/engine/CheckRun.h"
#import "CheckerBuffer.h"
#import "CheckerDevice.h"

@interface CheckerComputeCommandEncoder ()
- (const check_dispatch *)watchedDispatch;
@end

static const struct check_dispatch *watch(id encoder) {
    return [(CheckerComputeCommandEncoder *)encoder watchedDispatch];
}

@implementation CheckerComputeCommandEncoder

- (id)initWithCommandBuffer:(OBMCommandBuffer *)commandBuffer dispatchType:(MTLDispatchType)dispatchType {
    self = [super initWithCommandBuffer:commandBuffer dispatchType:dispatchType];
    if (self != nil) _watch = watch;
    return self;
}

- (void)dealloc {
    [_group release];
    [super dealloc];
}

- (void)setBuffer:(id<MTLBuffer>)buffer offset:(NSUInteger)offset atIndex:(NSUInteger)index {
    [super setBuffer:buffer offset:offset atIndex:index];
    _lengths[index] = 0;
}

- (void)setBuffers:(const id<MTLBuffer>[])buffers offsets:(const NSUInteger[])offsets withRange:(NSRange)range {
    [super setBuffers:buffers offsets:offsets withRange:range];
    for (NSUInteger i = range.location; i < NSMaxRange(range); i++) _lengths[i] = 0;
}

- (void)setBufferOffset:(NSUInteger)offset atIndex:(NSUInteger)index {
    [super setBufferOffset:offset atIndex:index];
    _lengths[index] = 0;
}

- (void)setBytes:(const void *)bytes length:(NSUInteger)length atIndex:(NSUInteger)index {
    [super setBytes:bytes length:length atIndex:index];
    _lengths[index] = 0;
}

- (void)setBufferLengths:(const NSUInteger[])lengths withRange:(NSRange)range {
    [self requireOpenFor:@"setBufferLengths"];
    for (NSUInteger i = 0; i < range.length; i++) {
        NSUInteger index = range.location + i;
        if (index >= METALLIB_MAX_BUFFERS || (lengths[i] > 0 && lengths[i] > _bound[index].available)) {
            [self misuseIn:@"setBufferLengths"
                    format:@"%lu bytes at index %lu are more than are bound there", (unsigned long)lengths[i],
                           (unsigned long)index];
        }
        _lengths[index] = lengths[i];
    }
}

- (void)pushDebugGroup:(NSString *)string {
    [super pushDebugGroup:string];
    [_group release];
    _group = [string copy];
}

- (void)popDebugGroup {
    [super popDebugGroup];
    [_group release];
    _group = nil;
}

// A copy that lives as long as the command buffer's commands.
static const char *keptText(obm_arena *arena, NSString *text) {
    const char *bytes = [text UTF8String];
    if (bytes == NULL || *bytes == '\0') return NULL;
    char *copy = obm_arena_take(arena, strlen(bytes) + 1);
    return copy == NULL ? NULL : strcpy(copy, bytes);
}

- (check_binding)bindingOf:(const metallib_argument *)argument {
    const obm_bound *bound = &_bound[argument->index];
    check_binding binding = {.argument = argument, .length = _lengths[argument->index]};
    if (binding.length == 0) binding.length = bound->available;
    if (bound->buffer == nil) {
        binding.bytes = bound->address;
    } else {
        binding.memory = ((CheckerBuffer *)bound->buffer)->_memory;
        binding.offset = (size_t)(bound->address - bound->base);
        binding.label = keptText(&_job->arena, [bound->buffer label]);
    }
    return binding;
}

- (const check_dispatch *)watchedDispatch {
    const metallib_function *function = _kernel->function;
    check_dispatch *dispatch = obm_arena_take(&_job->arena, sizeof *dispatch + _kernel->argument_count * sizeof(check_binding));
    Dl_info library;
    if (dispatch == NULL || dladdr((const void *)function->entry, &library) == 0) {
        [self failForMemory];
        return NULL;
    }
    check_state *state = [(CheckerDevice *)_device state];
    if (_job->number == 0) _job->number = check_new_command_buffer(state);
    *dispatch = (check_dispatch){.state = state, .owner = _job, .command_buffer = _job->number, .function = function,
                                 .library = library.dli_fname, .base = library.dli_fbase};
    dispatch->label = keptText(&_job->arena, _group != nil ? _group : [self label]);
    memcpy(dispatch->threadgroup_lengths, _threadgroupLengths, sizeof dispatch->threadgroup_lengths);
    for (uint32_t i = 0; i < function->argument_count; i++) {
        if (function->arguments[i].kind != METALLIB_BUFFER) continue;
        dispatch->bindings[dispatch->binding_count++] = [self bindingOf:&function->arguments[i]];
    }
    return dispatch;
}

@end
