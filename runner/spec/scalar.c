/* scalar.c - what a scalar means: YAML 1.2's core schema, and numbers with a unit. */
#include "spec/spec_int.h"

#include "base/number.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *skip_digits(const char *text)
{
    while (*text >= '0' && *text <= '9') text++;
    return text;
}

/* [-+]?[0-9]+ | 0o[0-7]+ | 0x[0-9a-fA-F]+ */
static bool is_int(const char *text)
{
    if (text[0] == '0' && (text[1] == 'o' || text[1] == 'x')) {
        const char *legal = text[1] == 'o' ? "01234567" : "0123456789abcdefABCDEF";
        return text[2] && text[2 + strspn(text + 2, legal)] == '\0';
    }
    if (*text == '-' || *text == '+') text++;
    return *text && *skip_digits(text) == '\0';
}

/* [-+]? ( \.[0-9]+ | [0-9]+ ( \.[0-9]* )? ) ( [eE] [-+]? [0-9]+ )?, and the names of what is no
 * number */
static bool is_float(const char *text)
{
    if (strcmp(text, ".nan") == 0 || strcmp(text, ".NaN") == 0 || strcmp(text, ".NAN") == 0)
        return true;
    if (*text == '-' || *text == '+') text++;
    if (strcmp(text, ".inf") == 0 || strcmp(text, ".Inf") == 0 || strcmp(text, ".INF") == 0)
        return true;
    const char *whole = skip_digits(text), *rest = whole;
    if (*rest == '.') rest = skip_digits(rest + 1);
    if (whole == text && rest - whole < 2) return false;
    if (*rest == 'e' || *rest == 'E') {
        rest++;
        if (*rest == '-' || *rest == '+') rest++;
        if (!(*rest >= '0' && *rest <= '9')) return false;
        rest = skip_digits(rest);
    }
    return *rest == '\0';
}

static bool is_one_of(const char *text, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(text, *names) == 0) return true;
    return false;
}

enum rp_scalar rp_scalar_kind(const struct rp_node *node)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const bools[] = {"true", "True", "TRUE", "false", "False", "FALSE", NULL};
    const char *text = node->text;
    if (!node->plain) return RP_SCALAR_TEXT;
    if (is_one_of(text, nulls)) return RP_SCALAR_NULL;
    if (is_one_of(text, bools)) return RP_SCALAR_BOOL;
    if (is_int(text)) return RP_SCALAR_INT;
    if (is_float(text)) return RP_SCALAR_FLOAT;
    return RP_SCALAR_TEXT;
}

bool rp_scalar_bool(const struct rp_node *node)
{
    return node->text[0] == 't' || node->text[0] == 'T';
}

bool rp_scalar_uint(const struct rp_node *node, uint64_t *value)
{
    const char *text = node->text;
    if (rp_scalar_kind(node) == RP_SCALAR_FLOAT) {
        double number = rp_scalar_number(node);
        if (!(number >= 0 && number <= 0x1p53 && number == floor(number))) return false;
        *value = (uint64_t)number;
        return true;
    }
    if (!is_int(text)) return false;
    int base = text[0] == '0' && text[1] == 'x' ? 16 : text[0] == '0' && text[1] == 'o' ? 8 : 10;
    if (base != 10) text += 2;
    bool minus = *text == '-';
    if (*text == '-' || *text == '+') text++;
    errno = 0;
    *value = strtoull(text, NULL, base);
    return errno == 0 && (!minus || *value == 0);
}

bool rp_scalar_int(const struct rp_node *node, int64_t *value)
{
    struct rp_node copy = *node;
    bool minus = node->text[0] == '-';
    if (minus) copy.text++;
    uint64_t magnitude = 0;
    if (!rp_scalar_uint(&copy, &magnitude) || magnitude > INT64_MAX) return false;
    *value = minus ? -(int64_t)magnitude : (int64_t)magnitude;
    return true;
}

double rp_scalar_number(const struct rp_node *node)
{
    const char *text = node->text;
    const char *dot = strchr(text, '.');
    if (dot && (dot[1] == 'n' || dot[1] == 'N')) return NAN;
    if (dot && (dot[1] == 'i' || dot[1] == 'I')) return text[0] == '-' ? -HUGE_VAL : HUGE_VAL;
    if (text[0] == '0' && (text[1] == 'o' || text[1] == 'x')) {
        uint64_t whole = 0;
        return rp_scalar_uint(node, &whole) ? (double)whole : NAN;
    }
    double number = NAN;
    return rp_number_parse(text, &number) ? number : NAN;
}

