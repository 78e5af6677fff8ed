// For the programs that test the Metal API. Each prints one line a check ("ok NAME" or
// "FAILED NAME: why") and returns how many failed. Arguments: the test library's folder and a
// folder to write in, and the name of the device to test; a program that does not fit a device leaves out
// what does not fit.
#import "core/OBExtensions.h"
#import "metal/api/Metal.h"

#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    id<MTLDevice> device;
    id<MTLLibrary> library;
    id<MTLCommandQueue> queue;
    const char *path;     // of the library
    const char *scratch;  // a folder to write in
    NSString *name;       // of the device
    int failed;
} fixture;

// Another device of the same kind, owned by the caller; nil where there is none.
__attribute__((unused)) static id<MTLDevice> newDevice(NSString *name) {
    id<MTLDevice> found = nil;
    NSArray *devices = MTLCopyAllDevices();
    for (id<MTLDevice> device in devices) {
        if ([[device name] isEqualToString:name]) found = [device retain];
    }
    [devices release];
    return found;
}

// What some devices do, and others do not.
__attribute__((unused)) static BOOL overlaps(fixture *f) { return [f->name isEqualToString:@"cpu"]; }
__attribute__((unused)) static BOOL isGPU(fixture *f) { return [f->name hasPrefix:@"cuda"]; }
__attribute__((unused)) static BOOL hasThreads(fixture *f) {
    return [f->device conformsToProtocol:@protocol(OBThreadedDevice)];
}
__attribute__((unused)) static BOOL sharesMemory(fixture *f) { return [f->name isEqualToString:@"cpu"]; }
__attribute__((unused)) static BOOL refusesOtherThreadsWhileBusy(fixture *f) { return overlaps(f); }

__attribute__((unused)) static void report(fixture *f, const char *name, BOOL passed, NSString *why) {
    if (passed) {
        printf("ok %s\n", name);
    } else {
        printf("FAILED %s: %s\n", name, [why UTF8String]);
        f->failed++;
    }
    fflush(stdout);
}

#define CHECK(f, name, condition) report(f, name, (condition), @ #condition)

