/* flat.c - the values of a spec as a list of (path, section, text), in schema order: from it come
 * the canonical text of each section, its digest, and the differences between two specs. */
#include "spec/flat.h"

#include "base/number.h"

#include <math.h>
#include <string.h>

/* ---- the text of one value ---- */

/* Quoted text: quotes, backslashes and control characters escaped, so that one text has one form
 * and is a double-quoted YAML scalar too. */
static void add_quoted(struct rp_text *text, const char *bytes)
{
    rp_text_add(text, "\"");
    for (const char *c = bytes; *c; c++) {
        if (*c == '"' || *c == '\\')
            rp_text_add(text, "\\%c", *c);
        else if ((unsigned char)*c < 0x20 || *c == 0x7f)
            rp_text_add(text, "\\x%02X", (unsigned char)*c);
        else
            rp_text_add_bytes(text, c, 1);
    }
    rp_text_add(text, "\"");
}

static void add_span(struct rp_text *text, const struct rp_span *span, bool canonical)
{
    char number[RP_NUMBER_BYTES];
    bool counts = span->unit >= RP_UNIT_STEPS && span->unit <= RP_UNIT_TOKENS;
    bool whole = span->value == floor(span->value) && span->value <= 0x1p53;
    if (canonical && span->value == 0)
        rp_text_add(text, "0");
    else if (counts || (!canonical && whole))
        rp_text_add(text, "%.0f %s", span->value, rp_unit_name(span->unit, span->value != 1));
    else {
        if (canonical)
            rp_number_hex(span->value, number);
        else
            rp_number_text(span->value, number);
        rp_text_add(text, "%s %s", number, rp_unit_name(span->unit, true));
    }
}

static void add_number(struct rp_text *text, double value, bool canonical)
{
    char number[RP_NUMBER_BYTES];
    if (canonical)
        rp_number_hex(value, number);
    else
        rp_number_text(value, number);
    rp_text_add(text, "%s", number);
}

/* May a text stand in YAML without quotes, and be read back as the same text? */
static bool is_plain_text(const char *text)
{
    struct rp_node node = {.text = (char *)text, .length = strlen(text), .plain = true};
    const char *legal = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-*";
    return text[0] != '-' && text[0] != '*' && text[0] != '.' &&
           strspn(text, legal) == node.length && rp_scalar_kind(&node) == RP_SCALAR_TEXT;
}

static void add_scalar(struct rp_text *text, const struct rp_value *value, bool canonical)
{
    char hex[RP_SHA256_HEX];
    if (value->automatic) {
        rp_text_add(text, "auto");
        return;
    }
    switch (value->key->type) {
    case RP_TYPE_BOOL:
        rp_text_add(text, "%s", value->yes ? "true" : "false");
        break;
    case RP_TYPE_INT:
        rp_text_add(text, "%lld", (long long)value->whole);
        break;
    case RP_TYPE_SEED:
        rp_text_add(text, "%llu", (unsigned long long)value->seed);
        break;
    case RP_TYPE_NUMBER:
        add_number(text, value->number, canonical);
        break;
    case RP_TYPE_CHOICE:
    case RP_TYPE_VARIANT:
        rp_text_add(text, "%s", value->text);
        break;
    case RP_TYPE_TEXT:
    case RP_TYPE_PATH:
        if (!canonical && is_plain_text(value->text))
            rp_text_add(text, "%s", value->text);
        else if (strcmp(value->key->domain, "checkpoint") == 0)
            rp_text_add(text, "%s", value->text);
        else
            add_quoted(text, value->text);
        break;
    case RP_TYPE_SHA256:
        rp_sha256_hex(&value->sha256, hex);
        rp_text_add(text, canonical ? "%s" : "\"%s\"", hex);
        break;
    case RP_TYPE_SPAN:
        add_span(text, &value->span, canonical);
        break;
    case RP_TYPE_MAP:
        rp_text_add(text, "{}");
        break;
    }
}

void rp_value_text(const struct rp_value *value, bool canonical, struct rp_text *text)
{
    if (!value->list) {
        add_scalar(text, value, canonical);
        return;
    }
    rp_text_add(text, "[");
    for (int i = 0; i < value->n; i++) {
        if (i) rp_text_add(text, ", ");
        add_scalar(text, &value->item[i], canonical);
    }
    rp_text_add(text, "]");
}

/* ---- sections ---- */

enum { SECTION_NONE = -1 };

struct walk {
    struct rp_flat *flat;
    bool early_stop, portable;
};

static int section_of(const struct walk *walk, enum rp_rule rule, int parent)
{
    switch (rule) {
    case RP_RULE_NONE:
        return SECTION_NONE;
    case RP_RULE_PARENT:
        return parent;
    case RP_RULE_NUMERIC:
        return RP_SECTION_NUMERIC;
    case RP_RULE_POLICY:
        return RP_SECTION_POLICY;
    case RP_RULE_PLACE:
        return RP_SECTION_PLACE;
    case RP_RULE_PLACE_PORTABLE:
        return walk->portable ? RP_SECTION_PLACE : RP_SECTION_NUMERIC;
    case RP_RULE_POLICY_UNLESS_EARLY_STOP:
        return walk->early_stop ? RP_SECTION_NUMERIC : RP_SECTION_POLICY;
    }
    return SECTION_NONE;
}

/* ---- the list ---- */

