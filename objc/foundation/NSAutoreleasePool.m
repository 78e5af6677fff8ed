#import <Foundation/Foundation.h>
#import <objc/runtime.h>

#import "OBFMemory.h"

typedef struct obf_page {
    struct obf_page *before;
    unsigned count;
    id objects[126];
} page;

static __thread NSAutoreleasePool *innermost;

@implementation NSAutoreleasePool

+ (void)initialize {
    // Its first message prepares a class, which takes memory: now, not when there is none.
    if (self == [NSAutoreleasePool class]) (void)[NSClassFromString(@"OBFNoMemory") class];
}

+ (void)addObject:(id)object {
    NSAutoreleasePool *pool = innermost;
    if (pool == nil) {
        fprintf(stderr, "onebuf: an object of class %s leaks: its thread has no autorelease pool\n",
                object_getClassName(object));
        return;
    }
    page *last = pool->_last;
    if (last == NULL || last->count == sizeof last->objects / sizeof *last->objects) {
        page *added = malloc(sizeof *added);
        if (added == NULL) {
            [object release];
            obf_raise_no_memory();
        }
        added->before = last;
        added->count = 0;
        pool->_last = last = added;
    }
    last->objects[last->count++] = object;
}

- (id)init {
    _outer = innermost;
    innermost = self;
    return self;
}

- (void)drain {
    [self release];
}

- (id)autorelease {
    [NSException raise:NSInvalidArgumentException format:@"a pool is drained, not autoreleased"];
    return nil;
}

// What is released may autorelease more: that comes into this pool, too.
- (void)dealloc {
    while (innermost != self && innermost != nil) [innermost drain];
    while (_last != NULL) {
        page *last = _last;
        if (last->count > 0) {
            [last->objects[--last->count] release];
        } else {
            _last = last->before;
            free(last);
        }
    }
    innermost = _outer;
    [super dealloc];
}

@end