/* ---- units ---- */

static const struct {
    const char *name;
    enum rp_unit unit;
    double factor;
} units[] = {
    {"steps", RP_UNIT_STEPS, 1},      {"step", RP_UNIT_STEPS, 1},
    {"epochs", RP_UNIT_EPOCHS, 1},    {"epoch", RP_UNIT_EPOCHS, 1},
    {"samples", RP_UNIT_SAMPLES, 1},  {"sample", RP_UNIT_SAMPLES, 1},
    {"tokens", RP_UNIT_TOKENS, 1},    {"token", RP_UNIT_TOKENS, 1},
    {"%", RP_UNIT_PERCENT, 1},        {"percent", RP_UNIT_PERCENT, 1},
    {"s", RP_UNIT_SECONDS, 1},        {"sec", RP_UNIT_SECONDS, 1},
    {"second", RP_UNIT_SECONDS, 1},   {"seconds", RP_UNIT_SECONDS, 1},
    {"min", RP_UNIT_SECONDS, 60},     {"minute", RP_UNIT_SECONDS, 60},
    {"minutes", RP_UNIT_SECONDS, 60}, {"h", RP_UNIT_SECONDS, 3600},
    {"hour", RP_UNIT_SECONDS, 3600},  {"hours", RP_UNIT_SECONDS, 3600},
    {"day", RP_UNIT_SECONDS, 86400},  {"days", RP_UNIT_SECONDS, 86400},
};

bool rp_unit_from_name(const char *name, size_t length, enum rp_unit *unit, double *factor)
{
    for (size_t i = 0; i < RP_COUNT(units); i++)
        if (strlen(units[i].name) == length && strncmp(units[i].name, name, length) == 0) {
            *unit = units[i].unit;
            *factor = units[i].factor;
            return true;
        }
    return false;
}

const char *rp_unit_name(enum rp_unit unit, bool plural)
{
    static const char *const names[][2] = {{"", ""},
                                           {"step", "steps"},
                                           {"epoch", "epochs"},
                                           {"sample", "samples"},
                                           {"token", "tokens"},
                                           {"%", "%"},
                                           {"s", "s"}};
    return names[unit][plural];
}

const char *rp_span_parse(const char *text, struct rp_span *span)
{
    char digits[64];
    size_t length = strspn(text, "0123456789.");
    const char *rest = text + length;
    if ((*rest == 'e' || *rest == 'E') &&
        (isdigit((unsigned char)rest[1]) ||
         ((rest[1] == '-' || rest[1] == '+') && isdigit((unsigned char)rest[2])))) {
        rest += 2;
        rest = skip_digits(rest);
    }
    length = (size_t)(rest - text);
    if (length == 0) return "it must start with a number";
    if (length >= sizeof digits) return "the number is too long";
    memcpy(digits, text, length);
    digits[length] = '\0';
    if (!is_int(digits) && !is_float(digits)) return "its number is malformed";
    double number = NAN;
    if (!rp_number_parse(digits, &number) || !isfinite(number)) return "its number is too large";

    bool suffix = (*rest == 'k' || *rest == 'M' || *rest == 'B') && (rest[1] == ' ' || !rest[1]);
    if (suffix) number *= *rest == 'k' ? 1e3 : *rest == 'M' ? 1e6 : 1e9;
    if (suffix) rest++;
    bool space = *rest == ' ';
    while (*rest == ' ') rest++;
    if (!*rest) return "it needs a unit";
    double factor = 1;
    if (!rp_unit_from_name(rest, strlen(rest), &span->unit, &factor)) return "its unit is unknown";
    if (!space && span->unit >= RP_UNIT_STEPS && span->unit <= RP_UNIT_TOKENS)
        return "put a space before its unit";
    span->value = number * factor;
    bool counts = span->unit >= RP_UNIT_STEPS && span->unit <= RP_UNIT_TOKENS;
    if (counts && span->value != floor(span->value)) return "its number must be whole";
    if (counts && span->value > 0x1p53) return "its number is too large";
    return NULL;
}
