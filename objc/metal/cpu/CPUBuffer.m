#define _GNU_SOURCE
#import "CPUBuffer.h"

#import <stdlib.h>
#import <string.h>
#import <sys/mman.h>
#import <unistd.h>

#import "metal/base/OBMHost.h"

enum {
    ALIGNMENT = 256,        // at least any shader type's
    MAP_FROM = 256 * 1024,  // larger buffers get pages of their own, which start as zero
    HUGE_PAGES_FROM = 4 << 20,
};

static char *mapPages(NSUInteger length, NSUInteger *mapped) {
    NSUInteger page = (NSUInteger)sysconf(_SC_PAGESIZE);
    NSUInteger whole = (length + page - 1) / page * page;
    void *bytes = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED) return NULL;
    if (length >= HUGE_PAGES_FROM) obm_host_want_large_pages(bytes, whole);
    *mapped = whole;
    return bytes;
}

static char *allocate(NSUInteger length) {
    void *bytes;
    if (posix_memalign(&bytes, ALIGNMENT, length) != 0) return NULL;
    return memset(bytes, 0, length);
}

@implementation CPUBuffer

- (id)initWithDevice:(OBMDevice *)device length:(NSUInteger)length options:(MTLResourceOptions)options {
    NSUInteger mapped = 0;
    char *bytes = length >= MAP_FROM ? mapPages(length, &mapped) : allocate(length);
    if (bytes == NULL) {
        [self release];
        return nil;
    }
    obm_memory memory = {.bytes = bytes, .address = bytes, .length = length};
    self = [super initWithDevice:device memory:memory options:options];
    if (self == nil) return nil;
    _mapped = mapped;
    if (mapped == 0) _allocated = bytes;
    return self;
}

- (id)initWithDevice:(OBMDevice *)device
              memory:(void *)memory
              length:(NSUInteger)length
             options:(MTLResourceOptions)options {
    obm_memory wrapped = {.bytes = memory, .address = memory, .length = length};
    return [super initWithDevice:device memory:wrapped options:options];
}

- (void)dealloc {
    if (_mapped > 0) munmap(_memory.bytes, _mapped);
    free(_allocated);
    [super dealloc];
}

@end
