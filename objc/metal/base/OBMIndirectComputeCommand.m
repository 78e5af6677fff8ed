#import "OBMIndirectComputeCommand.h"

#import "OBMBuffer.h"
#import "OBMComputePipelineState.h"
#import "OBMDevice.h"
#import "OBMDispatchFaults.h"
#import "OBMError.h"

@implementation OBMIndirectComputeCommand

- (id)initWithBuffer:(OBMIndirectCommandBuffer *)buffer index:(NSUInteger)index {
    self = [super init];
    if (self == nil) return nil;
    _buffer = [buffer retain];
    _index = index;
    _state = [buffer stateAtIndex:index];
    return self;
}

- (void)dealloc {
    [_buffer release];
    [super dealloc];
}

- (void)refuse:(NSString *)fault for:(NSString *)method {
    if (fault == nil) return;
    OBMRaise(@"%@: command %lu of indirect command buffer%@: %@", method, (unsigned long)_index, [_buffer labelSuffix],
             fault);
}

- (void)requireIndex:(NSUInteger)index below:(NSUInteger)count setBy:(NSString *)property for:(NSString *)method {
    if (index < count) return;
    NSString *fault = [NSString stringWithFormat:@"index %lu is not possible: the descriptor's %@ is %lu",
                                                 (unsigned long)index, property, (unsigned long)count];
    [self refuse:fault for:method];
}

- (void)setComputePipelineState:(id<MTLComputePipelineState>)pipelineState {
    NSString *method = @"setComputePipelineState";
    [self refuse:OBMFaultOfPipelineState(pipelineState, _buffer->_device) for:method];
    if (![pipelineState supportIndirectCommandBuffers]) {
        [self refuse:@"the pipeline state does not support indirect command buffers; set supportIndirectCommandBuffers "
                     @"in its descriptor"
                 for:method];
    }
    _state->kernel = &((OBMComputePipelineState *)pipelineState)->_kernel;
    [_buffer recordAtIndex:_index];
}

- (void)setKernelBuffer:(id<MTLBuffer>)buffer offset:(NSUInteger)offset atIndex:(NSUInteger)index {
    NSString *method = @"setKernelBuffer";
    [self requireIndex:index below:[_buffer bufferCount] setBy:@"maxKernelBufferBindCount" for:method];
    NSString *fault = OBMFaultOfBuffer(buffer, _buffer->_device, offset, 0);
    if (fault != nil) {
        [self refuse:[NSString stringWithFormat:@"index %lu: %@", (unsigned long)index, fault] for:method];
    }
    _state->table.buffers[index] = obm_bound_to(&((OBMBuffer *)buffer)->_memory, offset);
    _state->table.bound |= 1u << index;
    [_buffer recordAtIndex:_index];
}

- (void)setThreadgroupMemoryLength:(NSUInteger)length atIndex:(NSUInteger)index {
    NSString *method = @"setThreadgroupMemoryLength";
    [self requireIndex:index
                 below:[_buffer threadgroupCount]
                 setBy:@"maxKernelThreadgroupMemoryBindCount"
                   for:method];
    [self refuse:OBMFaultOfThreadgroupLength(length, index) for:method];
    obm_table_set_threadgroup_length(&_state->table, (uint32_t)length, (uint32_t)index);
    [_buffer recordAtIndex:_index];
}

- (void)requireType:(MTLIndirectCommandType)type named:(NSString *)name for:(NSString *)method {
    if (([_buffer commandTypes] & type) != 0) return;
    [self refuse:[NSString stringWithFormat:@"the descriptor's commandTypes lack %@", name] for:method];
}

// Whether the kernel can be dispatched with threadgroups of this size.
- (void)checkThreads:(MTLSize)threads for:(NSString *)method {
    if (_state->kernel == NULL) [self refuse:@"no pipeline state is set; call setComputePipelineState first" for:method];
    [self refuse:OBMFaultOfThreads(_state->kernel, threads) for:method];
}

- (void)dispatch:(OBMSizes)sizes for:(NSString *)method {
    OBMCommandState before = *_state;
    _state->sizes = sizes;
    _state->dispatched = YES;
    [_buffer recordAtIndex:_index];
    if (!_state->unfinished || [_buffer lacksMemory]) return;
    NSString *fault = OBMFaultOfBindings(_state->kernel, &_state->table, @"setKernelBuffer");
    _state->sizes = before.sizes;
    _state->dispatched = before.dispatched;
    [_buffer recordAtIndex:_index];
    [self refuse:fault for:method];
}

- (void)concurrentDispatchThreadgroups:(MTLSize)threadgroupsPerGrid
                 threadsPerThreadgroup:(MTLSize)threadsPerThreadgroup {
    NSString *method = @"concurrentDispatchThreadgroups";
    [self requireType:MTLIndirectCommandTypeConcurrentDispatch
                named:@"MTLIndirectCommandTypeConcurrentDispatch"
                  for:method];
    [self checkThreads:threadsPerThreadgroup for:method];
    OBMSizes sizes;
    if (!OBMSizesOfThreadgroups(threadgroupsPerGrid, threadsPerThreadgroup, &sizes))
        [self refuse:OBMFaultOfGrid(_state->kernel, threadgroupsPerGrid) for:method];
    [self dispatch:sizes for:method];
}

- (void)concurrentDispatchThreads:(MTLSize)threadsPerGrid threadsPerThreadgroup:(MTLSize)threadsPerThreadgroup {
    NSString *method = @"concurrentDispatchThreads";
    [self requireType:MTLIndirectCommandTypeConcurrentDispatchThreads
                named:@"MTLIndirectCommandTypeConcurrentDispatchThreads"
                  for:method];
    [self checkThreads:threadsPerThreadgroup for:method];
    OBMSizes sizes;
    if (!OBMSizesOfGrid(threadsPerGrid, threadsPerThreadgroup, &sizes))
        [self refuse:OBMFaultOfGrid(_state->kernel, threadsPerGrid) for:method];
    [self dispatch:sizes for:method];
}

- (void)setBarrier {
    [_buffer setBarrier:YES atIndex:_index];
}

- (void)clearBarrier {
    [_buffer setBarrier:NO atIndex:_index];
}

- (void)reset {
    [_buffer resetWithRange:NSMakeRange(_index, 1)];
}

@end
