/* bind_scalar.c - one scalar against its row of the schema: type, range, choice, unit. */
#include "spec/spec_int.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static bool in_range(const struct rp_range *range, double number)
{
    if (isnan(number) || isinf(number)) return false;
    if (number < range->low || (range->low_open && number == range->low)) return false;
    return !(number > range->high || (range->high_open && number == range->high));
}

/* What a person meant by a text where a number belongs: "128" in quotes, 10k, 1_000, 5 epochs. */
static const char *number_advice(const struct rp_node *node, char advice[80])
{
    struct rp_node plain = *node;
    char digits[32] = "";
    size_t n = 0;
    bool underscore = false;
    plain.plain = true;
    advice[0] = '\0';
    if (node->kind != RP_NODE_SCALAR || node->length >= sizeof digits) return advice;
    if (!node->plain &&
        (rp_scalar_kind(&plain) == RP_SCALAR_INT || rp_scalar_kind(&plain) == RP_SCALAR_FLOAT))
        return "; remove the quotes";
    for (const char *c = node->text; *c; c++) {
        if (*c == '_' || *c == ',')
            underscore = true;
        else
            digits[n++] = *c;
    }
    plain.text = digits;
    plain.length = n;
    if (underscore && rp_scalar_kind(&plain) == RP_SCALAR_INT) {
        snprintf(advice, 80, "; write %s", digits);
        return advice;
    }
    char last = n ? digits[n - 1] : '\0';
    double factor = last == 'k' || last == 'K' ? 1e3 : last == 'M' ? 1e6 : last == 'B' ? 1e9 : 0;
    if (factor == 0) return advice;
    digits[--n] = '\0';
    plain.length = n;
    enum rp_scalar kind = rp_scalar_kind(&plain);
    if (kind == RP_SCALAR_INT || kind == RP_SCALAR_FLOAT)
        snprintf(advice, 80, "; write %.15g", rp_scalar_number(&plain) * factor);
    return advice;
}

static bool is_auto(const struct rp_key *key, const struct rp_node *node)
{
    return rp_key_allows_auto(key) && strcmp(node->text, "auto") == 0;
}

static void bind_number(struct rp_bind *bind, const struct rp_key *key, const struct rp_node *node,
                        struct rp_value *value)
{
    char advice[80];
    struct rp_range range = rp_key_range(key->domain);
    enum rp_scalar kind = rp_scalar_kind(node);
    bool number = kind == RP_SCALAR_INT || kind == RP_SCALAR_FLOAT;
    value->automatic = is_auto(key, node);
    if (value->automatic) return;
    if (!number) {
        rp_bind_mismatch(bind, key, node, value, number_advice(node, advice));
    } else if (key->type == RP_TYPE_SEED) {
        if (!rp_scalar_uint(node, &value->seed)) rp_bind_mismatch(bind, key, node, value, "");
    } else if (key->type == RP_TYPE_INT) {
        if (!rp_scalar_int(node, &value->whole) || !in_range(&range, (double)value->whole))
            rp_bind_mismatch(bind, key, node, value, "");
    } else {
        value->number = rp_scalar_number(node);
        if (!in_range(&range, value->number)) rp_bind_mismatch(bind, key, node, value, "");
        if (value->number == 0) value->number = 0; /* -0 is 0: one value, one digest */
    }
}

static void complain_of_not_built(struct rp_bind *bind, const struct rp_key *key,
                                  const struct rp_node *node)
{
    struct rp_text text = {0};
    char choice[32];
    bool built = false;
    int n = 0;
    for (int i = 0; rp_key_choice(key->domain, i, choice, &built); i++)
        if (built) rp_text_add(&text, "%s%s", n++ ? ", " : "; it has ", choice);
    rp_problems_add(bind->problems, node->at, node->set, "`%s` in `%s` is not in this build%s",
                    node->text, rp_key_display(key->path), rp_text_get(&text));
    rp_text_release(&text);
}

