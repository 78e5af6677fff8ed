// A child process after fork has the memory of a device but not its threads: errors, no hang.
#import "check.h"

#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

// Whether every thread but this one sleeps, as the kernel tells it.
static bool othersSleep(void) {
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks) return true;
    bool sleep = true;
    for (struct dirent *task; (task = readdir(tasks));) {
        if (task->d_name[0] == '.' || atoi(task->d_name) == getpid()) continue;
        char path[300], state = 0;
        snprintf(path, sizeof path, "/proc/self/task/%s/stat", task->d_name);
        FILE *file = fopen(path, "r");
        // The name of the thread stands in parentheses, the state after them.
        if (file && fscanf(file, "%*[^)]) %c", &state) == 1 && state != 'S') sleep = false;
        if (file) fclose(file);
    }
    closedir(tasks);
    return sleep;
}

// A sanitizer's allocator does not survive a fork while another thread, which has just started,
// holds its lock: the child would wait for ever. The C library's own does, so that programs need
// no such wait.
static void waitForOthers(void) {
    for (int quiet = 0; quiet < 3; usleep(2000)) quiet = othersSleep() ? quiet + 1 : 0;
}

static void tests(fixture *f) {
    id<MTLSharedEvent> event = [[f->device newSharedEvent] autorelease];
    id<MTLCommandBuffer> running = [f->queue commandBuffer];
    [running encodeWaitForEvent:event value:1];
    [running commit];
    waitForOthers();
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
