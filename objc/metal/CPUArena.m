#include "CPUArena.h"

#include <stdlib.h>

enum { BLOCK_BYTES = 64 * 1024, BLOCK_ALIGNMENT = 64 };

struct cpu_block {
    cpu_block *next;
    size_t capacity;
    _Alignas(BLOCK_ALIGNMENT) char bytes[];
};

static void use_block(cpu_arena *arena, cpu_block *block) {
    arena->current = block;
    arena->free = block->bytes;
    arena->end = block->bytes + block->capacity;
}

static cpu_block *new_block(size_t size) {
    size_t capacity = size > BLOCK_BYTES ? (size + BLOCK_ALIGNMENT - 1) & ~(size_t)(BLOCK_ALIGNMENT - 1)
                                         : BLOCK_BYTES;
    cpu_block *block = aligned_alloc(BLOCK_ALIGNMENT, sizeof(cpu_block) + capacity);
    if (block == NULL) return NULL;
    block->next = NULL;
    block->capacity = capacity;
    return block;
}

void *cpu_arena_grow(cpu_arena *arena, size_t size, size_t alignment) {
    cpu_block *next = arena->current != NULL ? arena->current->next : arena->first;
    if (next == NULL || next->capacity < size) {
        cpu_block *block = new_block(size);
        if (block == NULL) return NULL;
        block->next = next;
        if (arena->current != NULL) arena->current->next = block;
        else arena->first = block;
        next = block;
    }
    use_block(arena, next);
    return alignment > CPU_ARENA_ALIGNMENT ? cpu_arena_take_aligned(arena, size, alignment)
                                           : cpu_arena_take(arena, size);
}

void cpu_arena_reset(cpu_arena *arena) {
    if (arena->first != NULL) use_block(arena, arena->first);
}

void cpu_arena_free(cpu_arena *arena) {
    for (cpu_block *block = arena->first; block != NULL;) {
        cpu_block *next = block->next;
        free(block);
        block = next;
    }
    *arena = (cpu_arena){0};
}
