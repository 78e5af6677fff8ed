// Memory that only grows, for one command buffer: nothing moves, and all of it goes at once.
#ifndef CPU_ARENA_H
#define CPU_ARENA_H

#include <stddef.h>
#include <stdint.h>

typedef struct cpu_block cpu_block;

// Zeroed, it is empty and ready. Used by one thread at a time.
typedef struct cpu_arena {
    char *free;  // first unused byte of the current block
    char *end;
    cpu_block *first;
    cpu_block *current;
} cpu_arena;

enum { CPU_ARENA_ALIGNMENT = 16 };

// A new block for `size` bytes; NULL when there is no memory left.
void *cpu_arena_grow(cpu_arena *arena, size_t size, size_t alignment);

// Keeps the blocks for the next use.
void cpu_arena_reset(cpu_arena *arena);
void cpu_arena_free(cpu_arena *arena);

// Uninitialised memory, aligned to CPU_ARENA_ALIGNMENT.
static inline void *cpu_arena_take(cpu_arena *arena, size_t size) {
    size = (size + CPU_ARENA_ALIGNMENT - 1) & ~(size_t)(CPU_ARENA_ALIGNMENT - 1);
    if ((size_t)(arena->end - arena->free) < size) return cpu_arena_grow(arena, size, CPU_ARENA_ALIGNMENT);
    void *memory = arena->free;
    arena->free += size;
    return memory;
}

// The same with a power of two of at most 64 as the alignment.
static inline void *cpu_arena_take_aligned(cpu_arena *arena, size_t size, size_t alignment) {
    uintptr_t start = ((uintptr_t)arena->free + alignment - 1) & ~(uintptr_t)(alignment - 1);
    size = (size + CPU_ARENA_ALIGNMENT - 1) & ~(size_t)(CPU_ARENA_ALIGNMENT - 1);
    if (start + size > (uintptr_t)arena->end) return cpu_arena_grow(arena, size, alignment);
    arena->free = (char *)start + size;
    return (char *)start;
}

#endif
