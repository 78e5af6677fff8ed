#import "OBPreparedRuns.h"
#import "OBDevice.h"
#import "OBError.h"

@interface OBPreparedRun ()
- (id)initWithRows:(ob_rows)rows structs:(id<MTLBuffer>)structs commands:(id<MTLIndirectCommandBuffer>)commands;
@end

@interface OBPreparedRuns ()
- (OBPreparedRun *)prepareRows:(ob_rows)rows error:(NSError **)error;
- (id<MTLIndirectCommandBuffer>)commandsForRows:(ob_rows)rows structs:(id<MTLBuffer>)structs;
- (OBPreparedRun *)keptForRows:(ob_rows)rows;
- (void)keep:(OBPreparedRun *)run;
@end

@implementation OBPreparedRun

- (id)initWithRows:(ob_rows)rows structs:(id<MTLBuffer>)structs commands:(id<MTLIndirectCommandBuffer>)commands {
    self = [super init];
    if (self == nil) return nil;
    _rows = rows;
    _structs = [structs retain];
    _commands = [commands retain];
    return self;
}

- (void)dealloc {
    [_commands release];
    [_structs release];
    [super dealloc];
}

- (ob_rows)rows {
    return _rows;
}
- (id<MTLBuffer>)structs {
    return _structs;
}
- (id<MTLIndirectCommandBuffer>)commands {
    return _commands;
}

@end

@implementation OBPreparedRuns

+ (OBPreparedRuns *)runsWithDevice:(OBDevice *)device
                           structs:(OBStructArguments *)structs
                        dispatches:(const OBDispatch *)dispatches
                             count:(NSUInteger)count
                             label:(NSString *)label {
    OBPreparedRuns *runs = [[[OBPreparedRuns alloc] init] autorelease];
    if (runs == nil) return nil;
    runs->_device = [device retain];
    runs->_structs = [structs retain];
    runs->_dispatches = dispatches;
    runs->_count = count;
    runs->_label = [label copy];
    runs->_lock = [[NSLock alloc] init];
    runs->_recorded = YES;
    runs->_most = [structs rows];
    for (NSUInteger i = 0; i < count; i++) {
        uint32_t *most = dispatches[i].leading ? &runs->_most.leading : &runs->_most.all;
        NSUInteger rows = OBRowsOfDispatch(&dispatches[i]);
        if (rows > *most) *most = (uint32_t)rows;
        // Commands have no counts of threadgroups in memory.
        if (![dispatches[i].state supportIndirectCommandBuffers] || dispatches[i].indirect != nil) runs->_recorded = NO;
    }
    return runs;
}

- (void)dealloc {
    for (NSUInteger i = 0; i < OB_KEPT_RUNS; i++) [_kept[i].run release];
    [_all release];
    [_lock release];
    [_label release];
    [_structs release];
    [_device release];
    [super dealloc];
}

static BOOL areAll(ob_rows rows) { return rows.all == 0 && rows.leading == 0; }

static BOOL areSame(ob_rows a, ob_rows b) { return a.all == b.all && a.leading == b.leading; }

- (OBPreparedRun *)runForRows:(ob_rows)rows error:(NSError **)error {
    if (rows.leading == 0) rows.leading = rows.all;
    if (rows.all >= _most.all) rows.all = 0;
    if (rows.leading >= _most.leading) rows.leading = 0;
    OBPreparedRun *run = [self keptForRows:rows];
    if (run != nil) return run;
    run = [self prepareRows:rows error:error];
    if (run != nil) [self keep:run];
    return run;
}

- (OBPreparedRun *)keptForRows:(ob_rows)rows {
    [_lock lock];
    OBPreparedRun *found = areAll(rows) ? _all : nil;
    for (NSUInteger i = 0; i < OB_KEPT_RUNS && !areAll(rows); i++) {
        if (_kept[i].run == nil || !areSame([_kept[i].run rows], rows)) continue;
        _kept[i].used = ++_uses;
        found = _kept[i].run;
        break;
    }
    [found retain];  // before another thread may drop it
    [_lock unlock];
    return [found autorelease];
}