static void add_item(struct walk *walk, const char *path, int section, const struct rp_value *value)
{
    struct rp_flat *flat = walk->flat;
    if (flat->n == flat->capacity) {
        flat->capacity = flat->capacity ? 2 * flat->capacity : 256;
        flat->item = rp_mem_grow(flat->item, sizeof *flat->item * (size_t)flat->capacity);
    }
    struct rp_flat_item *item = &flat->item[flat->n++];
    struct rp_text canonical = {0}, human = {0}, standard = {0};
    rp_value_text(value, true, &canonical);
    rp_value_text(value, false, &human);
    item->path = rp_mem_copy_text(path);
    item->section = section;
    item->is_default = !value->given;
    if (value->given && value->standard && value->standard->present) {
        rp_value_text(value->standard, true, &standard);
        item->is_default = strcmp(rp_text_get(&canonical), rp_text_get(&standard)) == 0;
    }
    item->canonical = rp_mem_copy_text(rp_text_get(&canonical));
    item->human = rp_mem_copy_text(rp_text_get(&human));
    rp_text_release(&canonical);
    rp_text_release(&human);
    rp_text_release(&standard);
}

static void walk_value(struct walk *walk, const char *path, int section,
                       const struct rp_value *value);

static void walk_map(struct walk *walk, const char *path, int section, const struct rp_value *map)
{
    for (int i = 0; i < map->n; i++) {
        const struct rp_value *value = &map->item[i];
        if (!value->present || value->bad) continue;
        char *name = rp_mem_text("%s%s%s", path, *path ? "." : "", value->name);
        walk_value(walk, name, section_of(walk, value->key->rule, section), value);
        rp_mem_free(name);
    }
}

static void walk_variant(struct walk *walk, const char *path, int section,
                         const struct rp_value *value)
{
    char *name = rp_mem_text("%s.%s", path, value->text);
    add_item(walk, path, section, value);
    walk_map(walk, name, section, value->item);
    rp_mem_free(name);
}

static void walk_value(struct walk *walk, const char *path, int section,
                       const struct rp_value *value)
{
    if (value->key->type == RP_TYPE_VARIANT && value->list) {
        for (int i = 0; i < value->n; i++) {
            char *name = rp_mem_text("%s[%d]", path, i);
            walk_variant(walk, name, section, &value->item[i]);
            rp_mem_free(name);
        }
    } else if (value->key->type == RP_TYPE_VARIANT) {
        walk_variant(walk, path, section, value);
    } else if (value->key->type == RP_TYPE_MAP) {
        /* that an optional part is there at all can matter: `init_from` has only paths below it */
        if (strcmp(value->key->fallback, "-") == 0) add_item(walk, path, section, value);
        walk_map(walk, path, section, value);
    } else {
        add_item(walk, path, section, value);
    }
}

void rp_flat_init(struct rp_flat *flat, const struct rp_spec *spec)
{
    struct walk walk = {.flat = flat, .early_stop = spec->eval.early_stop.given};
    walk.portable = spec->determinism == RP_TIER_PORTABLE;
    *flat = (struct rp_flat){0};
    walk_map(&walk, "", SECTION_NONE, spec->tree->value);
}

void rp_flat_release(struct rp_flat *flat)
{
    for (int i = 0; i < flat->n; i++) {
        rp_mem_free(flat->item[i].path);
        rp_mem_free(flat->item[i].canonical);
        rp_mem_free(flat->item[i].human);
    }
    rp_mem_free(flat->item);
    *flat = (struct rp_flat){0};
}

/* ---- what others ask ---- */

void rp_spec_canonical(const struct rp_spec *spec, enum rp_section section, struct rp_text *text)
{
    struct rp_flat flat;
    rp_flat_init(&flat, spec);
    for (int i = 0; i < flat.n; i++)
        if (flat.item[i].section == (int)section && !flat.item[i].is_default)
            rp_text_add(text, "%s=%s\n", flat.item[i].path, flat.item[i].canonical);
    rp_flat_release(&flat);
}

struct rp_sha256 rp_spec_digest(const struct rp_spec *spec, enum rp_section section)
{
    struct rp_text text = {0};
    rp_spec_canonical(spec, section, &text);
    struct rp_sha256 digest = rp_sha256_of(rp_text_get(&text), text.length);
    rp_text_release(&text);
    return digest;
}

static const struct rp_flat_item *find_item(const struct rp_flat *flat, const char *path)
{
    for (int i = 0; i < flat->n; i++)
        if (strcmp(flat->item[i].path, path) == 0) return &flat->item[i];
    return NULL;
}

int rp_spec_differences(const struct rp_spec *a, const struct rp_spec *b, enum rp_section section,
                        struct rp_text *text)
{
    struct rp_flat one, two;
    int n = 0;
    rp_flat_init(&one, a);
    rp_flat_init(&two, b);
    for (int i = 0; i < one.n; i++) {
        const struct rp_flat_item *item = &one.item[i], *other = find_item(&two, item->path);
        if (item->section != (int)section && !(other && other->section == (int)section)) continue;
        if (other && strcmp(item->canonical, other->canonical) == 0) continue;
        n++;
        rp_text_add(text, "%s: %s -> %s\n", item->path, item->human,
                    other ? other->human : "absent");
    }
    for (int i = 0; i < two.n; i++) {
        if (two.item[i].section != (int)section || find_item(&one, two.item[i].path)) continue;
        n++;
        rp_text_add(text, "%s: absent -> %s\n", two.item[i].path, two.item[i].human);
    }
    rp_flat_release(&one);
    rp_flat_release(&two);
    return n;
}
