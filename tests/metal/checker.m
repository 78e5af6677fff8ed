// The checker as a Metal device: what it finds comes as the logs of a command buffer.
#import "check.h"

enum { THREADS = 64, GROUPS = 5 };

typedef struct {
    id<MTLCommandQueue> queue;
    id<MTLLibrary> library;
    id<MTLBuffer> from, to;
} bench;

static void encode(bench *b, id<MTLComputeCommandEncoder> encoder, NSString *name) {
    id<MTLFunction> function = [[b->library newFunctionWithName:name] autorelease];
    id<MTLComputePipelineState> state = [[b->library device] newComputePipelineStateWithFunction:function error:NULL];
    [encoder setComputePipelineState:state];
    [encoder setBuffer:b->from offset:0 atIndex:0];
    [encoder setBuffer:b->to offset:0 atIndex:1];
    [encoder dispatchThreadgroups:MTLSizeMake(GROUPS, 1, 1) threadsPerThreadgroup:MTLSizeMake(THREADS, 1, 1)];
    [state release];
}

// Runs kernels in one concurrent encoder, with or without barriers between them.
static id<MTLCommandBuffer> run(bench *b, NSArray *names, BOOL barriers) {
    id<MTLCommandBuffer> commands = [b->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
    for (NSUInteger i = 0; i < [names count]; i++) {
        if (barriers && i > 0) [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
        encode(b, encoder, [names objectAtIndex:i]);
    }
    [encoder endEncoding];
    [commands commit];
    [commands waitUntilCompleted];
    return commands;
}

// Whether some log has all of the words.
static BOOL says(id<MTLCommandBuffer> commands, NSString *first, NSString *second) {
    for (id<MTLFunctionLog> log in [commands logs]) {
        NSString *text = [(NSObject *)log description];
        if ([text rangeOfString:first].length > 0 && [text rangeOfString:second].length > 0) return YES;
    }
    return NO;
}

static void kernels(fixture *f, bench *b) {
    id<MTLCommandBuffer> good = run(b, [NSArray arrayWithObject:@"good"], NO);
    CHECK(f, "a right kernel completes without logs",
          [good status] == MTLCommandBufferStatusCompleted && [good logs] == nil);
    const float *to = [b->to contents];
    BOOL right = YES;
    for (int i = 0; i < GROUPS; i++) right = right && to[i] == THREADS;
    CHECK(f, "and is right", right);
    id<MTLCommandBuffer> lanes = run(b, [NSArray arrayWithObject:@"lanes"], NO);
    right = [lanes logs] == nil;
    for (int i = 0; i < GROUPS * THREADS; i++) right = right && to[i] == 31 * 32 / 2 + 32;
    CHECK(f, "lanes see what all gave", right);
    id<MTLCommandBuffer> race = run(b, [NSArray arrayWithObject:@"race"], NO);
    CHECK(f, "a missing barrier is a race", says(race, @"race: kernel 'race'", @"'shared' in threadgroup memory"));
    CHECK(f, "a race stops nothing", [race status] == MTLCommandBufferStatusCompleted);
    id<MTLCommandBuffer> outside = run(b, [NSArray arrayWithObject:@"outside"], NO);
    CHECK(f, "an access too far is out of bounds", says(outside, @"out of bounds", @"'from' at buffer index 0"));
    CHECK_EQUAL(f, "and fails the command buffer", [outside status], MTLCommandBufferStatusError);
    CHECK(f, "the device goes on", [run(b, [NSArray arrayWithObject:@"good"], NO) logs] == nil);
}

static void chains(fixture *f, bench *b) {
    NSArray *twice = [NSArray arrayWithObjects:@"good", @"good", nil];
    CHECK(f, "two dispatches that write the same are a race", says(run(b, twice, NO), @"race between dispatches", @"'to'"));
    CHECK(f, "a barrier orders them", [run(b, twice, YES) logs] == nil);
}

// The same two dispatches as commands, which take the label of the encoder that executes them.
static id<MTLCommandBuffer> runCommands(bench *b, BOOL barrier) {
    id<MTLDevice> device = [b->library device];
    MTLIndirectCommandBufferDescriptor *commands = [[[MTLIndirectCommandBufferDescriptor alloc] init] autorelease];
    MTLComputePipelineDescriptor *kernel = [[[MTLComputePipelineDescriptor alloc] init] autorelease];
    [commands setCommandTypes:MTLIndirectCommandTypeConcurrentDispatch];
    [kernel setComputeFunction:[[b->library newFunctionWithName:@"good"] autorelease]];
    [kernel setSupportIndirectCommandBuffers:YES];
    id<MTLComputePipelineState> state =
        [[device newComputePipelineStateWithDescriptor:kernel options:0 reflection:NULL error:NULL] autorelease];
    id<MTLIndirectCommandBuffer> both =
        [[device newIndirectCommandBufferWithDescriptor:commands maxCommandCount:2 options:0] autorelease];
    for (NSUInteger i = 0; i < 2; i++) {
        id<MTLIndirectComputeCommand> command = [both indirectComputeCommandAtIndex:i];
        [command setComputePipelineState:state];
        [command setKernelBuffer:b->from offset:0 atIndex:0];
        [command setKernelBuffer:b->to offset:0 atIndex:1];
        [command concurrentDispatchThreadgroups:MTLSizeMake(GROUPS, 1, 1)
                          threadsPerThreadgroup:MTLSizeMake(THREADS, 1, 1)];
        if (barrier) [command setBarrier];
    }
    id<MTLCommandBuffer> buffer = [b->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [buffer computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
    [encoder setLabel:@"layers"];
    [encoder executeCommandsInBuffer:both withRange:NSMakeRange(0, 2)];
    [encoder endEncoding];
    [buffer commit];
    [buffer waitUntilCompleted];
    return buffer;
}

static void commands(fixture *f, bench *b) {
    CHECK(f, "two commands that write the same are a race", says(runCommands(b, NO), @"race between dispatches", @"'to'"));
    CHECK(f, "which the encoder's label names", says(runCommands(b, NO), @"race between dispatches", @"layers"));
    CHECK(f, "a barrier orders commands", [runCommands(b, YES) logs] == nil);
}

// A dispatch that writes b->to, and beside it one whose counts are in `counts`.
static id<MTLCommandBuffer> runIndirect(bench *b, id<MTLBuffer> counts) {
    id<MTLCommandBuffer> commands = [b->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
    encode(b, encoder, @"good");
    [encoder setBuffer:b->from offset:0 atIndex:1];
    [encoder dispatchThreadgroupsWithIndirectBuffer:counts
                               indirectBufferOffset:0
                              threadsPerThreadgroup:MTLSizeMake(THREADS, 1, 1)];
    [encoder endEncoding];
    [commands commit];
    [commands waitUntilCompleted];
    return commands;
}

static void indirect(bench *b, fixture *f) {
    uint32_t *to = [b->to contents];
    to[0] = to[1] = to[2] = 1;
    CHECK(f, "counts that a dispatch of the same phase writes are a race",
          says(runIndirect(b, b->to), @"race between dispatches", @"'counts of threadgroups'"));
    id<MTLBuffer> own = [[b->library device] newBufferWithLength:12 options:MTLResourceStorageModeShared];
    CHECK(f, "counts that nothing wrote are found",
          says(runIndirect(b, own), @"uninitialised read", @"'counts of threadgroups'"));
    memset([own contents], 1, 12);
    CHECK(f, "so are counts that no grid has", says(runIndirect(b, own), @"out of bounds", @"2^32 - 1 threads"));
    [own release];
}

int main(int count, char **arguments) {
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    fixture all = {.path = count > 1 ? arguments[1] : ""};
    id<MTLDevice> device = newDevice(@"checker");
    bench b = {.queue = [device newCommandQueue]};
    b.library = [device newLibraryWithFile:[NSString stringWithUTF8String:all.path] error:NULL];
    NSUInteger length = GROUPS * THREADS * sizeof(float);
    b.from = [device newBufferWithLength:length options:MTLResourceStorageModeShared];
    b.to = [device newBufferWithLength:length options:MTLResourceStorageModeShared];
    for (NSUInteger i = 0; i < GROUPS * THREADS; i++) ((float *)[b.from contents])[i] = 1;
    CHECK(&all, "there is a checker", device != nil && b.library != nil && b.from != nil && b.to != nil);
    kernels(&all, &b);
    chains(&all, &b);
    commands(&all, &b);
    indirect(&b, &all);
    [b.from release];
    [b.to release];
    [b.library release];
    [b.queue release];
    [device release];
    [pool release];
    return all.failed;
}