#define CHECK_EQUAL(f, name, got, expected)                                                                    \
    do {                                                                                                       \
        long long got_ = (long long)(got), expected_ = (long long)(expected);                                  \
        report(f, name, got_ == expected_,                                                                     \
               [NSString stringWithFormat:@"%s is %lld, not %lld", #got, got_, expected_]);                    \
    } while (0)

// The statement must raise MTLValidationException with one line that has all the words in it.
#define CHECK_MISUSE(f, name, statement, ...)                                                                  \
    do {                                                                                                       \
        NSException *raised_ = nil;                                                                            \
        @try {                                                                                                 \
            statement;                                                                                         \
        } @catch (NSException * exception_) { raised_ = exception_; }                                          \
        report_misuse(f, name, raised_, [NSArray arrayWithObjects:__VA_ARGS__, nil]);                          \
    } while (0)

__attribute__((unused)) static void report_misuse(fixture *f, const char *name, NSException *raised,
                                                  NSArray *words) {
    NSString *why = raised == nil ? @"nothing was raised"
                                  : [NSString stringWithFormat:@"%@: %@", [raised name], [raised reason]];
    BOOL good = [[raised name] isEqualToString:@"MTLValidationException"] &&
                [[raised reason] rangeOfString:@"\n"].length == 0;
    for (NSString *word in words) good = good && [[raised reason] rangeOfString:word].length > 0;
    report(f, name, good, why);
}

__attribute__((unused)) static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

__attribute__((unused)) static void sleep_for(double time) {
    struct timespec duration = {(time_t)time, (long)((time - (double)(time_t)time) * 1e9)};
    nanosleep(&duration, NULL);
}

// A command buffer lets go of what it used once it has completed, on a thread of the device.
__attribute__((unused)) static void awaitRelease(id object, NSUInteger count) {
    for (int i = 0; i < 5000 && [object retainCount] != count; i++) sleep_for(0.001);
}

__attribute__((unused)) static id<MTLComputePipelineState> pipeline(fixture *f, NSString *name) {
    NSError *error = nil;
    id<MTLFunction> function = [[f->library newFunctionWithName:name] autorelease];
    return [[f->device newComputePipelineStateWithFunction:function error:&error] autorelease];
}

__attribute__((unused)) static id<MTLBuffer> zeroes(fixture *f, NSUInteger count) {
    return [[f->device newBufferWithLength:count * 4 options:MTLResourceStorageModeShared] autorelease];
}

__attribute__((unused)) static id<MTLBuffer> numbers(fixture *f, const uint32_t *values, NSUInteger count) {
    return [[f->device newBufferWithBytes:values length:count * 4
                                  options:MTLResourceStorageModeShared] autorelease];
}

__attribute__((unused)) static uint32_t at(id<MTLBuffer> buffer, NSUInteger index) {
    return ((uint32_t *)[buffer contents])[index];
}

// Encodes kernel(a, b, value) over `groups` threadgroups of one thread: step, total, meet, spin.
__attribute__((unused)) static void encode3(id<MTLComputeCommandEncoder> encoder,
                                            id<MTLComputePipelineState> state, id<MTLBuffer> a, id<MTLBuffer> b,
                                            uint32_t value, NSUInteger groups) {
    [encoder setComputePipelineState:state];
    [encoder setBuffer:a offset:0 atIndex:0];
    [encoder setBuffer:b offset:0 atIndex:1];
    [encoder setBytes:&value length:sizeof value atIndex:2];
    [encoder dispatchThreadgroups:MTLSizeMake(groups, 1, 1) threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
}

__attribute__((unused)) static void encode_spin(id<MTLComputeCommandEncoder> encoder,
                                                id<MTLComputePipelineState> state, id<MTLBuffer> done,
                                                uint32_t microseconds, NSUInteger groups) {
    [encoder setComputePipelineState:state];
    [encoder setBuffer:done offset:0 atIndex:0];
    [encoder setBytes:&microseconds length:sizeof microseconds atIndex:1];
    [encoder dispatchThreadgroups:MTLSizeMake(groups, 1, 1) threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
}

__attribute__((unused)) static BOOL finish(id<MTLCommandBuffer> commands) {
    [commands commit];
    [commands waitUntilCompleted];
    return [commands status] == MTLCommandBufferStatusCompleted && [commands error] == nil;
}

__attribute__((unused)) static int threadCount(void) {
    DIR *folder = opendir("/proc/self/task");
    int count = -2;  // the folder itself and the one above
    while (folder != NULL && readdir(folder) != NULL) count++;
    if (folder != NULL) closedir(folder);
    return count;
}

// A thread of the device may be the last to let go of it, after a program has ended that does not wait.
__attribute__((unused)) static void closeDevice(fixture *f) {
    awaitRelease(f->device, 1);
    int threads = threadCount();
    [f->device release];
    for (int i = 0; isGPU(f) && i < 2000 && threadCount() >= threads; i++) sleep_for(0.001);
}

// Opens the device, runs the tests, and closes it again.
__attribute__((unused)) static int run_tests(int count, char **words, void (*tests)(fixture *)) {
    if (count != 4) return 2;
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    fixture f = {.path = words[1], .scratch = words[2], .name = [[NSString alloc] initWithUTF8String:words[3]]};
    NSError *error = nil;
    f.device = newDevice(f.name);
    f.library = [f.device newLibraryWithURL:[NSURL fileURLWithPath:[NSString stringWithUTF8String:words[1]]]
                                      error:&error];
    f.queue = [f.device newCommandQueue];
    report(&f, "the library opens", f.library != nil, [error localizedDescription]);
    if (f.library != nil) tests(&f);
    [pool drain];
    pool = [[NSAutoreleasePool alloc] init];
    [f.queue release];
    [f.library release];
    closeDevice(&f);
    [f.name release];
    [pool drain];
    return f.failed == 0 ? 0 : 1;
}
