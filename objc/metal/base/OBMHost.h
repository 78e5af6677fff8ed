// Services that each system offers in its own way, from OBMHostLinux.c or OBMHostDarwin.c. They are plain C, and any
// thread may call them.
#ifndef OBM_HOST_H
#define OBM_HOST_H

#include <stdbool.h>
#include <stddef.h>

#include "OBMAtomic.h"

// Cores that this process may use: at least 1.
uint32_t obm_host_cores(void);

// Sleeps while *word is `seen`; it may return earlier. Whoever changes the word calls the other.
void obm_host_wait(obm_atomic_u32 *word, uint32_t seen);
void obm_host_wake_all(obm_atomic_u32 *word);

// A word that is 1, and 0 in a child process after fork; NULL when there is no memory left.
uint32_t *obm_host_new_alive(void);
void obm_host_free_alive(uint32_t *alive);

// A pipe whose ends are closed where another program starts.
bool obm_host_pipe(int ends[2]);

// The environment that a program which is started gets.
char **obm_host_environment(void);

// Wishes for larger pages in memory that was mapped and is not used yet.
void obm_host_want_large_pages(void *memory, size_t length);

// A file of `length` bytes, whole pages of zeros, that is memory and has no name; -1: there is none.
int obm_host_memory_file(size_t length);

// Finds the next pages of such a file, seen whole at `view`, that have memory: from *end on, bytes *begin to *end.
bool obm_host_next_pages(int file, char *view, size_t length, size_t *begin, size_t *end);

#endif
