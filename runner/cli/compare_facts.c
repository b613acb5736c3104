/* compare_facts.c - what differs between two runs before their first step: specs, environments,
 * data. */
#include "cli/compare_int.h"

#include "base/sys.h"
#include "base/utf8.h"
#include "spec/spec.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FACTS = 40 };

struct facts {
    struct rp_text *text;
    json_t *list;
    int n;
};

static void add_fact(struct facts *facts, const char *line)
{
    char *shown = rp_utf8_shown(line, false);
    if (facts->n++ < MAX_FACTS) rp_text_add(facts->text, "  %s\n", shown);
    json_array_append_new(facts->list, json_string(line));
    rp_mem_free(shown);
}

/* ---- manifests ------------------------------------------------------------------------------- */

static char *text_of(const json_t *value)
{
    if (!value) return rp_mem_copy_text("(absent)");
    char *dumped = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(17));
    char *copy = rp_mem_copy_text(dumped ? dumped : "?");
    free(dumped);
    return copy;
}

static void differ(struct facts *facts, const char *path, const json_t *a, const json_t *b);

static void differ_objects(struct facts *facts, const char *path, const json_t *a, const json_t *b)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)a, key, value)
    {
        char *inner = rp_mem_text("%s.%s", path, key);
        differ(facts, inner, value, json_object_get(b, key));
        rp_mem_free(inner);
    }
    json_object_foreach((json_t *)b, key, value)
    {
        if (json_object_get(a, key)) continue;
        char *inner = rp_mem_text("%s.%s", path, key);
        differ(facts, inner, NULL, value);
        rp_mem_free(inner);
    }
}

static void differ(struct facts *facts, const char *path, const json_t *a, const json_t *b)
{
    if (json_is_object(a) && json_is_object(b)) {
        differ_objects(facts, path, a, b);
    } else if (!a || !b || !json_equal((json_t *)a, (json_t *)b)) {
        char *was = text_of(a), *is = text_of(b);
        char *line = rp_mem_text("%s: %s -> %s", path, was, is);
        add_fact(facts, line);
        rp_mem_free(line);
        rp_mem_free(is);
        rp_mem_free(was);
    }
}

/* Data by content: where a file lies, its time and inode are nobody's business. */
static json_t *data_by_key(const struct rp_compare_side *side)
{
    json_t *object = json_object(), *file;
    size_t i;
    json_array_foreach(json_object_get(side->manifest.root, "data"), i, file)
    {
        const char *key = json_string_value(json_object_get(file, "key"));
        const char *hash = json_string_value(json_object_get(file, "sha256"));
        char *place = rp_mem_text("%s[%zu]", key ? key : "?", i);
        if (hash) json_object_set_new(object, place, json_pack("{s:s}", "sha256", hash));
        rp_mem_free(place);
    }
    return object;
}

static void compare_manifests(struct facts *facts, const struct rp_compare_side *a,
                              const struct rp_compare_side *b)
{
    static const char *const groups[] = {"environment", "code", "classes"};
    for (size_t i = 0; i < RP_COUNT(groups); i++) {
        const json_t *x = json_object_get(a->manifest.root, groups[i]);
        const json_t *y = json_object_get(b->manifest.root, groups[i]);
        if (x || y) differ(facts, groups[i], x, y);
    }
    json_t *x = data_by_key(a), *y = data_by_key(b);
    differ(facts, "data", x, y);
    json_decref(y);
    json_decref(x);
}

/* ---- specs ----------------------------------------------------------------------------------- */

static struct rp_spec *load_spec(const struct rp_compare_side *side)
{
    char *path = rp_sys_join(side->run, "resolved.yaml");
    struct rp_spec *spec = NULL;
    struct rp_error ignored = {0};
    if (rp_spec_load(path, &(struct rp_spec_options){0}, &spec, &ignored) != RP_STATUS_OK)
        spec = NULL;
    rp_mem_free(path);
    return spec;
}

static void compare_specs(struct facts *facts, const struct rp_compare_side *a,
                          const struct rp_compare_side *b)
{
    static const enum rp_section sections[] = {RP_SECTION_NUMERIC, RP_SECTION_POLICY,
                                               RP_SECTION_PLACE};
    static const char *const names[] = {"numeric", "policy", "place"};
    struct rp_spec *x = load_spec(a), *y = load_spec(b);
    for (size_t i = 0; i < RP_COUNT(sections) && x && y; i++) {
        struct rp_text lines = {0};
        rp_spec_differences(x, y, sections[i], &lines);
        for (char *line = lines.bytes, *next; line && *line; line = next) {
            next = line + strcspn(line, "\n");
            if (*next) *next++ = '\0';
            char *fact = rp_mem_text("spec (%s) %s", names[i], line);
            add_fact(facts, fact);
            rp_mem_free(fact);
        }
        rp_text_release(&lines);
    }
    rp_spec_free(y);
    rp_spec_free(x);
}

void rp_compare_facts(const struct rp_compare_side *a, const struct rp_compare_side *b,
                      struct rp_text *text, json_t *result)
{
    struct facts facts = {.text = text, .list = json_array()};
    if (a->run && b->run) {
        compare_specs(&facts, a, b);
        compare_manifests(&facts, a, b);
        if (facts.n > MAX_FACTS)
            rp_text_add(text, "  and %d more: --json lists all\n", facts.n - MAX_FACTS);
    }
    json_object_set_new(result, "facts", facts.list);
}
