#import "CheckerDevice.h"

#import <stdlib.h>

#import "CheckerBuffer.h"
#import "CheckerComputeCommandEncoder.h"
#import "CheckerComputePipelineState.h"
#import "CheckerFunctionLog.h"
#import "CheckerLibrary.h"
#import "metal/base/OBMError.h"

OBMDevice *CheckerNewDevice(void) { return [[CheckerDevice alloc] init]; }

@implementation CheckerDevice

- (id)init {
    self = [super init];
    if (self == nil) return nil;
    _threads = CHECK_MAX_THREADS;
    _context.state = check_state_new();
    _executor = checker_executor_create(&_context);
    if (_context.state != NULL && _executor != NULL) return self;
    [self release];
    return nil;
}

- (void)dealloc {
    obm_serial_destroy(_executor);
    checker_context_clear(&_context);
    check_state_free(_context.state);
    [super dealloc];
}

- (NSString *)name {
    return @"checker";
}
- (const obm_executor *)executor {
    return obm_serial_executor(_executor);
}
- (Class)bufferClass {
    return [CheckerBuffer class];
}
- (Class)libraryClass {
    return [CheckerLibrary class];
}
- (Class)pipelineStateClass {
    return [CheckerComputePipelineState class];
}
- (Class)computeCommandEncoderClass {
    return [CheckerComputeCommandEncoder class];
}
- (NSUInteger)largestThreadgroup {
    return _threads;
}
// The host's memory is at hand, but what a program leaves in private storage must reach it by a blit, as on a device
// that has memory of its own.
- (BOOL)hasUnifiedMemory {
    return NO;
}
- (BOOL)writesLogs {
    return YES;
}
- (void)forget:(const check_memory *)memory {
    check_state_forget(_context.state, memory);
}

- (NSArray *)objectNames:(NSError **)error {
    (void)error;
    return [NSArray arrayWithObject:@"checker"];
}

- (void)setWorkerThreadCount:(NSUInteger)count {
    if (count < 1 || count > CHECK_MAX_THREADS) {
        OBMRaise(@"setWorkerThreadCount: the checker's threadgroups have 1 to %d threads, not %lu", CHECK_MAX_THREADS,
                 (unsigned long)count);
    }
    _threads = count;
}

- (NSUInteger)workerThreadCount {
    return _threads;
}

- (void)setScheduleCount:(NSUInteger)count {
    if (count < 1 || count > CHECK_MAX_SCHEDULES) {
        OBMRaise(@"setScheduleCount: %lu orders are not possible; ask for 1 to %d", (unsigned long)count,
                 CHECK_MAX_SCHEDULES);
    }
    check_state_set_schedules(_context.state, (uint32_t)count);
}

- (NSUInteger)scheduleCount {
    return check_state_schedules(_context.state);
}

- (NSArray *)newLogsOf:(const obm_recording *)recording {
    size_t count;
    check_finding *findings = check_findings_take(check_state_findings(_context.state), recording, &count);
    if (findings == NULL && count > 0) {
        [NSException raise:NSMallocException format:@"no memory left for %lu findings", (unsigned long)count];
    }
    if (count == 0) {
        free(findings);
        return nil;
    }
    NSArray *logs = nil;
    @try {
        logs = [CheckerFunctionLog newLogsOfFindings:findings count:count];
    } @finally {
        free(findings);
    }
    return logs;
}

@end
