#define _GNU_SOURCE
#import "CPUDevice.h"

#import <errno.h>
#import <sched.h>
#import <stdlib.h>
#import <unistd.h>

#import "metal/base/OBMBuffer.h"
#import "metal/base/OBMCommandQueue.h"
#import "metal/base/OBMComputeCommandEncoder.h"
#import "metal/base/OBMComputePipelineState.h"
#import "metal/base/OBMError.h"
#import "metal/base/OBMEvent.h"
#import "metal/base/OBMFence.h"
#import "CPUISA.h"
#import "CPUNative.h"
#import "metal/base/OBMLibrary.h"
#import "metal/checker/CheckerDevice.h"
#import "metal/api/MTLCommandQueue.h"
#import "metal/api/MTLComputePipeline.h"

enum { DEFAULT_COMMAND_BUFFERS = 64, MAX_THREADS_PER_THREADGROUP = 1024 };

id<MTLDevice> MTLCreateSystemDefaultDevice(void) { return [[CPUDevice alloc] init]; }

NSArray *MTLCopyAllDevices(void) {
    id made[] = {[[CPUDevice alloc] init], [[CheckerDevice alloc] init]};
    NSUInteger count = 0;
    for (int i = 0; i < 2; i++) {
        if (made[i] != nil) made[count++] = made[i];
    }
    NSArray *devices = [[NSArray alloc] initWithObjects:made count:count];
    for (NSUInteger i = 0; i < count; i++) [made[i] release];
    return devices;
}

static NSUInteger availableCores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return (NSUInteger)CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (NSUInteger)online : 1;
}

static NSUInteger defaultThreads(void) {
    const char *text = getenv("OB_THREADS");
    if (text == NULL || *text == '\0') {
        NSUInteger cores = availableCores();
        return cores < CPU_POOL_MAX_THREADS ? cores : CPU_POOL_MAX_THREADS;
    }
    char *end;
    errno = 0;
    unsigned long threads = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || threads < 1 ||
        threads > CPU_POOL_MAX_THREADS) {
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
    _compilerVersions = [[NSMutableDictionary alloc] init];
    if (_pool == NULL) {
        [self release];
        return nil;
    }
    return self;
}

- (void)dealloc {
    cpu_pool_destroy(_pool);
    [_compilerVersions release];
    [super dealloc];
}

- (NSString *)instructionSet {
    NSArray *names = CPUWantsNative() ? CPUWantedISAs(NULL) : CPUShaderISAs(NULL);
    return [names count] > 0 ? [names objectAtIndex:0] : nil;
}

- (NSArray *)instructionSets:(NSError **)error { return CPUShaderISAs(error); }
- (Class)bufferClass { return [OBMBuffer class]; }
- (Class)computeCommandEncoderClass { return [OBMComputeCommandEncoder class]; }
- (void)prepareLibrary:(void *)handle { (void)handle; }
- (NSUInteger)largestThreadgroup { return MAX_THREADS_PER_THREADGROUP; }
- (BOOL)watchesKernels { return NO; }
- (NSArray *)newLogsOf:(const void *)job {
    (void)job;
    return nil;
}

- (cpu_pool *)pool { return _pool; }
- (NSMutableDictionary *)compilerVersions { return _compilerVersions; }
- (void)addAllocatedBytes:(int64_t)bytes {
    obm_add(&_allocated, (uint64_t)bytes);
}
- (NSUInteger)workerThreadCount { return cpu_pool_threads(_pool); }

- (void)setWorkerThreadCount:(NSUInteger)count {
    if (count < 1 || count > CPU_POOL_MAX_THREADS) {
        OBMRaise(@"setWorkerThreadCount: %lu threads are not possible; ask for 1 to %d", (unsigned long)count,
                 CPU_POOL_MAX_THREADS);
    }
    if (!cpu_pool_resize(_pool, (uint32_t)count)) {
        OBMRaise(@"setWorkerThreadCount: the device is busy; wait for its command buffers first");
    }
}

