// Memory for objects: what cannot be had raises NSMallocException, which needs no memory itself.
#ifndef OBF_MEMORY_H
#define OBF_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#define OBF_LONGEST UINT32_MAX  // bytes of a string, objects of a collection

void obf_raise_no_memory(void) __attribute__((noreturn));
void *obf_zeroed(size_t count, size_t size);
void *obf_resized(void *memory, size_t count, size_t size);

// How much to ask for where `needed` of `room` are in use: it grows by half, so that adding takes constant time each.
static inline size_t obf_room(size_t room, size_t needed) {
    size_t grown = room + room / 2 + 8;
    return needed > grown ? needed : grown;
}

#endif
