// What Metal's validation layer refuses in indirect command buffers is an exception with one clear line.
#import "indirect.h"

static void descriptors(fixture *f) {
    id<MTLDevice> d = f->device;
    MTLIndirectCommandType dispatch = MTLIndirectCommandTypeConcurrentDispatch;
    MTLIndirectCommandBufferDescriptor *good = describe(dispatch, 4);
#define MAKE(descriptor, count, mode)                                                                          \
    [d newIndirectCommandBufferWithDescriptor:descriptor maxCommandCount:count options:mode]
    CHECK_MISUSE(f, "no descriptor", MAKE(nil, 1, 0), @"descriptor is nil");
    CHECK_MISUSE(f, "no commands", MAKE(good, 0, 0), @"maxCommandCount of 0");
    CHECK_MISUSE(f, "too many commands", MAKE(good, 1ul << 32, 0), @"maxCommandCount of 4294967296");
    CHECK_MISUSE(f, "memoryless commands", MAKE(good, 1, MTLResourceStorageModeMemoryless), @"Memoryless");
    CHECK_MISUSE(f, "unknown options", MAKE(good, 1, 1 << 20), @"0x100000");
    CHECK_MISUSE(f, "no type of commands", MAKE(describe(0, 4), 1, 0), @"commandTypes 0x0");
    CHECK_MISUSE(f, "commands that draw", MAKE(describe(dispatch | MTLIndirectCommandTypeDraw, 4), 1, 0),
                 @"commandTypes 0x21", @"ConcurrentDispatch");
    CHECK_MISUSE(f, "more buffers than there are", MAKE(describe(dispatch, 32), 1, 0), @"maxKernelBufferBindCount",
                 @"32", @"31");
    [good setMaxKernelThreadgroupMemoryBindCount:40];
    CHECK_MISUSE(f, "more threadgroup memory than there is", MAKE(good, 1, 0), @"maxKernelThreadgroupMemoryBindCount",
                 @"40");
    [good setMaxKernelThreadgroupMemoryBindCount:1];
    [good setInheritBuffers:YES];
    CHECK_MISUSE(f, "buffers of the encoder", MAKE(good, 1, 0), @"inheritBuffers");
    [good setInheritBuffers:NO];
    [good setInheritPipelineState:YES];
    CHECK_MISUSE(f, "the encoder's pipeline state", MAKE(good, 1, 0), @"inheritPipelineState");
    [good setInheritPipelineState:NO];
    id<MTLIndirectCommandBuffer> hidden = [MAKE(good, 2, MTLResourceStorageModePrivate) autorelease];
    CHECK_MISUSE(f, "commands that the host cannot reach", [hidden indirectComputeCommandAtIndex:0], @"Private");
    id<MTLIndirectCommandBuffer> all = [MAKE(good, 2, 0) autorelease];
    [all setLabel:@"layers"];
    CHECK_MISUSE(f, "a command that there is not", [all indirectComputeCommandAtIndex:2], @"'layers'", @"2 commands",
                 @"index 2");
    CHECK_MISUSE(f, "a reset beyond the end", [all resetWithRange:NSMakeRange(1, 2)], @"1 to 2", @"'layers'");
    CHECK_MISUSE(f, "a reset that overflows", [all resetWithRange:((NSRange){NSUIntegerMax, 2})], @"resetWithRange");
    id<MTLIndirectComputeCommand> command = [all indirectComputeCommandAtIndex:1];
    CHECK_MISUSE(f, "an index beyond maxKernelBufferBindCount",
                 [command setKernelBuffer:zeroes(f, 1) offset:0 atIndex:4], @"setKernelBuffer", @"command 1", @"'layers'",
                 @"index 4", @"maxKernelBufferBindCount is 4");
    CHECK_MISUSE(f, "an index beyond maxKernelThreadgroupMemoryBindCount",
                 [command setThreadgroupMemoryLength:16 atIndex:1], @"index 1",
                 @"maxKernelThreadgroupMemoryBindCount is 1");
    [command setComputePipelineState:indirectState(f, @"visit")];
    [command setKernelBuffer:zeroes(f, 4) offset:0 atIndex:0];
    CHECK_MISUSE(f, "a type that was not asked for", [command concurrentDispatchThreads:ONE threadsPerThreadgroup:ONE],
                 @"commandTypes", @"MTLIndirectCommandTypeConcurrentDispatchThreads");
    all = [MAKE(describe(MTLIndirectCommandTypeConcurrentDispatchThreads, 4), 1, 0) autorelease];
    CHECK_MISUSE(f, "nor was the other",
                 [[all indirectComputeCommandAtIndex:0] concurrentDispatchThreadgroups:ONE threadsPerThreadgroup:ONE],
                 @"commandTypes", @"lack MTLIndirectCommandTypeConcurrentDispatch");
}

