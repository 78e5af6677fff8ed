// What Metal's validation layer refuses is an exception with one clear line, and never a crash.
#import "check.h"

#define ONE MTLSizeMake(1, 1, 1)

static id<MTLComputeCommandEncoder> labelledEncoder(id<MTLCommandBuffer> commands) {
    [commands setLabel:@"token"];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    [encoder setLabel:@"decode"];
    return encoder;
}

static void bindings(fixture *f) {
    id<MTLBuffer> buffer = zeroes(f, 4);
    id<MTLBuffer> many[40];
    NSUInteger offsets[40] = {0};
    for (int i = 0; i < 40; i++) many[i] = buffer;
    id<MTLDevice> second = [newDevice(f->name) autorelease];
    id<MTLBuffer> foreign = [[second newBufferWithLength:4 options:0] autorelease];
    char large[4097] = {0};
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> e = labelledEncoder(commands);

    CHECK_MISUSE(f, "index 31 of setBuffer", [e setBuffer:buffer offset:0 atIndex:31], @"setBuffer", @"31",
                 @"30", @"'decode'", @"'token'");
    CHECK_MISUSE(f, "index 31 of setBytes", [e setBytes:large length:4 atIndex:31], @"setBytes", @"31");
    CHECK_MISUSE(f, "index 31 of setBufferOffset", [e setBufferOffset:0 atIndex:31], @"setBufferOffset", @"31");
    CHECK_MISUSE(f, "a range beyond index 30",
                 [e setBuffers:many offsets:offsets withRange:NSMakeRange(20, 12)], @"20 to 31", @"30");
    CHECK_MISUSE(f, "a range that overflows",
                 [e setBuffers:many offsets:offsets withRange:((NSRange){NSUIntegerMax, 2})], @"setBuffers");
    CHECK_MISUSE(f, "setBuffers without arrays", [e setBuffers:NULL offsets:NULL withRange:NSMakeRange(0, 1)],
                 @"NULL");
    CHECK_MISUSE(f, "4,097 bytes", [e setBytes:large length:4097 atIndex:2], @"4097", @"4096", @"index 2");
    CHECK_MISUSE(f, "no bytes", [e setBytes:large length:0 atIndex:2], @"setBytes", @"0 bytes");
    CHECK_MISUSE(f, "bytes from NULL", [e setBytes:NULL length:4 atIndex:2], @"setBytes");
    CHECK_MISUSE(f, "an offset beyond the length", [e setBuffer:buffer offset:17 atIndex:1], @"17", @"16",
                 @"index 1");
    CHECK_MISUSE(f, "setBufferOffset without a buffer", [e setBufferOffset:0 atIndex:5], @"index 5",
                 @"setBuffer");
    [e setBytes:large length:4 atIndex:6];
    CHECK_MISUSE(f, "setBufferOffset on bytes", [e setBufferOffset:0 atIndex:6], @"index 6", @"setBuffer");
    [e setBuffer:buffer offset:0 atIndex:5];
    CHECK_MISUSE(f, "setBufferOffset beyond the length", [e setBufferOffset:17 atIndex:5], @"17", @"16",
                 @"index 5");
    CHECK_MISUSE(f, "a buffer of another device", [e setBuffer:foreign offset:0 atIndex:0], @"another device");
    CHECK_MISUSE(f, "an object that is no buffer", [e setBuffer:(id) @"text" offset:0 atIndex:0],
                 @"another device");
    [e endEncoding];
    CHECK(f, "a command buffer runs after refused calls", finish(commands));
}

