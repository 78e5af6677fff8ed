#import "OBMComputeCommandEncoder.h"

#import <string.h>

#import "OBMBuffer.h"
#import "OBMComputePipelineState.h"
#import "OBMCommands.h"
#import "OBMDevice.h"
#import "OBMDispatchFaults.h"
#import "OBMIndirectCommandBuffer.h"
#import "OBMSizes.h"

#define UNLIKELY(condition) __builtin_expect((condition), 0)

enum { MAX_BYTES = 4096, BYTES_ALIGNMENT = 64, INDIRECT_BYTES = 12 };

@implementation OBMComputeCommandEncoder

- (id)initWithCommandBuffer:(OBMCommandBuffer *)commandBuffer dispatchType:(MTLDispatchType)dispatchType {
    self = [super initWithCommandBuffer:commandBuffer];
    if (self == nil) return nil;
    _dispatchType = dispatchType;
    _table.buffers = _buffers;
    _pipelineClass = [(OBMDevice *)_device pipelineStateClass];
    return self;
}

- (void)dealloc {
    [_groups release];
    [super dealloc];
}

- (MTLDispatchType)dispatchType {
    return _dispatchType;
}

- (void)setComputePipelineState:(id<MTLComputePipelineState>)state {
    if (UNLIKELY(_ended)) [self requireOpenFor:@"setComputePipelineState"];
    if (UNLIKELY(state == nil || object_getClass(state) != _pipelineClass ||
                 (id)((OBMComputePipelineState *)state)->_device != _device)) {
        [self refuse:OBMFaultOfPipelineState(state, (OBMDevice *)_device) for:@"setComputePipelineState"];
    }
    _pipeline = (OBMComputePipelineState *)state;
    _kernel = &_pipeline->_kernel;
    if (_retains) [_commandBuffer keep:state];
}

- (void)requireIndex:(NSUInteger)index for:(NSString *)method {
    if (index < METALLIB_MAX_BUFFERS) return;
    [self misuseIn:method
            format:@"index %lu is not possible; use 0 to %d", (unsigned long)index, METALLIB_MAX_BUFFERS - 1];
}

static inline void bindBuffer(OBMComputeCommandEncoder *self, OBMBuffer *buffer, NSUInteger offset, NSUInteger index,
                              NSString *method) {
    uint32_t bit = 1u << index;
    if (buffer == nil) {
        self->_table.bound &= ~bit;
        return;
    }
    if (UNLIKELY(object_getClass(buffer) != self->_bufferClass || (id)buffer->_device != self->_device ||
                 offset > buffer->_memory.length)) {
        NSString *place = [NSString stringWithFormat:@"%@ at index %lu", method, (unsigned long)index];
        [self requireBuffer:buffer offset:offset size:0 for:place];
    }
    self->_table.buffers[index] = obm_bound_to(&buffer->_memory, offset);
    self->_table.bound |= bit;
    if (self->_retains) [self->_commandBuffer keep:buffer];
}

- (void)setBuffer:(id<MTLBuffer>)buffer offset:(NSUInteger)offset atIndex:(NSUInteger)index {
    if (UNLIKELY(_ended)) [self requireOpenFor:@"setBuffer"];
    if (UNLIKELY(index >= METALLIB_MAX_BUFFERS)) [self requireIndex:index for:@"setBuffer"];
    bindBuffer(self, (OBMBuffer *)buffer, offset, index, @"setBuffer");
}

- (void)setBuffers:(const id<MTLBuffer>[])buffers offsets:(const NSUInteger[])offsets withRange:(NSRange)range {
    if (UNLIKELY(_ended)) [self requireOpenFor:@"setBuffers"];
    if (UNLIKELY(range.location > METALLIB_MAX_BUFFERS || range.length > METALLIB_MAX_BUFFERS - range.location)) {
        [self misuseIn:@"setBuffers"
                format:@"indices %lu to %lu are not possible; use 0 to %d", (unsigned long)range.location,
                       (unsigned long)(range.location + range.length - 1), METALLIB_MAX_BUFFERS - 1];
    }
    if (UNLIKELY((buffers == NULL || offsets == NULL) && range.length > 0)) {
        [self misuseIn:@"setBuffers" format:@"the arrays of buffers and offsets must not be NULL"];
    }
    for (NSUInteger i = 0; i < range.length; i++) {
        bindBuffer(self, (OBMBuffer *)buffers[i], offsets[i], range.location + i, @"setBuffers");
    }
}

