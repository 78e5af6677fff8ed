#import "OBChain.h"
#import "OBStructArguments.h"
#import "OBDevice.h"
#import "OBError.h"
#import "OBHazard.h"
#import "OBKernel.h"
#import "OBRun.h"
#include <time.h>

// A dispatch laid out for encoding: four messages, no lookups.
typedef struct OBEncoded {
    id<MTLComputePipelineState> state;
    OBKernel *kernel;
    id<MTLBuffer> buffers[OB_MAX_BINDINGS];
    NSUInteger offsets[OB_MAX_BINDINGS];
    NSUInteger lengths[OB_MAX_BINDINGS];
    NSUInteger slots;
    NSUInteger bytesSlot;  // NSNotFound without a struct
    MTLSize threadgroups, grid, threads;
    NSUInteger threadgroupMemory[OB_MAX_BINDINGS];
    NSUInteger memorySlots;
    NSUInteger rowsPerThreadgroup;
    ptrdiff_t conflict;
} OBEncoded;

// What the dispatches of one run share while they are encoded.
typedef struct {
    id<MTLComputeCommandEncoder> encoder;
    id<MTLComputePipelineState> state;  // that is set
    id<MTLBuffer> constants;            // instead of those that the dispatches bind; nil: those
    NSUInteger rows;
} OBEncoding;

// An encoder that watches what kernels do takes more than Metal's: how much of each buffer is meant.
// Asked for with respondsToSelector:.
@protocol OBWatchingEncoder
- (void)setBufferLengths:(const NSUInteger[])lengths withRange:(NSRange)range;
@end

@interface OBChain ()
- (BOOL)encode:(OBEncoded *)encoded from:(const OBDispatch *)dispatch error:(NSError **)error;
- (BOOL)sizes:(OBEncoded *)encoded from:(const OBDispatch *)dispatch error:(NSError **)error;
- (BOOL)checkBinding:(const OBBinding *)binding of:(const OBDispatch *)dispatch error:(NSError **)error;
- (BOOL)checkBytesOf:(const OBDispatch *)dispatch error:(NSError **)error;
- (void)bindConstants:(const OBDispatch *)dispatches;
- (BOOL)checkComplete:(NSUInteger)index error:(NSError **)error;
- (void)planBarriers:(const OBDispatch *)dispatches;
- (BOOL)findConstantsOf:(OBEncoding *)run error:(NSError **)error;
@end

@implementation OBChain

+ (OBChain *)chainWithDevice:(OBDevice *)device
                  dispatches:(const OBDispatch *)dispatches
                       count:(NSUInteger)count
                       label:(NSString *)label
                       error:(NSError **)error {
    OBChain *chain = [[[OBChain alloc] init] autorelease];
    chain->_device = [device retain];
    chain->_label = [label copy];
    if (count == 0) return OBFail(error, OBErrorArgument, @"chain '%@' has no dispatches", label);
    chain->_encoded = calloc(count, sizeof(OBEncoded));
    if (chain->_encoded == NULL) return OBFail(error, OBErrorMemory, @"no memory for chain '%@'", label);
    chain->_count = count;
    for (NSUInteger i = 0; i < count; i++) {
        if (![chain encode:&chain->_encoded[i] from:&dispatches[i] error:error]) return nil;
    }
    chain->_constants = [[OBStructArguments constantsWithDevice:device dispatches:dispatches count:count error:error] retain];
    if (chain->_constants == nil) return nil;
    [chain bindConstants:dispatches];
    for (NSUInteger i = 0; i < count; i++) {
        if (![chain checkComplete:i error:error]) return nil;
    }
    [chain planBarriers:dispatches];
    return chain;
}

- (id)init {
    self = [super init];
    if (self == nil) return nil;
    _retained = [[NSMutableArray alloc] init];
    _labels = [[NSMutableArray alloc] init];
    return self;
}

- (void)dealloc {
    free(_encoded);
    [_constants release];
    [_retained release];
    [_labels release];
    [_label release];
    [_device release];
    [super dealloc];
}

- (NSUInteger)count { return _count; }
- (NSString *)label { return _label; }
- (OBDevice *)device { return _device; }
- (NSString *)labelOfDispatch:(NSUInteger)index { return [_labels objectAtIndex:index]; }
- (NSInteger)conflictOfDispatch:(NSUInteger)index { return _encoded[index].conflict; }

