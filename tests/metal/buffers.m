// Buffers: their memory, storage modes, copies and fills.
#import "check.h"

#include <sys/mman.h>

static void creation(fixture *f) {
    id<MTLBuffer> small = [f->device newBufferWithLength:3 options:MTLResourceStorageModeShared];
    const char *bytes = [small contents];
    CHECK(f, "a buffer has its length", [small length] == 3);
    CHECK(f, "a buffer starts as zero", bytes[0] == 0 && bytes[2] == 0);
    CHECK(f, "a buffer knows its device", [small device] == f->device);
    CHECK(f, "gpuAddress is the address where the memory is the host's",
          [small gpuAddress] == (uint64_t)(uintptr_t)bytes || (!sharesMemory(f) && [small gpuAddress] != 0));
    CHECK_EQUAL(f, "allocated memory is counted", [f->device currentAllocatedSize], 3);
    id<MTLBuffer> large = [f->device newBufferWithLength:5 << 20 options:MTLResourceStorageModeShared];
    bytes = [large contents];
    CHECK(f, "a large buffer starts as zero", bytes[0] == 0 && bytes[(5 << 20) - 1] == 0);
    CHECK_EQUAL(f, "allocations add up", [f->device currentAllocatedSize], 3 + (5 << 20));
    CHECK_EQUAL(f, "allocatedSize is the buffer's", [large allocatedSize], 5 << 20);
    [small release];
    [large release];
    CHECK_EQUAL(f, "releasing gives memory back", [f->device currentAllocatedSize], 0);

    char text[] = "metal";
    id<MTLBuffer> copy = [f->device newBufferWithBytes:text length:6 options:MTLResourceStorageModeShared];
    text[0] = 'p';
    CHECK(f, "newBufferWithBytes copies", strcmp([copy contents], "metal") == 0);
    [copy setLabel:@"weights"];
    CHECK(f, "a buffer has a label", [[copy label] isEqualToString:@"weights"]);
    [copy release];
}

static void withoutCopy(fixture *f) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint32_t *memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memory[0] = 3;
    id<MTLBuffer> wrapped = [f->device newBufferWithBytesNoCopy:memory
                                                         length:2 * page
                                                        options:0
                                                    deallocator:nil];
    CHECK(f, "newBufferWithBytesNoCopy uses the memory itself",
          [wrapped contents] == memory && [wrapped length] == 2 * page);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    [encoder setBuffer:wrapped offset:0 atIndex:0];
    encode3(encoder, pipeline(f, @"step"), wrapped, wrapped, 4, 1);
    [encoder endEncoding];
    CHECK(f, "kernels write memory that was not copied", finish(commands) && memory[0] == 7);
    [commands waitUntilCompleted];
    [wrapped release];
    memory[1] = 1;
    CHECK(f, "the memory stays the caller's", memory[0] == 7);
    munmap(memory, 2 * page);
}

static void storageModes(fixture *f) {
    MTLResourceOptions options = MTLResourceStorageModeManaged | MTLResourceCPUCacheModeWriteCombined |
                                 MTLResourceHazardTrackingModeUntracked;
    id<MTLBuffer> managed = [[f->device newBufferWithLength:64 options:options] autorelease];
    CHECK_EQUAL(f, "storageMode is what was asked for", [managed storageMode], MTLStorageModeManaged);
    CHECK_EQUAL(f, "cpuCacheMode is what was asked for", [managed cpuCacheMode], MTLCPUCacheModeWriteCombined);
    CHECK_EQUAL(f, "hazardTrackingMode is what was asked for", [managed hazardTrackingMode],
                MTLHazardTrackingModeUntracked);
    CHECK_EQUAL(f, "resourceOptions are what was asked for", [managed resourceOptions], options);
    CHECK_EQUAL(f, "memory is never purged", [managed setPurgeableState:MTLPurgeableStateKeepCurrent],
                MTLPurgeableStateNonVolatile);
    [managed didModifyRange:NSMakeRange(0, 64)];

    id<MTLBuffer> hidden = [[f->device newBufferWithLength:64
                                                   options:MTLResourceStorageModePrivate] autorelease];
    id<MTLBuffer> shown = zeroes(f, 16);
    CHECK(f, "private memory has no contents", [hidden contents] == NULL);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLBlitCommandEncoder> blit = [commands blitCommandEncoder];
    [blit fillBuffer:hidden range:NSMakeRange(0, 64) value:0xab];
    [blit copyFromBuffer:hidden sourceOffset:0 toBuffer:shown destinationOffset:0 size:64];
    [blit synchronizeResource:managed];
    [blit endEncoding];
    CHECK(f, "private memory is reached by blits",
          finish(commands) && at(shown, 0) == 0xabababab && at(shown, 15) == 0xabababab);
}

static void copies(fixture *f) {
    enum { LENGTH = 3 << 20, START = 12345, SIZE = 2000003 };
    id<MTLBuffer> from = [[f->device newBufferWithLength:LENGTH options:0] autorelease];
    id<MTLBuffer> to = [[f->device newBufferWithLength:LENGTH options:0] autorelease];
    uint8_t *source = [from contents], *target = [to contents];
    for (NSUInteger i = 0; i < LENGTH; i++) source[i] = (uint8_t)(i * 131 >> 3);
    memset(target, 0x55, LENGTH);
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLBlitCommandEncoder> blit = [commands blitCommandEncoder];
    [blit copyFromBuffer:from sourceOffset:7 toBuffer:to destinationOffset:START size:SIZE];
    [blit fillBuffer:to range:NSMakeRange(START + 10, 1 << 20) value:0x77];
    [blit copyFromBuffer:to sourceOffset:START toBuffer:to destinationOffset:0 size:10];
    [blit endEncoding];
    BOOL right = finish(commands);
    CHECK(f, "a large copy moves every byte",
          memcmp(target + START, source + 7, 10) == 0 &&
              memcmp(target + START + 10 + (1 << 20), source + 7 + 10 + (1 << 20), SIZE - 10 - (1 << 20)) == 0);
    CHECK(f, "a copy writes nothing around it",
          target[START - 1] == 0x55 && target[START + SIZE] == 0x55 && target[LENGTH - 1] == 0x55);
    for (NSUInteger i = 0; i < 1 << 20; i++) right = right && target[START + 10 + i] == 0x77;
    CHECK(f, "a large fill writes every byte", right);
    CHECK(f, "a copy inside a buffer works where nothing overlaps", memcmp(target, source + 7, 10) == 0);
}

static void tests(fixture *f) {
    creation(f);
    withoutCopy(f);
    storageModes(f);
    copies(f);
}

int main(int count, char **words) { return run_tests(count, words, tests); }
