// Events between command buffers, queues and the host.
#import "check.h"

static id<MTLCommandBuffer> stepAfter(fixture *f, id<MTLCommandQueue> queue, id<MTLEvent> event, uint64_t value,
                                      id<MTLBuffer> from, id<MTLBuffer> to) {
    id<MTLCommandBuffer> commands = [queue commandBuffer];
    if (event != nil) [commands encodeWaitForEvent:event value:value];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    encode3(encoder, pipeline(f, @"step"), from, to, 1, 1);
    [encoder endEncoding];
    return commands;
}

static BOOL soon(id<MTLCommandBuffer> commands, MTLCommandBufferStatus status) {
    for (int i = 0; i < 5000 && [commands status] < status; i++) sleep_for(0.001);
    return [commands status] == status;
}

static void fromTheDevice(fixture *f) {
    id<MTLSharedEvent> event = [[f->device newSharedEvent] autorelease];
    CHECK(f, "an event starts at 0 and knows its device",
          [event signaledValue] == 0 && [event device] == f->device);
    [event setLabel:@"ready"];
    CHECK(f, "an event has a label", [[event label] isEqualToString:@"ready"]);
    id<MTLBuffer> a = zeroes(f, 1), b = zeroes(f, 1);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    encode3(encoder, pipeline(f, @"step"), a, b, 5, 1);
    [encoder endEncoding];
    [commands encodeSignalEvent:event value:3];
    encoder = [commands computeCommandEncoder];
    encode3(encoder, pipeline(f, @"step"), b, a, 5, 1);
    [encoder endEncoding];
    BOOL finished = finish(commands);
    CHECK(f, "a command buffer signals between its encoders",
          finished && [event signaledValue] == 3 && at(a, 0) == 10);
    commands = stepAfter(f, f->queue, event, 3, a, b);
    CHECK(f, "a value that is reached holds nothing up", finish(commands) && at(b, 0) == 11);
}

static void fromTheHost(fixture *f) {
    id<MTLSharedEvent> event = [[f->device newSharedEvent] autorelease];
    id<MTLBuffer> a = zeroes(f, 1), b = zeroes(f, 1);
    id<MTLCommandBuffer> commands = stepAfter(f, f->queue, event, 2, a, b);
    id<MTLCommandBuffer> next = stepAfter(f, f->queue, nil, 0, b, a);
    [commands commit];
    [next commit];
    BOOL scheduled = soon(commands, MTLCommandBufferStatusScheduled);
    sleep_for(0.01);
    CHECK(f, "a command buffer waits for the host",
          scheduled && [commands status] == MTLCommandBufferStatusScheduled && at(b, 0) == 0);
    CHECK_EQUAL(f, "the next of its queue waits too", [next status], MTLCommandBufferStatusCommitted);
    [event setSignaledValue:1];
    sleep_for(0.005);
    CHECK_EQUAL(f, "a smaller value is not enough", [commands status], MTLCommandBufferStatusScheduled);
    [event setSignaledValue:5];
    [next waitUntilCompleted];
    CHECK(f, "a larger value is, and the order holds", at(b, 0) == 1 && at(a, 0) == 2);
}

static void acrossQueues(fixture *f) {
    id<MTLEvent> event = [[f->device newEvent] autorelease];
    id<MTLCommandQueue> other = [[f->device newCommandQueue] autorelease];
    id<MTLBuffer> a = zeroes(f, 1), b = zeroes(f, 1);
    id<MTLCommandBuffer> waiting = stepAfter(f, f->queue, event, 1, a, b);
    [waiting commit];
    id<MTLCommandBuffer> signalling = stepAfter(f, other, nil, 0, b, a);
    [signalling encodeSignalEvent:event value:1];
    [signalling commit];
    [waiting waitUntilCompleted];
    CHECK(f, "one queue goes on while another waits for it", at(a, 0) == 1 && at(b, 0) == 2);
}

static void pingPong(fixture *f) {
    enum { ROUNDS = 50 };
    id<MTLSharedEvent> event = [[f->device newSharedEvent] autorelease];
    id<MTLBuffer> a = zeroes(f, 1);
    id<MTLCommandBuffer> last = nil;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        id<MTLCommandBuffer> commands = stepAfter(f, f->queue, event, 2 * i + 1, a, a);
        [commands encodeSignalEvent:event value:2 * i + 2];
        [commands commit];
        last = commands;
    }
    BOOL right = YES;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        right = right && at(a, 0) == i;
        [event setSignaledValue:2 * i + 1];
        for (int wait = 0; wait < 100000 && [event signaledValue] != 2 * i + 2; wait++) sleep_for(0.00005);
    }
    CHECK(f, "host and device take turns",
          right && soon(last, MTLCommandBufferStatusCompleted) && at(a, 0) == ROUNDS);
}

static void *signalLater(void *context) {
    sleep_for(0.02);
    [(id<MTLSharedEvent>)context setSignaledValue:1];
    return NULL;
}

static void waitingThread(fixture *f) {
    id<MTLSharedEvent> event = [[f->device newSharedEvent] autorelease];
    id<MTLBuffer> a = zeroes(f, 1), b = zeroes(f, 1);
    id<MTLCommandBuffer> commands = stepAfter(f, f->queue, event, 1, a, b);
    [commands commit];
    pthread_t thread;
    pthread_create(&thread, NULL, signalLater, event);
    [commands waitUntilCompleted];
    pthread_join(thread, NULL);
    CHECK_EQUAL(f, "a thread in waitUntilCompleted goes on when another signals", at(b, 0), 1);
}

static void twoDevices(fixture *f) {
    id<MTLDevice> second = [newDevice(f->name) autorelease];
    id<MTLCommandQueue> other = [[second newCommandQueue] autorelease];
    id<MTLSharedEvent> event = [[f->device newSharedEvent] autorelease];
    id<MTLBuffer> a = zeroes(f, 1), b = zeroes(f, 1);
    id<MTLCommandBuffer> waiting = stepAfter(f, f->queue, event, 7, a, b);
    [waiting commit];
    id<MTLCommandBuffer> signalling = [other commandBuffer];
    [signalling encodeSignalEvent:event value:7];
    [signalling commit];
    CHECK(f, "a shared event crosses devices", soon(waiting, MTLCommandBufferStatusCompleted) && at(b, 0) == 1);
}

static void fences(fixture *f) {
    id<MTLFence> fence = [[f->device newFence] autorelease];
    id<MTLBuffer> a = zeroes(f, 1), b = zeroes(f, 1);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    encode3(encoder, pipeline(f, @"step"), a, b, 4, 1);
    [encoder updateFence:fence];
    [encoder endEncoding];
    encoder = [commands computeCommandEncoder];
    [encoder waitForFence:fence];
    [encoder useResource:b usage:MTLResourceUsageRead];
    encode3(encoder, pipeline(f, @"step"), b, a, 4, 1);
    [encoder endEncoding];
    CHECK(f, "a fence orders encoders", [fence device] == f->device && finish(commands) && at(a, 0) == 8);
}

static void tests(fixture *f) {
    for (NSUInteger threads = 1; threads <= 3; threads++) {
        if (hasThreads(f)) [(id<OBThreadedDevice>)f->device setWorkerThreadCount:threads];
        fromTheDevice(f);
        fromTheHost(f);
        acrossQueues(f);
        pingPong(f);
        waitingThread(f);
        twoDevices(f);
    }
    fences(f);
}

int main(int count, char **words) { return run_tests(count, words, tests); }
