#include "OBMArena.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 64 * 1024, BLOCK_ALIGNMENT = 64 };

struct obm_block {
    obm_block *next;
    size_t capacity;
    _Alignas(BLOCK_ALIGNMENT) char bytes[];
};

static void use_block(obm_arena *arena, obm_block *block) {
    arena->current = block;
    arena->free = block->bytes;
    arena->end = block->bytes + block->capacity;
}

static obm_block *new_block(size_t size) {
    size_t capacity = size > BLOCK_BYTES ? (size + BLOCK_ALIGNMENT - 1) & ~(size_t)(BLOCK_ALIGNMENT - 1) : BLOCK_BYTES;
    obm_block *block = aligned_alloc(BLOCK_ALIGNMENT, sizeof(obm_block) + capacity);
    if (block == NULL) return NULL;
    block->next = NULL;
    block->capacity = capacity;
    return block;
}

void *obm_arena_grow(obm_arena *arena, size_t size, size_t alignment) {
    obm_block *next = arena->current != NULL ? arena->current->next : arena->first;
    if (next == NULL || next->capacity < size) {
        obm_block *block = new_block(size);
        if (block == NULL) return NULL;
        block->next = next;
        if (arena->current != NULL) arena->current->next = block;
        else arena->first = block;
        next = block;
    }
    use_block(arena, next);
    return alignment > OBM_ARENA_ALIGNMENT ? obm_arena_take_aligned(arena, size, alignment)
                                           : obm_arena_take(arena, size);
}

void obm_arena_reset(obm_arena *arena) {
    if (arena->first != NULL) use_block(arena, arena->first);
}

void obm_arena_free(obm_arena *arena) {
    for (obm_block *block = arena->first; block != NULL;) {
        obm_block *next = block->next;
        free(block);
        block = next;
    }
    *arena = (obm_arena){0};
}

const char *obm_arena_text(obm_arena *arena, const char *text) {
    if (text == NULL || *text == '\0') return NULL;
    size_t size = strlen(text) + 1;
    char *copy = obm_arena_take(arena, size);
    return copy == NULL ? NULL : memcpy(copy, text, size);
}
