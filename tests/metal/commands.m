// Command buffers on their way: status, times, order, several at once, several threads.
#import "check.h"

static id<MTLCommandBuffer> spinning(fixture *f, id<MTLCommandQueue> queue, id<MTLBuffer> done,
                                     uint32_t microseconds, NSUInteger groups) {
    id<MTLCommandBuffer> commands = [queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    encode_spin(encoder, pipeline(f, @"spin"), done, microseconds, groups);
    [encoder endEncoding];
    return commands;
}

static void statusTransitions(fixture *f) {
    id<MTLCommandBuffer> commands = spinning(f, f->queue, zeroes(f, 1), 100000, 1);
    [commands setLabel:@"one"];
    CHECK_EQUAL(f, "a new command buffer is not enqueued", [commands status],
                MTLCommandBufferStatusNotEnqueued);
    CHECK(f, "there are no times before it ran", [commands GPUStartTime] == 0 && [commands GPUEndTime] == 0);
    double before = seconds();
    [commands enqueue];
    CHECK_EQUAL(f, "enqueue shows in the status", [commands status], MTLCommandBufferStatusEnqueued);
    [commands commit];
    CHECK(f, "commit returns before the work is done", seconds() - before < 0.075);
    CHECK(f, "commit shows in the status",
          [commands status] == MTLCommandBufferStatusCommitted ||
              [commands status] == MTLCommandBufferStatusScheduled);
    [commands waitUntilScheduled];
    CHECK(f, "waitUntilScheduled waits for that", [commands status] >= MTLCommandBufferStatusScheduled);
    [commands waitUntilCompleted];
    double after = seconds();
    CHECK_EQUAL(f, "waitUntilCompleted waits for that", [commands status], MTLCommandBufferStatusCompleted);
    CHECK(f, "no error", [commands error] == nil);
    CHECK(f, "the times are in order",
          before <= [commands kernelStartTime] && [commands kernelStartTime] <= [commands kernelEndTime] &&
              [commands kernelEndTime] <= [commands GPUStartTime] &&
              [commands GPUStartTime] < [commands GPUEndTime] && [commands GPUEndTime] <= after);
    CHECK(f, "the times cover the work", [commands GPUEndTime] - [commands GPUStartTime] >= 0.1);
    [commands waitUntilCompleted];
    CHECK_EQUAL(f, "waiting twice is allowed", [commands status], MTLCommandBufferStatusCompleted);
    CHECK(f, "it knows where it came from",
          [commands commandQueue] == f->queue && [commands device] == f->device);
    CHECK(f, "it keeps its label", [[commands label] isEqualToString:@"one"]);

    id<MTLCommandBuffer> empty = [f->queue commandBuffer];
    CHECK(f, "an empty command buffer completes", finish(empty));
    MTLTimestamp host = 0, device = 0;
    [f->device sampleTimestamps:&host gpuTimestamp:&device];
    CHECK(f, "timestamps are of the clock of the times",
          (double)device * 1e-9 >= [empty GPUEndTime] && host == device);
}

static void inFlight(fixture *f) {
    enum { COUNT = 40 };
    uint64_t counted = [(id<OBCountingQueue>)f->queue committedCommandBufferCount];
    id<MTLComputePipelineState> step = pipeline(f, @"step");
    id<MTLBuffer> buffers[2] = {zeroes(f, 8), zeroes(f, 8)};
    id<MTLCommandBuffer> all[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        all[i] = [f->queue commandBufferWithUnretainedReferences];
        id<MTLComputeCommandEncoder> encoder = [all[i] computeCommandEncoder];
        encode3(encoder, step, buffers[i % 2], buffers[(i + 1) % 2], i, 8);
        [encoder endEncoding];
        [all[i] commit];
    }
    [all[COUNT - 1] waitUntilCompleted];
    BOOL done = YES, ordered = YES;
    for (int i = 0; i < COUNT; i++) {
        done = done && [all[i] status] == MTLCommandBufferStatusCompleted;
        ordered = ordered && (i == 0 || [all[i - 1] GPUEndTime] <= [all[i] GPUStartTime]);
    }
    CHECK_EQUAL(f, "command buffers in flight run in order", at(buffers[0], 7), COUNT * (COUNT - 1) / 2);
    CHECK(f, "when the last is done, all are", done);
    CHECK(f, "one starts after the one before has ended", ordered);
    CHECK_EQUAL(f, "the queue counts what is committed", [(id<OBCountingQueue>)f->queue committedCommandBufferCount] - counted,
                COUNT);
}

static void enqueueOrder(fixture *f) {
    id<MTLBuffer> a = numbers(f, (uint32_t[]){1}, 1), b = zeroes(f, 1), c = zeroes(f, 1);
    id<MTLComputePipelineState> step = pipeline(f, @"step");
    id<MTLCommandBuffer> first = [f->queue commandBuffer], second = [f->queue commandBuffer];
    [first enqueue];
    id<MTLComputeCommandEncoder> encoder = [second computeCommandEncoder];
    encode3(encoder, step, b, c, 100, 1);
    [encoder endEncoding];
    [second commit];
    sleep_for(0.01);
    CHECK(f, "a command buffer waits for those enqueued before it",
          [second status] == MTLCommandBufferStatusCommitted);
    encoder = [first computeCommandEncoder];
    encode3(encoder, step, a, b, 10, 1);
    [encoder endEncoding];
    [first commit];
    [second waitUntilCompleted];
    CHECK_EQUAL(f, "enqueue fixes the order", at(c, 0), 111);

    id<MTLCommandQueue> queue = [f->device newCommandQueue];
    id<MTLCommandBuffer> later;
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    [[queue commandBuffer] enqueue];
    later = [[queue commandBuffer] retain];
    [later commit];
    [pool drain];
    [later waitUntilCompleted];
    CHECK_EQUAL(f, "releasing an enqueued command buffer lets the next go on", [later status],
                MTLCommandBufferStatusCompleted);
    [later release];
    [queue release];
}

static void references(fixture *f) {
    id<MTLBuffer> buffer = [f->device newBufferWithLength:4 options:0];
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    CHECK(f, "commandBuffer retains references", [commands retainedReferences]);
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    NSUInteger count = [buffer retainCount];
    encode3(encoder, pipeline(f, @"step"), buffer, buffer, 1, 1);
    [encoder endEncoding];
    CHECK(f, "it keeps what is bound", [buffer retainCount] > count);
    finish(commands);
    awaitRelease(buffer, count);
    CHECK_EQUAL(f, "and lets it go when it is done", [buffer retainCount], count);
    commands = [f->queue commandBuffer];
    encoder = [commands computeCommandEncoder];
    encode3(encoder, pipeline(f, @"step"), buffer, buffer, 1, 1);
    [encoder endEncoding];
    [commands commit];
    id<MTLCommandBuffer> later = [f->queue commandBuffer];
    [later commit];
    [later waitUntilCompleted];
    awaitRelease(buffer, count);
    CHECK_EQUAL(f, "also when nobody waits for it", [buffer retainCount], count);

    commands = [f->queue commandBufferWithUnretainedReferences];
    encoder = [commands computeCommandEncoder];
    encode3(encoder, pipeline(f, @"step"), buffer, buffer, 1, 1);
    [encoder endEncoding];
    CHECK(f, "without references it keeps nothing",
          ![commands retainedReferences] && [buffer retainCount] == count);
    finish(commands);

    MTLCommandBufferDescriptor *descriptor = [[[MTLCommandBufferDescriptor alloc] init] autorelease];
    CHECK(f, "a descriptor asks for references", [descriptor retainedReferences]);
    [descriptor setRetainedReferences:NO];
    [descriptor setErrorOptions:MTLCommandBufferErrorOptionEncoderExecutionStatus];
    commands = [f->queue commandBufferWithDescriptor:[[descriptor copy] autorelease]];
    CHECK(f, "a command buffer is as its descriptor says",
          ![commands retainedReferences] &&
              [commands errorOptions] == MTLCommandBufferErrorOptionEncoderExecutionStatus);
    [buffer release];

    // Nothing holds the command buffer, its queue or its device but the work itself.
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    id<MTLDevice> device = newDevice(f->name);
    id<MTLCommandQueue> queue = [device newCommandQueue];
    id<MTLSharedEvent> event = [f->device newSharedEvent];
    commands = [queue commandBuffer];
    [commands encodeSignalEvent:event value:9];
    [commands commit];
    [queue release];
    [device release];
    [pool drain];
    for (int i = 0; i < 2000 && [event signaledValue] != 9; i++) sleep_for(0.001);
    CHECK_EQUAL(f, "committed work ends although everything is released", [event signaledValue], 9);
    [event release];
}

static void limits(fixture *f) {
    id<MTLCommandQueue> queue = [[f->device newCommandQueueWithMaxCommandBufferCount:2] autorelease];
    id<MTLBuffer> done = zeroes(f, 1);
    id<MTLCommandBuffer> first = spinning(f, queue, done, 20000, 1);
    [first commit];
    [[queue commandBuffer] commit];
    id<MTLCommandBuffer> third = [queue commandBuffer];
    CHECK(f, "a full queue blocks until a command buffer has completed",
          third != nil && [first status] == MTLCommandBufferStatusCompleted);
    CHECK(f, "and goes on", finish(third));

    for (int i = 0; i < 1000; i++) {
        NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
        [queue commandBuffer];
        [pool drain];
    }
    CHECK(f, "command buffers that are never committed do not fill the queue", finish([queue commandBuffer]));
}

typedef struct {
    fixture *f;
    id<MTLCommandQueue> queue;
    int failures;
} worker;

static void *runMany(void *context) {
    worker *w = context;
    for (uint32_t round = 0; round < 60; round++) {
        NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
        id<MTLBuffer> from = zeroes(w->f, 32), to = zeroes(w->f, 32), sums = zeroes(w->f, 1);
        id<MTLCommandBuffer> commands = [w->queue commandBuffer];
        id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
        encode3(encoder, pipeline(w->f, @"step"), from, to, round, 32);
        encode3(encoder, pipeline(w->f, @"total"), to, sums, 32, 1);
        [encoder endEncoding];
        if (!finish(commands) || at(sums, 0) != 32 * round) w->failures++;
        [pool drain];
    }
    return NULL;
}

static void severalThreads(fixture *f) {
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    worker workers[THREADS];
    id<MTLCommandQueue> second = [[f->device newCommandQueue] autorelease];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker){f, i % 2 == 0 ? f->queue : second, 0};
        pthread_create(&threads[i], NULL, runMany, &workers[i]);
    }
    int failures = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        failures += workers[i].failures;
    }
    CHECK_EQUAL(f, "several threads commit and wait on one device", failures, 0);
}