- (void)setBufferOffset:(NSUInteger)offset atIndex:(NSUInteger)index {
    NSString *method = @"setBufferOffset";
    if (UNLIKELY(_ended)) [self requireOpenFor:method];
    if (UNLIKELY(index >= METALLIB_MAX_BUFFERS)) [self requireIndex:index for:method];
    obm_bound *bound = &_table.buffers[index];
    if (UNLIKELY((_table.bound >> index & 1) == 0 || bound->binding.memory == NULL)) {
        [self misuseIn:method format:@"no buffer is bound at index %lu; call setBuffer first", (unsigned long)index];
    }
    if (UNLIKELY(offset > bound->binding.memory->length)) {
        [self misuseIn:method
                format:@"offset %lu is beyond the length %lu of the buffer at index %lu", (unsigned long)offset,
                       (unsigned long)bound->binding.memory->length, (unsigned long)index];
    }
    *bound = obm_bound_to(bound->binding.memory, offset);
}

- (void)setBytes:(const void *)bytes length:(NSUInteger)length atIndex:(NSUInteger)index {
    NSString *method = @"setBytes";
    if (UNLIKELY(_ended)) [self requireOpenFor:method];
    if (UNLIKELY(index >= METALLIB_MAX_BUFFERS)) [self requireIndex:index for:method];
    if (UNLIKELY(bytes == NULL || length == 0 || length > MAX_BYTES)) {
        [self misuseIn:method
                format:@"%lu bytes at index %lu; give 1 to %d, or use a buffer",
                       bytes == NULL ? 0 : (unsigned long)length, (unsigned long)index, MAX_BYTES];
    }
    char *copy = obm_arena_take_aligned(&_recording->arena, length, BYTES_ALIGNMENT);
    if (UNLIKELY(copy == NULL)) {
        [self failForMemory];
        return;
    }
    memcpy(copy, bytes, length);
    _table.buffers[index] = (obm_bound){copy, length, {NULL, length}};
    _table.bound |= 1u << index;
}

- (void)setThreadgroupMemoryLength:(NSUInteger)length atIndex:(NSUInteger)index {
    NSString *method = @"setThreadgroupMemoryLength";
    if (UNLIKELY(_ended)) [self requireOpenFor:method];
    if (UNLIKELY(index >= METALLIB_MAX_THREADGROUP)) [self requireIndex:index for:method];
    if (UNLIKELY(length % OBM_THREADGROUP_MULTIPLE != 0 || length > OBM_MAX_THREADGROUP_MEMORY)) {
        [self refuse:OBMFaultOfThreadgroupLength(length, index) for:method];
    }
    obm_table_set_threadgroup_length(&_table, (uint32_t)length, (uint32_t)index);
}

// Something is wrong with the bindings of the kernel.
- (void)misuseOfBindingsFor:(NSString *)method {
    [self refuse:OBMFaultOfBindings(_kernel, &_table, @"setBuffer or setBytes") for:method];
}

// Raises unless the encoder is open, has a kernel, and the kernel takes threadgroups of this size.
- (void)checkThreads:(MTLSize)threads for:(NSString *)method {
    [self requireOpenFor:method];
    if (_kernel == NULL) [self misuseIn:method format:@"no pipeline state is set; call setComputePipelineState first"];
    [self refuse:OBMFaultOfThreads(_kernel, threads) for:method];
}

