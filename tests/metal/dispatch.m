// What a kernel gets: grid sizes, buffers with offsets, bytes, threadgroup memory.
#import "check.h"

static void addInto(fixture *f, id<MTLComputeCommandEncoder> encoder, id<MTLBuffer> c, uint32_t n) {
    static const float a[] = {1, 2, 3, 4, 5, 6, 7}, b[] = {10, 20, 30, 40, 50, 60, 70};
    [encoder setComputePipelineState:pipeline(f, @"add")];
    [encoder setBytes:a length:sizeof a atIndex:0];
    [encoder setBytes:b length:sizeof b atIndex:1];
    [encoder setBuffer:c offset:0 atIndex:2];
    [encoder setBytes:&n length:sizeof n atIndex:3];
}

static BOOL isAdded(id<MTLBuffer> c) {
    const float *values = [c contents];
    for (int i = 0; i < 7; i++) {
        if (values[i] != 11.0f * (float)(i + 1)) return NO;
    }
    return values[7] == 0;
}

static void bothForms(fixture *f) {
    id<MTLBuffer> c = zeroes(f, 16);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    addInto(f, encoder, c, 7);
    [encoder dispatchThreadgroups:MTLSizeMake(4, 1, 1) threadsPerThreadgroup:MTLSizeMake(2, 1, 1)];
    [encoder endEncoding];
    CHECK(f, "dispatchThreadgroups computes", finish(commands) && isAdded(c));

    c = zeroes(f, 16);
    commands = [f->queue commandBuffer];
    encoder = [commands computeCommandEncoder];
    addInto(f, encoder, c, 100);
    [encoder dispatchThreads:MTLSizeMake(7, 1, 1) threadsPerThreadgroup:MTLSizeMake(4, 1, 1)];
    [encoder endEncoding];
    CHECK(f, "dispatchThreads runs no thread outside the grid", finish(commands) && isAdded(c));
}

static void everyThreadOnce(fixture *f, MTLSize grid, MTLSize threads) {
    NSUInteger all = grid.width * grid.height * grid.depth;
    id<MTLBuffer> counts = zeroes(f, all + 64);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    [encoder setComputePipelineState:pipeline(f, @"visit")];
    [encoder setBuffer:counts offset:0 atIndex:0];
    [encoder dispatchThreads:grid threadsPerThreadgroup:threads];
    [encoder endEncoding];
    BOOL right = finish(commands);
    for (NSUInteger i = 0; i < all + 64; i++) right = right && at(counts, i) == (i < all);
    char name[128];
    snprintf(name, sizeof name, "each thread of %lux%lux%lu in %lux%lux%lu comes once",
             (unsigned long)grid.width, (unsigned long)grid.height, (unsigned long)grid.depth,
             (unsigned long)threads.width, (unsigned long)threads.height, (unsigned long)threads.depth);
    CHECK(f, name, right);
}

static void checkSizes(fixture *f, const char *name, id<MTLBuffer> sizes, const uint32_t *expected) {
    CHECK(f, name, memcmp([sizes contents], expected, 9 * 4) == 0);
}

static void sizesSeen(fixture *f) {
    id<MTLBuffer> first = zeroes(f, 9), second = zeroes(f, 9);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    [encoder setComputePipelineState:pipeline(f, @"sizes")];
    [encoder setBuffer:first offset:0 atIndex:0];
    [encoder dispatchThreadgroups:MTLSizeMake(3, 2, 5) threadsPerThreadgroup:MTLSizeMake(4, 2, 1)];
    [encoder setBuffer:second offset:0 atIndex:0];
    [encoder dispatchThreads:MTLSizeMake(9, 5, 2) threadsPerThreadgroup:MTLSizeMake(4, 2, 2)];
    [encoder endEncoding];
    CHECK(f, "both dispatches finish", finish(commands));
    checkSizes(f, "dispatchThreadgroups gives the kernel its sizes", first,
               (uint32_t[]){3, 2, 5, 4, 2, 1, 12, 4, 5});
    checkSizes(f, "dispatchThreads rounds threadgroups up and keeps the grid", second,
               (uint32_t[]){3, 3, 1, 4, 2, 2, 9, 5, 2});
}

