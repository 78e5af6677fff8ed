// A device that runs every thread of a kernel and watches what it does: its name is "checker".
//
// What it finds is in the logs of the command buffer. It runs on one thread; a dispatch runs to its end
// before the next begins, but those that no barrier orders are held to have run at once.
#import "metal/checker/engine/CheckRun.h"
#import "metal/cpu/CPUDevice.h"

@interface CheckerDevice : CPUDevice {
    check_state *_state;
    NSUInteger _threads;
}

// The most threads of a threadgroup, 1 to CHECK_MAX_THREADS, which is what it is at first.
- (void)setWorkerThreadCount:(NSUInteger)count;
- (NSUInteger)workerThreadCount;

- (check_state *)state;

// Memory that goes.
- (void)forget:(const check_memory *)memory;

// How many orders of its threads each dispatch runs in, 1 to CHECK_MAX_SCHEDULES; all must give one result.
- (void)setScheduleCount:(NSUInteger)count;
- (NSUInteger)scheduleCount;

@end
