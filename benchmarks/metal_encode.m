// What a dispatch costs on the cpu device: encoding one (pipeline state, eight buffers, dispatch,
// barrier), and running one that depends on the one before it. Argument: a library folder.
#import "metal/Metal.h"

#include <stdlib.h>
#include <time.h>

enum { BUFFERS = 8, DISPATCHES = 200, REPEATS = 400 };

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(id<MTLCommandQueue> queue, id<MTLComputePipelineState> state, id<MTLBuffer> *buffers, NSUInteger groups) {
    static double encode[REPEATS], run[REPEATS], wait[REPEATS];
    NSUInteger offsets[BUFFERS] = {0};
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
        double start = seconds();
        id<MTLCommandBuffer> commands = [queue commandBufferWithUnretainedReferences];
        id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
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
    printf("%4lu threadgroups: encode %.0f ns, run %.0f ns, commit and wait %.0f ns a dispatch (medians)\n", (unsigned long)groups,
           encode[REPEATS / 2] * each, run[REPEATS / 2] * each, wait[REPEATS / 2] * each);
}

int main(int count, char **words) {
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    if (count != 2) return 2;
    id<MTLDevice> device = MTLCreateSystemDefaultDevice();
    NSError *error = nil;
    id<MTLLibrary> library = [device newLibraryWithURL:[NSURL fileURLWithPath:[NSString stringWithUTF8String:words[1]]] error:&error];
    if (library == nil) {
        fprintf(stderr, "%s\n", [[error localizedDescription] UTF8String]);
        return 1;
    }
    id<MTLFunction> function = [library newFunctionWithName:@"nothing"];
    id<MTLComputePipelineState> state = [device newComputePipelineStateWithFunction:function error:&error];
    id<MTLCommandQueue> queue = [device newCommandQueue];
    id<MTLBuffer> buffers[BUFFERS];
    for (int i = 0; i < BUFFERS; i++) buffers[i] = [device newBufferWithLength:4096 options:MTLResourceStorageModeShared];
    NSUInteger groups[] = {1, 2, 8, 64};
    for (int i = 0; i < 4; i++) measure(queue, state, buffers, groups[i]);
    for (int i = 0; i < BUFFERS; i++) [buffers[i] release];
    [queue release];
    [state release];
    [function release];
    [library release];
    [device release];
    [pool drain];
    return 0;
}