// Adds a dispatch of the kernel with what is bound now; its sizes are the caller's to fill in.
// NULL when there is no memory left.
static obm_dispatch *addDispatch(OBMComputeCommandEncoder *self, NSString *method) {
    const obm_executor *executor = self->_recording->executor;
    if (UNLIKELY(obm_table_lacks(&self->_table, self->_kernel))) [self misuseOfBindingsFor:method];
    if (self->_phase == NULL) self->_phase = obm_recording_add_phase(self->_recording, OBM_PHASE_DISPATCHES);
    obm_dispatch *dispatch = obm_arena_take(&self->_recording->arena, obm_dispatch_size(executor, self->_kernel));
    if (UNLIKELY(dispatch == NULL || self->_phase == NULL)) {
        self->_phase = NULL;
        [self failForMemory];
        return NULL;
    }
    if (UNLIKELY(!obm_table_snapshot(&self->_table, self->_kernel, executor, dispatch))) {
        [self misuseOfBindingsFor:method];
    }
    dispatch->label = self->_dispatchLabel;
    dispatch->uses = self->_uses;
    obm_phase_append(self->_phase, dispatch);
    if (self->_dispatchType == MTLDispatchTypeSerial) self->_phase = NULL;
    return dispatch;
}

static void encode(OBMComputeCommandEncoder *self, const OBMSizes *sizes, NSString *method) {
    obm_dispatch *dispatch = addDispatch(self, method);
    if (dispatch != NULL) OBMSetSizes(&dispatch->launch, sizes);
}

- (void)dispatchThreadgroups:(MTLSize)threadgroupsPerGrid threadsPerThreadgroup:(MTLSize)threadsPerThreadgroup {
    NSString *method = @"dispatchThreadgroups";
    if (UNLIKELY(_ended || _kernel == NULL || !OBMIsOneThread(threadsPerThreadgroup))) {
        [self checkThreads:threadsPerThreadgroup for:method];
    }
    OBMSizes sizes;
    if (UNLIKELY(!OBMSizesOfThreadgroups(threadgroupsPerGrid, threadsPerThreadgroup, &sizes))) {
        [self refuse:OBMFaultOfGrid(_kernel, threadgroupsPerGrid) for:method];
    }
    encode(self, &sizes, method);
}

- (void)dispatchThreads:(MTLSize)threadsPerGrid threadsPerThreadgroup:(MTLSize)threadsPerThreadgroup {
    NSString *method = @"dispatchThreads";
    if (UNLIKELY(_ended || _kernel == NULL || !OBMIsOneThread(threadsPerThreadgroup))) {
        [self checkThreads:threadsPerThreadgroup for:method];
    }
    OBMSizes sizes;
    if (UNLIKELY(!OBMSizesOfGrid(threadsPerGrid, threadsPerThreadgroup, &sizes))) {
        [self refuse:OBMFaultOfGrid(_kernel, threadsPerGrid) for:method];
    }
    encode(self, &sizes, method);
}

- (void)dispatchThreadgroupsWithIndirectBuffer:(id<MTLBuffer>)indirectBuffer
                          indirectBufferOffset:(NSUInteger)indirectBufferOffset
                         threadsPerThreadgroup:(MTLSize)threadsPerThreadgroup {
    NSString *method = @"dispatchThreadgroupsWithIndirectBuffer";
    [self checkThreads:threadsPerThreadgroup for:method];
    [self requireBuffer:indirectBuffer offset:indirectBufferOffset size:INDIRECT_BYTES for:method];
    if (indirectBufferOffset % sizeof(uint32_t) != 0) {
        [self misuseIn:method format:@"the offset %lu is not a multiple of 4", (unsigned long)indirectBufferOffset];
    }
    OBMSizes sizes = {.threads = threadsPerThreadgroup};
    obm_dispatch *dispatch = addDispatch(self, method);
    if (dispatch == NULL) return;
    OBMSetSizes(&dispatch->launch, &sizes);
    dispatch->indirect = &((OBMBuffer *)indirectBuffer)->_memory;
    dispatch->indirect_offset = indirectBufferOffset;
    _recording->last->indirect = true;  // the phase that it joined
    if (_retains) [_commandBuffer keep:indirectBuffer];
}