static void bind_choice(struct rp_bind *bind, const struct rp_key *key, const struct rp_node *node,
                        struct rp_value *value)
{
    char choice[32];
    const char *names[32];
    int n = 0;
    bool built = false;
    for (int i = 0; rp_key_choice(key->domain, i, choice, &built) && i < 32; i++) {
        bool found = node->length == strlen(choice) && strcmp(node->text, choice) == 0;
        if (found && built) {
            value->text = node->text;
            return;
        }
        names[n++] = rp_arena_text(bind->arena, choice, strlen(choice));
        if (found) break;
    }
    struct rp_text advice = {0};
    const char *foreign = rp_suggest_foreign(node->text, key->path);
    const char *near = rp_nearest_word(node->text, names, n);
    if (n > 0 && strcmp(node->text, names[n - 1]) == 0) {
        complain_of_not_built(bind, key, node);
        value->bad = true;
        return;
    }
    if (foreign)
        rp_text_add(&advice, "; %s", foreign);
    else if (near)
        rp_text_add(&advice, "; did you mean `%s`?", near);
    rp_bind_mismatch(bind, key, node, value, rp_text_get(&advice));
    rp_text_release(&advice);
}

static const char *check_name(const char *text)
{
    size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    if (text[n]) return "";
    if (!isalnum((unsigned char)text[0])) return "; it must start with a letter or a digit";
    if (n >= RP_SPEC_NAME_BYTES) return ", which is too long";
    return NULL;
}

static const char *check_path(const struct rp_node *node)
{
    for (size_t i = 0; i < node->length; i++)
        if ((unsigned char)node->text[i] < 0x20) return "; no control characters in a path";
    if (strstr(node->text, "://")) return "; files are local: fetch it first, then name the file";
    return NULL;
}

/* What may stand on a line of a job file: quoting takes care of the rest. */
static const char *check_line(const struct rp_key *key, const struct rp_node *node)
{
    bool option = strncmp(key->domain, "option", 6) == 0;
    for (size_t i = 0; i < node->length; i++)
        if ((unsigned char)node->text[i] < 0x20 || node->text[i] == 0x7f)
            return "; no control characters, and one line each";
    if (strncmp(key->domain, "line", 4) == 0)
        return node->text[0] == '-' ? "; it must not start with `-`" : NULL;
    size_t n = option && strncmp(node->text, "--", 2) == 0
                   ? strspn(node->text + 2, "abcdefghijklmnopqrstuvwxyz0123456789-")
                   : 0;
    if (option) return n > 0 && (!node->text[n + 2] || node->text[n + 2] == '=') ? NULL : "";
    return node->text[strspn(node->text, "0123456789:-")] || !isdigit((unsigned char)node->text[0])
               ? ""
               : NULL;
}

static const char *check_text(const struct rp_key *key, const struct rp_node *node)
{
    if (node->length == 0) return "; it must not be empty";
    if (key->type == RP_TYPE_PATH) return check_path(node);
    if (strcmp(key->domain, "name") == 0) return check_name(node->text);
    if (strcmp(key->domain, "char") == 0)
        return node->length == 1 && node->text[0] != '\n' && node->text[0] != '\r' &&
                       node->text[0] != '"'
                   ? NULL
                   : "; one ASCII character, and no quote or line end";
    if (strncmp(key->domain, "line", 4) == 0 || strncmp(key->domain, "option", 6) == 0 ||
        strcmp(key->domain, "duration") == 0)
        return check_line(key, node);
    const char *star = strchr(node->text, '*');
    if (strncmp(key->domain, "pattern", 7) == 0 && star && star[1])
        return "; `*` can only be its last character";
    return NULL;
}

static void bind_text(struct rp_bind *bind, const struct rp_key *key, const struct rp_node *node,
                      struct rp_value *value)
{
    enum rp_scalar kind = rp_scalar_kind(node);
    value->text = node->text;
    if (strcmp(key->domain, "checkpoint") == 0) {
        if (strcmp(node->text, "best") != 0 && strcmp(node->text, "last") != 0 &&
            (kind != RP_SCALAR_INT || strspn(node->text, "0123456789") != node->length))
            rp_bind_mismatch(bind, key, node, value, "");
        return;
    }
    if (kind != RP_SCALAR_TEXT) {
        rp_bind_mismatch(bind, key, node, value,
                         ", which YAML reads as another type; put it in quotes");
        return;
    }
    const char *wrong = check_text(key, node);
    if (wrong) rp_bind_mismatch(bind, key, node, value, wrong);
}

