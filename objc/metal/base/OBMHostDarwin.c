// macOS has no futexes that a program may rely on, nor files of memory, nor pages that fork clears: locks, an object of
// shared memory whose name is taken away at once, and a handler of fork do instead. tests/metal runs this on Linux, too.
#if !defined(__APPLE__)
#define _GNU_SOURCE
#endif
#if defined(__APPLE__)
#include <crt_externs.h>
#endif
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "OBMHost.h"

uint32_t obm_host_cores(void) {
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint32_t)online : 1;
}

// Sleeping. Words share a few places by their addresses: who is woken for nothing sleeps on.

enum { PLACES = 16 };

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
} place;

#define PLACE {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER}
#define FOUR_PLACES PLACE, PLACE, PLACE, PLACE
static place places[PLACES] = {FOUR_PLACES, FOUR_PLACES, FOUR_PLACES, FOUR_PLACES};

static place *place_of(const obm_atomic_u32 *word) { return &places[((uintptr_t)word >> 3) % PLACES]; }

void obm_host_wait(obm_atomic_u32 *word, uint32_t seen) {
    place *at = place_of(word);
    pthread_mutex_lock(&at->lock);
    while (obm_load(word) == seen) pthread_cond_wait(&at->changed, &at->lock);
    pthread_mutex_unlock(&at->lock);
}

void obm_host_wake_all(obm_atomic_u32 *word) {
    place *at = place_of(word);
    pthread_mutex_lock(&at->lock);  // or it would miss who has looked and does not sleep yet
    pthread_cond_broadcast(&at->changed);
    pthread_mutex_unlock(&at->lock);
}

// Fork

typedef struct alive_word {
    uint32_t value;  // first: the word's address is the entry's
    struct alive_word *next;
} alive_word;

static pthread_mutex_t alive_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t alive_once = PTHREAD_ONCE_INIT;
static alive_word *alive_words;

static void before_fork(void) { pthread_mutex_lock(&alive_lock); }
static void in_parent(void) { pthread_mutex_unlock(&alive_lock); }

static void in_child(void) {
    for (alive_word *word = alive_words; word != NULL; word = word->next) word->value = 0;
    pthread_mutex_unlock(&alive_lock);
}

static void watch_forks(void) { pthread_atfork(before_fork, in_parent, in_child); }

uint32_t *obm_host_new_alive(void) {
    alive_word *word = calloc(1, sizeof *word);
    if (word == NULL) return NULL;
    pthread_once(&alive_once, watch_forks);
    word->value = 1;
    pthread_mutex_lock(&alive_lock);
    word->next = alive_words;
    alive_words = word;
    pthread_mutex_unlock(&alive_lock);
    return &word->value;
}

void obm_host_free_alive(uint32_t *alive) {
    pthread_mutex_lock(&alive_lock);
    alive_word **link = &alive_words;
    while (*link != (alive_word *)alive) link = &(*link)->next;
    *link = (*link)->next;
    pthread_mutex_unlock(&alive_lock);
    free(alive);
}

// Files and pages

static bool close_on_exec(int file) { return fcntl(file, F_SETFD, FD_CLOEXEC) == 0; }

bool obm_host_pipe(int ends[2]) {
    if (pipe(ends) != 0) return false;
    if (close_on_exec(ends[0]) && close_on_exec(ends[1])) return true;
    close(ends[0]);
    close(ends[1]);
    return false;
}

#if defined(__APPLE__)
char **obm_host_environment(void) { return *_NSGetEnviron(); }  // a bundle does not see `environ`
#else
char **obm_host_environment(void) { return environ; }
#endif

// The system chooses by itself.
void obm_host_want_large_pages(void *memory, size_t length) { (void)memory, (void)length; }

int obm_host_memory_file(size_t length) {
    static obm_atomic_u32 count;
    char name[32];  // macOS takes 31 characters
    snprintf(name, sizeof name, "/onebuf-%x-%x", (unsigned)getpid(), obm_add(&count, 1));
    int file = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (file < 0) return -1;
    shm_unlink(name);
    if (close_on_exec(file) && ftruncate(file, (off_t)length) == 0) return file;
    close(file);
    return -1;
}

#if defined(__APPLE__)
typedef char page_state;
#else
typedef unsigned char page_state;
#endif

bool obm_host_next_pages(int file, char *view, size_t length, size_t *begin, size_t *end) {
    enum { AT_ONCE = 1024 };
    page_state states[AT_ONCE];
    size_t page = (size_t)getpagesize();
    (void)file;
    for (size_t at = *end; at < length; at += AT_ONCE * page) {
        size_t count = (length - at + page - 1) / page, first = 0, last;
        if (count > AT_ONCE) count = AT_ONCE;
        if (mincore(view + at, count * page, states) != 0) return false;
        while (first < count && states[first] == 0) first++;  // in memory, or was and is paged out
        if (first == count) continue;
        for (last = first; last < count && states[last] != 0;) last++;
        *begin = at + first * page;
        *end = at + last * page;
        return true;
    }
    return false;
}
