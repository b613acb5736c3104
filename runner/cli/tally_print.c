/* tally_print.c - per-class figures and confusion for people, and as JSON. */
#include "cli/run_view.h"

#include "base/utf8.h"
#include "cli/tally.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Above FEW classes a table no longer helps: the worst of them and the most frequent confusions are
 * named. */
enum { FEW = 20, NAMED = 10, NAME_WIDTH = 20, JSON_MATRIX = 256 };

/* The name of a class for a terminal, cut and filled to `width` characters. */
static void short_name(const struct rp_apply *apply, int64_t index, size_t width, bool right,
                       char *out, size_t size)
{
    char *name = rp_cli_apply_class(apply, index), *shown = rp_utf8_shown(name, false);
    size_t at = 0, characters = 0;
    while (shown[at] && characters < width && at + 4 < size) {
        at++;
        while (((unsigned char)shown[at] & 0xc0) == 0x80) at++;
        characters++;
    }
    int blanks = (int)(width - characters);
    snprintf(out, size, "%*s%.*s%*s", right ? blanks : 0, "", (int)at, shown, right ? 0 : blanks,
             "");
    rp_mem_free(shown);
    rp_mem_free(name);
}

static void add_figure(struct rp_text *text, double value)
{
    if (isnan(value))
        rp_text_add(text, " %9s", "-");
    else
        rp_text_add(text, " %9.4f", value);
}

static void add_class_row(struct rp_text *text, const char *name, const struct rp_class_tally *of)
{
    rp_text_add(text, "%s", name);
    add_figure(text, of->precision);
    add_figure(text, of->recall);
    add_figure(text, of->f1);
    rp_text_add(text, " %9lld\n", (long long)of->support);
}

struct ranked {
    double f1;
    int64_t class;
};

static int worst_first(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->f1 != y->f1) return x->f1 < y->f1 ? -1 : 1;
    return (x->class > y->class) - (x->class < y->class);
}

static void add_classes(struct rp_text *text, const struct rp_tally *tally,
                        const struct rp_apply *apply)
{
    struct ranked *rows = RP_NEW_ARRAY(struct ranked, tally->width);
    char name[4 * NAME_WIDTH + 8];
    int64_t n = 0;
    for (int64_t c = 0; c < tally->width; c++)
        if (tally->width <= FEW || tally->of[c].support)
            rows[n++] = (struct ranked){tally->of[c].f1, c};
    if (tally->width > FEW) qsort(rows, (size_t)n, sizeof *rows, worst_first);
    int64_t shown = tally->width > FEW && n > NAMED ? NAMED : n;
    if (shown < n)
        rp_text_add(text, "\nthe %lld worst of %lld classes\n", (long long)shown, (long long)n);
    else
        rp_text_add(text, "\n");
    rp_text_add(text, "%-*s %9s %9s %9s %9s\n", NAME_WIDTH, "class", "precision", "recall", "f1",
                "support");
    for (int64_t i = 0; i < shown; i++) {
        short_name(apply, rows[i].class, NAME_WIDTH, false, name, sizeof name);
        add_class_row(text, name, &tally->of[rows[i].class]);
    }
    snprintf(name, sizeof name, "%-*s", NAME_WIDTH, "mean over classes");
    add_class_row(text, name, &tally->mean);
    rp_mem_free(rows);
}

static int64_t count_pair(const struct rp_tally *tally, int64_t class, int64_t as)
{
    if (class == as) return tally->of[class].right;
    for (int64_t i = 0; i < tally->n_confused; i++)
        if (tally->confused[i].class == class && tally->confused[i].as == as)
            return tally->confused[i].count;
    return 0;
}

/* A row per class, a column per class that the model named. */
static void add_matrix(struct rp_text *text, const struct rp_tally *tally,
                       const struct rp_apply *apply)
{
    enum { ROW_WIDTH = 12, COLUMN_WIDTH = 9, FEW_NAMES = 7 };
    char name[4 * NAME_WIDTH + 8];
    int width = snprintf(NULL, 0, "%lld", (long long)tally->n);
    if (width < 3) width = 3;
    if (width < COLUMN_WIDTH && tally->width <= FEW_NAMES) width = COLUMN_WIDTH;
    rp_text_add(text, "\n%-*s  taken for\n%*s", ROW_WIDTH, "class", ROW_WIDTH, "");
    for (int64_t c = 0; c < tally->width; c++) {
        short_name(apply, c, (size_t)width, true, name, sizeof name);
        if (tally->width <= FEW_NAMES)
            rp_text_add(text, " %s", name);
        else
            rp_text_add(text, " %*lld", width, (long long)c);
    }
    rp_text_add(text, "\n");
    for (int64_t r = 0; r < tally->width; r++) {
        short_name(apply, r, ROW_WIDTH, false, name, sizeof name);
        rp_text_add(text, "%s", name);
        for (int64_t c = 0; c < tally->width; c++) {
            int64_t count = count_pair(tally, r, c);
            if (count || r == c)
                rp_text_add(text, " %*lld", width, (long long)count);
            else
                rp_text_add(text, " %*s", width, ".");
        }
        rp_text_add(text, "\n");
    }
}