static void arguments(fixture *f) {
    id<MTLBuffer> buffer = zeroes(f, 16);
    uint32_t value = 0;
    id<MTLComputePipelineState> step = pipeline(f, @"step"), paint = pipeline(f, @"paint");
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> e = labelledEncoder(commands);
    CHECK_MISUSE(f, "no pipeline state", [e dispatchThreadgroups:ONE threadsPerThreadgroup:ONE],
                 @"setComputePipelineState", @"'decode'");
    CHECK_MISUSE(f, "a nil pipeline state", [e setComputePipelineState:nil], @"nil");
    CHECK_MISUSE(f, "an object that is no pipeline state", [e setComputePipelineState:(id) @"text"],
                 @"pipeline state");
    [e setComputePipelineState:step];
    [e setBuffer:buffer offset:0 atIndex:0];
    [e setBytes:&value length:4 atIndex:2];
    CHECK_MISUSE(f, "a missing binding", [e dispatchThreadgroups:ONE threadsPerThreadgroup:ONE], @"'step'",
                 @"'to'", @"index 1", @"'decode'", @"'token'");
    CHECK_MISUSE(f, "a missing binding of dispatchThreads", [e dispatchThreads:ONE threadsPerThreadgroup:ONE],
                 @"dispatchThreads", @"'to'");
    [e setBuffer:buffer offset:0 atIndex:1];
    [e dispatchThreadgroups:ONE threadsPerThreadgroup:ONE];
    [e setBuffer:nil offset:0 atIndex:1];
    CHECK_MISUSE(f, "a binding that was taken away", [e dispatchThreadgroups:ONE threadsPerThreadgroup:ONE],
                 @"'to'", @"index 1");
    [e setBuffer:buffer offset:6 atIndex:1];
    CHECK_MISUSE(f, "a misaligned offset", [e dispatchThreadgroups:ONE threadsPerThreadgroup:ONE], @"'step'",
                 @"6", @"'to'", @"index 1", @"alignment 4");
    [e setBuffer:buffer offset:0 atIndex:1];
    [e setBuffer:buffer offset:64 atIndex:2];
    CHECK_MISUSE(f, "nothing left for a reference", [e dispatchThreadgroups:ONE threadsPerThreadgroup:ONE],
                 @"'value'", @"4 bytes", @"0 are bound");
    [e setComputePipelineState:paint];
    [e setBytes:&value length:4 atIndex:1];
    CHECK_MISUSE(f, "too few bytes for a struct", [e dispatchThreadgroups:ONE threadsPerThreadgroup:ONE],
                 @"'paint'", @"'args'", @"32 bytes", @"4 are bound");
    [e setBuffer:buffer offset:16 atIndex:1];
    [e setBuffer:buffer offset:8 atIndex:0];
    CHECK_MISUSE(f, "an offset that is misaligned for a vector",
                 [e dispatchThreadgroups:ONE threadsPerThreadgroup:ONE], @"'out'", @"alignment 16");
    [e endEncoding];
    CHECK(f, "the dispatch between the refused ones ran", finish(commands));
}

