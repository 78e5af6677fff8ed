#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "OBMHost.h"

uint32_t obm_host_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return (uint32_t)CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint32_t)online : 1;
}

void obm_host_wait(obm_atomic_u32 *word, uint32_t seen) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

void obm_host_wake_all(obm_atomic_u32 *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0); }

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

// A page that fork clears in the child.
uint32_t *obm_host_new_alive(void) {
    uint32_t *alive = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (alive == MAP_FAILED) return NULL;
    madvise(alive, page_size(), MADV_WIPEONFORK);
    *alive = 1;
    return alive;
}

void obm_host_free_alive(uint32_t *alive) { munmap(alive, page_size()); }

bool obm_host_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC) == 0; }

char **obm_host_environment(void) { return environ; }

void obm_host_want_large_pages(void *memory, size_t length) { madvise(memory, length, MADV_HUGEPAGE); }

int obm_host_memory_file(size_t length) {
    int file = memfd_create("onebuf", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, (off_t)length) == 0) return file;
    close(file);
    return -1;
}

bool obm_host_next_pages(int file, char *view, size_t length, size_t *begin, size_t *end) {
    (void)view;
    if (*end >= length) return false;
    off_t first = lseek(file, (off_t)*end, SEEK_DATA);
    if (first < 0) return false;
    off_t last = lseek(file, first, SEEK_HOLE);
    *begin = (size_t)first;
    *end = last < 0 ? length : (size_t)last;
    return true;
}