- (BOOL)encode:(OBEncoded *)encoded from:(const OBDispatch *)dispatch error:(NSError **)error {
    OBKernel *kernel = dispatch->kernel;
    [_retained addObject:kernel];
    [_labels addObject:dispatch->label];
    encoded->kernel = kernel;
    encoded->state = [kernel state];
    if (![self sizes:encoded from:dispatch error:error]) return NO;
    for (NSUInteger i = 0; i < dispatch->bindingCount; i++) {
        const OBBinding *binding = &dispatch->bindings[i];
        if (![self checkBinding:binding of:dispatch error:error]) return NO;
        encoded->buffers[binding->slot] = binding->buffer;
        encoded->offsets[binding->slot] = binding->offset;
        encoded->lengths[binding->slot] = binding->length;
        if (binding->slot >= encoded->slots) encoded->slots = binding->slot + 1;
        [_retained addObject:binding->buffer];
    }
    return dispatch->bytes == NULL || [self checkBytesOf:dispatch error:error];
}

static BOOL isEmpty(MTLSize size) { return size.width == 0 || size.height == 0 || size.depth == 0; }

- (BOOL)sizes:(OBEncoded *)encoded from:(const OBDispatch *)dispatch error:(NSError **)error {
    OBKernel *kernel = dispatch->kernel;
    encoded->threadgroups = dispatch->threadgroups;
    encoded->grid = dispatch->grid;
    encoded->rowsPerThreadgroup = dispatch->rowsPerThreadgroup;
    encoded->threads = dispatch->threads;
    if (encoded->threads.width == 0) encoded->threads = MTLSizeMake([kernel threadsPerThreadgroupWithLimit:dispatch->threadLimit], 1, 1);
    memcpy(encoded->threadgroupMemory, dispatch->threadgroupMemory, sizeof encoded->threadgroupMemory);
    MTLSize threads = encoded->threads;
    NSUInteger most = [[kernel state] maxTotalThreadsPerThreadgroup];
    NSString *fault = nil;
    if (isEmpty(encoded->grid.width > 0 ? encoded->grid : encoded->threadgroups)) {
        fault = @": an empty grid";
    } else if (isEmpty(threads) || threads.width > most || threads.height > most || threads.depth > most ||
               threads.width * threads.height * threads.depth > most) {
        fault = [NSString stringWithFormat:@": a threadgroup of %llu x %llu x %llu threads; it has 1 to %llu",
                 (unsigned long long)threads.width, (unsigned long long)threads.height,
                 (unsigned long long)threads.depth, (unsigned long long)most];
    }
    for (NSUInteger i = 0; i < [kernel argumentCount] && fault == nil; i++) {
        const OBArgument *argument = [kernel argumentAtIndex:i];
        NSUInteger length = argument->threadgroup ? encoded->threadgroupMemory[argument->index] : 16;
        if (argument->threadgroup && argument->index >= encoded->memorySlots) encoded->memorySlots = argument->index + 1;
        if (length > 0 && length % 16 == 0) continue;
        fault = [NSString stringWithFormat:@": argument '%s' (threadgroup %llu) is given %llu bytes; give a multiple of 16",
                 argument->name, (unsigned long long)argument->index, (unsigned long long)length];
    }
    if (fault == nil) return YES;
    OBFail(error, OBErrorArgument, @"%@ (%@)%@", dispatch->label, [kernel name], fault);
    return NO;
}

- (BOOL)checkBinding:(const OBBinding *)binding of:(const OBDispatch *)dispatch error:(NSError **)error {
    const OBArgument *argument = NULL;
    if (binding->slot < OB_MAX_BINDINGS) argument = [dispatch->kernel bufferArgumentAtSlot:binding->slot];
    NSString *fault = nil;
    if (argument == NULL) {
        fault = [NSString stringWithFormat:@"has no buffer argument %llu", (unsigned long long)binding->slot];
    } else if (binding->length == 0 || binding->offset > [binding->buffer length] ||
               binding->length > [binding->buffer length] - binding->offset) {
        fault = [NSString stringWithFormat:@"argument '%s': bytes %llu + %llu are not within a buffer of %llu",
                 argument->name, (unsigned long long)binding->offset, (unsigned long long)binding->length,
                 (unsigned long long)[binding->buffer length]];
    } else if (argument->alignment > 0 && binding->offset % argument->alignment != 0) {
        fault = [NSString stringWithFormat:@"argument '%s': offset %llu is not a multiple of %llu",
                 argument->name, (unsigned long long)binding->offset, (unsigned long long)argument->alignment];
    }
    if (fault == nil) return YES;
    OBFail(error, OBErrorArgument, @"%@ (%@) %@", dispatch->label, [dispatch->kernel name], fault);
    return NO;
}

