#import "OBMCommandBuffer.h"

#import "OBMBlitCommandEncoder.h"
#import "OBMCommandQueue.h"
#import "OBMComputeCommandEncoder.h"
#import "OBMDevice.h"
#import "OBMError.h"
#import "OBMEvent.h"
#import "OBMMetal.h"

enum { KEPT_IN_A_BLOCK = 62 };

// Lives in the recording's arena.
struct kept_objects {
    struct kept_objects *next;
    NSUInteger count;
    id objects[KEPT_IN_A_BLOCK];
};

typedef struct {
    const obm_recording *recording;
    uint32_t status;
} status_wait;

static bool hasStatus(void *context) {
    const status_wait *wait = context;
    return obm_load(&wait->recording->status) >= wait->status;
}

@interface OBMCommandBuffer ()
- (void)releaseKept;
@end

// What it used goes, also where a program keeps the command buffer. Logs name kernels, so they are written before.
static void hasCompleted(obm_recording *recording) {
    OBMCommandBuffer *owner = recording->owner;
    NSAutoreleasePool *pool = nil;
    @try {
        if ([(OBMDevice *)[owner device] writesLogs]) {
            pool = [[NSAutoreleasePool alloc] init];
            [owner logs];
        }
    } @catch (NSException *exception) {
        (void)exception;  // there is no memory for them now; they stay with the device for whoever asks
    }
    [owner releaseKept];
    [pool drain];
    [owner release];
}

@implementation OBMCommandBuffer

- (void)releaseKept {
    for (struct kept_objects *block = __atomic_exchange_n(&_kept, NULL, __ATOMIC_SEQ_CST); block != NULL;
         block = block->next) {
        for (NSUInteger i = 0; i < block->count; i++) [block->objects[i] release];
    }
}

- (id)initWithQueue:(OBMCommandQueue *)queue
          recording:(obm_recording *)recording
           retained:(BOOL)retained
            options:(MTLCommandBufferErrorOption)options {
    self = [super init];
    if (self == nil) return nil;
    _queue = [queue retain];
    _recording = recording;
    _executor = recording->executor;
    _recording->owner = self;
    _recording->completed = hasCompleted;
    _retained = retained;
    _errorOptions = options;
    return self;
}

- (void)dealloc {
    uint32_t status = obm_load(&_recording->status);
    if (status == OBM_ENQUEUED) _executor->withdraw(_executor->context, _recording);
    if (status < OBM_COMMITTED) obm_sub(_recording->in_flight, 1);
    [self releaseKept];
    @try {
        if (_logs == nil) [self logs];  // or they would stay with the device
    } @catch (NSException *exception) {
        (void)exception;  // there is no memory for them, and nobody asks for them any more
    }
    [_logs release];
    [_queue giveBackRecording:_recording];
    [_queue release];
    [super dealloc];
}

- (obm_recording *)recording {
    return _recording;
}
- (id<MTLDevice>)device {
    return [_queue device];
}
- (id<MTLCommandQueue>)commandQueue {
    return _queue;
}
- (BOOL)retainedReferences {
    return _retained;
}
- (MTLCommandBufferErrorOption)errorOptions {
    return _errorOptions;
}
- (MTLCommandBufferStatus)status {
    return obm_load(&_recording->status);
}
- (CFTimeInterval)kernelStartTime {
    return [self status] >= MTLCommandBufferStatusScheduled ? _recording->committed_time : 0;
}
- (CFTimeInterval)kernelEndTime {
    return [self status] >= MTLCommandBufferStatusScheduled ? _recording->scheduled_time : 0;
}
- (CFTimeInterval)GPUStartTime {
    return [self status] >= MTLCommandBufferStatusCompleted ? _recording->start_time : 0;
}
- (CFTimeInterval)GPUEndTime {
    return [self status] >= MTLCommandBufferStatusCompleted ? _recording->end_time : 0;
}

// Known as soon as the commands could not be recorded, before the command buffer's turn comes.
- (NSError *)error {
    if (obm_load(&_recording->error) == NULL) return nil;
    NSError *error = nil;
    OBMSetError(&error, MTLCommandBufferErrorDomain, _recording->error_code, @"command buffer%@: %s",
                [self labelSuffix], obm_load(&_recording->error));
    return error;
}

- (NSUInteger)failedDispatch {
    if ([self status] != MTLCommandBufferStatusError || _recording->failed_dispatch == 0) return NSNotFound;
    return _recording->failed_dispatch - 1;
}

// Most devices have none.
- (id<MTLLogContainer>)logs {
    OBMDevice *device = (OBMDevice *)[_queue device];
    if (![device writesLogs] || [self status] < MTLCommandBufferStatusCompleted) return nil;
    @synchronized(self) {
        if (_logs == nil) _logs = [device newLogsOf:_recording];
    }
    return (id<MTLLogContainer>)_logs;
}

- (void)keep:(id)object {
    if (_kept == NULL || _kept->count == KEPT_IN_A_BLOCK) {
        struct kept_objects *block = obm_arena_take(&_recording->arena, sizeof *block);
        if (block == NULL) {
            obm_recording_fail_for_memory(_recording);
            return;
        }
        block->next = _kept;
        block->count = 0;
        _kept = block;
    }
    _kept->objects[_kept->count++] = [object retain];
}

- (void)requireUncommittedFor:(NSString *)action {
    if (obm_load(&_recording->status) < OBM_COMMITTED) return;
    OBMRaise(@"%@: command buffer%@ is already committed; make a new one", action, [self labelSuffix]);
}

