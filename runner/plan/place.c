/* place.c - offsets for the tensors of a pass: greedy by size, each at the lowest place where
 * nothing that lives at the same time lies. */
#include "plan/plan_int.h"

#include <stdlib.h>

struct block {
    int tensor, first, last;
    uint64_t bytes, offset;
};

/* Larger first; of equal ones the earlier tensor, so that the order is total. */
static int by_size(const void *a, const void *b)
{
    const struct block *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return x->tensor < y->tensor ? -1 : 1;
}

static bool in_arena(const struct rp_graph_tensor *tensor)
{
    return (tensor->role == RP_ROLE_ACTIVATION || tensor->role == RP_ROLE_RESULT) &&
           tensor->alias_of == RP_GRAPH_NO_TENSOR && tensor->first_node >= 0;
}

/* The lowest offset for `block` beside the `n` placed ones, which are sorted by offset. */
static uint64_t find_room(const struct block *block, struct block *const *placed, int n)
{
    uint64_t at = 0;
    for (int i = 0; i < n; i++) {
        const struct block *other = placed[i];
        if (other->last < block->first || block->last < other->first) continue;
        if (at + block->bytes <= other->offset) return at;
        if (other->offset + other->bytes > at) at = other->offset + other->bytes;
    }
    return at;
}

static void insert(struct block **placed, int n, struct block *block)
{
    int i = n;
    for (; i > 0 && placed[i - 1]->offset > block->offset; i--) placed[i] = placed[i - 1];
    placed[i] = block;
}

void rp_plan_place_init(struct rp_plan_place *place, const struct rp_graph *graph)
{
    struct block *blocks = RP_NEW_ARRAY(struct block, graph->n_tensors + 1);
    struct block **placed = RP_NEW_ARRAY(struct block *, graph->n_tensors + 1);
    int n = 0;
    place->offset = RP_NEW_ARRAY(uint64_t, graph->n_tensors);
    place->bytes = 0;
    for (int t = 0; t < graph->n_tensors; t++) {
        const struct rp_graph_tensor *tensor = &graph->tensor[t];
        place->offset[t] = UINT64_MAX;
        if (!in_arena(tensor)) continue;
        blocks[n++] = (struct block){.tensor = t,
                                     .first = tensor->first_node,
                                     .last = tensor->last_node,
                                     .bytes = rp_plan_align(rp_tensor_bytes(&tensor->shape))};
    }
    qsort(blocks, (size_t)n, sizeof *blocks, by_size);
    for (int i = 0; i < n; i++) {
        blocks[i].offset = find_room(&blocks[i], placed, i);
        insert(placed, i, &blocks[i]);
        place->offset[blocks[i].tensor] = blocks[i].offset;
        uint64_t end = blocks[i].offset + blocks[i].bytes;
        if (end > place->bytes) place->bytes = end;
    }
    for (int t = 0; t < graph->n_tensors; t++)
        if (graph->tensor[t].alias_of != RP_GRAPH_NO_TENSOR)
            place->offset[t] = place->offset[graph->tensor[t].alias_of];
    rp_mem_free(placed);
    rp_mem_free(blocks);
}

void rp_plan_place_release(struct rp_plan_place *place)
{
    rp_mem_free(place->offset);
    *place = (struct rp_plan_place){0};
}