/* A number alone where a length belongs: the same number with each unit that is allowed. */
static void advise_units(const struct rp_key *key, const char *number, struct rp_text *text)
{
    static const enum rp_unit order[] = {RP_UNIT_STEPS, RP_UNIT_EPOCHS, RP_UNIT_SECONDS};
    int n = 0;
    for (size_t i = 0; i < RP_COUNT(order); i++)
        if (rp_key_allows_unit(key, order[i]))
            rp_text_add(text, "%s`%s %s`", n++ ? " or " : ": write ", number,
                        rp_unit_name(order[i], strcmp(number, "1") != 0));
}

/* A unit that is nearly one. */
static void advise_spelling(const char *written, struct rp_text *text)
{
    static const char *const names[] = {"steps",   "epochs",  "samples", "tokens",
                                        "seconds", "minutes", "hours",   "days"};
    const char *unit = written + strspn(written, "0123456789.kMB ");
    const char *near = rp_nearest_word(unit, names, (int)RP_COUNT(names));
    enum rp_unit known = RP_UNIT_NONE;
    double factor = 1;
    if (near && !rp_unit_from_name(unit, strlen(unit), &known, &factor))
        rp_text_add(text, "; did you mean `%s`?", near);
}

static void bind_span(struct rp_bind *bind, const struct rp_key *key, const struct rp_node *node,
                      struct rp_value *value)
{
    value->automatic = is_auto(key, node);
    value->span.at = node->at;
    if (value->automatic) return;
    struct rp_text advice = {0};
    enum rp_scalar kind = rp_scalar_kind(node);
    const char *wrong = rp_span_parse(node->text, &value->span);
    bool zero = strstr(key->domain, "0+") != NULL;
    if (kind == RP_SCALAR_INT || kind == RP_SCALAR_FLOAT) {
        rp_text_add(&advice, ", which has no unit");
        advise_units(key, node->text, &advice);
    } else if (wrong) {
        rp_text_add(&advice, "; %s", wrong);
        advise_spelling(node->text, &advice);
    } else if (!rp_key_allows_unit(key, value->span.unit)) {
        rp_text_add(&advice, "; its unit does not fit here");
    } else if (value->span.value == 0 && !zero) {
        rp_text_add(&advice, "; it must be more than 0");
    } else if (value->span.unit == RP_UNIT_PERCENT && value->span.value > 100) {
        rp_text_add(&advice, "; it must be at most 100 %%");
    }
    if (advice.length) rp_bind_mismatch(bind, key, node, value, rp_text_get(&advice));
    rp_text_release(&advice);
}

void rp_bind_scalar(struct rp_bind *bind, const struct rp_key *key, const struct rp_node *node,
                    struct rp_value *value)
{
    if (node->kind != RP_NODE_SCALAR) {
        rp_bind_mismatch(bind, key, node, value, "");
        return;
    }
    enum rp_scalar kind = rp_scalar_kind(node);
    if (kind == RP_SCALAR_NULL || strlen(node->text) != node->length) {
        rp_bind_mismatch(bind, key, node, value, kind == RP_SCALAR_NULL ? "" : "; no NUL in it");
        return;
    }
    switch (key->type) {
    case RP_TYPE_BOOL:
        if (kind == RP_SCALAR_BOOL)
            value->yes = rp_scalar_bool(node);
        else
            rp_bind_mismatch(bind, key, node, value, "");
        break;
    case RP_TYPE_INT:
    case RP_TYPE_SEED:
    case RP_TYPE_NUMBER:
        bind_number(bind, key, node, value);
        break;
    case RP_TYPE_CHOICE:
        bind_choice(bind, key, node, value);
        break;
    case RP_TYPE_TEXT:
    case RP_TYPE_PATH:
        bind_text(bind, key, node, value);
        break;
    case RP_TYPE_SHA256:
        if (!rp_sha256_from_hex(node->text, &value->sha256))
            rp_bind_mismatch(bind, key, node, value, "");
        break;
    case RP_TYPE_SPAN:
        bind_span(bind, key, node, value);
        break;
    case RP_TYPE_MAP:
    case RP_TYPE_VARIANT:
        break;
    }
}
