// A device that runs every thread of a kernel and watches what it does: its name is "checker".
//
// Its findings are in the logs of the command buffer. It runs on one thread; a dispatch runs to its end before the next
// begins, but those that no barrier orders are held to have run at once. Any thread may use it.
//
// Its worker threads are the most threads of a threadgroup, 1 to CHECK_MAX_THREADS, which is what it is at first; its
// schedules the orders of threads that each dispatch runs in, 1 to CHECK_MAX_SCHEDULES.
#import "CheckerExecutor.h"
#import "core/OBExtensions.h"
#import "metal/base/OBMDevice.h"

@interface CheckerDevice : OBMDevice <OBThreadedDevice, OBSchedulingDevice, OBMeasuringDevice> {
    checker_context _context;
    obm_serial *_executor;
    NSUInteger _threads;
}

// nil when there is no memory left.
- (id)init;

// Memory that goes.
- (void)forget:(const check_memory *)memory;

@end

// For the table of devices.
OBMDevice *CheckerNewDevice(void);
