#import "OBChain.h"
#import "OBDevice.h"
#import "OBError.h"
#import "OBExtensions.h"
#import "OBHazard.h"
#import "OBPieces.h"
#import "OBPreparedRuns.h"
#import "OBResidency.h"
#import "OBRun.h"
#include <time.h>

// The dispatches of one run share this while they are encoded.
typedef struct {
    id<MTLComputeCommandEncoder> encoder;
    id<MTLComputePipelineState> state;  // that is set
    OBPreparedRun *prepared;
} OBEncoding;

@interface OBChain ()
- (BOOL)add:(const ob_dispatch *)dispatch error:(NSError **)error;
- (void)bindStructs:(const ob_dispatch *)dispatches;
- (BOOL)planBarriers:(const ob_dispatch *)dispatches error:(NSError **)error;
- (void)encode:(NSRange)range with:(id<MTLComputeCommandEncoder>)encoder prepared:(OBPreparedRun *)prepared;
@end

@implementation OBChain

+ (OBChain *)chainWithDevice:(OBDevice *)device
                  dispatches:(const ob_dispatch *)dispatches
                       count:(NSUInteger)count
                       label:(NSString *)label
                       error:(NSError **)error {
    OBChain *chain = [[[OBChain alloc] init] autorelease];
    if (chain == nil) return OBFail(error, OBErrorMemory, @"no memory for chain '%@'", label);
    chain->_device = [device retain];
    chain->_label = [label copy];
    if (count == 0) return OBFail(error, OBErrorArgument, @"chain '%@' has no dispatches", label);
    chain->_dispatches = calloc(count, sizeof(OBDispatch));
    if (chain->_dispatches == NULL) return OBFail(error, OBErrorMemory, @"no memory for chain '%@'", label);
    for (NSUInteger i = 0; i < count; i++) {
        if (![chain add:&dispatches[i] error:error]) return nil;
    }
    chain->_structs = [[OBStructArguments argumentsWithDevice:device dispatches:dispatches count:count
                                                        error:error] retain];
    if (chain->_structs == nil) return nil;
    [chain bindStructs:dispatches];
    for (NSUInteger i = 0; i < count; i++) {
        if (!OBCheckComplete(&chain->_dispatches[i], [chain labelOfDispatch:i], error)) return nil;
    }
    if (![chain planBarriers:dispatches error:error]) return nil;
    chain->_prepared = [[OBPreparedRuns runsWithDevice:device
                                               structs:chain->_structs
                                            dispatches:chain->_dispatches
                                                 count:count
                                                 label:label] retain];
    if (chain->_prepared == nil) return OBFail(error, OBErrorMemory, @"no memory for chain '%@'", label);
    chain->_pieces = [[OBPieces piecesWithDevice:device dispatches:chain->_dispatches count:count] retain];
    if (chain->_pieces == nil) return OBFail(error, OBErrorMemory, @"no memory for chain '%@'", label);
    return chain;
}

- (id)init {
    self = [super init];
    if (self == nil) return nil;
    _retained = [[NSMutableArray alloc] init];
    _labels = [[NSMutableArray alloc] init];
    if (_retained != nil && _labels != nil) return self;
    [self release];
    return nil;
}

- (void)dealloc {
    if (_held != nil) [[_device residency] letGo:_held];
    [_held release];
    [_prepared release];
    [_pieces release];
    [_read release];
    [_written release];
    free(_dispatches);
    [_structs release];
    [_retained release];
    [_labels release];
    [_label release];
    [_device release];
    [super dealloc];
}

- (NSUInteger)count {
    return _count;
}
- (NSString *)label {
    return _label;
}
- (OBDevice *)device {
    return _device;
}
- (OBPieces *)pieces {
    return _pieces;
}
- (NSString *)labelOfDispatch:(NSUInteger)index {
    return [_labels objectAtIndex:index];
}
- (NSInteger)conflictOfDispatch:(NSUInteger)index {
    return _dispatches[index].conflict;
}

- (BOOL)add:(const ob_dispatch *)dispatch error:(NSError **)error {
    if (!OBLayOutDispatch(&_dispatches[_count], dispatch, error)) return NO;
    _count++;
    [_labels addObject:OBLabelOfDispatch(dispatch)];
    [_retained addObject:(id)dispatch->kernel];
    for (uint32_t i = 0; i < dispatch->binding_count; i++) [_retained addObject:(id)dispatch->bindings[i].buffer];
    if (dispatch->indirect != NULL) [_retained addObject:(id)dispatch->indirect];
    for (uint32_t i = 0; i < dispatch->use_count; i++) {
        NSMutableArray **list = dispatch->uses[i].writes ? &_written : &_read;
        if (*list == nil) *list = [[NSMutableArray alloc] init];
        [*list addObject:(id)dispatch->uses[i].buffer];
    }
    return YES;
}

