/* schema.c - the schema table and the reading of its columns. */
#include "spec/spec_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RP_KEY(path, type, form, when, domain, fallback, rule, since, example, help)               \
    {path,     RP_TYPE_##type, RP_FORM_##form, when,    domain,                                    \
     fallback, RP_RULE_##rule, since,          example, help},
const struct rp_key rp_schema[] = {
#include "spec/schema_v1.def"
};
#undef RP_KEY
const int rp_schema_rows = (int)RP_COUNT(rp_schema);
const struct rp_table rp_schema_table = {rp_schema, (int)RP_COUNT(rp_schema), true};

const char *rp_key_name(const struct rp_key *key)
{
    const char *dot = strrchr(key->path, '.');
    return dot ? dot + 1 : key->path;
}

bool rp_key_is_child(const struct rp_key *key, const char *parent)
{
    size_t length = strlen(parent);
    if (length == 0) return key->path[0] != '<' && !strchr(key->path, '.');
    return strncmp(key->path, parent, length) == 0 && key->path[length] == '.' &&
           !strchr(key->path + length + 1, '.');
}

bool rp_schema_has(const struct rp_table *table, const char *parent, const char *name)
{
    char group[160] = "";
    for (int row = 0; row < table->n; row++)
        if (strcmp(table->row[row].path, parent) == 0 && table->row[row].type == RP_TYPE_MAP)
            rp_key_group(&table->row[row], group);
    for (int row = 0; row < table->n; row++)
        if ((rp_key_is_child(&table->row[row], parent) ||
             (*group && rp_key_is_child(&table->row[row], group))) &&
            strcmp(rp_key_name(&table->row[row]), name) == 0)
            return true;
    return false;
}

bool rp_key_required(const struct rp_key *key)
{
    return strcmp(key->fallback, "!") == 0;
}

bool rp_key_takes_preset(const struct rp_key *key)
{
    return strcmp(key->fallback, "!preset") == 0;
}

/* ---- domains ---- */

/* The element's part of a domain; how many items a list may have stands behind it. */
static void split_domain(const char *domain, char element[160], int *low, int *high)
{
    const char *semicolon = strchr(domain, ';');
    size_t length = semicolon ? (size_t)(semicolon - domain) : strlen(domain);
    if (length > 159) length = 159;
    memcpy(element, domain, length);
    element[length] = '\0';
    *low = 0;
    *high = RP_SPEC_MAX_NODES;
    if (semicolon && sscanf(semicolon + 1, " %d..%d", low, high) != 2) *high = *low;
}

void rp_key_counts(const struct rp_key *key, int *low, int *high)
{
    char element[160];
    split_domain(key->domain, element, low, high);
}

void rp_key_group(const struct rp_key *key, char group[160])
{
    int low = 0, high = 0;
    split_domain(key->domain, group, &low, &high);
    if (group[0] != '<') group[0] = '\0';
}

bool rp_key_choice(const char *domain, int i, char text[32], bool *built)
{
    char element[160];
    int low = 0, high = 0;
    split_domain(domain, element, &low, &high);
    const char *at = element;
    for (; i > 0; i--) {
        at = strstr(at, " | ");
        if (!at) return false;
        at += 3;
    }
    const char *end = strstr(at, " | ");
    size_t length = end ? (size_t)(end - at) : strlen(at);
    *built = *at != '!';
    if (!*built) {
        at++;
        length--;
    }
    if (length == 0 || length > 31) return false;
    memcpy(text, at, length);
    text[length] = '\0';
    return true;
}

struct rp_range rp_key_range(const char *domain)
{
    struct rp_range range = {-HUGE_VAL, HUGE_VAL, false, false};
    const char *open = strpbrk(domain, "[(");
    if (!open) return range;
    char *end = NULL;
    range.low_open = *open == '(';
    range.low = strncmp(open + 1, "-inf", 4) == 0 ? -HUGE_VAL : strtod(open + 1, NULL);
    const char *comma = strchr(open, ',');
    range.high = strncmp(comma + 1, " inf", 4) == 0 ? HUGE_VAL : strtod(comma + 1, &end);
    const char *close = strpbrk(comma, ")]");
    range.high_open = close && *close == ')';
    return range;
}

bool rp_key_allows_auto(const struct rp_key *key)
{
    return strncmp(key->domain, "auto", 4) == 0;
}

bool rp_key_allows_unit(const struct rp_key *key, enum rp_unit unit)
{
    static const char *const words[] = {"none",   "steps", "epochs", "samples",
                                        "tokens", "%",     "time"};
    char element[160];
    int low = 0, high = 0;
    split_domain(key->domain, element, &low, &high);
    const char *at = strstr(element, words[unit]);
    return at && (at == element || at[-1] == ' ');
}

/* ---- what is expected, in words ---- */

static void add_range(struct rp_text *text, const char *what, const struct rp_range *range)
{
    char low[32], high[32];
    snprintf(low, sizeof low, "%.12g", range->low);
    snprintf(high, sizeof high, "%.12g", range->high);
    if (range->low == range->high) {
        rp_text_add(text, "%s", low);
        return;
    }
    rp_text_add(text, "%s", what);
    if (isfinite(range->low) && isfinite(range->high) && !range->low_open && !range->high_open) {
        rp_text_add(text, " from %s to %s", low, high);
        return;
    }
    if (isfinite(range->low)) rp_text_add(text, " %s %s", range->low_open ? "above" : "from", low);
    if (isfinite(range->low) && isfinite(range->high)) rp_text_add(text, " and");
    if (isfinite(range->high))
        rp_text_add(text, " %s %s", range->high_open ? "below" : "up to", high);
}

static void add_choices(struct rp_text *text, const char *domain)
{
    char choice[32];
    bool built = false;
    int n = 0;
    for (int i = 0; rp_key_choice(domain, i, choice, &built); i++)
        if (built) rp_text_add(text, "%s%s", n++ ? ", " : "", choice);
    if (n == 0) rp_text_add(text, "none in this build");
}

static void add_variants(struct rp_text *text, const struct rp_key *key)
{
    char group[160];
    rp_key_group(key, group);
    int n = 0;
    for (int i = 0; i < rp_schema_rows; i++)
        if (rp_key_is_child(&rp_schema[i], group))
            rp_text_add(text, "%s%s", n++ ? ", " : "", rp_key_name(&rp_schema[i]));
}

static void add_units(struct rp_text *text, const struct rp_key *key)
{
    static const struct {
        enum rp_unit unit;
        const char *words;
    } list[] = {{RP_UNIT_STEPS, "steps"},     {RP_UNIT_EPOCHS, "epochs"},
                {RP_UNIT_SAMPLES, "samples"}, {RP_UNIT_TOKENS, "tokens"},
                {RP_UNIT_PERCENT, "%"},       {RP_UNIT_SECONDS, "s, min, h"}};
    int n = 0;
    for (size_t i = 0; i < RP_COUNT(list); i++)
        if (rp_key_allows_unit(key, list[i].unit))
            rp_text_add(text, "%s%s", n++ ? ", " : "", list[i].words);
}

static void add_one(struct rp_text *text, const struct rp_key *key)
{
    struct rp_range range = rp_key_range(key->domain);
    const char *automatic = rp_key_allows_auto(key) ? "auto, or " : "";
    switch (key->type) {
    case RP_TYPE_MAP:
        rp_text_add(text, strcmp(key->domain, "each") == 0 ? "a number, or a map of keys"
                                                           : "a map of keys");
        break;
    case RP_TYPE_VARIANT:
        rp_text_add(text, "one of: ");
        add_variants(text, key);
        break;
    case RP_TYPE_BOOL:
        rp_text_add(text, "true or false");
        break;
    case RP_TYPE_INT:
        rp_text_add(text, "%s", automatic);
        add_range(text, "a whole number", &range);
        break;
    case RP_TYPE_SEED:
        rp_text_add(text, "a whole number from 0 to 18446744073709551615");
        break;
    case RP_TYPE_NUMBER:
        add_range(text, "a number", &range);
        break;
    case RP_TYPE_CHOICE:
        rp_text_add(text, "one of: ");
        add_choices(text, key->domain);
        break;
    case RP_TYPE_TEXT:
        rp_text_add(
            text, "%s",
            strcmp(key->domain, "char") == 0   ? "one character in quotes"
            : strcmp(key->domain, "name") == 0 ? "a name (up to 40 letters, digits, `.`, `_`, `-`)"
            : strncmp(key->domain, "pattern", 7) == 0 ? "the name of a tensor, or its start and `*`"
            : strcmp(key->domain, "checkpoint") == 0  ? "best, last, or the number of a step"
            : strncmp(key->domain, "line", 4) == 0    ? "one line of text"
            : strncmp(key->domain, "option", 6) == 0  ? "an option, --name or --name=value"
            : strcmp(key->domain, "duration") == 0    ? "a time such as \"04:00:00\", in quotes"
                                                      : "text");
        break;
    case RP_TYPE_PATH:
        rp_text_add(text, "a path");
        break;
    case RP_TYPE_SHA256:
        rp_text_add(text, "a SHA-256 (64 hexadecimal digits)");
        break;
    case RP_TYPE_SPAN:
        rp_text_add(text, "%sa number with a unit (", automatic);
        add_units(text, key);
        rp_text_add(text, ")");
        break;
    }
}

void rp_key_expected(const struct rp_key *key, bool item, struct rp_text *text)
{
    int low = 0, high = 0;
    rp_key_counts(key, &low, &high);
    if (key->form == RP_FORM_LIST && !item) {
        rp_text_add(text, "a list%s, each ", low == high ? " of 2" : "");
        add_one(text, key);
        return;
    }
    add_one(text, key);
    if (key->form == RP_FORM_PAIR) rp_text_add(text, ", or a pair [height, width]");
    if (key->form == RP_FORM_EITHER) rp_text_add(text, ", or a list of such");
}