- (NSString *)name { return @"cpu"; }
- (uint64_t)registryID { return (uint64_t)(uintptr_t)_pool; }
- (BOOL)isLowPower { return NO; }
- (BOOL)isHeadless { return YES; }
- (BOOL)isRemovable { return NO; }
- (BOOL)hasUnifiedMemory { return YES; }
- (MTLDeviceLocation)location { return MTLDeviceLocationBuiltIn; }
- (NSUInteger)locationNumber { return 0; }
- (uint64_t)maxTransferRate { return 0; }
- (NSUInteger)currentAllocatedSize { return (NSUInteger)obm_load(&_allocated); }
- (NSUInteger)maxThreadgroupMemoryLength { return OBM_MAX_THREADGROUP_MEMORY; }
- (uint64_t)recommendedMaxWorkingSetSize { return [self maxBufferLength] / 4 * 3; }

- (NSUInteger)maxBufferLength {
    return (NSUInteger)sysconf(_SC_PHYS_PAGES) * (NSUInteger)sysconf(_SC_PAGESIZE);
}

- (MTLSize)maxThreadsPerThreadgroup {
    return MTLSizeMake(MAX_THREADS_PER_THREADGROUP, MAX_THREADS_PER_THREADGROUP, MAX_THREADS_PER_THREADGROUP);
}

// No family: each promises textures, which this device has not.
- (BOOL)supportsFamily:(MTLGPUFamily)gpuFamily {
    (void)gpuFamily;
    return NO;
}

- (void)sampleTimestamps:(MTLTimestamp *)cpuTimestamp gpuTimestamp:(MTLTimestamp *)gpuTimestamp {
    *cpuTimestamp = *gpuTimestamp = (MTLTimestamp)(cpu_seconds() * 1e9);
}

- (id<MTLCommandQueue>)newCommandQueue {
    return [self newCommandQueueWithMaxCommandBufferCount:DEFAULT_COMMAND_BUFFERS];
}

- (id<MTLCommandQueue>)newCommandQueueWithMaxCommandBufferCount:(NSUInteger)maxCommandBufferCount {
    if (maxCommandBufferCount == 0)
        OBMRaise(@"newCommandQueueWithMaxCommandBufferCount: the count must be at least 1");
    return [[OBMCommandQueue alloc] initWithDevice:self limit:maxCommandBufferCount];
}

- (id<MTLEvent>)newEvent { return [[OBMEvent alloc] initWithDevice:self]; }
- (id<MTLSharedEvent>)newSharedEvent { return [[OBMEvent alloc] initWithDevice:self]; }
- (id<MTLFence>)newFence { return [[OBMFence alloc] initWithDevice:self]; }

- (void)checkLength:(NSUInteger)length
            options:(MTLResourceOptions)options
             filled:(BOOL)filled
             method:(SEL)method {
    NSString *name = NSStringFromSelector(method);
    MTLResourceOptions known = MTLResourceCPUCacheModeMask | MTLResourceStorageModeMask |
                               MTLResourceHazardTrackingModeMask;
    NSUInteger mode = (options & MTLResourceStorageModeMask) >> MTLResourceStorageModeShift;
    if (length == 0) OBMRaise(@"%@ the length must be at least 1", name);
    if (length > [self maxBufferLength]) {
        OBMRaise(@"%@ %lu bytes are more than maxBufferLength, which is %lu", name, (unsigned long)length,
                 (unsigned long)[self maxBufferLength]);
    }
    if ((options & ~known) != 0 || mode > MTLStorageModeMemoryless)
        OBMRaise(@"%@ unknown options 0x%lx", name, (unsigned long)options);
    if (mode == MTLStorageModeMemoryless) OBMRaise(@"%@ MTLStorageModeMemoryless is for textures only", name);
    if (mode == MTLStorageModePrivate && filled) {
        OBMRaise(@"%@ MTLStorageModePrivate memory is not reachable from the host; use "
                 @"newBufferWithLength:options: and a blit",
                 name);
    }
}

- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length options:(MTLResourceOptions)options {
    [self checkLength:length options:options filled:NO method:_cmd];
    return [[[self bufferClass] alloc] initWithDevice:self length:length options:options];
}