- (void)bindStructs:(const ob_dispatch *)dispatches {
    for (NSUInteger i = 0; i < _count; i++) {
        OBDispatch *dispatch = &_dispatches[i];
        if (dispatches[i].bytes == NULL) continue;
        NSUInteger slot = dispatch->structSlot = dispatches[i].bytes_slot;
        dispatch->buffers[slot] = [_structs bufferForAllRows];
        dispatch->offsets[slot] = [_structs offsetOfDispatch:i];
        dispatch->lengths[slot] = dispatches[i].byte_count;
        if (slot >= dispatch->slots) dispatch->slots = slot + 1;
    }
}

- (BOOL)planBarriers:(const ob_dispatch *)dispatches error:(NSError **)error {
    NSUInteger total = 0;
    for (NSUInteger i = 0; i < _count; i++) total += dispatches[i].binding_count + dispatches[i].use_count + 1;
    OBAccess *accesses = malloc((total + 1) * sizeof *accesses);
    size_t *first = malloc((_count + 1) * sizeof *first);
    ptrdiff_t *conflicts = malloc(_count * sizeof *conflicts);
    BOOL room = accesses != NULL && first != NULL && conflicts != NULL;
    size_t n = 0;
    for (NSUInteger i = 0; room && i < _count; i++) {
        first[i] = n;
        for (uint32_t b = 0; b < dispatches[i].binding_count; b++) {
            const ob_binding *binding = &dispatches[i].bindings[b];
            OBAccess access = {(uintptr_t)binding->buffer, binding->offset, binding->offset + binding->length,
                               [_dispatches[i].kernel bufferArgumentAtSlot:binding->slot]->writes};
            accesses[n++] = access;
        }
        if (dispatches[i].indirect != NULL) {
            uint64_t begin = dispatches[i].indirect_offset;
            OBAccess access = {(uintptr_t)dispatches[i].indirect, begin, begin + OB_COUNTS_BYTES, false};
            accesses[n++] = access;
        }
        for (uint32_t u = 0; u < dispatches[i].use_count; u++) {
            const ob_use *use = &dispatches[i].uses[u];
            OBAccess access = {(uintptr_t)use->buffer, 0, [(id<MTLBuffer>)use->buffer length], use->writes != 0};
            accesses[n++] = access;
        }
    }
    if (room) {
        first[_count] = n;
        OBPlanBarriers(accesses, first, _count, conflicts);
        for (NSUInteger i = 0; i < _count; i++) _dispatches[i].conflict = conflicts[i];
    }
    free(accesses);
    free(first);
    free(conflicts);
    if (!room) OBFail(error, OBErrorMemory, @"no memory for chain '%@'", _label);
    return room;
}

// `measured` is the dispatch's label for an encoder that measures, else nil.
static void encodeDispatch(OBEncoding *run, const OBDispatch *dispatch, NSString *measured) {
    id<MTLComputeCommandEncoder> encoder = run->encoder;
    id<MTLBuffer> structs = [run->prepared structs];
    if (run->state != dispatch->state) [encoder setComputePipelineState:dispatch->state];
    run->state = dispatch->state;
    [encoder setBuffers:dispatch->buffers offsets:dispatch->offsets withRange:NSMakeRange(0, dispatch->slots)];
    if (structs != nil && dispatch->structSlot != NSNotFound) {
        [encoder setBuffer:structs offset:dispatch->offsets[dispatch->structSlot] atIndex:dispatch->structSlot];
    }
    if (measured != nil) {
        [(id<OBMeasuringEncoder>)encoder setBufferLengths:dispatch->lengths withRange:NSMakeRange(0, dispatch->slots)];
        [encoder pushDebugGroup:measured];
    }
    for (NSUInteger i = 0; i < dispatch->memorySlots; i++) {
        if (dispatch->threadgroupMemory[i] > 0)
            [encoder setThreadgroupMemoryLength:dispatch->threadgroupMemory[i] atIndex:i];
    }
    if (dispatch->indirect != nil) {
        [encoder dispatchThreadgroupsWithIndirectBuffer:dispatch->indirect
                                   indirectBufferOffset:dispatch->indirectOffset
                                  threadsPerThreadgroup:dispatch->threads];
    } else if (dispatch->grid.width > 0) {
        [encoder dispatchThreads:dispatch->grid threadsPerThreadgroup:dispatch->threads];
    } else {
        [encoder dispatchThreadgroups:OBThreadgroupsForRows(dispatch, [run->prepared rows])
                threadsPerThreadgroup:dispatch->threads];
    }
    if (measured != nil) [encoder popDebugGroup];
}

