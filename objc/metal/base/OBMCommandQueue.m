#import "OBMCommandQueue.h"

#import <stdlib.h>

#import "OBMCommandBuffer.h"
#import "OBMDevice.h"
#import "OBMError.h"

typedef struct {
    obm_atomic_u32 *count;
    NSUInteger limit;
} room;

static bool hasRoom(void *context) {
    const room *r = context;
    return obm_load(r->count) < r->limit;
}

@implementation OBMCommandQueue

- (id)initWithDevice:(OBMDevice *)device limit:(NSUInteger)limit {
    self = [super init];
    if (self == nil) return nil;
    _device = [device retain];
    _limit = limit;
    pthread_mutex_init(&_lock, NULL);
    return self;
}

- (void)dealloc {
    for (obm_recording *recording = _free; recording != NULL;) {
        obm_recording *next = recording->next;
        obm_arena_free(&recording->arena);
        free(recording);
        recording = next;
    }
    pthread_mutex_destroy(&_lock);
    [_residencySets release];
    [_device release];
    [super dealloc];
}

- (id<MTLDevice>)device {
    return _device;
}
- (uint64_t)committedCommandBufferCount {
    return obm_load(&_committedCount);
}

- (void)countCommit {
    obm_add(&_committedCount, 1);
}

- (id<MTLCommandBuffer>)commandBufferRetained:(BOOL)retained options:(MTLCommandBufferErrorOption)options {
    obm_recording *recording = [self takeRecording];
    if (recording == NULL) return nil;
    OBMCommandBuffer *buffer = nil;
    @try {
        buffer = [[OBMCommandBuffer alloc] initWithQueue:self recording:recording retained:retained options:options];
    } @finally {
        if (buffer == nil) {  // there was no memory for it
            obm_sub(&_inFlight, 1);
            [self giveBackRecording:recording];
        }
    }
    return [buffer autorelease];
}

- (id<MTLCommandBuffer>)commandBuffer {
    return [self commandBufferRetained:YES options:MTLCommandBufferErrorOptionNone];
}

- (id<MTLCommandBuffer>)commandBufferWithUnretainedReferences {
    return [self commandBufferRetained:NO options:MTLCommandBufferErrorOptionNone];
}

- (id<MTLCommandBuffer>)commandBufferWithDescriptor:(MTLCommandBufferDescriptor *)descriptor {
    if (descriptor == nil) OBMRaise(@"commandBufferWithDescriptor: the descriptor is nil");
    return [self commandBufferRetained:[descriptor retainedReferences] options:[descriptor errorOptions]];
}

- (void)waitForRoom {
    room r = {&_inFlight, _limit};
    if (hasRoom(&r)) return;
    if (obm_load(&_committed) == 0) {
        OBMRaise(@"commandBuffer: queue%@ already has %lu command buffers, its limit, and none is committed; "
                 @"commit or release one",
                 [self labelSuffix], (unsigned long)_limit);
    }
    const obm_executor *executor = [_device executor];
    executor->wait(executor->context, hasRoom, &r);
}

- (obm_recording *)takeRecording {
    [self waitForRoom];
    pthread_mutex_lock(&_lock);
    obm_recording *recording = _free;
    if (recording != NULL) _free = recording->next;
    pthread_mutex_unlock(&_lock);
    if (recording == NULL) recording = calloc(1, sizeof *recording);
    if (recording == NULL) return NULL;
    obm_recording_reset(recording, [_device executor]);
    recording->queue = self;
    recording->in_flight = &_inFlight;
    recording->committed_count = &_committed;
    obm_add(&_inFlight, 1);
    return recording;
}

- (void)giveBackRecording:(obm_recording *)recording {
    pthread_mutex_lock(&_lock);
    recording->next = _free;
    _free = recording;
    pthread_mutex_unlock(&_lock);
}

@end
