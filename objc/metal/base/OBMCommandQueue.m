#import "OBMCommandQueue.h"

#import <stdlib.h>

#import "OBMCommandBuffer.h"
#import "metal/cpu/CPUDevice.h"
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

- (id)initWithDevice:(CPUDevice *)device limit:(NSUInteger)limit {
    self = [super init];
    if (self == nil) return nil;
    _device = [device retain];
    _limit = limit;
    pthread_mutex_init(&_lock, NULL);
    return self;
}

- (void)dealloc {
    for (cpu_job *job = _free; job != NULL;) {
        cpu_job *next = job->next;
        obm_arena_free(&job->arena);
        free(job);
        job = next;
    }
    pthread_mutex_destroy(&_lock);
    [_device release];
    [super dealloc];
}

- (id<MTLDevice>)device { return _device; }
- (uint64_t)committedCommandBufferCount { return obm_load(&_committedCount); }

- (void)countCommit {
    obm_add(&_committedCount, 1);
}

- (id<MTLCommandBuffer>)commandBufferRetained:(BOOL)retained options:(MTLCommandBufferErrorOption)options {
    cpu_job *job = [self takeJob];
    if (job == NULL) return nil;
    return [[[OBMCommandBuffer alloc] initWithQueue:self job:job retained:retained
                                            options:options] autorelease];
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

- (cpu_job *)newJob {
    cpu_job *job = calloc(1, sizeof *job);
    return job;
}

- (void)waitForRoom {
    room r = {&_inFlight, _limit};
    if (hasRoom(&r)) return;
    if (obm_load(&_committed) == 0) {
        OBMRaise(@"commandBuffer: queue%@ already has %lu command buffers, its limit, and none is committed; "
                 @"commit or release one",
                 [self labelSuffix], (unsigned long)_limit);
    }
    cpu_pool_wait([_device pool], hasRoom, &r);
}

- (cpu_job *)takeJob {
    [self waitForRoom];
    pthread_mutex_lock(&_lock);
    cpu_job *job = _free;
    if (job != NULL) _free = job->next;
    pthread_mutex_unlock(&_lock);
    if (job == NULL) job = [self newJob];
    if (job == NULL) return NULL;
    cpu_job_reset(job);
    job->queue = self;
    job->in_flight = &_inFlight;
    job->committed = &_committed;
    obm_add(&_inFlight, 1);
    return job;
}

- (void)giveBackJob:(cpu_job *)job {
    pthread_mutex_lock(&_lock);
    job->next = _free;
    _free = job;
    pthread_mutex_unlock(&_lock);
}

@end