- (void)executeCommandsInBuffer:(id<MTLIndirectCommandBuffer>)indirectCommandBuffer withRange:(NSRange)executionRange {
    NSString *method = @"executeCommandsInBuffer";
    OBMIndirectCommandBuffer *buffer = (OBMIndirectCommandBuffer *)indirectCommandBuffer;
    if (UNLIKELY(_ended)) [self requireOpenFor:method];
    [self refuse:OBMFaultOfExecution(buffer, (OBMDevice *)_device, executionRange) for:method];
    if (executionRange.length == 0) return;
    if ([buffer lacksMemory]) [self failForMemory];
    if (_retains) [_commandBuffer keep:buffer];
    _phase = obm_commands_execute(&buffer->_commands, (uint32_t)executionRange.location,
                                  (uint32_t)executionRange.length, _recording, _phase, _dispatchLabel, _uses);
    if (_dispatchType == MTLDispatchTypeSerial) _phase = NULL;
}

- (void)memoryBarrierWithScope:(MTLBarrierScope)scope {
    if (UNLIKELY(_ended)) [self requireOpenFor:@"memoryBarrierWithScope"];
    if (UNLIKELY(scope == 0 || (scope & ~(NSUInteger)(MTLBarrierScopeBuffers | MTLBarrierScopeTextures)) != 0)) {
        [self misuseIn:@"memoryBarrierWithScope"
                format:@"scope 0x%lx is not possible; use MTLBarrierScopeBuffers, MTLBarrierScopeTextures or both",
                       (unsigned long)scope];
    }
    if (scope & MTLBarrierScopeBuffers) _phase = NULL;
}

- (void)requireResources:(const id<MTLResource>[])resources count:(NSUInteger)count for:(NSString *)method {
    if (UNLIKELY(_ended)) [self requireOpenFor:method];
    if (count == 0 || resources == NULL) [self misuseIn:method format:@"there must be at least one resource"];
    for (NSUInteger i = 0; i < count; i++) [self requireBuffer:resources[i] offset:0 size:0 for:method];
}

- (void)memoryBarrierWithResources:(const id<MTLResource>[])resources count:(NSUInteger)count {
    [self requireResources:resources count:count for:@"memoryBarrierWithResources"];
    _phase = NULL;
}

- (void)useResources:(const id<MTLResource>[])resources count:(NSUInteger)count usage:(MTLResourceUsage)usage {
    [self requireResources:resources count:count for:@"useResources"];
    if ((usage & (MTLResourceUsageRead | MTLResourceUsageWrite)) == 0) {
        [self misuseIn:@"useResources" format:@"usage 0x%lx neither reads nor writes", (unsigned long)usage];
    }
    for (NSUInteger i = 0; _retains && i < count; i++) [_commandBuffer keep:resources[i]];
    for (NSUInteger i = 0; i < count; i++) {
        obm_use *use = obm_arena_take(&_recording->arena, sizeof *use);
        if (use == NULL) {
            [self failForMemory];
            return;
        }
        *use = (obm_use){_uses, &((OBMBuffer *)resources[i])->_memory, (usage & MTLResourceUsageWrite) != 0};
        _uses = use;
    }
}

- (void)useResource:(id<MTLResource>)resource usage:(MTLResourceUsage)usage {
    [self useResources:&resource count:1 usage:usage];
}

// The label that dispatches get from now on.
- (void)changeDispatchLabel {
    NSString *name = [_groups count] > 0 ? [_groups lastObject] : [self label];
    _dispatchLabel = obm_arena_text(&_recording->arena, [name UTF8String]);
}

- (void)setLabel:(NSString *)label {
    [super setLabel:label];
    if (!_ended) [self changeDispatchLabel];
}

- (void)pushDebugGroup:(NSString *)string {
    [super pushDebugGroup:string];
    if (_groups == nil) _groups = [[NSMutableArray alloc] init];
    [_groups addObject:[[string copy] autorelease]];
    [self changeDispatchLabel];
}

- (void)popDebugGroup {
    [super popDebugGroup];
    [_groups removeLastObject];
    [self changeDispatchLabel];
}

- (void)updateFence:(id<MTLFence>)fence {
    [self requireOpenFor:@"updateFence"];
    if (fence == nil) [self misuseIn:@"updateFence" format:@"the fence is nil"];
}

- (void)waitForFence:(id<MTLFence>)fence {
    [self requireOpenFor:@"waitForFence"];
    if (fence == nil) [self misuseIn:@"waitForFence" format:@"the fence is nil"];
}

@end
