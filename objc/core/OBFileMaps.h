// Files that are mapped into memory, so that one that is cut short while it is in use gets a line that names it.
//
// Reading a mapped page that the file no longer has, or that its medium cannot give, is a SIGBUS. The first watch
// installs a handler of it for the process. At an address that is watched the handler writes one line to standard error;
// every other SIGBUS goes to the handler that was there before. Plain C; any thread may call these.
#ifndef OB_FILE_MAPS_H
#define OB_FILE_MAPS_H

#include <stddef.h>

typedef struct ob_file_map ob_file_map;

// Watches `length` bytes from `address` on as a map of the file `name`, which is copied. `exit_code`: what the process
// then exits with; 0: the signal takes its course, as in a program that only uses this library. NULL when there is no
// memory.
ob_file_map *ob_file_map_watch(const void *address, size_t length, const char *name, int exit_code);

// Before the memory is unmapped. NULL does nothing.
void ob_file_map_forget(ob_file_map *map);

#endif
