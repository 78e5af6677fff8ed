#define _GNU_SOURCE
#include "OBFileMaps.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// The handler walks the list without a lock, so an entry stays in it for good and is used again for another file.
struct ob_file_map {
    ob_file_map *next;
    uintptr_t begin, end;  // equal: not in use
    char *line;            // what is written
    size_t length;
    int exit_code;
};

// A signal handler belongs to the process, and so does what it reads.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ob_file_map *maps;
static struct sigaction earlier;
static bool installed;
static bool reported;

static const ob_file_map *find(uintptr_t address) {
    for (ob_file_map *map = __atomic_load_n(&maps, __ATOMIC_ACQUIRE); map != NULL; map = map->next) {
        uintptr_t end = __atomic_load_n(&map->end, __ATOMIC_ACQUIRE);
        if (address < end && address >= __atomic_load_n(&map->begin, __ATOMIC_ACQUIRE)) return map;
    }
    return NULL;
}

// Only what POSIX allows in a signal handler.
static void report(const ob_file_map *map) {
    for (size_t done = 0; done < map->length;) {
        ssize_t count = write(STDERR_FILENO, map->line + done, map->length - done);
        if (count < 0 && errno != EINTR) break;
        if (count > 0) done += (size_t)count;
    }
}

static void pass_on(int number, siginfo_t *info, void *context) {
    if (earlier.sa_flags & SA_SIGINFO) {
        earlier.sa_sigaction(number, info, context);
    } else if (earlier.sa_handler != SIG_DFL && earlier.sa_handler != SIG_IGN) {
        earlier.sa_handler(number);
    } else {
        struct sigaction standard = {.sa_handler = SIG_DFL};
        sigaction(number, &standard, NULL);
        if (info->si_code <= 0) raise(number);  // sent by a process: returning would not bring it back
    }
}

static void on_bus_error(int number, siginfo_t *info, void *context) {
    int before = errno;
    const ob_file_map *map = info->si_code > 0 ? find((uintptr_t)info->si_addr) : NULL;
    bool first = map != NULL && !__atomic_exchange_n(&reported, true, __ATOMIC_ACQ_REL);
    if (first) report(map);
    if (first && map->exit_code != 0) _exit(map->exit_code);
    while (map != NULL && map->exit_code != 0) pause();  // the first thread ends the process
    pass_on(number, info, context);
    errno = before;
}

static bool install(void) {
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, &earlier) == 0;
}

// Control characters of a file's name do not reach a terminal.
static char *line_for(const char *name, size_t *length) {
    static const char before[] = "onebuf: error: ";
    static const char after[] =
        ": was cut short, or cannot be read any more, while it was in use; make it whole, and "
        "start again\n";
    size_t size = strlen(name);
    char *line = malloc(sizeof before + size + sizeof after);
    if (line == NULL) return NULL;
    memcpy(line, before, sizeof before - 1);
    char *at = line + sizeof before - 1;
    for (size_t i = 0; i < size; i++) *at++ = (unsigned char)name[i] < ' ' || name[i] == 0x7F ? '?' : name[i];
    memcpy(at, after, sizeof after - 1);
    *length = sizeof before - 1 + size + sizeof after - 1;
    return line;
}

// An entry that is not in use, in the list; NULL when there is no memory. Under the lock.
static ob_file_map *take(void) {
    for (ob_file_map *map = maps; map != NULL; map = map->next) {
        if (map->line == NULL) return map;
    }
    ob_file_map *map = calloc(1, sizeof *map);
    if (map == NULL) return NULL;
    map->next = maps;
    __atomic_store_n(&maps, map, __ATOMIC_RELEASE);
    return map;
}

ob_file_map *ob_file_map_watch(const void *address, size_t length, const char *name, int exit_code) {
    size_t size;
    char *line = line_for(name, &size);
    if (line == NULL) return NULL;
    pthread_mutex_lock(&lock);
    ob_file_map *map = take();
    if (map != NULL) {
        map->line = line;
        map->length = size;
        map->exit_code = exit_code;
        __atomic_store_n(&map->begin, (uintptr_t)address, __ATOMIC_RELEASE);
        __atomic_store_n(&map->end, (uintptr_t)address + length, __ATOMIC_RELEASE);
        if (!installed) installed = install();
    }
    pthread_mutex_unlock(&lock);
    if (map == NULL) free(line);
    return map;
}

void ob_file_map_forget(ob_file_map *map) {
    if (map == NULL) return;
    pthread_mutex_lock(&lock);
    __atomic_store_n(&map->end, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&map->begin, 0, __ATOMIC_RELEASE);
    free(map->line);
    map->line = NULL;
    pthread_mutex_unlock(&lock);
}