- (void)requireNoEncoderFor:(NSString *)action {
    if (_encoder == nil) return;
    OBMRaise(@"%@: encoder%@ of command buffer%@ is still open; call endEncoding first", action, [_encoder labelSuffix],
             [self labelSuffix]);
}

- (void)enqueue {
    [self requireUncommittedFor:@"enqueue"];
    if (obm_load(&_recording->status) == OBM_ENQUEUED) {
        OBMRaise(@"enqueue: command buffer%@ is already enqueued", [self labelSuffix]);
    }
    _executor->enqueue(_executor->context, _recording);
}

- (void)commit {
    [self requireUncommittedFor:@"commit"];
    [self requireNoEncoderFor:@"commit"];
    [_queue countCommit];
    [self retain];  // until it has completed
    const char *problem = _executor->commit(_executor->context, _recording);
    if (problem == NULL) return;
    obm_recording_fail(_recording, OBM_ERROR_DEVICE_REMOVED, problem);
    obm_sub(_recording->in_flight, 1);
    obm_store(&_recording->status, OBM_FAILED);
    [self release];
}

- (void)waitForStatus:(uint32_t)status method:(NSString *)method {
    if (obm_load(&_recording->status) < OBM_COMMITTED) {
        OBMRaise(@"%@: command buffer%@ is not committed and would never end; call commit first", method,
                 [self labelSuffix]);
    }
    status_wait wait = {_recording, status};
    _executor->wait(_executor->context, hasStatus, &wait);
    if (hasStatus(&wait)) return;
    obm_recording_fail(_recording, OBM_ERROR_DEVICE_REMOVED,
                       "it was running when the process forked; use it in the parent process");
    obm_store(&_recording->status, OBM_FAILED);
}

- (void)waitUntilScheduled {
    [self waitForStatus:OBM_SCHEDULED method:@"waitUntilScheduled"];
}

- (void)waitUntilCompleted {
    [self waitForStatus:OBM_COMPLETED method:@"waitUntilCompleted"];
    [self releaseKept];
}

- (id)open:(OBMCommandEncoder *)encoder {
    _encoder = encoder;
    return [encoder autorelease];
}

- (void)closeEncoder {
    _encoder = nil;
}

- (id<MTLComputeCommandEncoder>)computeCommandEncoder {
    return [self computeCommandEncoderWithDispatchType:MTLDispatchTypeSerial];
}

- (id<MTLComputeCommandEncoder>)computeCommandEncoderWithDescriptor:(MTLComputePassDescriptor *)computePassDescriptor {
    if (computePassDescriptor == nil) OBMRaise(@"computeCommandEncoderWithDescriptor: the descriptor is nil");
    return [self computeCommandEncoderWithDispatchType:[computePassDescriptor dispatchType]];
}

- (id<MTLComputeCommandEncoder>)computeCommandEncoderWithDispatchType:(MTLDispatchType)dispatchType {
    if (dispatchType > MTLDispatchTypeConcurrent) {
        OBMRaise(@"computeCommandEncoderWithDispatchType: %lu is no MTLDispatchType", (unsigned long)dispatchType);
    }
    [self requireUncommittedFor:@"computeCommandEncoder"];
    [self requireNoEncoderFor:@"computeCommandEncoder"];
    return [self
        open:[[[(OBMDevice *)[_queue device] computeCommandEncoderClass] alloc] initWithCommandBuffer:self
                                                                                         dispatchType:dispatchType]];
}

- (id<MTLBlitCommandEncoder>)blitCommandEncoder {
    [self requireUncommittedFor:@"blitCommandEncoder"];
    [self requireNoEncoderFor:@"blitCommandEncoder"];
    return [self open:[[OBMBlitCommandEncoder alloc] initWithCommandBuffer:self]];
}

- (id<MTLBlitCommandEncoder>)blitCommandEncoderWithDescriptor:(MTLBlitPassDescriptor *)blitPassDescriptor {
    if (blitPassDescriptor == nil) OBMRaise(@"blitCommandEncoderWithDescriptor: the descriptor is nil");
    return [self blitCommandEncoder];
}

- (void)encodeEvent:(id<MTLEvent>)event value:(uint64_t)value kind:(obm_phase_kind)kind method:(NSString *)method {
    if (![(NSObject *)event isKindOfClass:[OBMEvent class]]) {
        OBMRaise(@"%@: the event is %@", method, event == nil ? @"nil" : @"of another device");
    }
    [self requireUncommittedFor:method];
    [self requireNoEncoderFor:method];
    obm_phase *phase = obm_recording_add_phase(_recording, kind);
    if (phase == NULL) {
        obm_recording_fail_for_memory(_recording);
        return;
    }
    phase->event = [(OBMEvent *)event event];
    phase->value = value;
    [self keep:event];
}

- (void)encodeWaitForEvent:(id<MTLEvent>)event value:(uint64_t)value {
    [self encodeEvent:event value:value kind:OBM_PHASE_WAIT method:@"encodeWaitForEvent"];
}

- (void)encodeSignalEvent:(id<MTLEvent>)event value:(uint64_t)value {
    [self encodeEvent:event value:value kind:OBM_PHASE_SIGNAL method:@"encodeSignalEvent"];
}

- (void)pushDebugGroup:(NSString *)string {
    if (string == nil) OBMRaise(@"pushDebugGroup: the name is nil");
    _debugGroups++;
}

- (void)popDebugGroup {
    if (_debugGroups == 0) OBMRaise(@"popDebugGroup: command buffer%@ has no open debug group", [self labelSuffix]);
    _debugGroups--;
}

@end