- (BOOL)checkBytesOf:(const OBDispatch *)dispatch error:(NSError **)error {
    const OBArgument *argument = NULL;
    if (dispatch->bytesSlot < OB_MAX_BINDINGS) argument = [dispatch->kernel bufferArgumentAtSlot:dispatch->bytesSlot];
    NSString *fault = nil;
    if (argument == NULL) {
        fault = [NSString stringWithFormat:@"has no buffer argument %llu", (unsigned long long)dispatch->bytesSlot];
    } else if (argument->writes) {
        fault = [NSString stringWithFormat:@"argument '%s' is written; give it a buffer, not bytes", argument->name];
    } else if (dispatch->byteCount < argument->size) {
        fault = [NSString stringWithFormat:@"argument '%s': %llu bytes are given, it takes %llu", argument->name,
                 (unsigned long long)dispatch->byteCount, (unsigned long long)argument->size];
    }
    if (fault == nil) return YES;
    OBFail(error, OBErrorArgument, @"%@ (%@) %@", dispatch->label, [dispatch->kernel name], fault);
    return NO;
}

- (void)bindConstants:(const OBDispatch *)dispatches {
    for (NSUInteger i = 0; i < _count; i++) {
        OBEncoded *encoded = &_encoded[i];
        NSUInteger slot = encoded->bytesSlot = dispatches[i].bytes != NULL ? dispatches[i].bytesSlot : NSNotFound;
        if (slot == NSNotFound) continue;
        encoded->buffers[slot] = [_constants bufferForAllRows];
        encoded->offsets[slot] = [_constants offsetOfDispatch:i];
        encoded->lengths[slot] = dispatches[i].byteCount;
        if (slot >= encoded->slots) encoded->slots = slot + 1;
    }
}

- (BOOL)checkComplete:(NSUInteger)index error:(NSError **)error {
    const OBEncoded *encoded = &_encoded[index];
    for (NSUInteger i = 0; i < [encoded->kernel argumentCount]; i++) {
        const OBArgument *argument = [encoded->kernel argumentAtIndex:i];
        if (argument->threadgroup || encoded->buffers[argument->index] != nil) continue;
        OBFail(error, OBErrorArgument, @"%@ (%@): argument '%s' (buffer %llu) is not bound",
               [_labels objectAtIndex:index], [encoded->kernel name], argument->name,
               (unsigned long long)argument->index);
        return NO;
    }
    return YES;
}

- (void)planBarriers:(const OBDispatch *)dispatches {
    NSUInteger total = 0;
    for (NSUInteger i = 0; i < _count; i++) total += dispatches[i].bindingCount;
    OBAccess *accesses = malloc((total + 1) * sizeof *accesses);
    size_t *first = malloc((_count + 1) * sizeof *first);
    ptrdiff_t *conflicts = malloc(_count * sizeof *conflicts);
    size_t n = 0;
    for (NSUInteger i = 0; i < _count; i++) {
        first[i] = n;
        for (NSUInteger b = 0; b < dispatches[i].bindingCount; b++) {
            const OBBinding *binding = &dispatches[i].bindings[b];
            OBAccess access = {(uintptr_t)binding->buffer, binding->offset, binding->offset + binding->length,
                               [dispatches[i].kernel bufferArgumentAtSlot:binding->slot]->writes};
            accesses[n++] = access;
        }
    }
    first[_count] = n;
    OBPlanBarriers(accesses, first, _count, conflicts);
    for (NSUInteger i = 0; i < _count; i++) _encoded[i].conflict = conflicts[i];
    free(accesses);
    free(first);
    free(conflicts);
}

static BOOL watches(id<MTLComputeCommandEncoder> encoder) {
    return [encoder respondsToSelector:@selector(setBufferLengths:withRange:)];
}

