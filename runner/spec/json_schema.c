/* json_schema.c - the schema table as JSON Schema (draft 7), for editors: keys, types, ranges,
 * which key goes with which kind. What spans several keys (rules.c) is left to `validate`. */
#include "spec/spec_int.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *object_of(const char *path, const char *group);

static json_t *one_of_two(json_t *a, json_t *b)
{
    return json_pack("{s:[o,o]}", "anyOf", a, b);
}

static json_t *pattern(const char *text)
{
    return json_pack("{s:s, s:s}", "type", "string", "pattern", text);
}

static json_t *number_or_integer(double value)
{
    bool whole = value == floor(value) && fabs(value) <= 0x1p53;
    return whole ? json_integer((json_int_t)value) : json_real(value);
}

static json_t *range_of(const struct rp_key *key, const char *type)
{
    struct rp_range range = rp_key_range(key->domain);
    json_t *schema = json_pack("{s:s}", "type", type);
    if (isfinite(range.low))
        json_object_set_new(schema, range.low_open ? "exclusiveMinimum" : "minimum",
                            number_or_integer(range.low));
    if (isfinite(range.high))
        json_object_set_new(schema, range.high_open ? "exclusiveMaximum" : "maximum",
                            number_or_integer(range.high));
    return schema;
}

static json_t *choice_value(const char *choice)
{
    bool digits = strspn(choice, "0123456789") == strlen(choice);
    return digits ? json_integer(atoi(choice)) : json_string(choice);
}

static json_t *choices_of(const struct rp_key *key)
{
    json_t *values = json_array();
    char choice[32];
    bool built = false;
    for (int i = 0; rp_key_choice(key->domain, i, choice, &built); i++)
        if (built) json_array_append_new(values, choice_value(choice));
    return json_pack("{s:o}", "enum", values);
}

/* "10k steps": a number, perhaps a suffix, and one of the units that the row allows. */
static json_t *span_of(const struct rp_key *key)
{
    static const struct {
        enum rp_unit unit;
        const char *words;
    } list[] = {{RP_UNIT_STEPS, " +steps?"},
                {RP_UNIT_EPOCHS, " +epochs?"},
                {RP_UNIT_SAMPLES, " +samples?"},
                {RP_UNIT_TOKENS, " +tokens?"},
                {RP_UNIT_PERCENT, " *(%|percent)"},
                {RP_UNIT_SECONDS, " *(s|sec|seconds?|min|minutes?|h|hours?|days?)"}};
    struct rp_text text = {0};
    rp_text_add(&text, "^([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][-+]?[0-9]+)?[kMB]?(");
    int n = 0;
    for (size_t i = 0; i < RP_COUNT(list); i++)
        if (rp_key_allows_unit(key, list[i].unit))
            rp_text_add(&text, "%s%s", n++ ? "|" : "", list[i].words);
    rp_text_add(&text, ")$");
    json_t *schema = pattern(rp_text_get(&text));
    rp_text_release(&text);
    return schema;
}

static json_t *text_of(const struct rp_key *key)
{
    if (strcmp(key->domain, "name") == 0) return pattern("^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$");
    if (strcmp(key->domain, "checkpoint") == 0)
        return one_of_two(pattern("^(best|last|[0-9]+)$"),
                          json_pack("{s:s, s:i}", "type", "integer", "minimum", 0));
    if (strncmp(key->domain, "pattern", 7) == 0) return pattern("^[^*]*\\*?$");
    return json_pack("{s:s, s:i}", "type", "string", "minLength", 1);
}

