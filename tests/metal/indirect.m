// Indirect command buffers: commands that are recorded once and executed again and again.
#import "indirect.h"

#import "metal/base/OBMIndirectCommandBuffer.h"
#include "metal/base/OBMSerial.h"
#import "metal/cpu/CPUDevice.h"
#include "metal/cpu/CPUSchedule.h"

enum { GROUPS = 16, STEPS = 60 };

static id<MTLBuffer> counting(fixture *f, NSUInteger count) {
    id<MTLBuffer> values = zeroes(f, count);
    for (NSUInteger i = 0; i < count; i++) ((uint32_t *)[values contents])[i] = (uint32_t)i;
    return values;
}

static BOOL isAll(id<MTLBuffer> buffer, uint32_t value) {
    for (NSUInteger i = 0; i < GROUPS; i++) {
        if (at(buffer, i) != value) return NO;
    }
    return YES;
}

static id<MTLCommandBuffer> executing(fixture *f, id<MTLIndirectCommandBuffer> buffer, MTLDispatchType type,
                                      NSRange range) {
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoderWithDispatchType:type];
    [encoder executeCommandsInBuffer:buffer withRange:range];
    [encoder endEncoding];
    return commands;
}

static BOOL execute(fixture *f, id<MTLIndirectCommandBuffer> buffer, NSRange range) {
    return finish(executing(f, buffer, MTLDispatchTypeConcurrent, range));
}

// Each command adds its number from one buffer into the other: any two out of order change the end.
static id<MTLIndirectCommandBuffer> chain(fixture *f, id<MTLBuffer> *buffers) {
    id<MTLIndirectCommandBuffer> all = [newCommands(f, STEPS) autorelease];
    id<MTLComputePipelineState> step = indirectState(f, @"step");
    id<MTLBuffer> values = counting(f, STEPS);
    for (NSUInteger i = 0; i < STEPS; i++) {
        id<MTLIndirectComputeCommand> command = [all indirectComputeCommandAtIndex:i];
        record3(command, step, buffers[i % 2], buffers[(i + 1) % 2], values, i, GROUPS);
        [command setBarrier];
    }
    return all;
}

