/* bind.c - nodes against the schema table: which keys may stand where, which are missing, and every
 * default. Variants are in bind_variant.c, scalars in bind_scalar.c. */
#include "spec/spec_int.h"

#include <string.h>

struct rp_value *rp_value_get(const struct rp_value *map, const char *name)
{
    for (int i = 0; i < map->n; i++)
        if (map->item[i].name && strcmp(map->item[i].name, name) == 0) return &map->item[i];
    return NULL;
}

struct rp_value *rp_value_find(const struct rp_value *root, const char *path)
{
    const struct rp_value *value = root;
    while (value && *path) {
        char name[64];
        size_t length = strcspn(path, ".");
        if (length >= sizeof name) return NULL;
        memcpy(name, path, length);
        name[length] = '\0';
        value = value->present ? rp_value_get(value, name) : NULL;
        path += length + (path[length] == '.');
    }
    return (struct rp_value *)value;
}

const char *rp_key_display(const char *path)
{
    const char *dot = *path == '<' ? strchr(path, '.') : NULL;
    return dot ? dot + 1 : path;
}

/* ---- which rows apply ---- */

enum applies { APPLIES_NO, APPLIES_YES, APPLIES_UNKNOWN };

/* The key that `when` asks about; returns the place of the `=`. */
static const char *when_name(const struct rp_key *key, char name[32])
{
    size_t length = strcspn(key->when, "=");
    if (length > 31) length = 31;
    memcpy(name, key->when, length);
    name[length] = '\0';
    return key->when + length;
}

/* `when` of a row, "kind=adam|adamw", against the keys beside it that are bound already. */
static enum applies applies(const struct rp_key *key, const struct rp_value *map)
{
    if (!*key->when) return APPLIES_YES;
    char name[32];
    const char *equals = when_name(key, name);
    const struct rp_value *other = rp_value_get(map, name);
    if (!other) return APPLIES_NO;
    if (other->bad || !other->present) return APPLIES_UNKNOWN;
    for (const char *choice = equals + 1; *choice;) {
        size_t n = strcspn(choice, "|");
        if (strlen(other->text) == n && strncmp(choice, other->text, n) == 0) return APPLIES_YES;
        choice += n + (choice[n] == '|');
    }
    return APPLIES_NO;
}

/* `valid: {fraction: ...}` takes no data set beside it. */
static bool is_row_of(const struct rp_key *key, const struct rp_value *map,
                      const struct rp_node *node)
{
    if (rp_key_is_child(key, map->key ? map->key->path : "")) return true;
    char group[160] = "";
    if (map->key && map->key->type == RP_TYPE_MAP) rp_key_group(map->key, group);
    if (!*group || !rp_key_is_child(key, group)) return false;
    return !(strcmp(map->key->path, "data.valid") == 0 && rp_node_get(node, "fraction"));
}

/* ---- problems ---- */

/* Has the map an unknown key whose message already says to write this one? */
static bool is_misspelt(const struct rp_bind *bind, const struct rp_key *key,
                        const struct rp_value *map, const struct rp_node *node)
{
    const char *name = rp_key_name(key), *parent = map->key ? map->key->path : "";
    char *line = rp_mem_text("`%s:", name);
    bool found = false;
    for (int i = 0; i < node->n && i < 64 && !found; i++) {
        const char *given = node->entry[i].key;
        const char *advice = bind->table->foreign ? rp_suggest_foreign(given, parent) : NULL;
        found = (advice && strstr(advice, line)) ||
                (!rp_schema_has(bind->table, parent, given) && rp_nearest_word(given, &name, 1));
    }
    rp_mem_free(line);
    return found;
}

static void complain_of_missing(struct rp_bind *bind, const struct rp_key *key,
                                const struct rp_value *map)
{
    const char *where = map->key ? rp_key_display(map->key->path) : "";
    struct rp_spec_place at = map->key ? map->key_at : map->at;
    if (map->key && strcmp(map->key->path, "data.valid") == 0)
        rp_problems_add(bind->problems, at, map->set,
                        "`data.valid` lacks `fraction` or `format`: write `{fraction: 0.1}`, or a "
                        "data set like train");
    else
        rp_problems_add(bind->problems, at, map->set, "%s%s%s lacks `%s`, %s: write `%s: %s`%s",
                        *where ? "`" : "", *where ? where : "the spec", *where ? "`" : "",
                        rp_key_name(key), key->help, rp_key_name(key), key->example,
                        rp_key_takes_preset(key) ? ", or name a whole model: `preset: gpt2`" : "");
}

