#import "OBTransfers.h"
#import "OBError.h"

enum {
    STAGE_BYTES = 64 << 10,  // of the shortest stage: the state of many rows
    LONGEST_KEPT_STAGE = 1 << 20,
    KEPT_STAGES = 4,
};

// Memory that host and device see, on the way to or from memory that only the device sees.
@interface OBStage : NSObject {
@public
    id<MTLBuffer> buffer;
    id<MTLCommandBuffer> user;  // the last one; nil: none
}
@end

@implementation OBStage
- (void)dealloc {
    [buffer release];
    [user release];
    [super dealloc];
}
@end

@interface OBTransfers ()
- (OBStage *)stageOfLength:(NSUInteger)length error:(NSError **)error;
- (void)keep:(OBStage *)stage user:(id<MTLCommandBuffer>)user;
- (void)commit:(id<MTLCommandBuffer>)commands;
- (id<MTLCommandBuffer>)commandsBetween:(id<MTLBuffer>)outer
                                 offset:(const NSUInteger *)offsets
                                    and:(const ob_transfer *)transfers
                                  count:(NSUInteger)count
                                reading:(BOOL)reading
                                  error:(NSError **)error;
@end

static id<MTLBuffer> bufferOf(const ob_transfer *transfer) { return (id<MTLBuffer>)transfer->buffer; }

static char *contentsOf(const ob_transfer *transfer) { return [bufferOf(transfer) contents]; }

static BOOL check(const ob_transfer *transfers, NSUInteger count, NSError **error) {
    for (NSUInteger i = 0; i < count; i++) {
        const ob_transfer *transfer = &transfers[i];
        uint64_t whole = [bufferOf(transfer) length];
        if (transfer->offset <= whole && transfer->length <= whole - transfer->offset) continue;
        OBFail(error, OBErrorArgument, @"%llu bytes at offset %llu are not within a buffer of %llu bytes",
               (unsigned long long)transfer->length, (unsigned long long)transfer->offset, (unsigned long long)whole);
        return NO;
    }
    return YES;
}

// The bytes that need a stage, and where each transfer begins in it.
static NSUInteger layOut(const ob_transfer *transfers, NSUInteger count, NSUInteger *offsets) {
    enum { alignment = 16 };  // Metal asks copies for a multiple of 4
    NSUInteger length = 0;
    for (NSUInteger i = 0; i < count; i++) {
        offsets[i] = length;
        if (contentsOf(&transfers[i]) == NULL)
            length += (NSUInteger)(transfers[i].length + alignment - 1) / alignment * alignment;
    }
    return length;
}

static NSUInteger *newOffsets(NSUInteger count, NSError **error) {
    NSUInteger *offsets = malloc((count + 1) * sizeof *offsets);
    if (offsets == NULL) OBFail(error, OBErrorMemory, @"no memory for %llu transfers", (unsigned long long)count);
    return offsets;
}

static BOOL finish(id<MTLCommandBuffer> commands, NSError **error) {
    [commands waitUntilCompleted];
    if ([commands status] != MTLCommandBufferStatusError) return YES;
    OBFail(error, OBErrorRun, @"%@: %@", [commands label], [[commands error] localizedDescription]);
    return NO;
}

@implementation OBTransfers

+ (OBTransfers *)transfersWithDevice:(id<MTLDevice>)device queue:(id<MTLCommandQueue>)queue {
    OBTransfers *transfers = [[[OBTransfers alloc] init] autorelease];
    if (transfers == nil) return nil;
    transfers->_device = [device retain];
    transfers->_queue = [queue retain];
    transfers->_lock = [[NSLock alloc] init];
    transfers->_stages = [[NSMutableArray alloc] init];
    return transfers;
}

- (void)dealloc {
    [_stages release];
    [_lock release];
    [_queue release];
    [_device release];
    [super dealloc];
}

- (BOOL)write:(const ob_transfer *)transfers count:(NSUInteger)count error:(NSError **)error {
    if (!check(transfers, count, error)) return NO;
    NSUInteger *offsets = newOffsets(count, error);
    if (offsets == NULL) return NO;
    NSUInteger staged = layOut(transfers, count, offsets);
    OBStage *stage = staged > 0 ? [self stageOfLength:staged error:error] : nil;
    BOOL done = staged == 0;
    if (stage != nil || staged == 0) {
        char *stageBytes = stage != nil ? [stage->buffer contents] : NULL;
        for (NSUInteger i = 0; i < count; i++) {
            char *contents = contentsOf(&transfers[i]);
            memcpy(contents != NULL ? contents + transfers[i].offset : stageBytes + offsets[i], transfers[i].host,
                   (size_t)transfers[i].length);
        }
    }
    if (stage != nil) {
        id<MTLCommandBuffer> commands = [self commandsBetween:stage->buffer
                                                       offset:offsets
                                                          and:transfers
                                                        count:count
                                                      reading:NO
                                                        error:error];
        [self commit:commands];
        // Nobody waits for a write, so one that could not be recorded is found here.
        done = commands != nil && ([commands error] == nil || finish(commands, error));
        [self keep:stage user:commands];
    }
    free(offsets);
    return done;
}

