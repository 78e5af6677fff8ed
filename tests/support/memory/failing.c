// malloc and its kin, of which the n-th call can be made to fail: SQLite's way to test what happens without memory.
//
// Loaded with LD_PRELOAD. Only calls of the core count, by whose code asks for the memory: the core's own; with
// FOUNDATION, also that of its Foundation; with WHOLE, also what libraries ask for while the core calls them, the
// Objective-C runtime among them.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

typedef struct {
    uintptr_t begin, end;
} range;

enum { OWN, FOUNDATION, WHOLE };
static range core, python, foundation;
static int whose;
static bool for_good;
static atomic_long counted, failing = -1;
static __thread bool inside;  // of backtrace, which may ask for memory

void failing_places(void *core_begin, void *core_end, void *python_begin, void *python_end, void *foundation_begin,
                    void *foundation_end) {
    core = (range){(uintptr_t)core_begin, (uintptr_t)core_end};
    python = (range){(uintptr_t)python_begin, (uintptr_t)python_end};
    foundation = (range){(uintptr_t)foundation_begin, (uintptr_t)foundation_end};
}

// From now on call number `at` fails; for good: and all after it.
void failing_arm(long at, bool all_after, int asking) {
    whose = asking;
    for_good = all_after;
    atomic_store(&counted, 0);
    atomic_store(&failing, at);
}

// How many calls there were.
long failing_disarm(void) {
    atomic_store(&failing, -1);
    return atomic_load(&counted);
}

static bool in(range place, const void *address) {
    return (uintptr_t)address >= place.begin && (uintptr_t)address < place.end;
}

static bool counts(const void *caller) {
    if (in(core, caller)) return whose != OWN || !in(foundation, caller);
    if (whose != WHOLE) return false;
    void *frames[64];
    inside = true;
    int count = backtrace(frames, 64);
    inside = false;
    for (int i = 1; i < count; i++) {
        if (in(core, frames[i])) return true;
        if (in(python, frames[i])) return false;  // Python's own, which the core's Cython called
    }
    return false;
}

static bool fails(const void *caller) {
    if (inside || atomic_load(&failing) < 0 || !counts(caller)) return false;
    long number = atomic_fetch_add(&counted, 1), at = atomic_load(&failing);
    bool fail = at >= 0 && (number == at || (for_good && number > at));
    if (fail) errno = ENOMEM;
    return fail;
}

#define FAILS fails(__builtin_return_address(0))

void *malloc(size_t size) { return FAILS ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return FAILS ? NULL : __libc_calloc(count, size); }
void *realloc(void *memory, size_t size) { return FAILS ? NULL : __libc_realloc(memory, size); }
void *aligned_alloc(size_t alignment, size_t size) { return FAILS ? NULL : __libc_memalign(alignment, size); }

int posix_memalign(void **memory, size_t alignment, size_t size) {
    if (FAILS) return ENOMEM;
    *memory = __libc_memalign(alignment, size);
    return *memory == NULL ? ENOMEM : 0;
}

char *strdup(const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = FAILS ? NULL : __libc_malloc(size);
    return copy == NULL ? NULL : memcpy(copy, text, size);
}

void *mmap(void *at, size_t length, int protection, int flags, int file, off_t offset) {
    static void *(*real)(void *, size_t, int, int, int, off_t);
    if (FAILS) return MAP_FAILED;
    if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, "mmap");
    return real(at, length, protection, flags, file, offset);
}