static void commands(fixture *f) {
    id<MTLIndirectCommandBuffer> all = [newCommands(f, 3) autorelease];
    id<MTLIndirectComputeCommand> c = [all indirectComputeCommandAtIndex:2];
    id<MTLDevice> second = [newDevice(f->name) autorelease];
    id<MTLBuffer> buffer = zeroes(f, 16), foreign = [[second newBufferWithLength:4 options:0] autorelease];
    CHECK_MISUSE(f, "a dispatch without a pipeline state",
                 [c concurrentDispatchThreadgroups:ONE threadsPerThreadgroup:ONE], @"concurrentDispatchThreadgroups",
                 @"command 2", @"setComputePipelineState");
    CHECK_MISUSE(f, "a nil pipeline state", [c setComputePipelineState:nil], @"nil");
    CHECK_MISUSE(f, "an object that is no pipeline state", [c setComputePipelineState:(id) @"text"],
                 @"another device");
    if ([f->name isEqualToString:@"checker"]) {
        CHECK_MISUSE(f, "a pipeline state without support", [c setComputePipelineState:pipeline(f, @"step")],
                     @"supportIndirectCommandBuffers");
    }
    CHECK_MISUSE(f, "a nil buffer", [c setKernelBuffer:nil offset:0 atIndex:0], @"index 0", @"nil");
    CHECK_MISUSE(f, "a buffer of another device", [c setKernelBuffer:foreign offset:0 atIndex:0], @"another device");
    CHECK_MISUSE(f, "an offset beyond the length", [c setKernelBuffer:buffer offset:65 atIndex:3], @"index 3", @"65",
                 @"64");
    CHECK_MISUSE(f, "a length that is no multiple of 16", [c setThreadgroupMemoryLength:8 atIndex:0], @"8 bytes",
                 @"16");
    CHECK_MISUSE(f, "more threadgroup memory than there is", [c setThreadgroupMemoryLength:1 << 16 atIndex:0],
                 @"65536", @"32768");

    [c setComputePipelineState:indirectState(f, @"step")];
    [c setKernelBuffer:buffer offset:0 atIndex:0];
    [c setKernelBuffer:buffer offset:0 atIndex:2];
    CHECK_MISUSE(f, "a missing buffer", [c concurrentDispatchThreadgroups:ONE threadsPerThreadgroup:ONE], @"'step'",
                 @"'to'", @"index 1", @"setKernelBuffer");
    [c setKernelBuffer:buffer offset:6 atIndex:1];
    CHECK_MISUSE(f, "a misaligned offset", [c concurrentDispatchThreadgroups:ONE threadsPerThreadgroup:ONE], @"6",
                 @"'to'", @"alignment 4");
    [c setKernelBuffer:buffer offset:0 atIndex:1];
    [c setKernelBuffer:buffer offset:64 atIndex:2];
    CHECK_MISUSE(f, "nothing left for a reference", [c concurrentDispatchThreads:ONE threadsPerThreadgroup:ONE],
                 @"'value'", @"4 bytes", @"0 are bound");
    [c setComputePipelineState:indirectState(f, @"stash")];
    [c setThreadgroupMemoryLength:16 atIndex:0];
    CHECK_MISUSE(f, "missing threadgroup memory", [c concurrentDispatchThreads:ONE threadsPerThreadgroup:ONE],
                 @"'stash'", @"'t'", @"index 2");
    [c setThreadgroupMemoryLength:32752 atIndex:2];
    CHECK_MISUSE(f, "too much threadgroup memory together", [c concurrentDispatchThreads:ONE threadsPerThreadgroup:ONE],
                 @"'stash'", @"32768");

    [c setComputePipelineState:indirectState(f, @"visit")];
    MTLSize none = MTLSizeMake(0, 1, 1), huge = MTLSizeMake(1ul << 33, 1ul << 31, 1);
    CHECK_MISUSE(f, "a threadgroup too large",
                 [c concurrentDispatchThreadgroups:ONE threadsPerThreadgroup:MTLSizeMake(65, 1, 1)], @"'visit'",
                 @"65 x 1 x 1");
    CHECK_MISUSE(f, "a threadgroup of no threads", [c concurrentDispatchThreads:ONE threadsPerThreadgroup:none],
                 @"0 x 1 x 1");
    CHECK_MISUSE(f, "a grid of no threadgroups", [c concurrentDispatchThreadgroups:none threadsPerThreadgroup:ONE],
                 @"0 x 1 x 1");
    CHECK_MISUSE(f, "a grid of no threads", [c concurrentDispatchThreads:none threadsPerThreadgroup:ONE],
                 @"0 x 1 x 1");
    CHECK_MISUSE(f, "a grid too large", [c concurrentDispatchThreads:huge threadsPerThreadgroup:ONE], @"8589934592");
    CHECK_MISUSE(f, "a grid too large with its threads",
                 [c concurrentDispatchThreadgroups:MTLSizeMake(1 << 30, 1, 1) threadsPerThreadgroup:MTLSizeMake(8, 1, 1)],
                 @"1073741824");
}