/* Adds "`kind: adam` or `kind: adamw`" of one row; counts them in `n`. */
static void add_kinds(const struct rp_key *key, const char *name, struct rp_text *text, int *n)
{
    for (const char *choice = strchr(key->when, '=') + 1; *choice;) {
        size_t length = strcspn(choice, "|");
        rp_text_add(text, "%s`%s: %.*s`", (*n)++ ? " or " : "", name, (int)length, choice);
        choice += length + (choice[length] == '|');
    }
}

/* A key that belongs to another kind of the same thing: which, and which kind this one is. */
static void complain_of_kind(struct rp_bind *bind, const struct rp_node *node,
                             const struct rp_value *map, const struct rp_node_entry *entry)
{
    struct rp_text kinds = {0}, here = {0};
    int n_kinds = 0, n_here = 0;
    char last[32] = "";
    for (int pass = 0; pass < 2 && n_kinds == 0; pass++)
        for (int row = 0; row < bind->table->n; row++) {
            const struct rp_key *key = &bind->table->row[row];
            char name[32];
            if (!is_row_of(key, map, node) || strcmp(rp_key_name(key), entry->key) != 0) continue;
            when_name(key, name);
            const struct rp_value *other = rp_value_get(map, name);
            if (pass == 0 && !other) continue;
            add_kinds(key, name, &kinds, &n_kinds);
            if (other && strcmp(name, last) != 0)
                rp_text_add(&here, "%s`%s: %s`", n_here++ ? ", " : "; here it is ", name,
                            other->text);
            memcpy(last, name, sizeof last);
        }
    rp_problems_add(bind->problems, entry->key_at, entry->value->set, "`%s` is for %s%s",
                    entry->key, rp_text_get(&kinds), rp_text_get(&here));
    rp_text_release(&kinds);
    rp_text_release(&here);
}

static void complain_of_unknown(struct rp_bind *bind, const struct rp_value *map,
                                const struct rp_node_entry *entry)
{
    struct rp_text text = {0};
    rp_suggest_key(bind->table, map->key ? map->key->path : "", map, entry->key, &text);
    rp_problems_add(bind->problems, entry->key_at, entry->value->set, "%s", rp_text_get(&text));
    rp_text_release(&text);
}

/* Every key of the node that no applying row has taken. */
static void check_unknown(struct rp_bind *bind, const struct rp_node *node,
                          const struct rp_value *map)
{
    bool fraction =
        map->key && strcmp(map->key->path, "data.valid") == 0 && rp_node_get(node, "fraction");
    for (int i = 0; i < node->n; i++) {
        const struct rp_node_entry *entry = &node->entry[i];
        if (rp_value_get(map, entry->key)) continue;
        if (bind->problems->n == RP_SPEC_MAX_PROBLEMS) { /* counted, but no longer explained */
            rp_problems_add(bind->problems, entry->key_at, entry->value->set, "unknown key");
            continue;
        }
        const struct rp_key *other_kind = NULL;
        bool unknown_kind = false;
        for (int row = 0; row < bind->table->n; row++) {
            const struct rp_key *key = &bind->table->row[row];
            if (!is_row_of(key, map, node) || strcmp(rp_key_name(key), entry->key) != 0) continue;
            other_kind = key;
            unknown_kind = unknown_kind || applies(key, map) == APPLIES_UNKNOWN;
        }
        if (unknown_kind) continue;
        if (fraction && strcmp(entry->key, "format") == 0)
            rp_problems_add(bind->problems, entry->key_at, entry->value->set,
                            "`fraction` and `format` exclude each other: a part of train, or a "
                            "data set of its own");
        else if (other_kind)
            complain_of_kind(bind, node, map, entry);
        else if (!fraction)
            complain_of_unknown(bind, map, entry);
    }
}

