// What newer systems keep for a program: buffers within the device's reach (residency sets), compiled kernels in files
// (binary archives). OB_LIMITS says of which macOS the devices are to be.
#import "check.h"

static BOOL hasArchives(fixture *f) {
    return [f->device respondsToSelector:@selector(newBinaryArchiveWithDescriptor:error:)];
}
static BOOL hasSets(fixture *f) {
    return [f->device respondsToSelector:@selector(newResidencySetWithDescriptor:error:)];
}

static void systems(fixture *f) {
    unsetenv("OB_LIMITS");
    CHECK(f, "without a setting there is neither", !hasArchives(f) && !hasSets(f));
    setenv("OB_LIMITS", "macOS=10", 1);
    CHECK(f, "macOS 10 has neither", !hasArchives(f) && !hasSets(f));
    setenv("OB_LIMITS", "macOS=14", 1);
    CHECK(f, "macOS 14 has archives", hasArchives(f) && !hasSets(f));
    setenv("OB_LIMITS", "maxBufferLength=1000000 macOS=15", 1);
    CHECK(f, "macOS 15 has both", hasArchives(f) && hasSets(f));
    CHECK(f, "other questions have their own answers",
          [f->device respondsToSelector:@selector(newFence)] && ![f->device respondsToSelector:@selector(newHeap)]);
}

static id<MTLResidencySet> newSet(fixture *f, id<MTLDevice> device) {
    MTLResidencySetDescriptor *descriptor = [[[MTLResidencySetDescriptor alloc] init] autorelease];
    [descriptor setLabel:@"weights"];
    [descriptor setInitialCapacity:4];
    MTLResidencySetDescriptor *copy = [[descriptor copy] autorelease];
    NSError *error = nil;
    id<MTLResidencySet> set = [device newResidencySetWithDescriptor:copy error:&error];
    CHECK(f, "a set has its descriptor's label", [[set label] isEqualToString:@"weights"] && error == nil);
    return set;
}

static void sets(fixture *f) {
    id<MTLResidencySet> set = newSet(f, f->device);
    id<MTLBuffer> small = zeroes(f, 4), large = zeroes(f, 1000);
    NSUInteger before = [(id)small retainCount];
    CHECK(f, "it knows its device", [set device] == f->device);
    [set addAllocation:small];
    [set addAllocation:small];
    id<MTLAllocation> both[2] = {small, large};
    [set addAllocations:both count:2];
    CHECK_EQUAL(f, "each allocation is in it once", [set allocationCount], 2);
    CHECK_EQUAL(f, "before a commit nothing is resident", [set allocatedSize], 0);
    CHECK(f, "it keeps what it has", [(id)small retainCount] == before + 1);
    [set commit];
    [set requestResidency];
    CHECK_EQUAL(f, "a commit counts", [set allocatedSize], [small allocatedSize] + [large allocatedSize]);
    CHECK(f, "it says what it has", [set containsAllocation:large] && [[set allAllocations] count] == 2);
    [set removeAllocation:large];
    [set removeAllocation:large];
    CHECK(f, "what is removed is not in it", ![set containsAllocation:large] && [set allocationCount] == 1);
    CHECK_EQUAL(f, "until the next commit it stays", [set allocatedSize],
                [small allocatedSize] + [large allocatedSize]);
    [set commit];
    CHECK_EQUAL(f, "then it is gone", [set allocatedSize], [small allocatedSize]);
    [set removeAllAllocations];
    [set commit];
    CHECK_EQUAL(f, "all go together", [set allocatedSize] + [set allocationCount], 0);
    [set endResidency];

    before = [(id)set retainCount];
    [f->queue addResidencySet:set];
    [f->queue addResidencySet:set];
    CHECK(f, "a queue keeps a set once", [(id)set retainCount] == before + 1);
    CHECK(f, "command buffers run", finish([f->queue commandBuffer]));
    [f->queue removeResidencySet:set];
    CHECK(f, "and lets go of it", [(id)set retainCount] == before);

    id<MTLDevice> second = [newDevice(f->name) autorelease];
    id<MTLBuffer> foreign = [[second newBufferWithLength:16 options:0] autorelease];
    id<MTLResidencySet> other = [newSet(f, second) autorelease];
    CHECK_MISUSE(f, "a buffer of another device", [set addAllocation:foreign], @"'weights'", @"own device");
    CHECK_MISUSE(f, "no buffer", [set addAllocation:nil], @"addAllocation");
    CHECK_MISUSE(f, "a set of another device", [f->queue addResidencySet:other], @"addResidencySet", @"own device");
    CHECK_MISUSE(f, "no descriptor", [f->device newResidencySetWithDescriptor:nil error:NULL], @"nil");
    [set release];
}