static void sizes(fixture *f) {
    id<MTLBuffer> buffer = zeroes(f, 4096), counts = zeroes(f, 4);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> e = labelledEncoder(commands);
    MTLSize huge = MTLSizeMake(1ul << 33, 1ul << 31, 1);
    [e setComputePipelineState:pipeline(f, @"visit")];
    [e setBuffer:buffer offset:0 atIndex:0];
    CHECK_MISUSE(f, "a threadgroup too large",
                 [e dispatchThreadgroups:ONE threadsPerThreadgroup:MTLSizeMake(65, 1, 1)], @"'visit'",
                 @"65 x 1 x 1", @"64");
    CHECK_MISUSE(f, "a threadgroup too large together",
                 [e dispatchThreads:ONE threadsPerThreadgroup:MTLSizeMake(8, 8, 2)], @"8 x 8 x 2", @"64");
    CHECK_MISUSE(f, "a threadgroup whose size overflows", [e dispatchThreads:ONE threadsPerThreadgroup:huge],
                 @"64");
    CHECK_MISUSE(f, "a threadgroup of no threads",
                 [e dispatchThreadgroups:ONE threadsPerThreadgroup:MTLSizeMake(1, 0, 1)], @"1 x 0 x 1");
    CHECK_MISUSE(f, "a grid of no threadgroups",
                 [e dispatchThreadgroups:MTLSizeMake(0, 1, 1) threadsPerThreadgroup:ONE], @"0 x 1 x 1");
    CHECK_MISUSE(f, "a grid of no threads", [e dispatchThreads:MTLSizeMake(4, 4, 0) threadsPerThreadgroup:ONE],
                 @"4 x 4 x 0");
    CHECK_MISUSE(f, "a grid too large",
                 [e dispatchThreads:MTLSizeMake(1ul << 32, 1, 1) threadsPerThreadgroup:ONE], @"4294967296");
    CHECK_MISUSE(f, "a grid too large together",
                 [e dispatchThreadgroups:MTLSizeMake(1 << 16, 1 << 16, 1) threadsPerThreadgroup:ONE],
                 @"65536 x 65536");
    CHECK_MISUSE(f, "a grid whose size overflows",
                 [e dispatchThreadgroups:huge threadsPerThreadgroup:MTLSizeMake(2, 2, 1)], @"8589934592");
    CHECK_MISUSE(f, "a grid too large with its threads",
                 [e dispatchThreadgroups:MTLSizeMake(1 << 30, 1, 1) threadsPerThreadgroup:MTLSizeMake(8, 1, 1)],
                 @"1073741824");
    CHECK_MISUSE(f, "an indirect dispatch without a buffer",
                 [e dispatchThreadgroupsWithIndirectBuffer:nil
                                      indirectBufferOffset:0
                                     threadsPerThreadgroup:ONE],
                 @"nil");
    CHECK_MISUSE(f, "an indirect dispatch beyond its buffer",
                 [e dispatchThreadgroupsWithIndirectBuffer:counts
                                      indirectBufferOffset:8
                                     threadsPerThreadgroup:ONE],
                 @"12 bytes", @"offset 8", @"16");
    CHECK_MISUSE(f, "a misaligned indirect dispatch",
                 [e dispatchThreadgroupsWithIndirectBuffer:counts
                                      indirectBufferOffset:2
                                     threadsPerThreadgroup:ONE],
                 @"offset 2", @"multiple of 4");
    [e endEncoding];
    CHECK(f, "none of the refused dispatches ran", finish(commands) && at(buffer, 0) == 0);
}

static void threadgroupMemory(fixture *f) {
    id<MTLBuffer> wrong = zeroes(f, 4), lengths = zeroes(f, 2);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> e = labelledEncoder(commands);
    [e setComputePipelineState:pipeline(f, @"stash")];
    [e setBuffer:wrong offset:0 atIndex:0];
    [e setBuffer:lengths offset:0 atIndex:1];
    CHECK_MISUSE(f, "threadgroup index 31", [e setThreadgroupMemoryLength:16 atIndex:31], @"31");
    CHECK_MISUSE(f, "a threadgroup length that is no multiple of 16",
                 [e setThreadgroupMemoryLength:24 atIndex:0], @"24", @"multiple of 16");
    CHECK_MISUSE(f, "a threadgroup length too large", [e setThreadgroupMemoryLength:32784 atIndex:0], @"32784",
                 @"32768");
    [e setThreadgroupMemoryLength:16 atIndex:0];
    CHECK_MISUSE(f, "missing threadgroup memory", [e dispatchThreadgroups:ONE threadsPerThreadgroup:ONE],
                 @"'stash'", @"'t'", @"threadgroup index 2");
    [e setThreadgroupMemoryLength:32768 - 16 atIndex:2];
    CHECK_MISUSE(f, "threadgroup memory too large with the kernel's own",
                 [e dispatchThreadgroups:ONE threadsPerThreadgroup:ONE], @"'stash'", @"32768");
    [e setThreadgroupMemoryLength:32768 - 16 - 256 atIndex:2];
    [e dispatchThreadgroups:ONE threadsPerThreadgroup:ONE];
    [e endEncoding];
    CHECK(f, "all of the threadgroup memory can be used", finish(commands));
}

