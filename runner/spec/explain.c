/* explain.c - one key of the schema in words, for `reprise explain`. */
#include "spec/spec_int.h"

#include <string.h>

const char *rp_rule_words(enum rp_rule rule)
{
    switch (rule) {
    case RP_RULE_NUMERIC:
        return "numeric";
    case RP_RULE_POLICY:
        return "policy";
    case RP_RULE_PLACE:
        return "place";
    case RP_RULE_PLACE_PORTABLE:
        return "place; numeric above portable";
    case RP_RULE_POLICY_UNLESS_EARLY_STOP:
        return "policy; numeric with early_stop";
    case RP_RULE_NONE:
    case RP_RULE_PARENT:
        break;
    }
    return "";
}

enum rp_rule rp_key_rule(const struct rp_key *key)
{
    const char *path = key->path;
    if (key->rule != RP_RULE_PARENT) return key->rule;
    const char *dot = strrchr(path, '.');
    for (int row = 0; dot && row < rp_schema_rows; row++) {
        size_t length = strlen(rp_schema[row].path);
        if (length == (size_t)(dot - path) && strncmp(rp_schema[row].path, path, length) == 0)
            return rp_key_rule(&rp_schema[row]);
    }
    /* layers, transforms, losses stand in numeric places only; data sets do not */
    return *path == '<' && strncmp(path, "<dataset>", 9) != 0 ? RP_RULE_NUMERIC : RP_RULE_PARENT;
}

void rp_key_default_words(const struct rp_key *key, struct rp_text *text)
{
    if (strcmp(key->fallback, "!") == 0)
        rp_text_add(text, "required");
    else if (rp_key_takes_preset(key))
        rp_text_add(text, "required, or from preset");
    else if (strcmp(key->fallback, "-") == 0 || strcmp(key->fallback, "{}") == 0)
        rp_text_add(text, "none");
    else if (strcmp(key->fallback, "=shards") == 0)
        rp_text_add(text, "the largest of 8, 4, 2, 1 that divides batch");
    else if (strcmp(key->fallback, "=mlp_width") == 0)
        rp_text_add(text, "4 width; with swiglu 8/3 width, up to the next multiple of 64");
    else if (key->fallback[0] == '=')
        rp_text_add(text, "as %s", key->fallback + 1);
    else
        rp_text_add(text, "%s", key->fallback);
}

/* "with kind: adam or adamw", from "kind=adam|adamw". */
void rp_key_when_words(const struct rp_key *key, struct rp_text *text)
{
    for (const char *c = key->when; *c; c++) {
        if (*c == '=')
            rp_text_add(text, ": ");
        else if (*c == '|')
            rp_text_add(text, " or ");
        else
            rp_text_add_bytes(text, c, 1);
    }
}

static void explain_key(const struct rp_key *key, struct rp_text *text)
{
    enum rp_rule rule = rp_key_rule(key);
    rp_text_add(text, "%s%s\n  %s\n", text->length ? "\n" : "", rp_key_display(key->path),
                key->help);
    if (key->type != RP_TYPE_MAP) {
        rp_text_add(text, "  value:    ");
        rp_key_expected(key, false, text);
        rp_text_add(text, "\n");
    }
    rp_text_add(text, "  default:  ");
    rp_key_default_words(key, text);
    if (*key->when) rp_text_add(text, "\n  only with ");
    rp_key_when_words(key, text);
    if (*rp_rule_words(rule)) rp_text_add(text, "\n  digest:   %s", rp_rule_words(rule));
    rp_text_add(text, "\n  since:    0.%d\n  example:  %s: %s\n", key->since, rp_key_name(key),
                key->example);
    char group[160];
    rp_key_group(key, group);
    bool any = false, holds = key->type == RP_TYPE_MAP || key->type == RP_TYPE_VARIANT;
    for (int row = 0; holds && row < rp_schema_rows; row++) {
        const struct rp_key *child = &rp_schema[row];
        bool below = rp_key_is_child(child, key->path) || (*group && rp_key_is_child(child, group));
        if (!below) continue;
        if (!any) rp_text_add(text, "  %s\n", key->type == RP_TYPE_MAP ? "keys:" : "choices:");
        any = true;
        rp_text_add(text, "    %-20s %s", rp_key_name(child), child->help);
        if (*child->when) rp_text_add(text, " (with ");
        rp_key_when_words(child, text);
        rp_text_add(text, *child->when ? ")\n" : "\n");
    }
}