// Names what dispatches reach by address.
- (void)useResourcesIn:(id<MTLComputeCommandEncoder>)encoder {
    for (id<MTLBuffer> buffer in _read) [encoder useResource:buffer usage:MTLResourceUsageRead];
    for (id<MTLBuffer> buffer in _written)
        [encoder useResource:buffer usage:MTLResourceUsageRead | MTLResourceUsageWrite];
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

- (void)encode:(NSRange)range with:(id<MTLComputeCommandEncoder>)encoder prepared:(OBPreparedRun *)prepared {
    OBEncoding encoding = {.encoder = encoder, .prepared = prepared};
    BOOL measured = [_device measures];
    for (NSUInteger i = range.location; i < NSMaxRange(range); i++) {
        if (_dispatches[i].conflict >= 0) [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
        encodeDispatch(&encoding, &_dispatches[i], measured ? [_labels objectAtIndex:i] : nil);
    }
}

// The run holds what was prepared, and the chain with every other buffer, until it has completed.
- (id<MTLCommandBuffer>)commandsFor:(NSRange)range prepared:(OBPreparedRun *)prepared {
    id<MTLCommandBuffer> commands = [[_device queue] commandBufferWithUnretainedReferences];
    [commands setLabel:_label];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
    if (encoder == nil) return nil;
    [self useResourcesIn:encoder];
    id<MTLIndirectCommandBuffer> recorded = [prepared commands];
    if (recorded != nil) [encoder executeCommandsInBuffer:recorded withRange:range];
    else [self encode:range with:encoder prepared:prepared];
    [encoder endEncoding];
    return commands;
}

// The chain's buffers, each once.
- (NSArray *)buffers {
    NSMutableSet *buffers = [NSMutableSet set];
    for (NSUInteger i = 0; i < _count; i++) {
        for (NSUInteger slot = 0; slot < _dispatches[i].slots; slot++) {
            if (_dispatches[i].buffers[slot] != nil) [buffers addObject:(id)_dispatches[i].buffers[slot]];
        }
    }
    for (id<MTLBuffer> buffer in _read) [buffers addObject:buffer];
    for (id<MTLBuffer> buffer in _written) [buffers addObject:buffer];
    return [buffers allObjects];
}

// Keeps the buffers of a chain that runs again within the device's reach. A chain that runs once is not worth it.
- (void)stay {
    if ([_device residency] == nil || __atomic_load_n(&_runs, __ATOMIC_RELAXED) > 1) return;
    if (__atomic_fetch_add(&_runs, 1, __ATOMIC_RELAXED) == 1)
        _held = [[[_device residency] hold:[self buffers]] retain];
}

- (OBRun *)commitRows:(ob_rows)rows error:(NSError **)error {
    double start = now();
    [self stay];
    OBPreparedRun *prepared = [_prepared runForRows:rows error:error];
    if (prepared == nil) return nil;
    OBRun *run = [OBRun runWithChain:self prepared:prepared];
    if (run == nil) return OBFail(error, OBErrorMemory, @"no memory for a run of chain '%@'", _label);
    NSRange range = {0, 0};
    while (NSMaxRange(range) < _count) {
        range.location = NSMaxRange(range);
        range.length = [_pieces lengthFrom:range.location rows:[prepared rows]];
        id<MTLCommandBuffer> commands = [self commandsFor:range prepared:prepared];
        if (commands == nil) return OBFail(error, OBErrorRun, @"chain '%@': the device gave no encoder", _label);
        if (![run addCommandBuffer:commands range:range])
            return OBFail(error, OBErrorMemory, @"no memory for a run of chain '%@'", _label);
        [run setEncodeSeconds:now() - start];  // before the commit, with which the device's time begins
        [commands commit];
    }
    return run;
}

- (BOOL)traceRows:(ob_rows)rows starts:(double *)starts ends:(double *)ends error:(NSError **)error {
    NSMutableArray *all = [NSMutableArray arrayWithCapacity:_count];
    OBEncoding encoding = {.prepared = [_prepared runForRows:rows error:error]};
    if (encoding.prepared == nil) return NO;
    for (NSUInteger i = 0; i < _count; i++) {
        id<MTLCommandBuffer> commands = [[_device queue] commandBuffer];
        id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
        if (encoder == nil) {
            OBFail(error, OBErrorRun, @"chain '%@': the device gave no encoder", _label);
            return NO;
        }
        [self useResourcesIn:encoder];
        encoding.encoder = encoder;
        encoding.state = nil;
        encodeDispatch(&encoding, &_dispatches[i], [_device measures] ? [_labels objectAtIndex:i] : nil);
        [encoder endEncoding];
        [commands commit];
        [commands waitUntilCompleted];
        [all addObject:commands];
    }
    for (NSUInteger i = 0; i < _count; i++) {
        id<MTLCommandBuffer> commands = [all objectAtIndex:i];
        if ([commands status] == MTLCommandBufferStatusError) {
            OBFail(error, OBErrorRun, @"chain '%@', step %@, kernel %@: %@", _label, [_labels objectAtIndex:i],
                   [_dispatches[i].kernel name], [[commands error] localizedDescription]);
            return NO;
        }
        starts[i] = [commands GPUStartTime];
        ends[i] = [commands GPUEndTime];
    }
    return YES;
}

@end
