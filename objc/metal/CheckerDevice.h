// A device that runs every thread of a kernel and watches what it does: its name is "checker".
//
// What it finds is in the logs of the command buffer. It has one thread; a dispatch runs to its end
// before the next begins, but those that no barrier orders are held to have run at once.
#import "../checker/CheckRun.h"
#import "CPUDevice.h"

@interface CheckerDevice : CPUDevice {
    check_state *_state;
}

- (check_state *)state;

// Memory that goes.
- (void)forget:(const check_memory *)memory;

// How many orders of its threads each dispatch runs in, 1 to CHECK_MAX_SCHEDULES; all must give one result.
- (void)setScheduleCount:(NSUInteger)count;
- (NSUInteger)scheduleCount;

@end
