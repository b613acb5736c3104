/* bind_variant.c - one of a group: `relu`, or `conv2d: {out: 32, kernel: 3}`. */
#include "spec/spec_int.h"

#include <string.h>

static const struct rp_key *find_variant(const char *group, const char *name)
{
    for (int row = 0; row < rp_schema_rows; row++)
        if (rp_key_is_child(&rp_schema[row], group) &&
            strcmp(rp_key_name(&rp_schema[row]), name) == 0)
            return &rp_schema[row];
    return NULL;
}

static void complain_of_variant(struct rp_bind *bind, const struct rp_key *key,
                                const struct rp_node *at, struct rp_spec_place place,
                                const char *name, size_t length)
{
    char group[160];
    const char *names[64];
    int n = 0;
    rp_key_group(key, group);
    for (int row = 0; row < rp_schema_rows && n < 64; row++)
        if (rp_key_is_child(&rp_schema[row], group)) names[n++] = rp_key_name(&rp_schema[row]);
    const char *foreign = rp_suggest_foreign(name, group);
    const char *near = foreign ? NULL : rp_nearest_word(name, names, n);
    struct rp_text text = {0};
    rp_text_add(&text, "no `");
    rp_spec_quote(&text, name, length, 60);
    rp_text_add(&text, "` in `%s`", rp_key_display(key->path));
    if (foreign)
        rp_text_add(&text, "; %s", foreign);
    else if (near)
        rp_text_add(&text, "; did you mean `%s`?", near);
    else {
        rp_text_add(&text, "; ");
        for (int i = 0; i < n; i++) rp_text_add(&text, "%s%s", i ? ", " : "one of: ", names[i]);
    }
    rp_problems_add(bind->problems, place, at->set, "%s", rp_text_get(&text));
    rp_text_release(&text);
}

/* A list item that runs into the next, or options that are not indented below their layer. */
static void complain_of_two_variants(struct rp_bind *bind, const struct rp_key *key,
                                     const struct rp_node *node)
{
    struct rp_text first = {0}, second = {0};
    rp_spec_quote(&first, node->entry[0].key, strlen(node->entry[0].key), 60);
    rp_spec_quote(&second, node->entry[1].key, strlen(node->entry[1].key), 60);
    rp_problems_add(bind->problems, node->entry[1].key_at, node->set,
                    "`%s` and `%s` side by side in one item of `%s`; if `%s` is an option of "
                    "`%s`, indent it further, else start it with its own `-`",
                    rp_text_get(&first), rp_text_get(&second), rp_key_display(key->path),
                    rp_text_get(&second), rp_text_get(&first));
    rp_text_release(&first);
    rp_text_release(&second);
}

/* `relu`, or `conv2d: {out: 32, kernel: 3}`: a map with one key. */
void rp_bind_variant(struct rp_bind *bind, const struct rp_key *key, const struct rp_node *node,
                     struct rp_value *value)
{
    char group[160];
    rp_key_group(key, group);
    bool scalar = node->kind == RP_NODE_SCALAR && rp_scalar_kind(node) == RP_SCALAR_TEXT &&
                  strlen(node->text) == node->length;
    if (node->kind == RP_NODE_MAP && node->n > 1) {
        complain_of_two_variants(bind, key, node);
        value->bad = true;
        return;
    }
    if (!scalar && !(node->kind == RP_NODE_MAP && node->n == 1)) {
        rp_bind_mismatch(bind, key, node, value, "");
        return;
    }
    const char *name = scalar ? node->text : node->entry[0].key;
    const struct rp_key *row = find_variant(group, name);
    if (!row) {
        complain_of_variant(bind, key, node, scalar ? node->at : node->entry[0].key_at, name,
                            strlen(name));
        value->bad = true;
        return;
    }
    struct rp_node *empty = rp_bind_default_node(bind->arena, "{}");
    empty->at = node->at;
    empty->set = node->set;
    const struct rp_node *body = scalar ? empty : node->entry[0].value;
    if (body->kind == RP_NODE_SCALAR && rp_scalar_kind(body) == RP_SCALAR_NULL) body = empty;
    value->text = rp_key_name(row);
    value->item = rp_arena_new(bind->arena, sizeof *value->item);
    value->n = 1;
    struct rp_value *map = value->item;
    map->key = row;
    map->name = value->text;
    map->key_at = scalar ? node->at : node->entry[0].key_at;
    rp_bind_value(bind, row, body, map);
    value->bad = map->bad;
}
