#import "OBMDevice.h"

#import <unistd.h>

#import "OBMBinaryArchive.h"
#import "OBMBuffer.h"
#import "OBMCommandQueue.h"
#import "OBMComputeCommandEncoder.h"
#import "OBMComputePipelineState.h"
#import "OBMError.h"
#import "OBMEvent.h"
#import "OBMFence.h"
#import "OBMFunctionConstants.h"
#import "OBMIndirectCommandBuffer.h"
#import "OBMLibrary.h"
#import "OBMLimits.h"
#import "OBMMetal.h"

enum { DEFAULT_COMMAND_BUFFERS = 64 };

static uint64_t limit(const char *name, uint64_t own) {
    uint64_t value = obm_limit(name, own);
    if (value == 0) {
        OBMRaise(
            @"OB_LIMITS is '%s': set it to limits such as maxBufferLength=1073741824, with spaces between them, or "
            @"unset it",
            getenv("OB_LIMITS"));
    }
    return value;
}

static uint64_t hostMemory(void) { return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE); }

@implementation OBMDevice

- (id)init {
    self = [super init];
    if (self == nil) return nil;
    _compilerVersions = [[NSMutableDictionary alloc] init];
    _mostThreadgroups = obm_limit("watchdogThreadgroups", UINT64_MAX);
    return self;
}

- (void)dealloc {
    [_compilerVersions release];
    [super dealloc];
}

- (NSString *)name {
    return [self mustBeOfSubclass:_cmd];
}
- (const obm_executor *)executor {
    return (const obm_executor *)[self mustBeOfSubclass:_cmd];
}
- (Class)bufferClass {
    return (Class)[self mustBeOfSubclass:_cmd];
}
- (NSArray *)objectNames:(NSError **)error {
    (void)error;
    return [self mustBeOfSubclass:_cmd];
}

- (Class)libraryClass {
    return [OBMLibrary class];
}
- (Class)pipelineStateClass {
    return [OBMComputePipelineState class];
}
- (Class)computeCommandEncoderClass {
    return [OBMComputeCommandEncoder class];
}
- (NSUInteger)largestThreadgroup {
    return OBM_MAX_THREADS_PER_THREADGROUP;
}
- (BOOL)writesLogs {
    return NO;
}
- (NSArray *)newLogsOf:(const obm_recording *)recording {
    (void)recording;
    return nil;
}

- (NSMutableDictionary *)compilerVersions {
    return _compilerVersions;
}
- (void)addAllocatedBytes:(int64_t)bytes {
    obm_add(&_allocated, (uint64_t)bytes);
}

- (BOOL)watchesCommandBuffers {
    return _mostThreadgroups != UINT64_MAX;
}
- (uint64_t)mostThreadgroups {
    return _mostThreadgroups;
}
- (double)longestCommandBuffer {
    return [self watchesCommandBuffers] ? (double)_mostThreadgroups * OBM_SECONDS_PER_THREADGROUP : 0;
}

- (uint64_t)registryID {
    return (uint64_t)(uintptr_t)self;
}
- (BOOL)isLowPower {
    return NO;
}
- (BOOL)isHeadless {
    return YES;
}
- (BOOL)isRemovable {
    return NO;
}
- (BOOL)hasUnifiedMemory {
    return YES;
}
- (MTLDeviceLocation)location {
    return MTLDeviceLocationBuiltIn;
}
- (NSUInteger)locationNumber {
    return 0;
}
- (uint64_t)maxTransferRate {
    return 0;
}
- (NSUInteger)currentAllocatedSize {
    return (NSUInteger)obm_load(&_allocated);
}
- (NSUInteger)maxThreadgroupMemoryLength {
    return OBM_MAX_THREADGROUP_MEMORY;
}
- (uint64_t)recommendedMaxWorkingSetSize {
    return limit("recommendedMaxWorkingSetSize", hostMemory() / 4 * 3);
}

- (NSUInteger)maxBufferLength {
    return (NSUInteger)limit("maxBufferLength", hostMemory());
}

- (MTLSize)maxThreadsPerThreadgroup {
    return MTLSizeMake(OBM_MAX_THREADS_PER_THREADGROUP, OBM_MAX_THREADS_PER_THREADGROUP,
                       OBM_MAX_THREADS_PER_THREADGROUP);
}

// No family: each promises textures, which these devices do not have.
- (BOOL)supportsFamily:(MTLGPUFamily)gpuFamily {
    (void)gpuFamily;
    return NO;
}

- (void)sampleTimestamps:(MTLTimestamp *)cpuTimestamp gpuTimestamp:(MTLTimestamp *)gpuTimestamp {
    *cpuTimestamp = *gpuTimestamp = (MTLTimestamp)(obm_seconds() * 1e9);
}

- (id<MTLCommandQueue>)newCommandQueue {
    return [self newCommandQueueWithMaxCommandBufferCount:DEFAULT_COMMAND_BUFFERS];
}

- (id<MTLCommandQueue>)newCommandQueueWithMaxCommandBufferCount:(NSUInteger)maxCommandBufferCount {
    if (maxCommandBufferCount == 0) OBMRaise(@"newCommandQueueWithMaxCommandBufferCount: the count must be at least 1");
    return [[OBMCommandQueue alloc] initWithDevice:self limit:maxCommandBufferCount];
}

- (id<MTLEvent>)newEvent {
    return [[OBMEvent alloc] initWithDevice:self];
}
- (id<MTLSharedEvent>)newSharedEvent {
    return [[OBMEvent alloc] initWithDevice:self];
}
- (id<MTLFence>)newFence {
    return [[OBMFence alloc] initWithDevice:self];
}