static void *waitFor(void *context) {
    [(id<MTLCommandBuffer>)context waitUntilCompleted];
    return NULL;
}

static void severalWaiters(fixture *f) {
    id<MTLCommandBuffer> commands = spinning(f, f->queue, zeroes(f, 4), 3000, 4);
    [commands commit];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, waitFor, commands);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    CHECK_EQUAL(f, "several threads wait for one command buffer", [commands status],
                MTLCommandBufferStatusCompleted);
}

static void idleThreads(fixture *f) {
    BOOL right = YES;
    for (int i = 0; i < 30; i++) {
        id<MTLBuffer> done = zeroes(f, 16);
        id<MTLCommandBuffer> commands = spinning(f, f->queue, done, 1, 16);
        sleep_for(0.0002 * (i % 5));
        [commands commit];
        if (i % 2 == 0) {
            for (int wait = 0; wait < 5000 && [commands status] != MTLCommandBufferStatusCompleted; wait++)
                sleep_for(0.001);
        } else {
            [commands waitUntilCompleted];
        }
        right = right && at(done, 0) == 1 && at(done, 15) == 1;
    }
    CHECK(f, "sleeping workers wake up, with and without a wait", right);
}

static void tests(fixture *f) {
    for (NSUInteger threads = 1; threads <= 4; threads++) {
        if (hasThreads(f)) [(id<OBThreadedDevice>)f->device setWorkerThreadCount:threads];
        if (hasThreads(f))
            CHECK_EQUAL(f, "the number of threads is what was set", [(id<OBThreadedDevice>)f->device workerThreadCount],
                        threads);
        inFlight(f);
        severalThreads(f);
        severalWaiters(f);
        idleThreads(f);
    }
    if (hasThreads(f)) [(id<OBThreadedDevice>)f->device setWorkerThreadCount:2];
    statusTransitions(f);
    enqueueOrder(f);
    references(f);
    limits(f);
}

int main(int count, char **words) { return run_tests(count, words, tests); }