// The archive of a file, or an empty one.
static id<MTLBinaryArchive> archive(fixture *f, NSString *path, NSError **error) {
    MTLBinaryArchiveDescriptor *descriptor = [[[MTLBinaryArchiveDescriptor alloc] init] autorelease];
    if (path != nil) [descriptor setUrl:[NSURL fileURLWithPath:path]];
    MTLBinaryArchiveDescriptor *copy = [[descriptor copy] autorelease];
    return [[f->device newBinaryArchiveWithDescriptor:copy error:error] autorelease];
}

static MTLComputePipelineDescriptor *descriptorOf(fixture *f, NSString *name, id<MTLBinaryArchive> from) {
    MTLComputePipelineDescriptor *descriptor = [[[MTLComputePipelineDescriptor alloc] init] autorelease];
    [descriptor setComputeFunction:[[f->library newFunctionWithName:name] autorelease]];
    [descriptor setBinaryArchives:[NSArray arrayWithObject:from]];
    return descriptor;
}

// Whether an archive has the function.
static BOOL has(fixture *f, id<MTLBinaryArchive> from, NSString *name) {
    NSError *error = nil;
    id<MTLComputePipelineState> state =
        [f->device newComputePipelineStateWithDescriptor:descriptorOf(f, name, from)
                                                 options:MTLPipelineOptionFailOnBinaryArchiveMiss
                                              reflection:NULL
                                                   error:&error];
    if (state == nil && ![[error domain] isEqualToString:MTLBinaryArchiveDomain]) f->failed++;
    [state release];
    return state != nil;
}

static BOOL add(fixture *f, id<MTLBinaryArchive> to, NSString *name) {
    return [to addComputePipelineFunctionsWithDescriptor:descriptorOf(f, name, to) error:NULL];
}

static NSString *file(fixture *f, const char *name) { return [NSString stringWithFormat:@"%s/%s", f->scratch, name]; }

static BOOL put(NSString *path, NSString *text) {
    FILE *out = fopen([path fileSystemRepresentation], "wb");
    return out != NULL && fputs([text UTF8String], out) >= 0 && fclose(out) == 0;
}

static void archives(fixture *f) {
    id<MTLBinaryArchive> empty = archive(f, nil, NULL);
    CHECK(f, "an empty archive has nothing", !has(f, empty, @"step") && [empty device] == f->device);
    CHECK(f, "without the option a function is compiled all the same",
          [[f->device newComputePipelineStateWithDescriptor:descriptorOf(f, @"step", empty)
                                                    options:0
                                                 reflection:NULL
                                                      error:NULL] autorelease] != nil);
    CHECK(f, "functions are added", add(f, empty, @"step") && add(f, empty, @"step") && add(f, empty, @"paint"));
    CHECK(f, "then it has these", has(f, empty, @"step") && has(f, empty, @"paint") && !has(f, empty, @"spin"));

    NSString *path = file(f, "kept.binarchive");
    NSError *error = nil;
    CHECK(f, "it is written", [empty serializeToURL:[NSURL fileURLWithPath:path] error:&error] && error == nil);
    id<MTLBinaryArchive> again = archive(f, path, &error);
    CHECK(f, "the file has the same", has(f, again, @"step") && has(f, again, @"paint") && !has(f, again, @"spin"));
    CHECK(f, "more is added to it", add(f, again, @"spin") && has(f, again, @"spin") && has(f, again, @"step"));
    CHECK(f, "a folder that is not there",
          ![again serializeToURL:[NSURL fileURLWithPath:file(f, "no/x")] error:&error] &&
              [[error domain] isEqualToString:MTLBinaryArchiveDomain]);

    NSString *text = [NSString stringWithContentsOfFile:path encoding:NSUTF8StringEncoding error:NULL];
    NSString *wrong[] = {[text substringToIndex:[text length] / 2],
                         [text stringByReplacingOccurrencesOfString:@"step" withString:@"stop"],
                         [text stringByReplacingOccurrencesOfString:@"archive 1" withString:@"archive 2"], @"", @"\n"};
    for (NSUInteger i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        error = nil;
        BOOL refused = put(path, wrong[i]) && archive(f, path, &error) == nil;
        CHECK(f, "a damaged file, or one of another version",
              refused && [error code] == MTLBinaryArchiveErrorInvalidFile &&
                  [[error domain] isEqualToString:MTLBinaryArchiveDomain]);
    }
    CHECK(f, "no file", archive(f, file(f, "none"), &error) == nil);
    CHECK_MISUSE(f, "an archive without a descriptor", [f->device newBinaryArchiveWithDescriptor:nil error:NULL],
                 @"nil");
    CHECK_MISUSE(f, "nothing to add",
                 [empty addComputePipelineFunctionsWithDescriptor:
                            [[[MTLComputePipelineDescriptor alloc] init] autorelease]
                                                            error:NULL],
                 @"addComputePipelineFunctions");
    CHECK_MISUSE(f, "nowhere to write", [empty serializeToURL:nil error:NULL], @"serializeToURL");
}

static void tests(fixture *f) {
    systems(f);
    sets(f);
    archives(f);
}

int main(int count, char **words) { return run_tests(count, words, tests); }