static void ordered(fixture *f) {
    MTLDispatchType types[] = {MTLDispatchTypeSerial, MTLDispatchTypeConcurrent};
    for (int i = 0; i < 2; i++) {
        id<MTLBuffer> buffers[2] = {zeroes(f, GROUPS), zeroes(f, GROUPS)};
        id<MTLIndirectCommandBuffer> all = chain(f, buffers);
        BOOL good = finish(executing(f, all, types[i], NSMakeRange(0, STEPS)));
        CHECK(f, "barriers order commands", good && isAll(buffers[0], STEPS * (STEPS - 1) / 2));
    }

    id<MTLBuffer> buffers[2] = {zeroes(f, GROUPS), zeroes(f, GROUPS)};
    id<MTLIndirectCommandBuffer> all = chain(f, buffers);
    id<MTLCommandBuffer> last = nil;
    for (int run = 0; run < 10; run++) {
        last = executing(f, all, MTLDispatchTypeConcurrent, NSMakeRange(0, STEPS));
        [last commit];
    }
    [last waitUntilCompleted];
    CHECK(f, "command buffers in flight execute the same commands",
          isAll(buffers[0], 10 * (STEPS * (STEPS - 1) / 2)));
    CHECK(f, "a range executes its commands alone",
          execute(f, all, NSMakeRange(3, 1)) && isAll(buffers[0], at(buffers[1], 0) + 3));
    CHECK(f, "an empty range executes nothing", execute(f, all, NSMakeRange(STEPS, 0)));

    id<MTLComputePipelineState> step = indirectState(f, @"step");
    id<MTLBuffer> before = zeroes(f, GROUPS), after = zeroes(f, GROUPS);
    id<MTLIndirectCommandBuffer> one = [newCommands(f, 1) autorelease];
    record3([one indirectComputeCommandAtIndex:0], step, before, after, counting(f, 6), 5, GROUPS);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    encode3(encoder, step, zeroes(f, GROUPS), before, 100, GROUPS);
    [encoder executeCommandsInBuffer:one withRange:NSMakeRange(0, 1)];
    encode3(encoder, step, after, before, 1000, GROUPS);
    [encoder endEncoding];
    CHECK(f, "a serial encoder orders an execution among its dispatches",
          finish(commands) && isAll(after, 105) && isAll(before, 1105));
    commands = [f->queue commandBuffer];
    encoder = [commands computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
    encode3(encoder, step, zeroes(f, GROUPS), before, 200, GROUPS);
    [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
    [encoder executeCommandsInBuffer:one withRange:NSMakeRange(0, 1)];
    [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
    encode3(encoder, step, after, before, 1000, GROUPS);
    [encoder endEncoding];
    CHECK(f, "and so do barriers in a concurrent one", finish(commands) && isAll(after, 205) && isAll(before, 1205));
}

// Two commands that wait for one another: both see the other only if they overlap. A command between them does nothing.
static BOOL meets(fixture *f, NSUInteger barrier, BOOL encoded) {
    id<MTLBuffer> flags = zeroes(f, 2), met = zeroes(f, 2), pair = counting(f, 2);
    id<MTLComputePipelineState> meet = indirectState(f, @"meet");
    id<MTLIndirectCommandBuffer> all = [newCommands(f, 3) autorelease];
    for (NSUInteger i = 0; i < 2; i++) record3([all indirectComputeCommandAtIndex:2 * i], meet, flags, met, pair, i, 1);
    if (barrier > 0) [[all indirectComputeCommandAtIndex:barrier] setBarrier];
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
    if (encoded) encode3(encoder, meet, flags, met, 0, 1);
    [encoder executeCommandsInBuffer:all withRange:encoded ? NSMakeRange(2, 1) : NSMakeRange(0, 3)];
    [encoder endEncoding];
    return finish(commands) && at(met, 0) == 1;
}

static void overlap(fixture *f) {
    if (hasThreads(f)) [(id<OBThreadedDevice>)f->device setWorkerThreadCount:2];
    CHECK(f, "commands overlap", meets(f, 0, NO));
    CHECK(f, "but not across a barrier", !meets(f, 2, NO));
    CHECK(f, "nor across that of a command that does nothing", !meets(f, 1, NO));
    CHECK(f, "commands overlap with the encoder's dispatches", meets(f, 0, YES));
    CHECK(f, "the first command's barrier counts", !meets(f, 2, YES));
}

static void sizes(fixture *f) {
    id<MTLBuffer> first = zeroes(f, 9), second = zeroes(f, 9);
    id<MTLIndirectCommandBuffer> all = [newCommands(f, 2) autorelease];
    id<MTLIndirectComputeCommand> command = [all indirectComputeCommandAtIndex:0];
    [command setComputePipelineState:indirectState(f, @"sizes")];
    [command setKernelBuffer:first offset:0 atIndex:0];
    [command concurrentDispatchThreadgroups:MTLSizeMake(3, 2, 5) threadsPerThreadgroup:MTLSizeMake(4, 2, 1)];
    command = [all indirectComputeCommandAtIndex:1];
    [command setComputePipelineState:indirectState(f, @"sizes")];
    [command setKernelBuffer:second offset:0 atIndex:0];
    [command concurrentDispatchThreads:MTLSizeMake(9, 5, 2) threadsPerThreadgroup:MTLSizeMake(4, 2, 2)];
    CHECK(f, "both commands finish", execute(f, all, NSMakeRange(0, 2)));
    CHECK(f, "threadgroups give the kernel its sizes",
          memcmp([first contents], (uint32_t[]){3, 2, 5, 4, 2, 1, 12, 4, 5}, 36) == 0);
    CHECK(f, "threads are rounded up to threadgroups, and the grid is kept",
          memcmp([second contents], (uint32_t[]){3, 3, 1, 4, 2, 2, 9, 5, 2}, 36) == 0);

    uint32_t lengths[] = {48, 16};
    id<MTLBuffer> wrong = zeroes(f, 8), wanted = numbers(f, lengths, 2);
    memset([wrong contents], 0xff, 32);
    all = [newCommands(f, 1) autorelease];
    command = [all indirectComputeCommandAtIndex:0];
    [command setComputePipelineState:indirectState(f, @"stash")];
    [command setKernelBuffer:wrong offset:0 atIndex:0];
    [command setKernelBuffer:wanted offset:0 atIndex:1];
    [command setThreadgroupMemoryLength:48 atIndex:0];
    [command setThreadgroupMemoryLength:16 atIndex:2];
    [command concurrentDispatchThreadgroups:MTLSizeMake(8, 1, 1) threadsPerThreadgroup:ONE];
    BOOL right = execute(f, all, NSMakeRange(0, 1));
    for (NSUInteger i = 0; i < 8; i++) right = right && at(wrong, i) == 0;
    CHECK(f, "a command has threadgroup memory", right);
}

static void changes(fixture *f) {
    id<MTLComputePipelineState> step = indirectState(f, @"step"), total = indirectState(f, @"total");
    id<MTLBuffer> from = zeroes(f, GROUPS), to = zeroes(f, GROUPS), other = zeroes(f, GROUPS);
    id<MTLBuffer> third = zeroes(f, GROUPS);
    id<MTLBuffer> values = counting(f, 50);
    id<MTLIndirectCommandBuffer> all = [newCommands(f, 3) autorelease];
    CHECK(f, "commands of which none is recorded do nothing", execute(f, all, NSMakeRange(0, 3)));
    record3([all indirectComputeCommandAtIndex:1], step, from, to, values, 7, GROUPS);
    CHECK(f, "commands that are not recorded are passed over", execute(f, all, NSMakeRange(0, 3)) && isAll(to, 7));
    [[all indirectComputeCommandAtIndex:1] setKernelBuffer:values offset:4 * 9 atIndex:2];
    CHECK(f, "a buffer that is set later counts", execute(f, all, NSMakeRange(0, 3)) && isAll(to, 9));
    [[all indirectComputeCommandAtIndex:1] setKernelBuffer:other offset:0 atIndex:1];
    CHECK(f, "from its offset on", execute(f, all, NSMakeRange(0, 3)) && isAll(other, 9));
    [[all indirectComputeCommandAtIndex:1] setKernelBuffer:values offset:4 * GROUPS atIndex:2];
    [[all indirectComputeCommandAtIndex:1] setComputePipelineState:total];
    memset([to contents], 0, 4 * GROUPS);
    [[all indirectComputeCommandAtIndex:1] setKernelBuffer:to offset:0 atIndex:1];
    [[all indirectComputeCommandAtIndex:1] setKernelBuffer:values offset:0 atIndex:0];
    CHECK(f, "so does another kernel",
          execute(f, all, NSMakeRange(1, 1)) && at(to, 0) == GROUPS * (GROUPS - 1) / 2);
    [[all indirectComputeCommandAtIndex:1] reset];
    CHECK(f, "reset leaves nothing to do",
          execute(f, all, NSMakeRange(0, 3)) && at(to, 0) == GROUPS * (GROUPS - 1) / 2);
    CHECK_MISUSE(f, "and nothing is set any more",
                 [[all indirectComputeCommandAtIndex:1] concurrentDispatchThreadgroups:ONE threadsPerThreadgroup:ONE],
                 @"no pipeline state");

    for (NSUInteger i = 0; i < 3; i++) {
        id<MTLIndirectComputeCommand> command = [all indirectComputeCommandAtIndex:i];
        record3(command, step, i == 0 ? from : to, to, values, i + 1, GROUPS);
        [command setBarrier];
    }
    CHECK(f, "commands are recorded anew", execute(f, all, NSMakeRange(0, 3)) && isAll(to, 1 + 2 + 3));
    [all resetWithRange:NSMakeRange(1, 2)];
    CHECK(f, "a range of them is reset", execute(f, all, NSMakeRange(0, 3)) && isAll(to, 1));
    id<MTLIndirectComputeCommand> command = [all indirectComputeCommandAtIndex:2];
    record3(command, step, to, to, values, 40, GROUPS);
    [[all indirectComputeCommandAtIndex:1] setBarrier];
    CHECK(f, "a barrier counts without a dispatch", execute(f, all, NSMakeRange(0, 3)) && isAll(to, 41));
    record3([all indirectComputeCommandAtIndex:0], step, from, to, values, 1, GROUPS);
    [[all indirectComputeCommandAtIndex:1] reset];
    record3([all indirectComputeCommandAtIndex:1], step, from, other, values, 2, GROUPS);
    record3([all indirectComputeCommandAtIndex:2], step, from, third, values, 3, GROUPS);
    command = [all indirectComputeCommandAtIndex:0];
    [command setComputePipelineState:indirectState(f, @"nothing")];
    for (NSUInteger i = 0; i < 8; i++) [command setKernelBuffer:from offset:0 atIndex:i];
    CHECK(f, "a kernel with more arguments harms no other command",
          execute(f, all, NSMakeRange(0, 3)) && isAll(other, 2) && isAll(third, 3));
    if (overlaps(f)) {
        [[all indirectComputeCommandAtIndex:1] clearBarrier];
        id<MTLBuffer> flags = zeroes(f, 2), met = zeroes(f, 2);
        id<MTLComputePipelineState> meet = indirectState(f, @"meet");
        for (NSUInteger i = 0; i < 2; i++) {
            command = [all indirectComputeCommandAtIndex:2 * i];
            record3(command, meet, flags, met, values, i, 1);
            [command setBarrier];
            [command clearBarrier];
        }
        CHECK(f, "clearBarrier takes a barrier away", execute(f, all, NSMakeRange(0, 3)) && at(met, 0) == 1);
    }
}

static void properties(fixture *f) {
    id<MTLBuffer> value = zeroes(f, 1);
    NSUInteger before = [f->device currentAllocatedSize];
    id<MTLIndirectCommandBuffer> all = newCommands(f, 5);
    CHECK_EQUAL(f, "it has as many commands as were asked for", [all size], 5);
    CHECK(f, "it is a resource of the device", [all device] == f->device && [all storageMode] == MTLStorageModeShared);
    CHECK(f, "its memory counts as allocated", [all allocatedSize] > 0 && [f->device currentAllocatedSize] > before);
    [all setLabel:@"layers"];
    CHECK(f, "it keeps its label", [[all label] isEqualToString:@"layers"]);

    id<MTLBuffer> buffer = [f->device newBufferWithLength:4 * GROUPS options:0];
    id<MTLComputePipelineState> step = indirectState(f, @"step");
    NSUInteger count = [buffer retainCount];
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    record3([all indirectComputeCommandAtIndex:0], step, buffer, buffer, value, 0, GROUPS);
    CHECK_EQUAL(f, "a command keeps no buffer", [buffer retainCount], count);
    [pool drain];
    pool = [[NSAutoreleasePool alloc] init];
    count = [all retainCount];
    id<MTLCommandBuffer> commands = executing(f, all, MTLDispatchTypeSerial, NSMakeRange(0, 1));
    CHECK(f, "a command buffer keeps what it executes", [all retainCount] > count);
    finish(commands);
    awaitRelease(all, count);
    CHECK_EQUAL(f, "and lets it go when it is done", [all retainCount], count);
    commands = [f->queue commandBufferWithUnretainedReferences];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    [encoder executeCommandsInBuffer:all withRange:NSMakeRange(0, 1)];
    [encoder endEncoding];
    CHECK_EQUAL(f, "without references it keeps nothing", [all retainCount], count);
    finish(commands);
    [pool drain];
    [all release];
    [buffer release];
    CHECK_EQUAL(f, "its memory goes with it", [f->device currentAllocatedSize], before);

    MTLComputePipelineDescriptor *descriptor = [[[MTLComputePipelineDescriptor alloc] init] autorelease];
    CHECK(f, "a descriptor does not ask for indirect command buffers", ![descriptor supportIndirectCommandBuffers]);
    CHECK(f, "a pipeline state supports them when asked to",
          [indirectState(f, @"step") supportIndirectCommandBuffers]);
    CHECK_EQUAL(f, "and on a device where encoders say no more, always",
                [pipeline(f, @"step") supportIndirectCommandBuffers], ![f->name isEqualToString:@"checker"]);
    MTLIndirectCommandBufferDescriptor *first = describe(MTLIndirectCommandTypeConcurrentDispatch, 3);
    CHECK_EQUAL(f, "threadgroup memory has 31 indices at first", [first maxKernelThreadgroupMemoryBindCount], 31);
    [first setMaxKernelThreadgroupMemoryBindCount:2];
    [first setInheritBuffers:YES];
    [first setInheritPipelineState:YES];
    MTLIndirectCommandBufferDescriptor *copy = [[first copy] autorelease];
    CHECK(f, "a descriptor is copied whole",
          [copy commandTypes] == MTLIndirectCommandTypeConcurrentDispatch && [copy maxKernelBufferBindCount] == 3 &&
              [copy maxKernelThreadgroupMemoryBindCount] == 2 && [copy inheritBuffers] && [copy inheritPipelineState]);
}

typedef struct {
    fixture *f;
    id<MTLIndirectCommandBuffer> all;
    BOOL good;
} threadWork;

static void *executeOften(void *context) {
    threadWork *work = context;
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    work->good = YES;
    for (int i = 0; i < 20; i++) work->good &= execute(work->f, work->all, NSMakeRange(0, 2));
    [pool drain];
    return NULL;
}

static void threads(fixture *f) {
    enum { THREADS = 3 };
    id<MTLIndirectCommandBuffer> all = [newCommands(f, 2) autorelease];
    id<MTLBuffer> sums = zeroes(f, 2), values = counting(f, 2);
    for (NSUInteger i = 0; i < 2; i++) {
        id<MTLIndirectComputeCommand> command = [all indirectComputeCommandAtIndex:i];
        record3(command, indirectState(f, @"step"), sums, sums, values, 1, 1);
        [command setBarrier];
    }
    pthread_t running[THREADS];
    threadWork work[THREADS];
    BOOL good = YES;
    for (int i = 0; i < THREADS; i++) {
        work[i] = (threadWork){f, all, NO};
        pthread_create(&running[i], NULL, executeOften, &work[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(running[i], NULL);
        good &= work[i].good;
    }
    CHECK(f, "several threads execute the same commands", good && at(sums, 0) == THREADS * 20 * 2);
}

// --- a device whose executor takes commands: it runs the kernels of cpu, one after another

static obm_serial *taking;
static uint32_t taken;  // phases of commands
static const void *forgotten;

static void begin(void *context, obm_recording *recording) {
    (void)context;
    (void)recording;
}

static void runDispatch(const obm_dispatch *dispatch) {
    const uint32_t *groups = dispatch->launch.threadgroups;
    ((const cpu_code *)dispatch->kernel->code)->entry(&dispatch->launch, 0, groups[0] * groups[1] * groups[2]);
}

static void runPhase(void *context, obm_recording *recording, const obm_phase *phase) {
    (void)context;
    (void)recording;
    for (const obm_dispatch *dispatch = phase->first; dispatch != NULL; dispatch = dispatch->next) runDispatch(dispatch);
    if (phase->kind != OBM_PHASE_COMMANDS) return;
    taken++;
    for (uint32_t i = phase->first_command; i < phase->first_command + phase->command_count; i++) {
        if (phase->commands->list[i].dispatch != NULL) runDispatch(phase->commands->list[i].dispatch);
    }
}

static void forget(void *context, obm_commands *commands) {
    (void)context;
    forgotten = commands->own;
}

@interface TakingDevice : CPUDevice
@end

@implementation TakingDevice
- (const obm_executor *)executor {
    return obm_serial_executor(taking);
}
@end

static void protocolOfTaking(fixture *f) {
    ordered(f);
    CHECK(f, "commands reach an executor that takes them as phases", taken > 10);
    changes(f);
    threads(f);

    uint32_t before = taken;
    OBMIndirectCommandBuffer *buffer = (OBMIndirectCommandBuffer *)newCommands(f, 2);
    CHECK(f, "an executor keeps nothing with new commands",
          buffer->_commands.own == NULL && buffer->_commands.executor == obm_serial_executor(taking) &&
              buffer->_commands.count == 2);
    uint64_t version = buffer->_commands.version;
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    [[buffer indirectComputeCommandAtIndex:1] setBarrier];
    uint64_t changed = buffer->_commands.version;
    CHECK(f, "a change shows in the version", changed != version && buffer->_commands.list[1].barrier);
    [buffer resetWithRange:NSMakeRange(1, 1)];
    CHECK(f, "and so does a reset",
          buffer->_commands.version != changed && buffer->_commands.version != version &&
              !buffer->_commands.list[1].barrier);
    version = buffer->_commands.version;
    CHECK(f, "an execution is a phase, and no change",
          execute(f, buffer, NSMakeRange(0, 2)) && taken == before + 1 && buffer->_commands.version == version);
    CHECK(f, "and none where the range is empty", execute(f, buffer, NSMakeRange(1, 0)) && taken == before + 1);
    [pool drain];
    buffer->_commands.own = &taken;
    [buffer release];
    CHECK(f, "an executor hears when commands go", forgotten == &taken);
}

static void takingExecutor(fixture *f) {
    taking = obm_serial_create((obm_serial_work){.phase_size = sizeof(obm_phase),
                                                 .dispatch_size = sizeof(obm_dispatch),
                                                 .begin = begin,
                                                 .run = runPhase,
                                                 .takes_commands = true,
                                                 .forget = forget});
    fixture other = {.path = f->path, .scratch = f->scratch, .name = @"taking"};
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    other.device = [[TakingDevice alloc] init];
    other.library = [other.device newLibraryWithFile:[NSString stringWithUTF8String:f->path] error:NULL];
    other.queue = [other.device newCommandQueue];
    CHECK(&other, "the device of the test opens", other.library != nil);
    protocolOfTaking(&other);
    [other.queue release];
    [other.library release];
    [pool drain];
    [other.device release];
    obm_serial_destroy(taking);
    f->failed += other.failed;
}

static void tests(fixture *f) {
    ordered(f);
    sizes(f);
    changes(f);
    properties(f);
    threads(f);
    takingExecutor(f);
    if (overlaps(f)) overlap(f);
}

int main(int count, char **words) { return run_tests(count, words, tests); }