static void barriers(fixture *f) {
    id<MTLBuffer> buffer = zeroes(f, 4);
    id<MTLResource> none[] = {nil};
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> e = labelledEncoder(commands);
    CHECK_MISUSE(f, "a barrier without a scope", [e memoryBarrierWithScope:0], @"scope 0x0");
    CHECK_MISUSE(f, "a barrier for render targets", [e memoryBarrierWithScope:MTLBarrierScopeRenderTargets],
                 @"scope 0x4");
    CHECK_MISUSE(f, "a barrier without resources", [e memoryBarrierWithResources:&buffer count:0],
                 @"at least one");
    CHECK_MISUSE(f, "a barrier with a nil resource", [e memoryBarrierWithResources:none count:1], @"nil");
    CHECK_MISUSE(f, "using a resource for nothing", [e useResource:buffer usage:0], @"usage 0x0");
    CHECK_MISUSE(f, "a nil fence", [e updateFence:nil], @"nil");
    CHECK_MISUSE(f, "popping a debug group that is not there", [e popDebugGroup], @"debug group");
    [e pushDebugGroup:@"layer"];
    [e insertDebugSignpost:@"here"];
    [e popDebugGroup];
    CHECK_MISUSE(f, "a nil signpost", [e insertDebugSignpost:nil], @"nil");
    [e endEncoding];
    CHECK_MISUSE(f, "popping a command buffer's debug group that is not there", [commands popDebugGroup],
                 @"'token'");
}

static void afterTheEnd(fixture *f) {
    id<MTLBuffer> buffer = zeroes(f, 4), others[] = {buffer};
    NSUInteger offsets[] = {0};
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> e = labelledEncoder(commands);
    [e setComputePipelineState:pipeline(f, @"nothing")];
    [e endEncoding];
    CHECK_MISUSE(f, "endEncoding twice", [e endEncoding], @"ended", @"'decode'");
    CHECK_MISUSE(f, "setComputePipelineState after the end", [e setComputePipelineState:pipeline(f, @"step")],
                 @"ended");
    CHECK_MISUSE(f, "setBuffer after the end", [e setBuffer:buffer offset:0 atIndex:0], @"ended");
    CHECK_MISUSE(f, "setBuffers after the end",
                 [e setBuffers:others offsets:offsets withRange:NSMakeRange(0, 1)], @"ended");
    CHECK_MISUSE(f, "setBufferOffset after the end", [e setBufferOffset:0 atIndex:0], @"ended");
    CHECK_MISUSE(f, "setBytes after the end", [e setBytes:"x" length:1 atIndex:0], @"ended");
    CHECK_MISUSE(f, "setThreadgroupMemoryLength after the end", [e setThreadgroupMemoryLength:16 atIndex:0],
                 @"ended");
    CHECK_MISUSE(f, "dispatchThreadgroups after the end",
                 [e dispatchThreadgroups:ONE threadsPerThreadgroup:ONE], @"ended");
    CHECK_MISUSE(f, "dispatchThreads after the end", [e dispatchThreads:ONE threadsPerThreadgroup:ONE],
                 @"ended");
    CHECK_MISUSE(f, "a barrier after the end", [e memoryBarrierWithScope:MTLBarrierScopeBuffers], @"ended");
    CHECK_MISUSE(f, "a resource barrier after the end", [e memoryBarrierWithResources:others count:1],
                 @"ended");
    CHECK_MISUSE(f, "a signpost after the end", [e insertDebugSignpost:@"x"], @"ended");
    id<MTLBlitCommandEncoder> blit = [commands blitCommandEncoder];
    [blit endEncoding];
    CHECK_MISUSE(f, "fillBuffer after the end", [blit fillBuffer:buffer range:NSMakeRange(0, 4) value:1],
                 @"ended");
    CHECK_MISUSE(f, "copyFromBuffer after the end",
                 [blit copyFromBuffer:buffer sourceOffset:0 toBuffer:buffer destinationOffset:8 size:4],
                 @"ended");
    CHECK(f, "the labels stay readable", [[e label] isEqualToString:@"decode"] && [e device] == f->device);
}

