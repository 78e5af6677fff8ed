#import "CPUDevice.h"

#import <errno.h>
#import <stdlib.h>

#import "CPUBuffer.h"
#import "CPUComputePipelineState.h"
#import "CPUISA.h"
#import "CPULibrary.h"
#import "CPUNative.h"
#import "metal/base/OBMError.h"
#import "metal/base/OBMHost.h"

OBMDevice *CPUNewDevice(void) { return [[CPUDevice alloc] init]; }

static NSUInteger defaultThreads(void) {
    const char *text = getenv("OB_THREADS");
    if (text == NULL || *text == '\0') {
        NSUInteger cores = obm_host_cores();
        return cores < CPU_POOL_MAX_THREADS ? cores : CPU_POOL_MAX_THREADS;
    }
    char *end;
    errno = 0;
    unsigned long threads = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || threads < 1 || threads > CPU_POOL_MAX_THREADS) {
        OBMRaise(@"OB_THREADS is '%s': set it to a number of threads from 1 to %d, or unset it", text,
                 CPU_POOL_MAX_THREADS);
    }
    return threads;
}

@implementation CPUDevice

- (id)init {
    self = [super init];
    if (self == nil) return nil;
    @try {
        _pool = cpu_pool_create((uint32_t)defaultThreads());
    } @catch (NSException *exception) {
        [self release];
        @throw;
    }
    if (_pool != NULL) return self;
    [self release];
    return nil;
}

- (void)dealloc {
    cpu_pool_destroy(_pool);
    [_instructionSet release];
    [super dealloc];
}

- (NSString *)name {
    return @"cpu";
}
- (const obm_executor *)executor {
    return cpu_pool_executor(_pool);
}
- (Class)bufferClass {
    return [CPUBuffer class];
}
- (Class)libraryClass {
    return [CPULibrary class];
}
- (Class)pipelineStateClass {
    return [CPUComputePipelineState class];
}

- (NSArray *)wantedInstructionSets:(NSError **)error {
    @synchronized(self) {
        return CPUWantedISAs(_instructionSet, error);
    }
}

- (NSArray *)objectNames:(NSError **)error {
    NSArray *wanted = [self wantedInstructionSets:error];
    return wanted == nil ? nil : CPUShaderISAs(wanted);
}

- (NSString *)instructionSet {
    NSArray *names = CPUWantsNative() ? [self wantedInstructionSets:NULL] : [self objectNames:NULL];
    return [names count] > 0 ? [names objectAtIndex:0] : nil;
}

- (BOOL)setInstructionSet:(NSString *)name error:(NSError **)error {
    if (name != nil && CPUWantedISAs(name, error) == nil) return NO;
    @synchronized(self) {
        [_instructionSet release];
        _instructionSet = [name copy];
    }
    return YES;
}

- (NSUInteger)workerThreadCount {
    return cpu_pool_threads(_pool);
}

- (void)setWorkerThreadCount:(NSUInteger)count {
    if (count < 1 || count > CPU_POOL_MAX_THREADS) {
        OBMRaise(@"setWorkerThreadCount: %lu threads are not possible; ask for 1 to %d", (unsigned long)count,
                 CPU_POOL_MAX_THREADS);
    }
    if (!cpu_pool_resize(_pool, (uint32_t)count)) {
        OBMRaise(@"setWorkerThreadCount: the device is busy; wait for its command buffers first");
    }
}

@end
