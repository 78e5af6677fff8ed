// What may overlap and what may not: encoders, dispatch types, barriers.
#import "check.h"

enum { GROUPS = 64, STEPS = 300 };

// Each step adds its number from one buffer into the other: any two out of order change the end.
static id<MTLBuffer> chain(fixture *f, id<MTLCommandBuffer> commands, MTLDispatchType type,
                           void (*barrier)(id, id<MTLBuffer>)) {
    id<MTLComputePipelineState> step = pipeline(f, @"step");
    id<MTLBuffer> buffers[2] = {zeroes(f, GROUPS), zeroes(f, GROUPS)};
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoderWithDispatchType:type];
    for (uint32_t i = 0; i < STEPS; i++) {
        encode3(encoder, step, buffers[i % 2], buffers[(i + 1) % 2], i, GROUPS);
        if (barrier != NULL) barrier(encoder, buffers[(i + 1) % 2]);
    }
    [encoder endEncoding];
    return buffers[STEPS % 2];
}

static BOOL isSum(id<MTLBuffer> buffer) {
    for (NSUInteger i = 0; i < GROUPS; i++) {
        if (at(buffer, i) != STEPS * (STEPS - 1) / 2) return NO;
    }
    return YES;
}

static void scopeBarrier(id encoder, id<MTLBuffer> written) {
    (void)written;
    [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
}

static void bothScopes(id encoder, id<MTLBuffer> written) {
    (void)written;
    [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers | MTLBarrierScopeTextures];
}

static void resourceBarrier(id encoder, id<MTLBuffer> written) {
    id<MTLResource> resources[] = {written};
    [encoder memoryBarrierWithResources:resources count:1];
}

static void dependentDispatches(fixture *f) {
    struct {
        const char *name;
        MTLDispatchType type;
        void (*barrier)(id, id<MTLBuffer>);
    } cases[] = {
        {"a serial encoder runs its dispatches one after another", MTLDispatchTypeSerial, NULL},
        {"barriers in a serial encoder change nothing", MTLDispatchTypeSerial, scopeBarrier},
        {"a barrier by scope orders a concurrent encoder", MTLDispatchTypeConcurrent, scopeBarrier},
        {"a barrier with both scopes orders a concurrent encoder", MTLDispatchTypeConcurrent, bothScopes},
        {"a barrier by resource orders a concurrent encoder", MTLDispatchTypeConcurrent, resourceBarrier},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        id<MTLCommandBuffer> commands = [f->queue commandBuffer];
        id<MTLBuffer> result = chain(f, commands, cases[i].type, cases[i].barrier);
        CHECK(f, cases[i].name, finish(commands) && isSum(result));
    }
}

static void encodersAreOrdered(fixture *f) {
    id<MTLComputePipelineState> step = pipeline(f, @"step");
    id<MTLBuffer> buffers[2] = {zeroes(f, GROUPS), zeroes(f, GROUPS)};
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    for (uint32_t i = 0; i < STEPS; i++) {
        id<MTLComputeCommandEncoder> encoder = [commands
            computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
        encode3(encoder, step, buffers[i % 2], buffers[(i + 1) % 2], i, GROUPS);
        [encoder endEncoding];
    }
    CHECK(f, "encoders of a command buffer are ordered", finish(commands) && isSum(buffers[STEPS % 2]));

    id<MTLBuffer> copy = zeroes(f, GROUPS);
    commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    encode3(encoder, step, zeroes(f, GROUPS), buffers[0], 5, GROUPS);
    [encoder endEncoding];
    id<MTLBlitCommandEncoder> blit = [commands blitCommandEncoder];
    [blit copyFromBuffer:buffers[0] sourceOffset:0 toBuffer:copy destinationOffset:0 size:GROUPS * 4];
    [blit fillBuffer:buffers[0] range:NSMakeRange(0, GROUPS * 4) value:0];
    [blit endEncoding];
    encoder = [commands computeCommandEncoder];
    encode3(encoder, step, copy, buffers[1], 1, GROUPS);
    [encoder endEncoding];
    BOOL finished = finish(commands);
    CHECK(f, "a blit sees what was computed before it",
          finished && at(copy, 0) == 5 && at(copy, GROUPS - 1) == 5);
    CHECK(f, "blits of one encoder are ordered", at(buffers[0], 0) == 0 && at(buffers[0], GROUPS - 1) == 0);
    CHECK(f, "a compute encoder sees what was copied before it",
          at(buffers[1], 0) == 6 && at(buffers[1], GROUPS - 1) == 6);
}

// Two dispatches that wait for one another: both see the other only if they overlap.
static BOOL meets(fixture *f, MTLDispatchType type, void (*between)(id, id<MTLBuffer>)) {
    id<MTLBuffer> flags = zeroes(f, 2), met = zeroes(f, 2);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoderWithDispatchType:type];
    id<MTLComputePipelineState> meet = pipeline(f, @"meet");
    encode3(encoder, meet, flags, met, 0, 1);
    if (between != NULL) between(encoder, met);
    encode3(encoder, meet, flags, met, 1, 1);
    [encoder endEncoding];
    return finish(commands) && at(met, 0) == 1;
}

static void textureScope(id encoder, id<MTLBuffer> written) {
    (void)written;
    [encoder memoryBarrierWithScope:MTLBarrierScopeTextures];
}

static void overlap(fixture *f) {
    if (hasThreads(f)) [(id<OBThreadedDevice>)f->device setWorkerThreadCount:2];
    CHECK(f, "dispatches of a concurrent encoder overlap", meets(f, MTLDispatchTypeConcurrent, NULL));
    CHECK(f, "a barrier for textures leaves buffers alone", meets(f, MTLDispatchTypeConcurrent, textureScope));
    CHECK(f, "dispatches of a serial encoder do not overlap", !meets(f, MTLDispatchTypeSerial, NULL));
    CHECK(f, "dispatches do not overlap across a barrier", !meets(f, MTLDispatchTypeConcurrent, scopeBarrier));

    id<MTLBuffer> done = zeroes(f, 16), sums = zeroes(f, 1);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    encode_spin(encoder, pipeline(f, @"spin"), done, 1000, 16);
    encode3(encoder, pipeline(f, @"total"), done, sums, 16, 1);
    [encoder endEncoding];
    CHECK(f, "a dispatch waits for every threadgroup of the one before", finish(commands) && at(sums, 0) == 16);
}

static void mixedPhases(fixture *f) {
    // Many independent dispatches of different sizes between barriers, checked by their sum.
    enum { ROUNDS = 40, EACH = 5 };
    id<MTLComputePipelineState> step = pipeline(f, @"step"), total = pipeline(f, @"total");
    id<MTLBuffer> parts[EACH], sums = zeroes(f, 1), zero = zeroes(f, 100);
    uint32_t expected = 0;
    id<MTLCommandBuffer> commands = [f->queue commandBufferWithUnretainedReferences];
    id<MTLComputeCommandEncoder> encoder = [commands
        computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
    for (uint32_t i = 0; i < EACH; i++) parts[i] = zeroes(f, 100);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < EACH; i++) encode3(encoder, step, zero, parts[i], round + i, 1 + 17 * i);
        [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
        for (uint32_t i = 0; i < EACH; i++) {
            encode3(encoder, total, parts[i], sums, 1 + 17 * i, 1);
            [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
            expected += (round + i) * (1 + 17 * i);
        }
    }
    [encoder endEncoding];
    BOOL finished = finish(commands);
    CHECK(f, "phases of many dispatches finish before the next starts", finished && at(sums, 0) == expected);
}

static void everyThreadCount(fixture *f) {
    for (NSUInteger threads = 1; threads <= 5; threads++) {
        if (hasThreads(f)) [(id<OBThreadedDevice>)f->device setWorkerThreadCount:threads];
        dependentDispatches(f);
        mixedPhases(f);
    }
}

static void tests(fixture *f) {
    everyThreadCount(f);
    encodersAreOrdered(f);
    if (overlaps(f)) overlap(f);
}

int main(int count, char **words) { return run_tests(count, words, tests); }
