#import "CheckerDevice.h"

#import <dlfcn.h>
#import <stdlib.h>

#import "metal/base/OBMError.h"
#import "CheckerBuffer.h"
#import "CheckerComputeCommandEncoder.h"
#import "CheckerFunctionLog.h"

@implementation CheckerDevice

- (id)init {
    self = [super init];
    if (self == nil) return nil;
    [super setWorkerThreadCount:1];
    _threads = CHECK_MAX_THREADS;
    _state = check_state_new();
    if (_state != NULL) return self;
    [self release];
    return nil;
}

- (void)dealloc {
    check_state *state = _state;
    [super dealloc];
    check_state_free(state);
}

- (NSString *)name { return @"checker"; }
- (check_state *)state { return _state; }
- (void)forget:(const check_memory *)memory { check_state_forget(_state, memory); }

- (NSArray *)instructionSets:(NSError **)error {
    (void)error;
    return [NSArray arrayWithObject:@"checker"];
}

- (NSString *)instructionSet { return nil; }
- (Class)bufferClass { return [CheckerBuffer class]; }
- (Class)computeCommandEncoderClass { return [CheckerComputeCommandEncoder class]; }
- (NSUInteger)largestThreadgroup { return _threads; }
- (BOOL)watchesKernels { return YES; }

- (void)prepareLibrary:(void *)handle {
    const metallib_checker **calls = dlsym(handle, "metallib_checker_calls");
    if (calls != NULL) *calls = &check_calls;
}

- (void)setWorkerThreadCount:(NSUInteger)count {
    if (count < 1 || count > CHECK_MAX_THREADS) {
        OBMRaise(@"setWorkerThreadCount: the checker's threadgroups have 1 to %d threads, not %lu", CHECK_MAX_THREADS,
                 (unsigned long)count);
    }
    _threads = count;
}

- (NSUInteger)workerThreadCount { return _threads; }

- (void)setScheduleCount:(NSUInteger)count {
    if (count < 1 || count > CHECK_MAX_SCHEDULES) {
        OBMRaise(@"setScheduleCount: %lu orders are not possible; ask for 1 to %d", (unsigned long)count,
                 CHECK_MAX_SCHEDULES);
    }
    check_state_set_schedules(_state, (uint32_t)count);
}

- (NSUInteger)scheduleCount { return check_state_schedules(_state); }

- (NSArray *)newLogsOf:(const void *)job {
    size_t count;
    check_finding *findings = check_findings_take(check_state_findings(_state), job, &count);
    if (count == 0) {
        free(findings);
        return nil;
    }
    NSArray *logs = [CheckerFunctionLog newLogsOfFindings:findings count:count];
    free(findings);
    return logs;
}

@end
