/* spec_int.h - private to spec/: the three stages between the bytes of a file and struct rp_spec.
 *
 *   text.c     bytes     -> checked text (encoding, size, control characters)
 *   tree.c     text      -> nodes        (YAML syntax, by libyaml's events)
 *   set.c      --set     -> nodes changed
 *   bind.c     nodes     -> values       (the schema table: names, types, ranges, defaults)
 *   fill.c     values    -> struct rp_spec
 *   rules.c    the rules that span several keys
 *
 * site.c takes the same way with a table of its own.
 *
 * Everything made on the way is a problem in one list, or memory of one arena. */
#ifndef RP_SPEC_INT_H
#define RP_SPEC_INT_H

#include "base/nearest.h"
#include "spec/spec.h"

enum {
    RP_SPEC_MAX_BYTES = 1 << 20,
    RP_SPEC_MAX_DEPTH = 32,
    RP_SPEC_MAX_NODES = 20000,
    RP_SPEC_MAX_PROBLEMS = 200
};

/* ---- memory: freed all at once with the spec ---- */

struct rp_arena_block;
struct rp_arena {
    struct rp_arena_block *block;
};
void *rp_arena_new(struct rp_arena *arena, size_t bytes); /* zeroed */
char *rp_arena_text(struct rp_arena *arena, const char *bytes, size_t length);
void rp_arena_release(struct rp_arena *arena);

/* ---- problems: every error of a file, printed in the order of the file ---- */

struct rp_problem {
    struct rp_spec_place at;
    const char *set; /* the --set argument concerned, or NULL */
    char *message;
};
struct rp_problems {
    const char *path;  /* of the file, for messages */
    const char *bytes; /* its text, for the source line */
    size_t n_bytes;
    struct rp_problem item[RP_SPEC_MAX_PROBLEMS];
    int n, n_left_out;
    bool stop; /* what follows would only repeat the cause */
};
void rp_problems_add(struct rp_problems *problems, struct rp_spec_place at, const char *set,
                     const char *format, ...) RP_PRINTF(4, 5);
RP_NODISCARD enum rp_status rp_problems_report(struct rp_problems *problems, enum rp_status status,
                                               struct rp_error *err);
void rp_problems_release(struct rp_problems *problems);

/* `text` with control characters, and bytes that are not UTF-8, as escapes; cut to about `limit`
 * characters. */
void rp_spec_quote(struct rp_text *out, const char *text, size_t length, int limit);

/* ---- text ---- */

/* The place of a byte. Lines and columns from 1. */
struct rp_spec_place rp_spec_place_of(const char *bytes, size_t n_bytes, size_t offset);
void rp_spec_check_text(struct rp_problems *problems);

/* ---- nodes ---- */

enum rp_node_kind { RP_NODE_SCALAR, RP_NODE_MAP, RP_NODE_LIST, RP_NODE_BAD };
struct rp_node;
struct rp_node_entry {
    char *key; /* maps only */
    struct rp_spec_place key_at;
    struct rp_node *value;
};
struct rp_node {
    enum rp_node_kind kind;
    struct rp_spec_place at;
    char *text; /* scalars; may hold NUL when quoted: `length` counts */
    size_t length;
    bool plain; /* not quoted: may be a number, a boolean, null */
    struct rp_node_entry *entry;
    int n, capacity;
    const char *set; /* the --set argument that gave it, or NULL */
};
/* The one document in `bytes`; NULL after a problem that hides the rest, or for an empty document.
 */
struct rp_node *rp_tree_read(const char *bytes, size_t n_bytes, const char *set,
                             struct rp_arena *arena, struct rp_problems *problems);
struct rp_node *rp_node_get(const struct rp_node *map, const char *key);
void rp_node_add(struct rp_arena *arena, struct rp_node *node, const char *key,
                 struct rp_spec_place key_at, struct rp_node *value);
struct rp_node *rp_node_scalar(struct rp_arena *arena, const char *text, bool plain);
/* Applies one "a.b.c=value". */
void rp_tree_set(struct rp_node *root, const char *argument, struct rp_arena *arena,
                 struct rp_problems *problems);

/* ---- scalars: YAML 1.2 core schema ---- */