static json_t *one_of_row(const struct rp_key *key)
{
    char group[160];
    json_t *schema = NULL;
    rp_key_group(key, group);
    switch (key->type) {
    case RP_TYPE_MAP:
    case RP_TYPE_VARIANT:
        if (strcmp(key->path, "data.valid") == 0)
            return one_of_two(object_of(key->path, ""),
                              json_pack("{s:s}", "$ref", "#/definitions/dataset"));
        if (strcmp(key->domain, "each") == 0)
            return one_of_two(json_pack("{s:s}", "type", "number"), object_of(key->path, ""));
        if (!*group) return object_of(key->path, "");
        group[strlen(group) - 1] = '\0';
        return json_pack("{s:s+}", "$ref", "#/definitions/", group + 1);
    case RP_TYPE_BOOL:
        return json_pack("{s:s}", "type", "boolean");
    case RP_TYPE_INT:
        schema = range_of(key, "integer");
        break;
    case RP_TYPE_SEED:
        return json_pack("{s:s, s:i}", "type", "integer", "minimum", 0);
    case RP_TYPE_NUMBER:
        return range_of(key, "number");
    case RP_TYPE_CHOICE:
        return choices_of(key);
    case RP_TYPE_TEXT:
    case RP_TYPE_PATH:
        return text_of(key);
    case RP_TYPE_SHA256:
        /* digits alone are a number to YAML, and still a hash here */
        return one_of_two(pattern("^[0-9a-fA-F]{64}$"), json_pack("{s:s}", "type", "number"));
    case RP_TYPE_SPAN:
        schema = span_of(key);
        break;
    }
    if (rp_key_allows_auto(key)) schema = one_of_two(json_pack("{s:s}", "const", "auto"), schema);
    return schema;
}

static json_t *schema_of_row(const struct rp_key *key)
{
    int low = 0, high = 0;
    rp_key_counts(key, &low, &high);
    json_t *schema = one_of_row(key);
    if (key->form != RP_FORM_ONE) {
        json_t *list = json_pack("{s:s, s:O}", "type", "array", "items", schema);
        if (key->form == RP_FORM_PAIR) low = high = 2;
        json_object_set_new(list, "minItems", json_integer(low));
        json_object_set_new(list, "maxItems", json_integer(high));
        schema = key->form == RP_FORM_LIST ? (json_decref(schema), list) : one_of_two(schema, list);
    }
    if (!json_object_get(schema, "$ref"))
        json_object_set_new(schema, "description", json_string(key->help));
    return schema;
}

/* ---- maps ---- */

static bool is_row(const struct rp_key *key, const char *path, const char *group)
{
    return rp_key_is_child(key, path) || (*group && rp_key_is_child(key, group));
}

static bool when_is(const struct rp_key *key, const char *name, const char *choice)
{
    size_t length = strlen(name);
    if (strncmp(key->when, name, length) != 0 || key->when[length] != '=') return false;
    for (const char *at = key->when + length + 1; *at;) {
        size_t n = strcspn(at, "|");
        if (strlen(choice) == n && strncmp(at, choice, n) == 0) return true;
        at += n + (at[n] == '|');
    }
    return false;
}

static bool asks(const struct rp_key *key, const char *name)
{
    size_t length = strlen(name);
    return strncmp(key->when, name, length) == 0 && key->when[length] == '=';
}

/* May `key` stand in a map in which `name` is `choice`? A key that asks about another key may, when
 * that one may. */
static bool may_stand(const struct rp_key *key, const char *path, const char *group,
                      const char *name, const char *choice)
{
    if (!*key->when) return true;
    if (asks(key, name)) return when_is(key, name, choice);
    for (int row = 0; row < rp_schema_rows; row++)
        if (is_row(&rp_schema[row], path, group) && asks(key, rp_key_name(&rp_schema[row])))
            return may_stand(&rp_schema[row], path, group, name, choice);
    return true;
}

/* "if kind is adamw, then these keys are required and those are not allowed". */
static json_t *condition(const struct rp_key *kind, const char *choice, const char *path,
                         const char *group)
{
    const char *name = rp_key_name(kind);
    json_t *required = json_array(), *refused = json_object();
    for (int row = 0; row < rp_schema_rows; row++) {
        const struct rp_key *key = &rp_schema[row];
        if (!is_row(key, path, group) || !*key->when) continue;
        bool allowed = false;
        for (int other = 0; other < rp_schema_rows; other++)
            if (is_row(&rp_schema[other], path, group) &&
                strcmp(rp_key_name(&rp_schema[other]), rp_key_name(key)) == 0 &&
                may_stand(&rp_schema[other], path, group, name, choice))
                allowed = true;
        if (!allowed) json_object_set_new(refused, rp_key_name(key), json_false());
        if (when_is(key, name, choice) && rp_key_required(key))
            json_array_append_new(required, json_string(rp_key_name(key)));
    }
    json_t *test = json_pack("{s:{s:{s:o}}}", "properties", name, "const", choice_value(choice));
    if (strcmp(kind->fallback, choice) != 0)
        json_object_set_new(test, "required", json_pack("[s]", name));
    return json_pack("{s:o, s:{s:o, s:o}}", "if", test, "then", "required", required, "properties",
                     refused);
}

