/* set.c - `--set train.optimizer.lr=3e-4`: one value of the tree replaced before the schema sees
 * it, so that it is checked like the rest. A number in the path is an item of a list. */
#include "spec/spec_int.h"

#include <string.h>

static const struct rp_spec_place nowhere = {0, 0};

static struct rp_node **find_entry(struct rp_node *node, const char *part)
{
    for (int i = 0; i < node->n; i++) {
        char number[16] = "";
        if (node->kind == RP_NODE_LIST) {
            struct rp_text text = {0};
            rp_text_add(&text, "%d", i);
            memcpy(number, rp_text_get(&text), text.length + 1);
            rp_text_release(&text);
        }
        const char *name = node->kind == RP_NODE_LIST ? number : node->entry[i].key;
        if (name && strcmp(name, part) == 0) return &node->entry[i].value;
    }
    return NULL;
}

/* `relu` or `cross_entropy` as a map, so that a key below it can be set. */
static struct rp_node *as_map(struct rp_arena *arena, const struct rp_node *node, const char *set)
{
    struct rp_node *map = rp_arena_new(arena, sizeof *map);
    map->kind = RP_NODE_MAP;
    map->at = node->at;
    map->set = set;
    if (node->kind == RP_NODE_SCALAR && rp_scalar_kind(node) == RP_SCALAR_TEXT) {
        struct rp_node *empty = rp_arena_new(arena, sizeof *empty);
        empty->kind = RP_NODE_MAP;
        empty->at = node->at;
        empty->set = set;
        rp_node_add(arena, map, node->text, node->at, empty);
    }
    return map;
}

/* The slot that `path` names, made where it is missing; NULL after a problem. */
static struct rp_node **descend(struct rp_node **slot, char *path, const char *argument,
                                struct rp_arena *arena, struct rp_problems *problems)
{
    for (char *part = path; part;) {
        char *dot = strchr(part, '.');
        if (dot) *dot = '\0';
        struct rp_node *node = *slot;
        if (!*part) {
            rp_problems_add(problems, nowhere, argument, "an empty name between two dots");
            return NULL;
        }
        if (node->kind == RP_NODE_SCALAR) *slot = node = as_map(arena, node, argument);
        struct rp_node **entry = find_entry(node, part);
        if (!entry && node->kind == RP_NODE_LIST) {
            rp_problems_add(problems, nowhere, argument,
                            "`%s` is no item of the list, which has %d (the first is 0)", part,
                            node->n);
            return NULL;
        }
        if (!entry) {
            struct rp_node *map = rp_arena_new(arena, sizeof *map);
            map->kind = RP_NODE_MAP;
            map->set = argument;
            rp_node_add(arena, node, part, nowhere, map);
            entry = &node->entry[node->n - 1].value;
        }
        slot = entry;
        part = dot ? dot + 1 : NULL;
    }
    return slot;
}

void rp_tree_set(struct rp_node *root, const char *argument, struct rp_arena *arena,
                 struct rp_problems *problems)
{
    const char *equals = strchr(argument, '=');
    if (!equals || equals == argument) {
        rp_problems_add(problems, nowhere, argument,
                        "expected KEY=VALUE, such as train.optimizer.lr=3e-4");
        return;
    }
    struct rp_problems inner = {.path = problems->path, .bytes = equals + 1};
    inner.n_bytes = strlen(equals + 1);
    rp_spec_check_text(&inner);
    for (int i = 0; i < inner.n; i++)
        rp_problems_add(problems, nowhere, argument, "%s", inner.item[i].message);
    bool readable = inner.n == 0;
    rp_problems_release(&inner);
    if (!readable) return;
    int before = problems->n;
    bool stop = problems->stop;
    struct rp_node *value = rp_tree_read(equals + 1, strlen(equals + 1), argument, arena, problems);
    problems->stop = stop;
    if (problems->n > before) return;
    if (!value) {
        value = rp_node_scalar(arena, "", true);
        value->set = argument;
    }
    char *path = rp_arena_text(arena, argument, (size_t)(equals - argument));
    struct rp_node **slot = descend(&root, path, argument, arena, problems);
    if (slot) *slot = value;
}
