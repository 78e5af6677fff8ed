#import "CUDADevice.h"

#import <errno.h>
#import <stdlib.h>

#import "CUDABuffer.h"
#import "CUDAComputePipelineState.h"
#import "CUDALibrary.h"
#import "metal/base/OBMError.h"

static const double DEADLINE = 120;  // seconds

void CUDAAddDevices(NSMutableArray *devices) {
    for (int i = 0; i < cuda_device_count(); i++) {
        const char *problem;
        CUDADevice *device = [[CUDADevice alloc] initWithOrdinal:i problem:&problem];
        if (device != nil) [devices addObject:device];
        [device release];
    }
}

NSString *CUDAProblem(void) {
    const char *problem = cuda_driver_problem();
    cuda_context context;
    if (problem != NULL) return [NSString stringWithUTF8String:problem];
    if (cuda_device_count() == 0) return @"NVIDIA's driver shows no GPU: nvidia-smi and CUDA_VISIBLE_DEVICES say more";
    for (int i = 0; i < cuda_device_count(); i++) {
        if (cuda_context_describe(&context, i, &problem)) return nil;
    }
    return [NSString stringWithFormat:@"GPU %s cannot be used: %s", context.hardware, problem];
}

static double deadline(void) {
    const char *text = getenv("OB_CUDA_DEADLINE");
    if (text == NULL || *text == '\0') return DEADLINE;
    char *end;
    double seconds = strtod(text, &end);
    if (*end != '\0' || !(seconds > 0 && seconds <= 1e6)) {
        OBMRaise(@"OB_CUDA_DEADLINE is '%s': set it to the seconds that a command buffer may take, or unset it", text);
    }
    return seconds;
}

// What is out of reach is not freed: an abandoned kernel may still write to it.
static void closeContext(void *context) {
    if (cuda_is_out_of_reach(context)) return;
    cuda_context_close(context);
    free(context);
}

@implementation CUDADevice

- (id)initWithOrdinal:(int)ordinal problem:(const char **)problem {
    self = [super init];
    if (self == nil) return nil;
    *problem = "no memory is left";
    _context = malloc(sizeof *_context);
    if (_context == NULL || !cuda_context_describe(_context, ordinal, problem)) {
        [self release];
        return nil;
    }
    _name = [[NSString alloc] initWithFormat:@"cuda:%d", ordinal];
    return self;
}

- (void)dealloc {
    if (_executor != NULL) cuda_executor_destroy(_executor, closeContext, _context);
    else free(_context);
    [_name release];
    [super dealloc];
}

- (void)open {
    double seconds = deadline();
    CUresult result = cuda_context_open(_context);
    if (result != CUDA_SUCCESS)
        OBMRaise(@"%@: the GPU gives no context: %s%s", _name, cuda_text(result),
                 cuda_is_broken(result) ? cuda_cure : "");
    _executor = cuda_executor_create(_context, seconds);
    if (_executor == NULL) {
        cuda_context_close(_context);
        OBMRaise(@"%@: no memory is left for it", _name);
    }
    __atomic_store_n(&_open, YES, __ATOMIC_RELEASE);
}

- (void)openOnce {
    if (__atomic_load_n(&_open, __ATOMIC_ACQUIRE)) return;
    @synchronized(self) {
        if (!_open) [self open];
    }
}

- (const cuda_context *)context {
    [self openOnce];
    return _context;
}

- (const obm_executor *)executor {
    [self openOnce];
    return cuda_executor_calls(_executor);
}

- (NSString *)name {
    return _name;
}
- (NSString *)hardwareName {
    return [NSString
        stringWithFormat:@"%s (compute capability %d.%d)", _context->hardware, _context->major, _context->minor];
}
- (NSString *)instructionSet {
    return [NSString stringWithUTF8String:_context->architecture];
}
- (NSUInteger)coreCount {
    return (NSUInteger)_context->cores;
}
- (uint64_t)memorySize {
    return _context->memory;
}
- (Class)bufferClass {
    return [CUDABuffer class];
}
- (Class)libraryClass {
    return [CUDALibrary class];
}
- (Class)pipelineStateClass {
    return [CUDAComputePipelineState class];
}
- (NSArray *)objectNames:(NSError **)error {
    (void)error;
    return [NSArray arrayWithObject:@"cuda"];
}

- (BOOL)hasUnifiedMemory {
    return NO;
}
- (MTLDeviceLocation)location {
    return MTLDeviceLocationSlot;
}
- (NSUInteger)locationNumber {
    return (NSUInteger)_context->ordinal;
}
- (NSUInteger)maxBufferLength {
    NSUInteger host = [super maxBufferLength];
    return _context->memory > host ? _context->memory : host;
}

// What other programs have of it is not this one's to use.
- (uint64_t)recommendedMaxWorkingSetSize {
    size_t free = 0, total = 0;
    const cuda_context *context = [self context];
    if (cuda_driver_forked()) return 0;
    cuda_enter(context);
    context->driver->cuMemGetInfo(&free, &total);
    cuda_leave(context);
    return (uint64_t)free + [self currentAllocatedSize];
}

@end