/* ---- defaults ---- */

/* A default's text as a node: {}, [a, b], "quoted" or a plain scalar. */
struct rp_node *rp_bind_default_node(struct rp_arena *arena, const char *text)
{
    size_t length = strlen(text);
    if (strcmp(text, "{}") == 0 || *text == '[') {
        struct rp_node *node = rp_arena_new(arena, sizeof *node);
        node->kind = *text == '[' ? RP_NODE_LIST : RP_NODE_MAP;
        for (const char *at = text + 1; *text == '[' && *at != ']';) {
            size_t n = strcspn(at, ",]");
            rp_node_add(arena, node, NULL, node->at,
                        rp_node_scalar(arena, rp_arena_text(arena, at, n), true));
            at += n;
            at += strspn(at, ", ");
        }
        return node;
    }
    if (*text == '"')
        return rp_node_scalar(arena, rp_arena_text(arena, text + 1, length - 2), false);
    return rp_node_scalar(arena, text, true);
}

/* The largest power of two up to 8 that divides the batch: always a number, never a choice by
 * machine. */
static int64_t default_shards(int64_t batch)
{
    int64_t shards = 8;
    while (batch % shards) shards /= 2;
    return shards;
}

/* Four times the width; swiglu has three products in the place of two, and takes two thirds of
 * that, rounded up to whole cache lines and vectors. */
static int64_t default_mlp_width(const struct rp_value *map, int64_t width)
{
    const struct rp_value *mlp = rp_value_get(map, "mlp");
    if (!mlp || !mlp->text || strcmp(mlp->text, "swiglu") != 0) return 4 * width;
    return (8 * width / 3 + 63) / 64 * 64;
}

static void computed_default(const struct rp_key *key, const struct rp_value *map,
                             struct rp_value *value)
{
    if (strcmp(key->fallback, "=shards") == 0) {
        const struct rp_value *batch = rp_value_get(map, "batch");
        value->present = batch && batch->present && !batch->bad;
        if (value->present) value->whole = default_shards(batch->whole);
        return;
    }
    if (strcmp(key->fallback, "=mlp_width") == 0) {
        const struct rp_value *width = rp_value_get(map, "width");
        value->present = width && width->present && !width->bad;
        if (value->present) value->whole = default_mlp_width(map, width->whole);
        return;
    }
    const struct rp_value *other = rp_value_get(map, key->fallback + 1);
    if (!other || !other->present || other->bad) return;
    value->present = true;
    value->whole = other->whole;
    value->list = other->list;
    value->item = other->item;
    value->n = other->n;
}

static void bind_default(struct rp_bind *bind, const struct rp_key *key, const struct rp_node *node,
                         struct rp_value *map, struct rp_value *value)
{
    value->key = key;
    value->name = rp_key_name(key);
    value->set = map->set;
    value->at = value->key_at = map->key ? map->key_at : map->at;
    if (rp_key_required(key) || rp_key_takes_preset(key)) {
        const struct rp_value *preset = rp_value_get(map, "preset");
        value->bad = true;
        if (!(preset && preset->bad) && !is_misspelt(bind, key, map, node))
            complain_of_missing(bind, key, map);
    } else if (key->fallback[0] == '=') {
        computed_default(key, map, value);
    } else if (strcmp(key->fallback, "-") != 0) {
        rp_bind_value(bind, key, rp_bind_default_node(bind->arena, key->fallback), value);
        value->at = value->key_at = (struct rp_spec_place){0, 0};
        value->given = false;
    }
}

/* What a given value would be if it were left out: digests leave values that are equal to it out.
 */
static void bind_standard(struct rp_bind *bind, const struct rp_key *key, struct rp_value *map,
                          struct rp_value *value)
{
    if (value->bad || key->type == RP_TYPE_MAP || key->fallback[0] == '!') return;
    value->standard = rp_arena_new(bind->arena, sizeof *value->standard);
    bind_default(bind, key, NULL, map, value->standard);
}

/* ---- maps, lists ---- */

/* What the preset of this map says of a key that is not written: bound as if it were, so that a
 * preset and its keys written out have one digest. */
