// A queue of command buffers. It keeps the memory of finished ones for the next.
#import <pthread.h>

#import "metal/cpu/CPUJob.h"
#import "OBMObject.h"
#import "metal/api/MTLCommandQueue.h"

@class CPUDevice;

@interface OBMCommandQueue : OBMObject <MTLCommandQueue> {
    CPUDevice *_device;
    NSUInteger _limit;
    pthread_mutex_t _lock;
    cpu_job *_free;
    obm_atomic_u32 _inFlight;   // command buffers that exist and have not completed
    obm_atomic_u32 _committed;  // of those, how many will complete by themselves
    obm_atomic_u64 _committedCount;
}

- (id)initWithDevice:(CPUDevice *)device limit:(NSUInteger)limit;

// How many command buffers were ever committed to this queue.
- (uint64_t)committedCommandBufferCount;
- (void)countCommit;

// An empty job, counted as in flight until it completes or is given back uncommitted. Blocks at
// the queue's limit; misuse if none of those in flight is committed. NULL if there is no memory.
- (cpu_job *)takeJob;
- (void)giveBackJob:(cpu_job *)job;

@end