static void commandBuffers(fixture *f) {
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> e = labelledEncoder(commands);
    id<MTLSharedEvent> event = [[f->device newSharedEvent] autorelease];
    CHECK_MISUSE(f, "a second encoder", [commands computeCommandEncoder], @"'decode'", @"'token'",
                 @"endEncoding");
    CHECK_MISUSE(f, "a blit encoder beside another", [commands blitCommandEncoder], @"'decode'",
                 @"endEncoding");
    CHECK_MISUSE(f, "committing with an open encoder", [commands commit], @"'decode'", @"endEncoding");
    CHECK_MISUSE(f, "an event inside an encoder", [commands encodeSignalEvent:event value:1], @"'decode'",
                 @"endEncoding");
    [e endEncoding];
    CHECK_MISUSE(f, "waiting for what is not committed", [commands waitUntilCompleted], @"'token'", @"commit");
    CHECK_MISUSE(f, "waiting for what is not scheduled", [commands waitUntilScheduled], @"'token'", @"commit");
    CHECK_MISUSE(f, "a nil event", [commands encodeWaitForEvent:nil value:1], @"nil");
    CHECK_MISUSE(f, "an unknown dispatch type", [commands computeCommandEncoderWithDispatchType:2], @"2");
    CHECK_MISUSE(f, "a nil descriptor", [commands computeCommandEncoderWithDescriptor:nil], @"nil");
    [commands enqueue];
    CHECK_MISUSE(f, "enqueueing twice", [commands enqueue], @"'token'");
    [commands commit];
    CHECK_MISUSE(f, "committing twice", [commands commit], @"already committed", @"'token'");
    CHECK_MISUSE(f, "enqueueing after commit", [commands enqueue], @"already committed");
    CHECK_MISUSE(f, "an encoder after commit", [commands computeCommandEncoder], @"already committed",
                 @"'token'");
    CHECK_MISUSE(f, "a blit encoder after commit", [commands blitCommandEncoder], @"already committed");
    CHECK_MISUSE(f, "an event after commit", [commands encodeSignalEvent:event value:1], @"already committed");
    [commands waitUntilCompleted];
    CHECK_EQUAL(f, "the command buffer completes nevertheless", [commands status],
                MTLCommandBufferStatusCompleted);

    id<MTLCommandQueue> queue = [[f->device newCommandQueueWithMaxCommandBufferCount:1] autorelease];
    [queue setLabel:@"narrow"];
    [queue commandBuffer];
    CHECK_MISUSE(f, "a full queue with nothing committed", [queue commandBuffer], @"'narrow'",
                 @"1 command buffers", @"commit");
    CHECK_MISUSE(f, "a queue for no command buffers", [f->device newCommandQueueWithMaxCommandBufferCount:0],
                 @"at least 1");
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    commands = [f->queue commandBuffer];
    [commands computeCommandEncoder];
    [pool drain];
    CHECK(f, "releasing an open encoder harms nothing", finish([f->queue commandBuffer]));
}

static void blits(fixture *f) {
    id<MTLBuffer> a = zeroes(f, 4), b = zeroes(f, 4);
    [a setLabel:@"keys"];
    id<MTLBlitCommandEncoder> e = [[f->queue commandBuffer] blitCommandEncoder];
    CHECK_MISUSE(f, "a copy from beyond the end",
                 [e copyFromBuffer:a sourceOffset:8 toBuffer:b destinationOffset:0 size:9], @"9 bytes",
                 @"offset 8", @"16", @"'keys'");
    CHECK_MISUSE(f, "a copy to beyond the end",
                 [e copyFromBuffer:a sourceOffset:0 toBuffer:b destinationOffset:17 size:1], @"offset 17");
    CHECK_MISUSE(f, "a copy whose size overflows",
                 [e copyFromBuffer:a sourceOffset:8 toBuffer:b destinationOffset:0 size:NSUIntegerMax],
                 @"copyFromBuffer");
    CHECK_MISUSE(f, "a copy of nothing",
                 [e copyFromBuffer:a sourceOffset:0 toBuffer:b destinationOffset:0 size:0], @"at least 1");
    CHECK_MISUSE(f, "a copy that overlaps",
                 [e copyFromBuffer:a sourceOffset:0 toBuffer:a destinationOffset:4 size:8], @"overlap",
                 @"'keys'");
    CHECK_MISUSE(f, "a copy from nil",
                 [e copyFromBuffer:nil sourceOffset:0 toBuffer:a destinationOffset:4 size:8], @"nil");
    CHECK_MISUSE(f, "a fill beyond the end", [e fillBuffer:a range:NSMakeRange(10, 7) value:0], @"7 bytes",
                 @"offset 10");
    CHECK_MISUSE(f, "a fill of nothing", [e fillBuffer:a range:NSMakeRange(10, 0) value:0], @"at least 1");
    CHECK_MISUSE(f, "synchronising shared memory", [e synchronizeResource:a], @"MTLStorageModeManaged",
                 @"'keys'");
    [e endEncoding];
}

