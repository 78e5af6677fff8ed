#import "OBFMemory.h"

#import <Foundation/Foundation.h>
#import <objc/runtime.h>

// The exception that is there already when memory ends.
@interface OBFNoMemory : NSException
@end

@implementation OBFNoMemory
- (id)retain {
    return self;
}
- (oneway void)release {
}
- (id)autorelease {
    return self;
}
- (NSString *)name {
    return NSMallocException;
}
- (NSString *)reason {
    return @"no memory left";
}
@end

static struct {
    Class isa;
    void *fields[3];
} noMemory;

void obf_raise_no_memory(void) {
    // The runtime knows its classes by now, and each caller stores the same.
    __atomic_store_n((void **)&noMemory.isa, (void *)objc_lookUpClass("OBFNoMemory"), __ATOMIC_RELAXED);
    @throw (id)&noMemory;
}

void *obf_zeroed(size_t count, size_t size) {
    void *memory = calloc(count > 0 ? count : 1, size);
    if (memory == NULL) obf_raise_no_memory();
    return memory;
}

void *obf_resized(void *memory, size_t count, size_t size) {
    void *made = count > SIZE_MAX / size ? NULL : realloc(memory, count * size);
    if (made == NULL) obf_raise_no_memory();
    return made;
}