/* Is `asked` the path, or its last parts? data.valid.format finds the row of every data set. */
static bool is_asked(const struct rp_key *key, const char *asked)
{
    const char *path = rp_key_display(key->path);
    size_t n = strlen(path), m = strlen(asked);
    if (strcmp(key->path, asked) == 0 || strcmp(path, asked) == 0) return true;
    if (m < n) return path[n - m - 1] == '.' && strcmp(path + n - m, asked) == 0;
    const char *dot = strrchr(asked, '.');
    return key->path[0] == '<' && strncmp(key->path, "<dataset>", 9) == 0 && dot &&
           strncmp(asked, "data.", 5) == 0 && strcmp(dot + 1, path) == 0;
}

enum rp_status rp_spec_explain(const char *asked, struct rp_text *text, struct rp_error *err)
{
    const char *names[512];
    int n = 0;
    bool exact = false;
    size_t before = text->length;
    for (int row = 0; row < rp_schema_rows; row++)
        exact = exact || strcmp(rp_key_display(rp_schema[row].path), asked) == 0;
    for (int row = 0; row < rp_schema_rows; row++) {
        const struct rp_key *key = &rp_schema[row];
        bool found = exact ? strcmp(rp_key_display(key->path), asked) == 0 : is_asked(key, asked);
        if (found) explain_key(key, text);
        if (n < 512) names[n++] = rp_key_name(key);
    }
    if (text->length > before) return RP_STATUS_OK;
    const char *foreign = rp_suggest_foreign(asked, "");
    const char *near = rp_nearest_word(asked, names, n);
    if (foreign)
        return rp_error_set(err, RP_STATUS_USAGE, "there is no key %s; %s", asked, foreign);
    return rp_error_set(err, RP_STATUS_USAGE, "there is no key %s%s%s%s", asked,
                        near ? "; did you mean " : "; `reprise schema --reference` lists them",
                        near ? near : "", near ? "?" : "");
}

/* A key of the table, or one below a part that groups of keys fill (data sets, layers, losses). */
static bool is_whole_key(const char *asked)
{
    size_t length = strlen(asked);
    for (int row = 0; row < rp_schema_rows; row++) {
        const char *path = rp_schema[row].path;
        size_t n = strlen(path);
        char group[160];
        if (path[0] == '<' || n > length || strncmp(path, asked, n) != 0) continue;
        if (n == length) return true;
        rp_key_group(&rp_schema[row], group);
        if (asked[n] == '.' && group[0]) return true;
    }
    return false;
}

enum rp_status rp_spec_check_key(const char *asked, struct rp_error *err)
{
    struct rp_text whole = {0};
    size_t length = strlen(asked);
    int found = 0;
    if (is_whole_key(asked)) return RP_STATUS_OK;
    for (int row = 0; row < rp_schema_rows; row++) {
        const char *path = rp_schema[row].path;
        size_t n = strlen(path);
        bool ends = path[0] != '<' && n > length && path[n - length - 1] == '.' &&
                    strcmp(path + n - length, asked) == 0;
        if (!ends || (row > 0 && strcmp(rp_schema[row - 1].path, path) == 0)) continue;
        rp_text_add(&whole, "%s%s", found++ ? " or " : "", path);
    }
    enum rp_status status;
    if (found)
        status = rp_error_set(err, RP_STATUS_USAGE, "%s is part of a key: write %s", asked,
                              rp_text_get(&whole));
    else
        status = rp_spec_explain(asked, &whole, err);
    if (status == RP_STATUS_OK)
        status = rp_error_set(err, RP_STATUS_USAGE, "there is no key %s at the top level", asked);
    rp_text_release(&whole);
    return status;
}
