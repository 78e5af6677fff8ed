// A queue of command buffers. It keeps the memory of finished ones for the next. Any thread may use it.
#import <pthread.h>

#import "OBMObject.h"
#import "OBMRecording.h"
#import "core/OBExtensions.h"
#import "OBMMetal.h"

@class OBMDevice;

@interface OBMCommandQueue : OBMObject <MTLCommandQueue, OBCountingQueue> {
    OBMDevice *_device;
    NSUInteger _limit;
    pthread_mutex_t _lock;
    obm_recording *_free;
    obm_atomic_u32 _inFlight;   // command buffers that exist and have not completed
    obm_atomic_u32 _committed;  // of those, how many will complete by themselves
    obm_atomic_u64 _committedCount;
    NSMutableArray *_residencySets;  // OBMResidencySet.h
}

- (id)initWithDevice:(OBMDevice *)device limit:(NSUInteger)limit;

// A command buffer of this queue is committed.
- (void)countCommit;

// An empty recording, counted as in flight until it completes or is given back uncommitted. Blocks at
// the queue's limit; misuse if none of those in flight is committed. NULL if there is no memory.
- (obm_recording *)takeRecording;
- (void)giveBackRecording:(obm_recording *)recording;

@end