enum rp_scalar { RP_SCALAR_NULL, RP_SCALAR_BOOL, RP_SCALAR_INT, RP_SCALAR_FLOAT, RP_SCALAR_TEXT };
enum rp_scalar rp_scalar_kind(const struct rp_node *node);
bool rp_scalar_bool(const struct rp_node *node);
/* Whole numbers also in float form (1e4) while they are exact. False: not whole or out of range. */
bool rp_scalar_int(const struct rp_node *node, int64_t *value);
bool rp_scalar_uint(const struct rp_node *node, uint64_t *value);
double rp_scalar_number(const struct rp_node *node);

/* "10k steps" into value and unit. NULL when right, else what is wrong with it. */
const char *rp_span_parse(const char *text, struct rp_span *span);
const char *rp_unit_name(enum rp_unit unit, bool plural);
bool rp_unit_from_name(const char *name, size_t length, enum rp_unit *unit, double *factor);

/* ---- the schema table ---- */

enum rp_type {
    RP_TYPE_MAP,     /* domain: a group whose rows are its keys too, or "" */
    RP_TYPE_VARIANT, /* `relu` or `conv2d: {...}`; domain: the group */
    RP_TYPE_BOOL,
    RP_TYPE_INT,    /* domain: range, with "auto | " before it where auto is allowed */
    RP_TYPE_SEED,   /* 0 to 2^64 - 1 */
    RP_TYPE_NUMBER, /* domain: range */
    RP_TYPE_CHOICE, /* domain: "a | b | !c"; ! for a value that this build does not have */
    RP_TYPE_TEXT,   /* domain: "name", "char", "pattern", "line", "option", "duration" or "" */
    RP_TYPE_PATH,
    RP_TYPE_SHA256,
    RP_TYPE_SPAN /* domain: units; "0+" first where nought is allowed, "auto" where auto is */
};
enum rp_form {
    RP_FORM_ONE,
    RP_FORM_LIST,
    RP_FORM_EITHER, /* one, or a list: kept as a list */
    RP_FORM_PAIR    /* one, or [h, w]: kept as a pair */
};
enum rp_rule {
    RP_RULE_NONE,   /* in no digest */
    RP_RULE_PARENT, /* as the key above it */
    RP_RULE_NUMERIC,
    RP_RULE_POLICY,
    RP_RULE_PLACE,
    RP_RULE_PLACE_PORTABLE,          /* place at portable, numeric above */
    RP_RULE_POLICY_UNLESS_EARLY_STOP /* numeric with early_stop */
};
struct rp_key {
    const char *path; /* "train.optimizer.lr", or "<layer>.conv2d.out" for rows of a group */
    enum rp_type type;
    enum rp_form form;
    const char *when; /* "kind=adam|adamw", of keys beside it; "" always */
    const char *domain;
    const char *fallback; /* "!" required, "!preset" where no preset gives it, "-" absent, "=..."
                             computed, else the default as YAML */
    enum rp_rule rule;
    int since;
    const char *example;
    const char *help;
};
extern const struct rp_key rp_schema[];
extern const int rp_schema_rows;

/* What a file is bound against: the schema of jobs, or that of sites (site.c). */
struct rp_table {
    const struct rp_key *row;
    int n;
    bool foreign; /* are the names of other frameworks looked up? */
};
extern const struct rp_table rp_schema_table;

/* Is `key` a direct child of `parent` ("" is the top level)? */
bool rp_key_is_child(const struct rp_key *key, const char *parent);
/* Is there any row for `name` in `parent`, or in the group that the parent takes its keys from? */
bool rp_schema_has(const struct rp_table *table, const char *parent, const char *name);
const char *rp_key_name(const struct rp_key *key); /* the last part of its path */
bool rp_key_required(const struct rp_key *key);
bool rp_key_takes_preset(const struct rp_key *key); /* required, but where a preset gives it */
void rp_key_counts(const struct rp_key *key, int *low, int *high); /* items of a list */
void rp_key_group(const struct rp_key *key, char group[160]);      /* "<layer>", or "" */
bool rp_key_allows_unit(const struct rp_key *key, enum rp_unit unit);
/* The i-th choice of a domain "a | b | !c"; false past the end. `built` is false for !c. */
bool rp_key_choice(const char *domain, int i, char text[32], bool *built);
/* What a preset says of a key beside it, as YAML; false when it says nothing. */
bool rp_preset_value(const char *preset, const char *name, char value[32]);
/* Splits a range such as "(0, 1]"; infinite ends are HUGE_VAL. */
struct rp_range {
    double low, high;
    bool low_open, high_open;
};
struct rp_range rp_key_range(const char *domain);
bool rp_key_allows_auto(const struct rp_key *key);
/* "a number above 0", "one of: adam, sgd", ...; of a list's items where `item`. */
void rp_key_expected(const struct rp_key *key, bool item, struct rp_text *text);