// In place of what was used longest ago. Two threads may both have prepared it; then both are kept.
- (void)keep:(OBPreparedRun *)run {
    [run retain];
    [_lock lock];
    OBPreparedRun **place = &_all;
    if (!areAll([run rows])) {
        OBKeptRun *oldest = &_kept[0];
        for (NSUInteger i = 1; i < OB_KEPT_RUNS; i++) {
            if (_kept[i].used < oldest->used) oldest = &_kept[i];
        }
        oldest->used = ++_uses;
        place = &oldest->run;
    }
    OBPreparedRun *dropped = *place;
    *place = run;
    [_lock unlock];
    [dropped release];
}

static void record(id<MTLIndirectComputeCommand> command, const OBDispatch *dispatch, ob_rows rows,
                   id<MTLBuffer> structs) {
    [command setComputePipelineState:dispatch->state];
    for (NSUInteger i = 0; i < dispatch->slots; i++) {
        id<MTLBuffer> buffer = structs != nil && i == dispatch->structSlot ? structs : dispatch->buffers[i];
        if (buffer != nil) [command setKernelBuffer:buffer offset:dispatch->offsets[i] atIndex:i];
    }
    for (NSUInteger i = 0; i < dispatch->memorySlots; i++) {
        NSUInteger length = dispatch->threadgroupMemory[i];
        if (length > 0) [command setThreadgroupMemoryLength:length atIndex:i];
    }
    if (dispatch->conflict >= 0) [command setBarrier];
    if (dispatch->grid.width > 0) {
        [command concurrentDispatchThreads:dispatch->grid threadsPerThreadgroup:dispatch->threads];
    } else {
        [command concurrentDispatchThreadgroups:OBThreadgroupsForRows(dispatch, rows)
                          threadsPerThreadgroup:dispatch->threads];
    }
}

// Apple's Metal wants useResource: for every buffer too. Its pipeline states support no indirect command buffers
// unless their descriptors ask for it, which the core does not do.
- (id<MTLIndirectCommandBuffer>)commandsForRows:(ob_rows)rows structs:(id<MTLBuffer>)structs {
    NSUInteger slots = 0;
    for (NSUInteger i = 0; i < _count; i++) {
        if (_dispatches[i].slots > slots) slots = _dispatches[i].slots;
    }
    MTLIndirectCommandBufferDescriptor *descriptor = [[MTLIndirectCommandBufferDescriptor alloc] init];
    [descriptor
        setCommandTypes:MTLIndirectCommandTypeConcurrentDispatch | MTLIndirectCommandTypeConcurrentDispatchThreads];
    [descriptor setInheritPipelineState:NO];
    [descriptor setInheritBuffers:NO];
    [descriptor setMaxKernelBufferBindCount:slots];
    id<MTLIndirectCommandBuffer> commands =
        [[[_device device] newIndirectCommandBufferWithDescriptor:descriptor
                                                  maxCommandCount:_count
                                                          options:MTLResourceStorageModeShared] autorelease];
    [descriptor release];
    [commands setLabel:_label];
    for (NSUInteger i = 0; commands != nil && i < _count; i++) {
        NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
        record([commands indirectComputeCommandAtIndex:i], &_dispatches[i], rows, structs);
        [pool drain];
    }
    return commands;
}

- (OBPreparedRun *)prepareRows:(ob_rows)rows error:(NSError **)error {
    id<MTLBuffer> structs = nil;
    if ([_structs dependOnRows:rows]) {
        structs = [[_structs newBufferForRows:rows error:error] autorelease];
        if (structs == nil) return nil;
    }
    id<MTLIndirectCommandBuffer> commands = nil;
    if (_recorded) {
        commands = [self commandsForRows:rows structs:structs];
        if (commands == nil) {
            return OBFail(error, OBErrorMemory, @"chain '%@': no memory for the commands of %llu dispatches", _label,
                          (unsigned long long)_count);
        }
    }
    return [[[OBPreparedRun alloc] initWithRows:rows structs:structs commands:commands] autorelease];
}

@end
