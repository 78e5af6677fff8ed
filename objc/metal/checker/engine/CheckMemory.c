#define _GNU_SOURCE
#include "CheckMemory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "metal/base/OBMHost.h"

enum { CELL = 4, ALL = 15 };
#define PAGE ((size_t)getpagesize())

enum { TOUCHED = 1, WHOLE };  // a page that had memory when last looked at; one that is written from end to end

static void *lazy(size_t length) {
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static size_t cell_count(size_t length) { return (length + CELL - 1) / CELL; }

bool check_memory_shadow(check_memory *memory, size_t length) {
    memory->length = memory->shadowed = length;
    memory->cells = lazy(cell_count(length) * sizeof(check_cell));
    memory->written = lazy(cell_count(length));
    return memory->cells != NULL && memory->written != NULL;
}

void check_memory_unshadow(check_memory *memory) {
    if (memory->cells != NULL) munmap(memory->cells, cell_count(memory->shadowed) * sizeof(check_cell));
    if (memory->written != NULL) munmap(memory->written, cell_count(memory->shadowed));
}

void check_memory_forget(check_memory *memory) {
    memset(memory->cells, 0, cell_count(memory->length) * sizeof(check_cell));
    memset(memory->written, 0, cell_count(memory->length));
}

check_memory *check_memory_new(size_t length, void *host) {
    check_memory *memory = calloc(1, sizeof *memory);
    if (memory == NULL) return NULL;
    memory->pages = (length + PAGE - 1) / PAGE;
    memory->file = obm_host_memory_file(memory->pages * PAGE);
    memory->touched = calloc(memory->pages, 1);
    char *view = MAP_FAILED;
    if (memory->file >= 0) view = mmap(NULL, memory->pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory->file, 0);
    memory->bytes = host != NULL ? host : view;
    memory->mirror = host != NULL ? view : NULL;
    if (view == MAP_FAILED || memory->touched == NULL || !check_memory_shadow(memory, length)) {
        if (view == MAP_FAILED) memory->bytes = memory->mirror = NULL;
        check_memory_free(memory);
        return NULL;
    }
    if (host != NULL) memset(memory->written, ALL, cell_count(length));
    return memory;
}

static char *window_of(const check_memory *memory) {
    return __atomic_load_n(&memory->apart, __ATOMIC_ACQUIRE) - ((size_t)1 << (CHECK_WINDOW_BITS - 1));
}

char *check_memory_apart(check_memory *memory) {
    char *apart = __atomic_load_n(&memory->apart, __ATOMIC_ACQUIRE), *before = NULL;
    if (apart != NULL) return apart;
    size_t window = (size_t)1 << CHECK_WINDOW_BITS;
    char *base = mmap(NULL, window, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return NULL;
    apart =
        mmap(base + window / 2, memory->pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory->file, 0);
    if (apart != MAP_FAILED &&
        __atomic_compare_exchange_n(&memory->apart, &before, apart, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return apart;
    munmap(base, window);
    return before;  // of a thread that was faster
}

bool check_memory_is_near(const check_memory *memory, uint64_t address) {
    return memory->apart != NULL && address - (uint64_t)(uintptr_t)window_of(memory) < (uint64_t)1 << CHECK_WINDOW_BITS;
}

void check_memory_free(check_memory *memory) {
    if (memory == NULL) return;
    if (memory->apart != NULL) munmap(window_of(memory), (size_t)1 << CHECK_WINDOW_BITS);
    char *view = memory->mirror != NULL ? memory->mirror : memory->bytes;
    if (memory->file >= 0 && view != NULL) munmap(view, memory->pages * PAGE);
    if (memory->file >= 0) close(memory->file);
    check_memory_unshadow(memory);
    free(memory->touched);
    free(memory);
}

// Marks what the host wrote in a page. A page that got its memory since the last look got it from the
// host; of any other, what is not zero must have been written.
static void look_at(check_memory *memory, size_t page, bool by_host) {
    size_t begin = page * PAGE, end = begin + PAGE < memory->length ? begin + PAGE : memory->length;
    bool first = memory->touched[page] == 0;
    if (memory->touched[page] == WHOLE) return;
    memory->touched[page] = TOUCHED;
    if (first && by_host) {
        memset(memory->written + begin / CELL, ALL, cell_count(end - begin));
        memory->touched[page] = WHOLE;
    } else if (by_host) {
        for (size_t at = begin; at < end; at++) {
            uint8_t *written = &memory->written[at / CELL], bit = (uint8_t)(1 << at % CELL);
            if (memory->bytes[at] != 0) *written = (*written | bit) & (uint8_t)~(bit << CHECK_TOLD);
        }
    }
}

static void look(check_memory *memory, bool by_host) {
    size_t begin, end = 0;
    while (obm_host_next_pages(memory->file, memory->bytes, memory->pages * PAGE, &begin, &end)) {
        for (size_t page = begin / PAGE; page < (end + PAGE - 1) / PAGE; page++) look_at(memory, page, by_host);
    }
}

void check_memory_take_over(check_memory *memory, uint64_t command_buffer) {
    if (memory->seen == command_buffer) return;
    memory->seen = command_buffer;
    if (memory->mirror != NULL) memcpy(memory->mirror, memory->bytes, memory->length);
    else look(memory, true);
}

void check_memory_give_back(check_memory *memory, size_t offset, size_t length) {
    if (memory->mirror != NULL) memcpy(memory->bytes + offset, memory->mirror + offset, length);
    else look(memory, false);
}

// Windows

bool check_windows_make(check_windows *windows, uint32_t count) {
    size_t length = (size_t)count << CHECK_WINDOW_BITS;
    pthread_mutex_init(&windows->lock, NULL);
    windows->mapped = calloc(count, sizeof *windows->mapped);
    windows->base = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    windows->count = count;
    if (windows->base == MAP_FAILED) windows->base = NULL;
    return windows->base != NULL && windows->mapped != NULL;
}

void check_windows_free(check_windows *windows) {
    if (windows->base != NULL) munmap(windows->base, (size_t)windows->count << CHECK_WINDOW_BITS);
    free(windows->mapped);
    pthread_mutex_destroy(&windows->lock);
}

static char *middle(const check_windows *windows, uint32_t index) {
    return windows->base + ((size_t)index << CHECK_WINDOW_BITS) + ((size_t)1 << (CHECK_WINDOW_BITS - 1));
}

static void clear(check_windows *windows, uint32_t index) {
    struct check_mapping *mapping = &windows->mapped[index];
    if (mapping->length == 0) return;
    mmap(middle(windows, index), mapping->length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
         -1, 0);
    *mapping = (struct check_mapping){NULL, 0, 0};
}

static char *map(check_windows *windows, uint32_t index, const check_memory *memory, size_t offset, size_t length) {
    struct check_mapping *mapping = &windows->mapped[index];
    size_t first = offset / PAGE * PAGE, last = (offset + length + PAGE - 1) / PAGE * PAGE;
    char *place = middle(windows, index);
    if (mapping->memory != memory || mapping->first != first || mapping->length != last - first) {
        clear(windows, index);
        int flags = MAP_SHARED | MAP_FIXED;
        if (mmap(place, last - first, PROT_READ | PROT_WRITE, flags, memory->file, (off_t)first) == MAP_FAILED)
            return NULL;
        *mapping = (struct check_mapping){memory, first, last - first};
    }
    return place + (offset - first);
}

char *check_windows_map(check_windows *windows, uint32_t index, const check_memory *memory, size_t offset,
                        size_t length) {
    pthread_mutex_lock(&windows->lock);
    char *place = map(windows, index, memory, offset, length);
    pthread_mutex_unlock(&windows->lock);
    return place;
}

static char *fill(check_windows *windows, uint32_t index, size_t length) {
    clear(windows, index);
    length = (length + PAGE - 1) / PAGE * PAGE;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    char *place = mmap(middle(windows, index), length, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (place == MAP_FAILED) return NULL;
    windows->mapped[index] = (struct check_mapping){NULL, 0, length};
    return place;
}

char *check_windows_fill(check_windows *windows, uint32_t index, size_t length) {
    pthread_mutex_lock(&windows->lock);
    char *place = fill(windows, index, length);
    pthread_mutex_unlock(&windows->lock);
    return place;
}

char *check_windows_piece(check_windows *windows, uint32_t index, size_t offset, size_t length) {
    struct check_mapping *mapping = &windows->mapped[index];
    char *place = middle(windows, index) + offset;
    if (mapping->length > offset) return place;  // pieces are asked for in order
    if (mprotect(place, length, PROT_READ | PROT_WRITE) != 0) return NULL;
    mapping->length = offset + length;
    return place;
}

void check_windows_drop(check_windows *windows, const check_memory *memory) {
    pthread_mutex_lock(&windows->lock);
    for (uint32_t i = 0; i < windows->count; i++) {
        if (windows->mapped[i].memory == memory) clear(windows, i);
    }
    pthread_mutex_unlock(&windows->lock);
}
