/* arena.c - memory of a spec: many small blocks, freed at once. */
#include "spec/spec_int.h"

#include <string.h>

struct rp_arena_block {
    struct rp_arena_block *next;
    size_t used, size;
    max_align_t bytes[];
};

void *rp_arena_new(struct rp_arena *arena, size_t bytes)
{
    size_t align = sizeof(max_align_t);
    bytes = (bytes + align - 1) / align * align;
    struct rp_arena_block *block = arena->block;
    if (!block || block->size - block->used < bytes) {
        size_t size = bytes > 16384 ? bytes : 16384;
        block = rp_mem_new(sizeof *block + size);
        block->size = size;
        block->next = arena->block;
        arena->block = block;
    }
    void *result = (char *)block->bytes + block->used;
    block->used += bytes;
    return result;
}

char *rp_arena_text(struct rp_arena *arena, const char *bytes, size_t length)
{
    char *text = rp_arena_new(arena, length + 1);
    if (length) memcpy(text, bytes, length);
    return text;
}

void rp_arena_release(struct rp_arena *arena)
{
    while (arena->block) {
        struct rp_arena_block *next = arena->block->next;
        rp_mem_free(arena->block);
        arena->block = next;
    }
}