// `watched` is the dispatch's label for an encoder that watches, else nil.
static void encodeDispatch(OBEncoding *run, const OBEncoded *encoded, NSString *watched) {
    id<MTLComputeCommandEncoder> encoder = run->encoder;
    MTLSize size = encoded->threadgroups;
    if (run->rows > 0 && encoded->rowsPerThreadgroup > 0) {
        NSUInteger tiles = (run->rows + encoded->rowsPerThreadgroup - 1) / encoded->rowsPerThreadgroup;
        if (tiles < size.height) size.height = tiles;
    }
    if (run->state != encoded->state) [encoder setComputePipelineState:encoded->state];
    run->state = encoded->state;
    [encoder setBuffers:encoded->buffers offsets:encoded->offsets withRange:NSMakeRange(0, encoded->slots)];
    if (run->constants != nil && encoded->bytesSlot != NSNotFound) {
        [encoder setBuffer:run->constants offset:encoded->offsets[encoded->bytesSlot] atIndex:encoded->bytesSlot];
    }
    if (watched != nil) {
        [(id<OBWatchingEncoder>)encoder setBufferLengths:encoded->lengths withRange:NSMakeRange(0, encoded->slots)];
        [encoder pushDebugGroup:watched];
    }
    for (NSUInteger i = 0; i < encoded->memorySlots; i++) {
        if (encoded->threadgroupMemory[i] > 0) [encoder setThreadgroupMemoryLength:encoded->threadgroupMemory[i] atIndex:i];
    }
    if (encoded->grid.width > 0) [encoder dispatchThreads:encoded->grid threadsPerThreadgroup:encoded->threads];
    else [encoder dispatchThreadgroups:size threadsPerThreadgroup:encoded->threads];
    if (watched != nil) [encoder popDebugGroup];
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

- (BOOL)findConstantsOf:(OBEncoding *)run error:(NSError **)error {
    id<MTLBuffer> all = [_constants bufferForAllRows], found = [_constants bufferForRows:run->rows error:error];
    if (found == nil && all != nil) return NO;
    run->constants = found == all ? nil : found;
    return YES;
}

- (OBRun *)commitRows:(NSUInteger)rows error:(NSError **)error {
    double start = now();
    OBEncoding encoding = {.rows = rows};
    if (![self findConstantsOf:&encoding error:error]) return nil;
    // The run holds the constants, and the chain with every other buffer, until it has completed.
    id<MTLCommandBuffer> commands = [[_device queue] commandBufferWithUnretainedReferences];
    [commands setLabel:_label];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
    if (encoder == nil) return OBFail(error, OBErrorRun, @"chain '%@': the device gave no encoder", _label);
    encoding.encoder = encoder;
    BOOL watched = watches(encoder);
    for (NSUInteger i = 0; i < _count; i++) {
        if (_encoded[i].conflict >= 0) [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
        encodeDispatch(&encoding, &_encoded[i], watched ? [_labels objectAtIndex:i] : nil);
    }
    [encoder endEncoding];
    double end = now();
    OBRun *run = [OBRun runWithCommandBuffer:commands chain:self constants:encoding.constants encodeSeconds:end - start];
    [commands commit];
    return run;
}

- (BOOL)traceRows:(NSUInteger)rows starts:(double *)starts ends:(double *)ends error:(NSError **)error {
    NSMutableArray *all = [NSMutableArray arrayWithCapacity:_count];
    OBEncoding encoding = {.rows = rows};
    if (![self findConstantsOf:&encoding error:error]) return NO;
    for (NSUInteger i = 0; i < _count; i++) {
        id<MTLCommandBuffer> commands = [[_device queue] commandBuffer];
        id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
        if (encoder == nil) {
            OBFail(error, OBErrorRun, @"chain '%@': the device gave no encoder", _label);
            return NO;
        }
        encoding.encoder = encoder;
        encoding.state = nil;
        encodeDispatch(&encoding, &_encoded[i], watches(encoder) ? [_labels objectAtIndex:i] : nil);
        [encoder endEncoding];
        [commands commit];
        [commands waitUntilCompleted];
        [all addObject:commands];
    }
    for (NSUInteger i = 0; i < _count; i++) {
        id<MTLCommandBuffer> commands = [all objectAtIndex:i];
        if ([commands status] == MTLCommandBufferStatusError) {
            OBFail(error, OBErrorRun, @"chain '%@', step %@, kernel %@: %@", _label, [_labels objectAtIndex:i],
                   [_encoded[i].kernel name], [[commands error] localizedDescription]);
            return NO;
        }
        starts[i] = [commands GPUStartTime];
        ends[i] = [commands GPUEndTime];
    }
    return YES;
}

@end
