// Memory that only grows, for one command buffer: nothing moves, and all of it goes at once.
#ifndef OBM_ARENA_H
#define OBM_ARENA_H

#include <stddef.h>
#include <stdint.h>

typedef struct obm_block obm_block;

// Zeroed, it is empty and ready. Used by one thread at a time.
typedef struct obm_arena {
    char *free;  // first unused byte of the current block
    char *end;
    obm_block *first;
    obm_block *current;
} obm_arena;

enum { OBM_ARENA_ALIGNMENT = 16 };

// A new block for `size` bytes; NULL when there is no memory left.
void *obm_arena_grow(obm_arena *arena, size_t size, size_t alignment);

// Keeps the blocks for the next use.
void obm_arena_reset(obm_arena *arena);
void obm_arena_free(obm_arena *arena);

// A copy of a text, or NULL: the text is NULL or empty, or there is no memory left.
const char *obm_arena_text(obm_arena *arena, const char *text);

// Uninitialised memory, aligned to OBM_ARENA_ALIGNMENT.
static inline void *obm_arena_take(obm_arena *arena, size_t size) {
    size = (size + OBM_ARENA_ALIGNMENT - 1) & ~(size_t)(OBM_ARENA_ALIGNMENT - 1);
    if ((size_t)(arena->end - arena->free) < size) return obm_arena_grow(arena, size, OBM_ARENA_ALIGNMENT);
    void *memory = arena->free;
    arena->free += size;
    return memory;
}

// The same with a power of two of at most 64 as the alignment.
static inline void *obm_arena_take_aligned(obm_arena *arena, size_t size, size_t alignment) {
    uintptr_t start = ((uintptr_t)arena->free + alignment - 1) & ~(uintptr_t)(alignment - 1);
    size = (size + OBM_ARENA_ALIGNMENT - 1) & ~(size_t)(OBM_ARENA_ALIGNMENT - 1);
    if (start + size > (uintptr_t)arena->end) return obm_arena_grow(arena, size, alignment);
    arena->free = (char *)start + size;
    return (char *)start;
}

#endif
