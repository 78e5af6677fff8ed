// What only a GPU does: command buffers that fail in its driver, and what is left afterwards. With a driver that the
// host plays (fake_cuda.c), FAKE_CUDA_FAIL says what fails; the program runs one command buffer after another and
// prints what became of each.
//
//     gpu LIBRARY SCRATCH cuda:0 [COMMAND BUFFERS]
//     gpu LIBRARY SCRATCH cuda:0 early VALUES N
//
// The second form runs `total`, which reads its values early, behind `step`, which writes; VALUES and N say whether
// `total` gets these from the buffer that `step` writes: 1, or 0.
#import "indirect.h"

// Runs `step` over a buffer that the GPU alone sees; the host reads it back.
static NSString *failureOf(fixture *f, uint32_t value) {
    NSString *failure = nil;
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    @try {
        id<MTLBuffer> from = [[f->device newBufferWithLength:64 options:MTLResourceStorageModePrivate] autorelease];
        id<MTLBuffer> to = [[f->device newBufferWithLength:64 options:MTLResourceStorageModeShared] autorelease];
        id<MTLComputePipelineState> state = pipeline(f, @"step");
        if (from == nil || to == nil) {
            failure = @"no memory";
        } else if (state == nil) {
            failure = @"no kernel";
        } else {
            id<MTLCommandBuffer> commands = [f->queue commandBuffer];
            [commands setLabel:@"chain"];
            id<MTLBlitCommandEncoder> blit = [commands blitCommandEncoder];
            [blit fillBuffer:from range:NSMakeRange(0, 64) value:1];
            [blit endEncoding];
            id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
            [encoder setLabel:@"the step"];
            [encoder setComputePipelineState:state];
            [encoder setBuffer:from offset:0 atIndex:0];
            [encoder setBuffer:to offset:0 atIndex:1];
            [encoder setBytes:&value length:sizeof value atIndex:2];
            [encoder dispatchThreadgroups:MTLSizeMake(16, 1, 1) threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
            [encoder endEncoding];
            [commands commit];
            [commands waitUntilCompleted];
            if ([commands status] == MTLCommandBufferStatusError) failure = [[commands error] localizedDescription];
            else if (((uint32_t *)[to contents])[15] != 0x01010101u + value) failure = @"WRONG RESULT";
        }
    } @catch (NSException *exception) { failure = [exception reason]; }
    [failure retain];
    [pool drain];
    return [failure autorelease];
}

// A device of its own, opened again once it is lost.
static BOOL openAgain(fixture *f, NSString *name) {
    f->device = newDevice(name);
    f->queue = [f->device newCommandQueue];
    f->library = [f->device newLibraryWithURL:[NSURL fileURLWithPath:[NSString stringWithUTF8String:f->path]]
                                        error:NULL];
    return f->queue != nil && f->library != nil;
}

static void letGo(fixture *f) {
    [f->library release];
    [f->queue release];
    [f->device release];
}

// At the end of the program: nothing in a pool keeps the device by then.
static void leave(fixture *f, NSAutoreleasePool *pool) {
    [pool drain];
    pool = [[NSAutoreleasePool alloc] init];
    [f->library release];
    [f->queue release];
    closeDevice(f);
    [f->name release];
    [pool drain];
}

static int early(fixture *f, int values, int n) {
    id<MTLBuffer> from = zeroes(f, 4), to = zeroes(f, 4), own = zeroes(f, 4), one = zeroes(f, 4), sums = zeroes(f, 1);
    ((uint32_t *)[own contents])[0] = ((uint32_t *)[one contents])[0] = 1;
    id<MTLIndirectCommandBuffer> all = [newCommands(f, 2) autorelease];
    record3([all indirectComputeCommandAtIndex:0], indirectState(f, @"step"), from, to, one, 0, 4);
    id<MTLIndirectComputeCommand> second = [all indirectComputeCommandAtIndex:1];
    record3(second, indirectState(f, @"total"), values ? to : own, sums, n ? to : one, 0, 1);
    [second setBarrier];
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
    [encoder executeCommandsInBuffer:all withRange:NSMakeRange(0, 2)];
    [encoder endEncoding];
    CHECK(f, "the sum is that of the values", finish(commands) && at(sums, 0) == 1);
    return f->failed;
}

int main(int count, char **words) {
    NSAutoreleasePool *outer = [[NSAutoreleasePool alloc] init];
    fixture f = {.path = words[1], .scratch = words[2], .name = [[NSString alloc] initWithUTF8String:words[3]]};
    int runs = count > 4 ? atoi(words[4]) : 20, good = 0;
    if (!openAgain(&f, f.name)) return 1;
    if (count > 6) {
        int failures = early(&f, atoi(words[5]), atoi(words[6]));
        leave(&f, outer);
        return failures;
    }
    for (int i = 0; i < runs; i++) {
        NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
        NSString *failure = failureOf(&f, (uint32_t)i);
        if (failure == nil) good++;
        else printf("%d %s\n", i, [failure UTF8String]);
        if (failure != nil && [failure rangeOfString:@"open the device again"].length > 0) {
            letGo(&f);
            if (!openAgain(&f, f.name)) return 2;
        }
        [pool drain];
    }
    printf("good %d, left %lu\n", good, (unsigned long)[f.device currentAllocatedSize]);
    leave(&f, outer);
    return 0;
}