- (void)checkLength:(NSUInteger)length options:(MTLResourceOptions)options filled:(BOOL)filled method:(SEL)method {
    NSString *name = NSStringFromSelector(method);
    MTLResourceOptions known =
        MTLResourceCPUCacheModeMask | MTLResourceStorageModeMask | MTLResourceHazardTrackingModeMask;
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

// The oldest macOS whose devices answer; 0: any.
static uint64_t oldestWith(SEL selector) {
    if (sel_isEqual(selector, @selector(newBinaryArchiveWithDescriptor:error:))) return 11;
    if (sel_isEqual(selector, @selector(newResidencySetWithDescriptor:error:))) return 15;
    return 0;
}

- (BOOL)respondsToSelector:(SEL)selector {
    return obm_limit("macOS", 0) >= oldestWith(selector) && [super respondsToSelector:selector];
}

- (id<MTLBinaryArchive>)newBinaryArchiveWithDescriptor:(MTLBinaryArchiveDescriptor *)descriptor
                                                 error:(NSError **)error {
    if (descriptor == nil) OBMRaise(@"newBinaryArchiveWithDescriptor: the descriptor is nil");
    return [[OBMBinaryArchive alloc] initWithDevice:self url:[descriptor url] error:error];
}

- (id<MTLIndirectCommandBuffer>)newIndirectCommandBufferWithDescriptor:(MTLIndirectCommandBufferDescriptor *)descriptor
                                                       maxCommandCount:(NSUInteger)maxCount
                                                               options:(MTLResourceOptions)options {
    [self checkLength:1 options:options filled:NO method:_cmd];
    return [[OBMIndirectCommandBuffer alloc] initWithDevice:self descriptor:descriptor count:maxCount options:options];
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
    if (buffer != nil) memcpy(buffer->_memory.bytes, pointer, length);
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

- (MTLFunctionConstantValues *)newFunctionConstantValues {
    return (MTLFunctionConstantValues *)(id)[[OBMFunctionConstantValues alloc] init];
}

- (id<MTLLibrary>)newDefaultLibrary {
    return nil;
}

- (id<MTLLibrary>)newLibraryAtPath:(NSString *)path error:(NSError **)error {
    return [[[self libraryClass] alloc] initWithDevice:self path:path error:error];
}

- (id<MTLLibrary>)newLibraryWithFile:(NSString *)filepath error:(NSError **)error {
    if (filepath == nil) OBMRaise(@"newLibraryWithFile: the path is nil");
    return [self newLibraryAtPath:filepath error:error];
}

- (id<MTLLibrary>)newLibraryWithURL:(NSURL *)url error:(NSError **)error {
    if (url == nil || ![url isFileURL]) OBMRaise(@"newLibraryWithURL: the URL must name a file");
    return [self newLibraryAtPath:[url path] error:error];
}

- (id<MTLLibrary>)newLibraryWithSource:(NSString *)source options:(MTLCompileOptions *)options error:(NSError **)error {
    if (source == nil) OBMRaise(@"newLibraryWithSource: the source is nil");
    return [[[self libraryClass] alloc] initWithDevice:self source:source options:options error:error];
}

- (id<MTLComputePipelineState>)newComputePipelineStateWithFunction:(id<MTLFunction>)computeFunction
                                                             error:(NSError **)error {
    return [self newComputePipelineStateWithFunction:computeFunction
                                             options:MTLPipelineOptionNone
                                          reflection:NULL
                                               error:error];
}

- (id<MTLComputePipelineState>)newComputePipelineStateWithFunction:(id<MTLFunction>)computeFunction
                                                           options:(MTLPipelineOption)options
                                                        reflection:
                                                            (MTLAutoreleasedComputePipelineReflection *)reflection
                                                             error:(NSError **)error {
    MTLComputePipelineDescriptor *descriptor = [[MTLComputePipelineDescriptor alloc] init];
    [descriptor setComputeFunction:computeFunction];
    id<MTLComputePipelineState> state = nil;
    @try {
        state = [self newComputePipelineStateWithDescriptor:descriptor
                                                    options:options
                                                 reflection:reflection
                                                      error:error];
    } @finally {
        [descriptor release];
    }
    return state;
}

static BOOL isArchived(MTLComputePipelineDescriptor *descriptor) {
    for (OBMBinaryArchive *archive in [descriptor binaryArchives]) {
        if ([archive hasFunction:(OBMFunction *)[descriptor computeFunction]]) return YES;
    }
    return NO;
}

- (id<MTLComputePipelineState>)newComputePipelineStateWithDescriptor:(MTLComputePipelineDescriptor *)descriptor
                                                             options:(MTLPipelineOption)options
                                                          reflection:
                                                              (MTLAutoreleasedComputePipelineReflection *)reflection
                                                               error:(NSError **)error {
    if ((options & MTLPipelineOptionFailOnBinaryArchiveMiss) != 0 && !isArchived(descriptor)) {
        OBMSetError(error, MTLBinaryArchiveDomain, MTLBinaryArchiveErrorUnexpectedElement,
                    @"no archive has function '%@'", [[descriptor computeFunction] name]);
        return nil;
    }
    OBMComputePipelineState *state = [[[self pipelineStateClass] alloc] initWithDevice:self
                                                                            descriptor:descriptor
                                                                                 error:error];
    MTLPipelineOption wanted = MTLPipelineOptionArgumentInfo | MTLPipelineOptionBufferTypeInfo;
    if (reflection != NULL) *reflection = (options & wanted) != 0 ? [state reflection] : nil;
    return state;
}

@end