static const struct rp_node *preset_node(struct rp_bind *bind, const struct rp_value *map,
                                         const char *name)
{
    const struct rp_value *preset = rp_value_get(map, "preset");
    if (!preset || !preset->present || preset->bad) return NULL;
    char text[32];
    if (!rp_preset_value(preset->text, name, text)) return NULL;
    struct rp_node *node =
        rp_node_scalar(bind->arena, rp_arena_text(bind->arena, text, strlen(text)), true);
    node->at = preset->at;
    node->set = preset->set;
    return node;
}

/* One number for each key of the map, where the schema allows it; NULL when it is none. A number
 * out of range is complained of once. */
static const struct rp_node *each_node(struct rp_bind *bind, const struct rp_key *key,
                                       const struct rp_node *node, struct rp_value *value)
{
    enum rp_scalar kind = node->kind == RP_NODE_SCALAR ? rp_scalar_kind(node) : RP_SCALAR_TEXT;
    if (strcmp(key->domain, "each") != 0 || (kind != RP_SCALAR_INT && kind != RP_SCALAR_FLOAT))
        return NULL;
    struct rp_node *map = rp_arena_new(bind->arena, sizeof *map);
    map->kind = RP_NODE_MAP;
    map->at = node->at;
    map->set = node->set;
    for (int row = 0; row < bind->table->n && !value->bad; row++) {
        if (!rp_key_is_child(&bind->table->row[row], key->path)) continue;
        struct rp_value one = {0};
        if (map->n == 0) rp_bind_scalar(bind, &bind->table->row[row], node, &one);
        value->bad = one.bad;
        rp_node_add(bind->arena, map, rp_key_name(&bind->table->row[row]), node->at,
                    (struct rp_node *)node);
    }
    return map;
}

static void bind_map(struct rp_bind *bind, const struct rp_node *node, struct rp_value *map)
{
    int capacity = 0;
    for (int row = 0; row < bind->table->n; row++)
        if (is_row_of(&bind->table->row[row], map, node)) capacity++;
    map->item = rp_arena_new(bind->arena, sizeof *map->item * (size_t)(capacity ? capacity : 1));
    for (int row = 0; row < bind->table->n; row++) {
        const struct rp_key *key = &bind->table->row[row];
        if (!is_row_of(key, map, node) || applies(key, map) != APPLIES_YES) continue;
        struct rp_value *value = &map->item[map->n++];
        value->key = key;
        value->name = rp_key_name(key);
        const struct rp_node_entry *entry = NULL;
        for (int i = 0; i < node->n; i++)
            if (strcmp(node->entry[i].key, value->name) == 0) entry = &node->entry[i];
        const struct rp_node *preset = entry ? NULL : preset_node(bind, map, value->name);
        if (entry || preset) {
            value->key_at = entry ? entry->key_at : preset->at;
            rp_bind_value(bind, key, entry ? entry->value : preset, value);
            bind_standard(bind, key, map, value);
        } else {
            bind_default(bind, key, node, map, value);
        }
    }
    check_unknown(bind, node, map);
}

void rp_bind_mismatch(struct rp_bind *bind, const struct rp_key *key, const struct rp_node *node,
                      struct rp_value *value, const char *advice)
{
    struct rp_text text = {0};
    bool item = key->form == RP_FORM_LIST && !value->list;
    rp_text_add(&text, "%s`%s` must be ", item ? "an item of " : "", rp_key_display(key->path));
    rp_key_expected(key, item, &text);
    if (key->type == RP_TYPE_MAP || (key->form == RP_FORM_LIST && !item) ||
        (key->type == RP_TYPE_SPAN && !*advice))
        rp_text_add(&text, ", such as `%s`", key->example);
    rp_text_add(&text, "; found ");
    if (node->kind == RP_NODE_LIST) {
        rp_text_add(&text, "a list");
    } else if (node->kind == RP_NODE_MAP) {
        rp_text_add(&text, "a map");
    } else {
        enum rp_scalar kind = rp_scalar_kind(node);
        rp_text_add(&text, "%s",
                    kind == RP_SCALAR_NULL                   ? "nothing"
                    : kind == RP_SCALAR_TEXT && !node->plain ? "the text `"
                                                             : "`");
        rp_spec_quote(&text, node->text, kind == RP_SCALAR_NULL ? 0 : node->length, 60);
        if (kind != RP_SCALAR_NULL) rp_text_add(&text, "`");
    }
    rp_text_add(&text, "%s", advice);
    rp_problems_add(bind->problems, node->at, node->set, "%s", rp_text_get(&text));
    rp_text_release(&text);
    value->bad = true;
}