- (BOOL)read:(const ob_transfer *)transfers count:(NSUInteger)count error:(NSError **)error {
    if (!check(transfers, count, error)) return NO;
    NSUInteger *offsets = newOffsets(count, error);
    if (offsets == NULL) return NO;
    NSUInteger staged = layOut(transfers, count, offsets);
    OBStage *stage = staged > 0 ? [self stageOfLength:staged error:error] : nil;
    BOOL done = staged == 0;
    if (stage != nil) {
        id<MTLCommandBuffer> commands = [self commandsBetween:stage->buffer
                                                       offset:offsets
                                                          and:transfers
                                                        count:count
                                                      reading:YES
                                                        error:error];
        [self commit:commands];
        done = commands != nil && finish(commands, error);
    }
    const char *stageBytes = stage != nil ? [stage->buffer contents] : NULL;
    for (NSUInteger i = 0; done && i < count; i++) {
        const char *contents = contentsOf(&transfers[i]);
        memcpy(transfers[i].host, contents != NULL ? contents + transfers[i].offset : stageBytes + offsets[i],
               (size_t)transfers[i].length);
    }
    if (stage != nil) [self keep:stage user:nil];
    free(offsets);
    return done;
}

- (BOOL)upload:(const ob_transfer *)transfers count:(NSUInteger)count error:(NSError **)error {
    if (!check(transfers, count, error)) return NO;
    uintptr_t first = UINTPTR_MAX, end = 0, page = NSPageSize();
    for (NSUInteger i = 0; i < count; i++) {
        if (transfers[i].length == 0 || contentsOf(&transfers[i]) != NULL) continue;
        uintptr_t begin = (uintptr_t)transfers[i].host;
        if (begin < first) first = begin;
        if (begin + transfers[i].length > end) end = begin + (uintptr_t)transfers[i].length;
    }
    if (first >= end) return [self write:transfers count:count error:error];  // the host sees all of it
    first = first / page * page;
    end = (end + page - 1) / page * page;
    NSUInteger *offsets = newOffsets(count, error);
    if (offsets == NULL) return NO;
    id<MTLBuffer> map = [_device newBufferWithBytesNoCopy:(void *)first
                                                   length:end - first
                                                  options:MTLResourceStorageModeShared
                                              deallocator:nil];
    if (map == nil) {
        free(offsets);
        OBFail(error, OBErrorMemory, @"the device cannot map %llu bytes", (unsigned long long)(end - first));
        return NO;
    }
    for (NSUInteger i = 0; i < count; i++) offsets[i] = (uintptr_t)transfers[i].host - first;
    id<MTLCommandBuffer> commands = [self commandsBetween:map
                                                   offset:offsets
                                                      and:transfers
                                                    count:count
                                                  reading:NO
                                                    error:error];
    [commands setLabel:@"upload"];
    [self commit:commands];
    BOOL done = commands != nil && finish(commands, error);
    [map release];
    free(offsets);
    return done;
}

// Copies for the transfers of buffers that the host does not see. nil and an error when the device gives no encoder.
- (id<MTLCommandBuffer>)commandsBetween:(id<MTLBuffer>)outer
                                 offset:(const NSUInteger *)offsets
                                    and:(const ob_transfer *)transfers
                                  count:(NSUInteger)count
                                reading:(BOOL)reading
                                  error:(NSError **)error {
    id<MTLCommandBuffer> commands = [_queue commandBuffer];
    [commands setLabel:reading ? @"read" : @"write"];
    id<MTLBlitCommandEncoder> encoder = [commands blitCommandEncoder];
    if (encoder == nil) return OBFail(error, OBErrorRun, @"the device gave no encoder for a transfer");
    for (NSUInteger i = 0; i < count; i++) {
        const ob_transfer *transfer = &transfers[i];
        if (transfer->length == 0 || contentsOf(transfer) != NULL) continue;
        NSUInteger offset = (NSUInteger)transfer->offset;
        [encoder copyFromBuffer:reading ? bufferOf(transfer) : outer
                   sourceOffset:reading ? offset : offsets[i]
                       toBuffer:reading ? outer : bufferOf(transfer)
              destinationOffset:reading ? offsets[i] : offset
                           size:(NSUInteger)transfer->length];
    }
    [encoder endEncoding];
    return commands;
}

- (void)commit:(id<MTLCommandBuffer>)commands {
    if (commands == nil) return;
    [commands commit];
    __atomic_fetch_add(&_committed, 1, __ATOMIC_RELAXED);
}

- (uint64_t)committedCommandBuffers {
    return __atomic_load_n(&_committed, __ATOMIC_RELAXED);
}

// A stage that is in no use, taken from those kept or made.
- (OBStage *)stageOfLength:(NSUInteger)length error:(NSError **)error {
    OBStage *found = nil;
    [_lock lock];
    for (OBStage *stage in _stages) {
        if ([stage->buffer length] < length) continue;
        if (stage->user != nil && [stage->user status] < MTLCommandBufferStatusCompleted) continue;
        found = [[stage retain] autorelease];
        break;
    }
    if (found != nil) [_stages removeObjectIdenticalTo:found];
    [_lock unlock];
    if (found != nil) return found;
    found = [[[OBStage alloc] init] autorelease];
    if (found != nil)
        found->buffer = [_device newBufferWithLength:length < STAGE_BYTES ? STAGE_BYTES : length
                                             options:MTLResourceStorageModeShared];
    if (found != nil && found->buffer != nil) return found;
    return OBFail(error, OBErrorMemory, @"no memory for a transfer of %llu bytes", (unsigned long long)length);
}

- (void)keep:(OBStage *)stage user:(id<MTLCommandBuffer>)user {
    [stage->user release];
    stage->user = [user retain];
    if ([stage->buffer length] > LONGEST_KEPT_STAGE) return;  // its command buffer keeps it while it runs
    [_lock lock];
    @try {
        if ([_stages count] == KEPT_STAGES) [_stages removeObjectAtIndex:0];
        [_stages addObject:stage];
    } @finally {
        [_lock unlock];
    }
}

@end
