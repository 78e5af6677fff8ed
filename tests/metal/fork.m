// A child process after fork has the memory of a device but not its threads: errors, no hang.
#import "check.h"

#include <sys/wait.h>

static void tests(fixture *f) {
    id<MTLSharedEvent> event = [[f->device newSharedEvent] autorelease];
    id<MTLCommandBuffer> running = [f->queue commandBuffer];
    [running encodeWaitForEvent:event value:1];
    [running commit];
    pid_t child = fork();
    if (child == 0) {
        f->failed = 0;
        [running waitUntilCompleted];
        CHECK_EQUAL(f, "what the parent runs fails in the child", [running status],
                    MTLCommandBufferStatusError);
        id<MTLCommandBuffer> commands = [f->queue commandBuffer];
        [commands commit];
        [commands waitUntilCompleted];
        CHECK(f, "committing to the parent's device fails in the child",
              [commands status] == MTLCommandBufferStatusError &&
                  [[[commands error] localizedDescription] rangeOfString:@"fork"].length > 0);
        id<MTLDevice> device = newDevice(f->name);
        id<MTLCommandQueue> queue = [device newCommandQueue];
        if (isGPU(f)) CHECK(f, "the driver does not show itself in the child", device == nil);
        else CHECK(f, "a new device works in the child", finish([queue commandBuffer]));
        fflush(stdout);
        _exit(f->failed);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(f, "the child ends well", WIFEXITED(status) && WEXITSTATUS(status) == 0);
    [event setSignaledValue:1];
    [running waitUntilCompleted];
    CHECK_EQUAL(f, "the parent goes on", [running status], MTLCommandBufferStatusCompleted);
}

int main(int count, char **words) { return run_tests(count, words, tests); }
