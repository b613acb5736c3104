/* where.c - `--where 'train.optimizer.lr>1e-4'`: one condition on a run. */
#include "cli/run_row.h"

#include "base/number.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *text;
    enum rp_where_op op;
} ops[] = {{">=", RP_WHERE_GE}, {"<=", RP_WHERE_LE}, {"!=", RP_WHERE_NE}, {"==", RP_WHERE_EQ},
           {">", RP_WHERE_GT},  {"<", RP_WHERE_LT},  {"=", RP_WHERE_EQ}};

/* "10k steps": 10000 and "step"; false when it does not begin with a number. */
static bool split_number(const char *text, double *number, const char **unit, size_t *unit_length)
{
    static const struct {
        char letter;
        double factor;
    } factors[] = {{'k', 1e3}, {'M', 1e6}, {'B', 1e9}};
    char *end;
    *number = strtod(text, &end);
    if (end == text || isnan(*number)) {
        *unit = "";
        *unit_length = 0;
        return rp_number_parse(text, number); /* NaN, Infinity */
    }
    for (size_t i = 0; i < RP_COUNT(factors); i++) {
        if (*end != factors[i].letter || (end[1] && end[1] != ' ')) continue;
        *number *= factors[i].factor;
        end++;
        break;
    }
    *unit = end + strspn(end, " ");
    *unit_length = strlen(*unit);
    if (*unit_length > 1 && (*unit)[*unit_length - 1] == 's') --*unit_length;
    return true;
}

int rp_where_compare(const char *a, const char *b, bool *are_numbers)
{
    double x, y;
    const char *x_unit, *y_unit;
    size_t x_length, y_length;
    *are_numbers = split_number(a, &x, &x_unit, &x_length) &&
                   split_number(b, &y, &y_unit, &y_length) &&
                   (!x_length || !y_length ||
                    (x_length == y_length && strncmp(x_unit, y_unit, x_length) == 0));
    if (!*are_numbers) return strcmp(a, b);
    return (x > y) - (x < y);
}

enum rp_status rp_where_parse(const char *text, struct rp_where *where, struct rp_error *err)
{
    size_t length = strcspn(text, "<>=!"), end = length;
    double number;
    const char *unit;
    size_t unit_length;
    *where = (struct rp_where){0};
    while (end > 0 && text[end - 1] == ' ') end--;
    for (size_t i = 0; i < RP_COUNT(ops) && end > 0 && !where->key; i++) {
        size_t n = strlen(ops[i].text);
        if (strncmp(text + length, ops[i].text, n) != 0) continue;
        where->key = rp_mem_text("%.*s", (int)end, text);
        where->op = ops[i].op;
        where->value = text + length + n;
        where->value += strspn(where->value, " ");
    }
    if (!where->key || !where->value[0])
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--where %s: expected KEY, one of = != < <= > >=, and a value, such as "
                            "--where 'train.optimizer.lr>1e-4'",
                            text);
    bool orders = where->op != RP_WHERE_EQ && where->op != RP_WHERE_NE;
    if (orders && !split_number(where->value, &number, &unit, &unit_length))
        return rp_error_set(err, RP_STATUS_USAGE, "--where %s: `%s` is no number to compare with",
                            text, where->value);
    return RP_STATUS_OK;
}

bool rp_where_fits(const struct rp_where *where, const struct rp_run_row *row)
{
    struct rp_text value = {0};
    bool are_numbers = false, fits = false;
    if (rp_run_row_value(row, where->key, &value)) {
        int order = rp_where_compare(rp_text_get(&value), where->value, &are_numbers);
        bool is_nan = strcmp(rp_text_get(&value), "NaN") == 0;
        switch (where->op) {
        case RP_WHERE_EQ:
            fits = order == 0 && (!is_nan || strcmp(where->value, "NaN") == 0);
            break;
        case RP_WHERE_NE:
            fits = order != 0 || (is_nan && strcmp(where->value, "NaN") != 0);
            break;
        case RP_WHERE_LT:
            fits = are_numbers && !is_nan && order < 0;
            break;
        case RP_WHERE_LE:
            fits = are_numbers && !is_nan && order <= 0;
            break;
        case RP_WHERE_GT:
            fits = are_numbers && !is_nan && order > 0;
            break;
        case RP_WHERE_GE:
            fits = are_numbers && !is_nan && order >= 0;
            break;
        }
    }
    rp_text_release(&value);
    return fits;
}

void rp_where_release(struct rp_where *where)
{
    rp_mem_free(where->key);
    *where = (struct rp_where){0};
}