static void otherThreads(fixture *f) {
    id<OBThreadedDevice> d = (id<OBThreadedDevice>)f->device;
    CHECK_MISUSE(f, "no threads", [d setWorkerThreadCount:0], @"0 threads", @"1 to");
    id<MTLSharedEvent> event = [[f->device newSharedEvent] autorelease];
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    [commands encodeWaitForEvent:event value:1];
    [commands commit];
    CHECK_MISUSE(f, "other threads while a command buffer runs", [d setWorkerThreadCount:3], @"busy");
    [event setSignaledValue:1];
    [commands waitUntilCompleted];
    [d setWorkerThreadCount:2];
    CHECK_EQUAL(f, "other threads when it is done", [d workerThreadCount], 2);
}

static void devices(fixture *f) {
    id<MTLDevice> d = f->device;
    char text[4] = "abc";
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    void *pages = (void *)(16 * page);
    CHECK_MISUSE(f, "a buffer of no bytes", [d newBufferWithLength:0 options:0], @"newBufferWithLength",
                 @"at least 1");
    CHECK_MISUSE(f, "a buffer too large", [d newBufferWithLength:NSUIntegerMax options:0], @"maxBufferLength");
    CHECK_MISUSE(f, "a memoryless buffer", [d newBufferWithLength:4 options:MTLResourceStorageModeMemoryless],
                 @"Memoryless");
    CHECK_MISUSE(f, "unknown options", [d newBufferWithLength:4 options:1 << 20], @"0x100000");
    CHECK_MISUSE(f, "bytes from NULL", [d newBufferWithBytes:NULL length:4 options:0], @"NULL");
    CHECK_MISUSE(f, "bytes into private memory",
                 [d newBufferWithBytes:text length:4 options:MTLResourceStorageModePrivate], @"Private");
    CHECK_MISUSE(f, "a pointer that is no page",
                 [d newBufferWithBytesNoCopy:(char *)pages + 8 length:page options:0 deallocator:nil],
                 @"page size");
    CHECK_MISUSE(f, "a length that is no page",
                 [d newBufferWithBytesNoCopy:pages length:page - 1 options:0 deallocator:nil], @"page size");
    CHECK_MISUSE(f, "a deallocator",
                 [d newBufferWithBytesNoCopy:pages length:page options:0 deallocator:(id) @"x"], @"nil");
    CHECK_MISUSE(f, "didModifyRange of shared memory", [zeroes(f, 1) didModifyRange:NSMakeRange(0, 1)],
                 @"MTLStorageModeManaged");
    id<MTLBuffer> managed = [[d newBufferWithLength:4 options:MTLResourceStorageModeManaged] autorelease];
    CHECK_MISUSE(f, "didModifyRange beyond the length", [managed didModifyRange:NSMakeRange(2, 3)], @"2 to 5",
                 @"length 4");
    CHECK_MISUSE(f, "a pipeline state of nil", [d newComputePipelineStateWithFunction:nil error:NULL],
                 @"function is nil");
    id<MTLDevice> second = [newDevice(f->name) autorelease];
    id<MTLFunction> function = [[f->library newFunctionWithName:@"step"] autorelease];
    CHECK_MISUSE(f, "a function of another device",
                 [second newComputePipelineStateWithFunction:function error:NULL], @"'step'",
                 @"another device");
    CHECK_MISUSE(f, "a nil function name", [f->library newFunctionWithName:nil], @"nil");
    CHECK_MISUSE(f, "a nil URL", [d newLibraryWithURL:nil error:NULL], @"URL");
    CHECK_MISUSE(f, "nil source", [d newLibraryWithSource:nil options:nil error:NULL], @"source");
    if (refusesOtherThreadsWhileBusy(f)) otherThreads(f);
}

static void tests(fixture *f) {
    bindings(f);
    arguments(f);
    sizes(f);
    threadgroupMemory(f);
    barriers(f);
    afterTheEnd(f);
    commandBuffers(f);
    blits(f);
    devices(f);
}

int main(int count, char **words) { return run_tests(count, words, tests); }
