#import <Foundation/Foundation.h>
#import <objc/runtime.h>

#import "OBFMemory.h"

typedef struct obf_page {
    struct obf_page *before;
    unsigned count;
    id objects[126];
} page;

static __thread NSAutoreleasePool *innermost;

// The first pools of a thread need no memory: what is given back where memory has ended needs one, too.
enum { SPARE = 4 };
static __thread struct {
    uintptr_t references[2];  // as before any object
    struct {
        Class isa;
        void *fields[2];
    } pool;
} spare[SPARE];

@implementation NSAutoreleasePool

+ (void)initialize {
    if (self != [NSAutoreleasePool class]) return;
    if (class_getInstanceSize(self) != sizeof spare->pool) abort();  // somebody gave it another field
    // Its first message prepares a class, which takes memory: now, not when there is none.
    (void)[NSClassFromString(@"OBFNoMemory") class];
}

+ (id)alloc {
    for (int i = 0; i < SPARE; i++) {
        if (spare[i].pool.isa != Nil) continue;
        spare[i].pool.isa = self;
        return (id)&spare[i].pool;
    }
    return [super alloc];
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
        page *added = NULL;
        @try {
            added = obf_zeroed(1, sizeof *added);
        } @catch (NSException *exception) {
            [object release];
            @throw;
        }
        added->before = last;
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

// An object that is released may autorelease others. They come into this pool, too.
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
    for (int i = 0; i < SPARE; i++) {
        if ((void *)self != (void *)&spare[i].pool) continue;
        memset(&spare[i], 0, sizeof spare[i]);
        return;
    }
    [super dealloc];
}

@end