static void indirect(fixture *f) {
    uint32_t wanted[] = {0, 0, 0, 0, 2, 3, 1};
    id<MTLBuffer> request = numbers(f, wanted, 7), counts = zeroes(f, 8), visits = zeroes(f, 16);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    [encoder setComputePipelineState:pipeline(f, @"plan")];
    [encoder setBuffer:counts offset:4 atIndex:0];
    [encoder setBuffer:request offset:16 atIndex:1];
    [encoder dispatchThreadgroups:MTLSizeMake(1, 1, 1) threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
    [encoder setComputePipelineState:pipeline(f, @"visit")];
    [encoder setBuffer:visits offset:0 atIndex:0];
    [encoder dispatchThreadgroupsWithIndirectBuffer:counts
                               indirectBufferOffset:4
                              threadsPerThreadgroup:MTLSizeMake(2, 1, 1)];
    [encoder endEncoding];
    BOOL right = finish(commands);
    for (NSUInteger i = 0; i < 16; i++) right = right && at(visits, i) == (i < 12);
    CHECK(f, "an indirect dispatch takes its size when it starts", right);

    memset([visits contents], 0, 64);
    memset([counts contents], 0, 32);
    commands = [f->queue commandBuffer];
    encoder = [commands computeCommandEncoder];
    [encoder setComputePipelineState:pipeline(f, @"visit")];
    [encoder setBuffer:visits offset:0 atIndex:0];
    [encoder dispatchThreadgroupsWithIndirectBuffer:counts
                               indirectBufferOffset:0
                              threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
    [encoder endEncoding];
    CHECK(f, "an indirect dispatch of nothing runs nothing", finish(commands) && at(visits, 0) == 0);

    memset([counts contents], 0xff, 32);
    commands = [f->queue commandBuffer];
    [commands setLabel:@"huge"];
    encoder = [commands computeCommandEncoder];
    [encoder setComputePipelineState:pipeline(f, @"visit")];
    [encoder setBuffer:visits offset:0 atIndex:0];
    [encoder dispatchThreadgroupsWithIndirectBuffer:counts
                               indirectBufferOffset:0
                              threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
    [encoder endEncoding];
    [commands commit];
    [commands waitUntilCompleted];
    CHECK_EQUAL(f, "an impossible indirect dispatch fails its command buffer", [commands status],
                MTLCommandBufferStatusError);
    CHECK(f, "its error is of Metal's domain",
          [[[commands error] domain] isEqualToString:MTLCommandBufferErrorDomain]);
    CHECK_EQUAL(f, "its error has Metal's code", [[commands error] code], MTLCommandBufferErrorInvalidResource);
    CHECK(f, "its error names the command buffer and the reason",
          [[[commands error] localizedDescription] rangeOfString:@"'huge'"].length > 0 &&
              [[[commands error] localizedDescription] rangeOfString:@"indirect"].length > 0);
    commands = [f->queue commandBuffer];
    CHECK(f, "the queue goes on after a failed command buffer", finish(commands));
}

static void snapshots(fixture *f) {
    id<MTLComputePipelineState> step = pipeline(f, @"step");
    id<MTLBuffer> zero = zeroes(f, 1), out = zeroes(f, 8), other = zeroes(f, 8);
    uint32_t value = 7;
    MTLSize one = MTLSizeMake(1, 1, 1);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    [encoder setComputePipelineState:step];
    [encoder setBuffer:zero offset:0 atIndex:0];
    [encoder setBuffer:out offset:0 atIndex:1];
    [encoder setBytes:&value length:sizeof value atIndex:2];
    value = 99;
    [encoder dispatchThreadgroups:one threadsPerThreadgroup:one];
    [encoder setBytes:&value length:sizeof value atIndex:2];
    [encoder setBufferOffset:4 atIndex:1];
    [encoder dispatchThreadgroups:one threadsPerThreadgroup:one];
    [encoder setBuffer:out offset:8 atIndex:1];
    [encoder setComputePipelineState:step];
    [encoder dispatchThreadgroups:one threadsPerThreadgroup:one];
    [encoder setBufferOffset:12 atIndex:1];
    [encoder dispatchThreadgroups:one threadsPerThreadgroup:one];
    [encoder setBuffer:other offset:0 atIndex:1];
    value = 1;
    [encoder endEncoding];
    BOOL finished = finish(commands);
    CHECK(f, "setBytes copies at the call", finished && at(out, 0) == 7);
    CHECK(f, "setBytes again leaves earlier dispatches alone", at(out, 0) == 7 && at(out, 1) == 99);
    CHECK_EQUAL(f, "setBufferOffset moves the binding", at(out, 1), 99);
    CHECK_EQUAL(f, "bindings survive a change of pipeline state", at(out, 2), 99);
    CHECK_EQUAL(f, "an offset replaces the one before", at(out, 3), 99);
    CHECK_EQUAL(f, "binding after the last dispatch changes nothing", at(other, 0), 0);
}

static void manyBindings(fixture *f) {
    uint32_t values[] = {5, 6, 7, 8};
    id<MTLBuffer> from = numbers(f, values, 4), to = zeroes(f, 4), three = numbers(f, (uint32_t[]){0, 0, 3}, 3);
    id<MTLBuffer> buffers[] = {from, to, three};
    NSUInteger offsets[] = {8, 4, 8};
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    [encoder setComputePipelineState:pipeline(f, @"step")];
    [encoder setBuffers:buffers offsets:offsets withRange:NSMakeRange(0, 3)];
    [encoder dispatchThreadgroups:MTLSizeMake(2, 1, 1) threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
    [encoder endEncoding];
    BOOL finished = finish(commands);
    CHECK(f, "setBuffers binds a range with offsets",
          finished && at(to, 0) == 0 && at(to, 1) == 10 && at(to, 2) == 11 && at(to, 3) == 0);

    uint32_t value = 42;
    id<MTLBuffer> last = zeroes(f, 1);
    commands = [f->queue commandBuffer];
    encoder = [commands computeCommandEncoder];
    [encoder setComputePipelineState:pipeline(f, @"last")];
    [encoder setBytes:&value length:4 atIndex:29];
    [encoder setBuffer:last offset:0 atIndex:30];
    [encoder dispatchThreadgroups:MTLSizeMake(1, 1, 1) threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
    [encoder endEncoding];
    CHECK(f, "index 30 is the last", finish(commands) && at(last, 0) == 42);

    char large[4096];
    memset(large, 1, sizeof large);
    id<MTLBuffer> sums = zeroes(f, 1);
    uint32_t n = 1024;
    commands = [f->queue commandBuffer];
    encoder = [commands computeCommandEncoder];
    [encoder setComputePipelineState:pipeline(f, @"total")];
    [encoder setBytes:large length:sizeof large atIndex:0];
    [encoder setBuffer:sums offset:0 atIndex:1];
    [encoder setBytes:&n length:4 atIndex:2];
    [encoder dispatchThreadgroups:MTLSizeMake(1, 1, 1) threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
    [encoder endEncoding];
    CHECK(f, "setBytes takes 4,096 bytes", finish(commands) && at(sums, 0) == 1024 * 0x01010101u);
}

static void structArgument(fixture *f) {
    struct {
        uint32_t rows;
        float scale;
        uint16_t halves[4];
        float color[4];
    } args = {1, 2, {0}, {1, 2, 3, 4}};
    id<MTLBuffer> out = zeroes(f, 4);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    [encoder setComputePipelineState:pipeline(f, @"paint")];
    [encoder setBuffer:out offset:0 atIndex:0];
    [encoder setBytes:&args length:sizeof args atIndex:1];
    [encoder dispatchThreadgroups:MTLSizeMake(1, 1, 1) threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
    [encoder endEncoding];
    const float *color = [out contents];
    CHECK(f, "a struct travels by setBytes", finish(commands) && color[0] == 2 && color[3] == 8);
}

static void threadgroupMemory(fixture *f) {
    enum { GROUPS = 200 };
    uint32_t lengths[] = {1024, 512};
    id<MTLBuffer> wrong = zeroes(f, GROUPS), sizes = numbers(f, lengths, 2);
    memset([wrong contents], 0xff, GROUPS * 4);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands
        computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
    [encoder setComputePipelineState:pipeline(f, @"stash")];
    [encoder setBuffer:wrong offset:0 atIndex:0];
    [encoder setBuffer:sizes offset:0 atIndex:1];
    [encoder setThreadgroupMemoryLength:1024 atIndex:0];
    [encoder setThreadgroupMemoryLength:512 atIndex:2];
    [encoder dispatchThreadgroups:MTLSizeMake(GROUPS, 1, 1) threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
    [encoder endEncoding];
    BOOL finished = finish(commands);
    NSUInteger bad = 0;
    for (NSUInteger i = 0; i < GROUPS; i++) bad += at(wrong, i) != 0;
    CHECK(f, "threadgroup memory belongs to one threadgroup at a time", finished && bad == 0);
}

static void tests(fixture *f) {
    bothForms(f);
    everyThreadOnce(f, MTLSizeMake(1, 1, 1), MTLSizeMake(1, 1, 1));
    everyThreadOnce(f, MTLSizeMake(1000, 1, 1), MTLSizeMake(1, 1, 1));
    everyThreadOnce(f, MTLSizeMake(17, 5, 3), MTLSizeMake(4, 4, 2));
    everyThreadOnce(f, MTLSizeMake(3, 70, 2), MTLSizeMake(8, 8, 1));
    everyThreadOnce(f, MTLSizeMake(2, 3, 61), MTLSizeMake(1, 1, 7));
    sizesSeen(f);
    indirect(f);
    snapshots(f);
    manyBindings(f);
    structArgument(f);
    threadgroupMemory(f);
}

int main(int count, char **words) { return run_tests(count, words, tests); }