static void bind_one(struct rp_bind *bind, const struct rp_key *key, const struct rp_node *node,
                     struct rp_value *value)
{
    value->key = key;
    value->at = node->at;
    value->set = node->set;
    value->present = value->given = true;
    if (node->kind == RP_NODE_BAD) {
        value->bad = true;
    } else if (key->type == RP_TYPE_VARIANT) {
        rp_bind_variant(bind, key, node, value);
    } else if (key->type != RP_TYPE_MAP) {
        rp_bind_scalar(bind, key, node, value);
    } else {
        const struct rp_node *map =
            node->kind == RP_NODE_MAP ? node : each_node(bind, key, node, value);
        if (!map)
            rp_bind_mismatch(bind, key, node, value, "");
        else if (!value->bad)
            bind_map(bind, map, value);
    }
}

static void bind_list(struct rp_bind *bind, const struct rp_key *key, const struct rp_node *node,
                      struct rp_value *value)
{
    int low = 0, high = 0;
    rp_key_counts(key, &low, &high);
    if (key->form == RP_FORM_PAIR) low = high = 2;
    if (node->n < low || node->n > high) {
        struct rp_text text = {0};
        if (low == high)
            rp_text_add(&text, "exactly %d", low);
        else if (node->n < low)
            rp_text_add(&text, "at least %d", low);
        else
            rp_text_add(&text, "at most %d", high);
        rp_problems_add(bind->problems, node->at, node->set, "`%s` must have %s items; found %d",
                        rp_key_display(key->path), rp_text_get(&text), node->n);
        rp_text_release(&text);
        value->bad = true;
        return;
    }
    value->n = node->n;
    value->item = rp_arena_new(bind->arena, sizeof *value->item * (size_t)(node->n ? node->n : 1));
    for (int i = 0; i < node->n; i++) {
        value->item[i].key_at = node->entry[i].value->at;
        bind_one(bind, key, node->entry[i].value, &value->item[i]);
        value->bad = value->bad || value->item[i].bad;
    }
}

void rp_bind_value(struct rp_bind *bind, const struct rp_key *key, const struct rp_node *node,
                   struct rp_value *value)
{
    value->key = key;
    value->at = node->at;
    value->set = node->set;
    value->present = value->given = true;
    value->list = key->form != RP_FORM_ONE;
    if (node->kind == RP_NODE_BAD) {
        value->bad = true;
    } else if (node->kind == RP_NODE_SCALAR && rp_scalar_kind(node) == RP_SCALAR_NULL) {
        rp_problems_add(bind->problems, value->key_at.line ? value->key_at : node->at, node->set,
                        "`%s` has no value: write `%s: %s`%s", rp_key_display(key->path),
                        rp_key_name(key), key->example,
                        rp_key_required(key) ? "" : ", or leave it out");
        value->bad = true;
    } else if (key->form == RP_FORM_ONE) {
        bind_one(bind, key, node, value);
    } else if (node->kind == RP_NODE_LIST) {
        bind_list(bind, key, node, value);
    } else if (key->form == RP_FORM_LIST) {
        rp_bind_mismatch(bind, key, node, value, "");
    } else {
        value->n = key->form == RP_FORM_PAIR ? 2 : 1;
        value->item = rp_arena_new(bind->arena, sizeof *value->item * 2);
        bind_one(bind, key, node, &value->item[0]);
        value->item[1] = value->item[0];
        value->bad = value->item[0].bad;
    }
}

struct rp_value *rp_bind_root(struct rp_bind *bind, const struct rp_node *root)
{
    struct rp_value *value = rp_arena_new(bind->arena, sizeof *value);
    value->at = root->at;
    value->present = value->given = true;
    bind_map(bind, root, value);
    return value;
}