static void executions(fixture *f) {
    id<MTLIndirectCommandBuffer> all = [newCommands(f, 3) autorelease];
    [all setLabel:@"layers"];
    id<MTLDevice> second = [newDevice(f->name) autorelease];
    id<MTLIndirectCommandBuffer> foreign =
        [[second newIndirectCommandBufferWithDescriptor:describe(MTLIndirectCommandTypeConcurrentDispatch, 1)
                                        maxCommandCount:1
                                                options:0] autorelease];
    id<MTLBuffer> counts = zeroes(f, 4);
    id<MTLCommandBuffer> commandBuffer = [f->queue commandBuffer];
    [commandBuffer setLabel:@"token"];
    id<MTLComputeCommandEncoder> e = [commandBuffer computeCommandEncoder];
    [e setLabel:@"decode"];
    NSRange range = NSMakeRange(0, 3);
    CHECK_MISUSE(f, "executing nil", [e executeCommandsInBuffer:nil withRange:range], @"executeCommandsInBuffer",
                 @"'decode'", @"'token'", @"nil");
    CHECK_MISUSE(f, "executing an object of another kind", [e executeCommandsInBuffer:(id)counts withRange:range],
                 @"another device");
    CHECK_MISUSE(f, "executing commands of another device",
                 [e executeCommandsInBuffer:foreign withRange:NSMakeRange(0, 1)], @"another device");
    CHECK_MISUSE(f, "executing beyond the end", [e executeCommandsInBuffer:all withRange:NSMakeRange(2, 2)],
                 @"2 to 3", @"'layers'", @"has 3");
    CHECK_MISUSE(f, "executing a range that overflows",
                 [e executeCommandsInBuffer:all withRange:((NSRange){NSUIntegerMax, 2})], @"'layers'");

    id<MTLIndirectComputeCommand> c = [all indirectComputeCommandAtIndex:1];
    [c setKernelBuffer:counts offset:0 atIndex:0];
    CHECK_MISUSE(f, "executing a command without a kernel", [e executeCommandsInBuffer:all withRange:range],
                 @"command 1", @"'layers'", @"setComputePipelineState");
    [c setComputePipelineState:indirectState(f, @"visit")];
    CHECK_MISUSE(f, "executing a command without a dispatch", [e executeCommandsInBuffer:all withRange:range],
                 @"command 1", @"dispatches nothing");
    [c concurrentDispatchThreads:MTLSizeMake(3, 1, 1) threadsPerThreadgroup:ONE];
    [c setKernelBuffer:counts offset:2 atIndex:0];
    CHECK_MISUSE(f, "executing a command that was spoilt", [e executeCommandsInBuffer:all withRange:range],
                 @"command 1", @"alignment 4");
    [c setComputePipelineState:indirectState(f, @"step")];
    CHECK_MISUSE(f, "executing a command whose kernel lacks buffers", [e executeCommandsInBuffer:all withRange:range],
                 @"command 1", @"'from'");
    [e executeCommandsInBuffer:all withRange:NSMakeRange(0, 1)];
    [e executeCommandsInBuffer:all withRange:NSMakeRange(2, 1)];
    [c setComputePipelineState:indirectState(f, @"visit")];
    [c setKernelBuffer:counts offset:0 atIndex:0];
    CHECK_MISUSE(f, "a refused dispatch leaves the one before",
                 [c concurrentDispatchThreads:MTLSizeMake(0, 1, 1) threadsPerThreadgroup:ONE], @"0 x 1 x 1");
    [e executeCommandsInBuffer:all withRange:range];
    [e endEncoding];
    CHECK(f, "a command buffer runs after refused calls",
          finish(commandBuffer) && at(counts, 0) == 1 && at(counts, 2) == 1 && at(counts, 3) == 0);
    CHECK_MISUSE(f, "executing after the end", [e executeCommandsInBuffer:all withRange:range], @"encoding has ended");
}

static void tests(fixture *f) {
    descriptors(f);
    commands(f);
    executions(f);
}

int main(int count, char **words) { return run_tests(count, words, tests); }