- (id<MTLBuffer>)newBufferWithBytes:(const void *)pointer
                             length:(NSUInteger)length
                            options:(MTLResourceOptions)options {
    [self checkLength:length options:options filled:YES method:_cmd];
    if (pointer == NULL) OBMRaise(@"newBufferWithBytes: the pointer is NULL");
    OBMBuffer *buffer = [[[self bufferClass] alloc] initWithDevice:self length:length options:options];
    if (buffer != nil) memcpy(buffer->_bytes, pointer, length);
    return buffer;
}

- (id<MTLBuffer>)newBufferWithBytesNoCopy:(void *)pointer
                                   length:(NSUInteger)length
                                  options:(MTLResourceOptions)options
                              deallocator:(MTL_BLOCK(void, void *, NSUInteger))deallocator {
    NSUInteger page = (NSUInteger)sysconf(_SC_PAGESIZE);
    [self checkLength:length options:options filled:YES method:_cmd];
    if (pointer == NULL || (uintptr_t)pointer % page != 0 || length % page != 0) {
        OBMRaise(@"newBufferWithBytesNoCopy: the pointer %p and the length %lu must be multiples of the page "
                 @"size %lu",
                 pointer, (unsigned long)length, (unsigned long)page);
    }
    if (deallocator != nil)
        OBMRaise(@"newBufferWithBytesNoCopy: pass nil as the deallocator and free the memory after the buffer");
    return [[[self bufferClass] alloc] initWithDevice:self memory:pointer length:length options:options];
}

- (id<MTLLibrary>)newDefaultLibrary { return nil; }

- (id<MTLLibrary>)newLibraryWithFile:(NSString *)filepath error:(NSError **)error {
    if (filepath == nil) OBMRaise(@"newLibraryWithFile: the path is nil");
    return [[OBMLibrary alloc] initWithDevice:self path:filepath error:error];
}

- (id<MTLLibrary>)newLibraryWithURL:(NSURL *)url error:(NSError **)error {
    if (url == nil || ![url isFileURL]) OBMRaise(@"newLibraryWithURL: the URL must name a file");
    return [self newLibraryWithFile:[url path] error:error];
}

- (id<MTLLibrary>)newLibraryWithSource:(NSString *)source
                               options:(MTLCompileOptions *)options
                                 error:(NSError **)error {
    if (source == nil) OBMRaise(@"newLibraryWithSource: the source is nil");
    return [[OBMLibrary alloc] initWithDevice:self source:source options:options error:error];
}

- (id<MTLComputePipelineState>)newComputePipelineStateWithFunction:(id<MTLFunction>)computeFunction
                                                             error:(NSError **)error {
    return [self newComputePipelineStateWithFunction:computeFunction
                                             options:MTLPipelineOptionNone
                                          reflection:NULL
                                               error:error];
}

- (id<MTLComputePipelineState>)
    newComputePipelineStateWithFunction:(id<MTLFunction>)computeFunction
                                options:(MTLPipelineOption)options
                             reflection:(MTLAutoreleasedComputePipelineReflection *)reflection
                                  error:(NSError **)error {
    MTLComputePipelineDescriptor *descriptor = [[MTLComputePipelineDescriptor alloc] init];
    [descriptor setComputeFunction:computeFunction];
    id<MTLComputePipelineState> state = nil;
    @try {
        state = [self newComputePipelineStateWithDescriptor:descriptor
                                                    options:options
                                                 reflection:reflection
                                                      error:error];
    } @finally { [descriptor release]; }
    return state;
}

- (id<MTLComputePipelineState>)
    newComputePipelineStateWithDescriptor:(MTLComputePipelineDescriptor *)descriptor
                                  options:(MTLPipelineOption)options
                               reflection:(MTLAutoreleasedComputePipelineReflection *)reflection
                                    error:(NSError **)error {
    (void)error;  // the kernel was compiled with its library: nothing is left to fail
    OBMComputePipelineState *state = [[OBMComputePipelineState alloc] initWithDevice:self
                                                                          descriptor:descriptor];
    MTLPipelineOption wanted = MTLPipelineOptionArgumentInfo | MTLPipelineOptionBufferTypeInfo;
    if (reflection != NULL) *reflection = (options & wanted) != 0 ? [state reflection] : nil;
    return state;
}

@end
