// What a dispatch costs on the cpu device: encoding one (pipeline state, eight buffers, dispatch,
// barrier), and running one that depends on the one before it; the kernel does nothing, or works
// for two microseconds in each of eight threadgroups. Argument: a library folder.
#import "metal/api/Metal.h"

#include <stdlib.h>
#include <time.h>

enum { BUFFERS = 8, DISPATCHES = 200, REPEATS = 400, WORK_US = 2, WORK_GROUPS = 8 };

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(id<MTLCommandQueue> queue, id<MTLComputePipelineState> state, id<MTLBuffer> *buffers,
                    NSUInteger groups) {
    static double encode[REPEATS], run[REPEATS], wait[REPEATS];
    NSUInteger offsets[BUFFERS] = {0};
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
        double start = seconds();
        id<MTLCommandBuffer> commands = [queue commandBufferWithUnretainedReferences];
        id<MTLComputeCommandEncoder> encoder = [commands
            computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
        for (int i = 0; i < DISPATCHES; i++) {
            [encoder setComputePipelineState:state];
            [encoder setBuffers:buffers offsets:offsets withRange:NSMakeRange(0, BUFFERS)];
            [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
            [encoder dispatchThreadgroups:MTLSizeMake(groups, 1, 1) threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
        }
        [encoder endEncoding];
        double encoded = seconds();
        [commands commit];
        [commands waitUntilCompleted];
        wait[repeat] = seconds() - encoded;
        encode[repeat] = encoded - start;
        run[repeat] = [commands GPUEndTime] - [commands GPUStartTime];
        [pool drain];
    }
    qsort(encode, REPEATS, sizeof *encode, ascending);
    qsort(run, REPEATS, sizeof *run, ascending);
    qsort(wait, REPEATS, sizeof *wait, ascending);
    double each = 1e9 / DISPATCHES;
    printf("%4lu threadgroups: encode %.0f ns, run %.0f ns, commit and wait %.0f ns a dispatch (medians)\n",
           (unsigned long)groups, encode[REPEATS / 2] * each, run[REPEATS / 2] * each,
           wait[REPEATS / 2] * each);
}

static double working(id<MTLCommandQueue> queue, id<MTLComputePipelineState> state, id<MTLBuffer> buffer) {
    static double run[REPEATS];
    uint32_t microseconds = WORK_US;
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
        id<MTLCommandBuffer> commands = [queue commandBufferWithUnretainedReferences];
        id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
        [encoder setComputePipelineState:state];
        [encoder setBuffer:buffer offset:0 atIndex:0];
        [encoder setBytes:&microseconds length:sizeof microseconds atIndex:1];
        for (int i = 0; i < DISPATCHES; i++) {
            [encoder dispatchThreadgroups:MTLSizeMake(WORK_GROUPS, 1, 1)
                    threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
        }
        [encoder endEncoding];
        [commands commit];
        [commands waitUntilCompleted];
        run[repeat] = [commands GPUEndTime] - [commands GPUStartTime];
        [pool drain];
    }
    qsort(run, REPEATS, sizeof *run, ascending);
    return run[REPEATS / 2] / DISPATCHES;
}

int main(int count, char **words) {
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    if (count != 2) return 2;
    id<MTLDevice> device = MTLCreateSystemDefaultDevice();
    NSError *error = nil;
    id<MTLLibrary> library = [device
        newLibraryWithURL:[NSURL fileURLWithPath:[NSString stringWithUTF8String:words[1]]]
                    error:&error];
    if (library == nil) {
        fprintf(stderr, "%s\n", [[error localizedDescription] UTF8String]);
        return 1;
    }
    id<MTLFunction> function = [library newFunctionWithName:@"nothing"];
    id<MTLComputePipelineState> state = [device newComputePipelineStateWithFunction:function error:&error];
    id<MTLCommandQueue> queue = [device newCommandQueue];
    id<MTLBuffer> buffers[BUFFERS];
    for (int i = 0; i < BUFFERS; i++)
        buffers[i] = [device newBufferWithLength:4096 options:MTLResourceStorageModeShared];
    id<MTLFunction> spin = [library newFunctionWithName:@"spin"];
    id<MTLComputePipelineState> busy = [device newComputePipelineStateWithFunction:spin error:&error];
    working(queue, busy, buffers[0]);  // until the system has spread the threads over the cores
    NSUInteger groups[] = {1, 2, 8, 64};
    for (int i = 0; i < 4; i++) measure(queue, state, buffers, groups[i]);
    printf("%4d threadgroups of %d us: run %.2f us a dispatch (median)\n", WORK_GROUPS, WORK_US,
           working(queue, busy, buffers[0]) * 1e6);
    for (int i = 0; i < BUFFERS; i++) [buffers[i] release];
    [busy release];
    [spin release];
    [queue release];
    [state release];
    [function release];
    [library release];
    [device release];
    [pool drain];
    return 0;
}