static void add_confused(struct rp_text *text, const struct rp_tally *tally,
                         const struct rp_apply *apply)
{
    char class[4 * NAME_WIDTH + 8], as[4 * NAME_WIDTH + 8];
    if (tally->n_confused) rp_text_add(text, "\nmost often confused\n");
    for (int64_t i = 0; i < tally->n_confused && i < NAMED; i++) {
        short_name(apply, tally->confused[i].class, NAME_WIDTH, false, class, sizeof class);
        short_name(apply, tally->confused[i].as, NAME_WIDTH, false, as, sizeof as);
        rp_text_add(text, "%s taken for %s %6lld times\n", class, as,
                    (long long)tally->confused[i].count);
    }
}

static void add_values(struct rp_text *text, const struct rp_tally *tally)
{
    if (tally->width == 1 || tally->width > FEW) return;
    rp_text_add(text, "\n%-8s %12s %12s %9s\n", "value", "mse", "mae", "r2");
    for (int64_t j = 0; j < tally->width; j++) {
        rp_text_add(text, "%-8lld %12.6g %12.6g", (long long)j, tally->value[j].mse,
                    tally->value[j].mae);
        add_figure(text, tally->value[j].r2);
        rp_text_add(text, "\n");
    }
}

void rp_tally_print(const struct rp_tally *tally, const struct rp_apply *apply,
                    struct rp_text *text)
{
    if (tally->value) {
        add_values(text, tally);
        return;
    }
    if (tally->n_undecided)
        rp_text_add(text, "undecided    %lld samples, for which an output is not a number\n",
                    (long long)tally->n_undecided);
    add_classes(text, tally, apply);
    if (tally->width <= FEW)
        add_matrix(text, tally, apply);
    else
        add_confused(text, tally, apply);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static json_t *figure(double value)
{
    return isnan(value) ? json_null() : rp_json_number(value);
}

static json_t *json_of_class(const struct rp_class_tally *of)
{
    return json_pack("{s:o, s:o, s:o, s:I}", "precision", figure(of->precision), "recall",
                     figure(of->recall), "f1", figure(of->f1), "support", (json_int_t)of->support);
}

static json_t *matrix_of(const struct rp_tally *tally)
{
    json_t *rows = json_array();
    int64_t *counts = RP_NEW_ARRAY(int64_t, tally->width * tally->width);
    for (int64_t i = 0; i < tally->n; i++)
        if (tally->predicted[i] >= 0)
            counts[tally->class[i] * tally -> width + tally -> predicted[i]]++;
    for (int64_t r = 0; r < tally->width; r++) {
        json_t *row = json_array();
        for (int64_t c = 0; c < tally->width; c++)
            json_array_append_new(row, json_integer(counts[r * tally->width + c]));
        json_array_append_new(rows, row);
    }
    rp_mem_free(counts);
    return rows;
}

static void classes_json(const struct rp_tally *tally, const struct rp_apply *apply, json_t *json)
{
    json_t *classes = json_array(), *confused = json_array();
    for (int64_t c = 0; c < tally->width; c++) {
        char *name = rp_cli_apply_class(apply, c);
        json_t *row = json_of_class(&tally->of[c]);
        json_object_set_new(row, "class", json_string(name));
        json_array_append_new(classes, row);
        rp_mem_free(name);
    }
    for (int64_t i = 0; i < tally->n_confused && i < JSON_MATRIX; i++)
        json_array_append_new(confused, json_pack("[I, I, I]", (json_int_t)tally->confused[i].class,
                                                  (json_int_t)tally->confused[i].as,
                                                  (json_int_t)tally->confused[i].count));
    json_object_set_new(json, "classes", classes);
    json_object_set_new(json, "mean", json_of_class(&tally->mean));
    json_object_set_new(json, "most_confused", confused);
    json_object_set_new(json, "undecided", json_integer(tally->n_undecided));
    if (tally->width <= JSON_MATRIX) json_object_set_new(json, "confusion", matrix_of(tally));
}

void rp_tally_json(const struct rp_tally *tally, const struct rp_apply *apply, json_t *json)
{
    if (!tally->value) {
        classes_json(tally, apply, json);
        return;
    }
    json_t *values = json_array();
    for (int64_t j = 0; j < tally->width; j++)
        json_array_append_new(values, json_pack("{s:o, s:o, s:o}", "mse",
                                                rp_json_number(tally->value[j].mse), "mae",
                                                rp_json_number(tally->value[j].mae), "r2",
                                                figure(tally->value[j].r2)));
    json_object_set_new(json, "values", values);
}