/* In words, for `explain` and the key reference. */
enum rp_rule rp_key_rule(const struct rp_key *key); /* PARENT for data sets' */
const char *rp_rule_words(enum rp_rule rule);
void rp_key_default_words(const struct rp_key *key, struct rp_text *text);
void rp_key_when_words(const struct rp_key *key, struct rp_text *text);
const char *rp_template_name(int i); /* NULL past the last */
void rp_template_summary(int i, struct rp_text *text);

/* ---- values: what the schema made of the nodes, every default present ---- */

struct rp_value {
    const struct rp_key *key;
    const char *name; /* of a map's entry */
    struct rp_spec_place at, key_at;
    const char *set;
    bool given;       /* false: a default */
    bool present;     /* false: optional, and absent */
    bool bad;         /* a problem is reported */
    bool list;        /* item[] is a list, whatever the type of one */
    bool automatic;   /* auto */
    const char *text; /* CHOICE, TEXT, PATH; VARIANT: its name */
    int64_t whole;
    uint64_t seed;
    double number;
    bool yes;
    struct rp_span span;
    struct rp_sha256 sha256;
    struct rp_value *standard; /* of a given value that has a default: that default */
    struct rp_value *item;     /* MAP: a value per key; VARIANT: one map; list: the items */
    int n;
};
struct rp_spec_tree {
    struct rp_arena arena;
    struct rp_node *node;
    struct rp_value *value;
};

struct rp_bind {
    struct rp_arena *arena;
    struct rp_problems *problems;
    const struct rp_table *table;
};
/* The whole file against the schema. */
struct rp_value *rp_bind_root(struct rp_bind *bind, const struct rp_node *root);
/* What stands behind a key, in the row's form; a list's items and maps' keys with it. */
void rp_bind_value(struct rp_bind *bind, const struct rp_key *key, const struct rp_node *node,
                   struct rp_value *value);
/* `relu`, or a map with one key that names the variant. */
void rp_bind_variant(struct rp_bind *bind, const struct rp_key *key, const struct rp_node *node,
                     struct rp_value *value);
/* A default's text as a node: {}, [a, b], "quoted" or a plain scalar. */
struct rp_node *rp_bind_default_node(struct rp_arena *arena, const char *text);
/* One scalar of the row's type into `value`; problems are added. */
void rp_bind_scalar(struct rp_bind *bind, const struct rp_key *key, const struct rp_node *node,
                    struct rp_value *value);
/* "`train.batch` must be ...; found ...", with `advice` at its end. */
void rp_bind_mismatch(struct rp_bind *bind, const struct rp_key *key, const struct rp_node *node,
                      struct rp_value *value, const char *advice);
/* A path for people: without the group before it. */
const char *rp_key_display(const char *path);
/* An entry of a map, never NULL for a key of the schema that applies. */
struct rp_value *rp_value_get(const struct rp_value *map, const char *name);
struct rp_value *rp_value_find(const struct rp_value *root, const char *path);
/* What a person should have written instead of the unknown key; added to `text`. */
void rp_suggest_key(const struct rp_table *table, const char *parent, const struct rp_value *map,
                    const char *name, struct rp_text *text);
/* What a foreign name is here ("epochs" -> "`for: 5 epochs` under `train`"), or NULL. */
const char *rp_suggest_foreign(const char *name, const char *parent);

void rp_fill(struct rp_spec *spec, struct rp_arena *arena, const struct rp_value *root);
void rp_rules_check(const struct rp_spec *spec, const struct rp_value *root,
                    struct rp_problems *problems);

#endif