static void add_conditions(const struct rp_key *kind, const char *path, const char *group,
                           json_t *conditions)
{
    bool asked = false, built = false;
    for (int row = 0; row < rp_schema_rows; row++)
        asked = asked ||
                (is_row(&rp_schema[row], path, group) && asks(&rp_schema[row], rp_key_name(kind)));
    char choice[32];
    for (int i = 0; asked && rp_key_choice(kind->domain, i, choice, &built); i++)
        if (built) json_array_append_new(conditions, condition(kind, choice, path, group));
}

static json_t *object_of(const char *path, const char *group)
{
    json_t *properties = json_object(), *required = json_array(), *conditions = json_array();
    for (int row = 0; row < rp_schema_rows; row++) {
        const struct rp_key *key = &rp_schema[row];
        if (!is_row(key, path, group)) continue;
        json_t *schema = schema_of_row(key);
        json_t *other = json_object_get(properties, rp_key_name(key));
        if (other) schema = one_of_two(json_incref(other), schema);
        json_object_set_new(properties, rp_key_name(key), schema);
        if ((rp_key_required(key) && !*key->when) || strcmp(key->path, "data.valid.fraction") == 0)
            json_array_append_new(required, json_string(rp_key_name(key)));
        if (key->type == RP_TYPE_CHOICE) add_conditions(key, path, group, conditions);
    }
    json_t *schema = json_pack("{s:s, s:o, s:o, s:b}", "type", "object", "properties", properties,
                               "required", required, "additionalProperties", 0);
    if (json_array_size(conditions)) json_object_set(schema, "allOf", conditions);
    json_decref(conditions);
    return schema;
}

/* A group of variants: a bare name where nothing below it is required, or a map with one key. */
static json_t *variants_of(const char *group)
{
    json_t *bare = json_array(), *choices = json_array();
    for (int row = 0; row < rp_schema_rows; row++) {
        const struct rp_key *key = &rp_schema[row];
        bool needs = false;
        if (!rp_key_is_child(key, group)) continue;
        for (int child = 0; child < rp_schema_rows; child++)
            needs = needs || (rp_key_is_child(&rp_schema[child], key->path) &&
                              rp_key_required(&rp_schema[child]));
        if (!needs) json_array_append_new(bare, json_string(rp_key_name(key)));
        json_t *body = object_of(key->path, "");
        if (!needs) body = one_of_two(body, json_pack("{s:s}", "type", "null"));
        json_array_append_new(
            choices, json_pack("{s:s, s:{s:o}, s:[s], s:b, s:s}", "type", "object", "properties",
                               rp_key_name(key), body, "required", rp_key_name(key),
                               "additionalProperties", 0, "description", key->help));
    }
    if (json_array_size(bare)) json_array_insert_new(choices, 0, json_pack("{s:o}", "enum", bare));
    return json_pack("{s:o}", "anyOf", choices);
}

void rp_spec_json_schema(struct rp_text *text)
{
    static const char *const groups[] = {"transform", "layer", "init", "loss"};
    json_t *definitions = json_object();
    json_object_set_new(definitions, "dataset", object_of("<dataset>", ""));
    for (size_t i = 0; i < RP_COUNT(groups); i++) {
        char group[32];
        snprintf(group, sizeof group, "<%s>", groups[i]);
        json_object_set_new(definitions, groups[i], variants_of(group));
    }
    json_t *schema = object_of("", "");
    json_object_set_new(schema, "$schema", json_string("http://json-schema.org/draft-07/schema#"));
    json_object_set_new(schema, "title", json_string("reprise job spec, version 1"));
    json_object_set_new(schema, "definitions", definitions);
    char *dump = json_dumps(schema, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    rp_text_add(text, "%s\n", dump ? dump : "{}");
    free(dump);
    json_decref(schema);
}
