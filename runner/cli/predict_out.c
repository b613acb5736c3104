/* predict_out.c - from logits to probabilities, and predictions as csv, npy and JSON. */
#include "cli/predict_out.h"

#include "cli/run_view.h"
#include "numerics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum rp_status rp_predictions_init(struct rp_predictions *predictions, const struct rp_apply *apply,
                                   struct rp_error *err)
{
    *predictions = (struct rp_predictions){.apply = apply};
    predictions->classes = apply->shape.target == RP_TARGET_CLASSES;
    predictions->class = rp_mem_try((size_t)apply->n_samples * sizeof *predictions->class);
    predictions->number =
        rp_mem_try((size_t)apply->n_samples * (size_t)apply->width * sizeof *predictions->number);
    if (predictions->class && predictions->number) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_MEMORY,
                        "%lld predictions of %lld numbers do not fit into memory; predict on parts "
                        "of the file",
                        (long long)apply->n_samples, (long long)apply->width);
}

void rp_predictions_release(struct rp_predictions *predictions)
{
    rp_mem_free(predictions->number);
    rp_mem_free(predictions->class);
    *predictions = (struct rp_predictions){0};
}

/* exp(x - max) of rp-num-1, summed in fp64 in ascending order, rounded once: the same bits on every
 * machine. */
static void softmax(const float *logits, int64_t n, float *p)
{
    float most = logits[0];
    double sum = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > most) most = logits[i];
    for (int64_t i = 0; i < n; i++) {
        p[i] = rp_exp(logits[i] - most);
        sum += (double)p[i];
    }
    for (int64_t i = 0; i < n; i++) p[i] = (float)((double)p[i] / sum);
}

enum rp_status rp_predictions_add(void *context, const struct rp_apply_pass *pass,
                                  struct rp_error *err)
{
    struct rp_predictions *predictions = context;
    int64_t width = predictions->apply->width;
    (void)err;
    for (int64_t i = 0; i < pass->n; i++) {
        const float *output = pass->output + i * width;
        float *number = predictions->number + (pass->first + i) * width;
        if (predictions->classes)
            softmax(output, width, number);
        else
            memcpy(number, output, (size_t)width * sizeof *number);
        predictions->class[pass->first + i] = (int32_t)rp_cli_apply_argmax(output, width);
    }
    return RP_STATUS_OK;
}

/* ---- csv ------------------------------------------------------------------------------------- */

static void add_cell(struct rp_text *text, const char *cell)
{
    bool plain = !cell[strcspn(cell, ",\"\r\n")] && cell[0] != ' ';
    rp_text_add(text, plain ? "," : ",\"");
    for (const char *c = cell; *c; c++) rp_text_add(text, *c == '"' && !plain ? "\"\"" : "%c", *c);
    if (!plain) rp_text_add(text, "\"");
}

static void add_number(struct rp_text *text, float value)
{
    char digits[32] = "nan";
    for (int precision = 6; !isnan(value) && precision <= 9; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, (double)value);
        if (strtof(digits, NULL) == value) break;
    }
    rp_text_add(text, ",%s", digits);
}

static void add_header(const struct rp_predictions *predictions, struct rp_text *text)
{
    int64_t width = predictions->apply->width;
    rp_text_add(text, "sample%s", predictions->classes ? ",class" : "");
    for (int64_t i = 0; i < width; i++) {
        char *name = rp_cli_apply_class(predictions->apply, i);
        char *cell = predictions->classes ? rp_mem_text("p_%s", name)
                     : width == 1         ? rp_mem_copy_text("value")
                                          : rp_mem_text("value_%lld", (long long)i);
        add_cell(text, cell);
        rp_mem_free(cell);
        rp_mem_free(name);
    }
    rp_text_add(text, "\n");
}

void rp_predictions_csv(const struct rp_predictions *predictions, struct rp_text *text)
{
    const struct rp_apply *apply = predictions->apply;
    add_header(predictions, text);
    for (int64_t i = 0; i < apply->n_samples; i++) {
        int32_t class = predictions->class[i];
        rp_text_add(text, "%lld", (long long)i);
        if (predictions->classes) {
            char *name = class < 0 ? rp_mem_copy_text("") : rp_cli_apply_class(apply, class);
            add_cell(text, name);
            rp_mem_free(name);
        }
        for (int64_t j = 0; j < apply->width; j++)
            add_number(text, predictions->number[i * apply->width + j]);
        rp_text_add(text, "\n");
    }
}

/* ---- npy, JSON ------------------------------------------------------------------------------- */

void rp_predictions_npy(const struct rp_predictions *predictions, struct rp_text *text)
{
    const struct rp_apply *apply = predictions->apply;
    enum { PREFIX = 10, ALIGN = 64 };
    char header[256];
    int n = snprintf(header, sizeof header,
                     "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld), }",
                     (long long)apply->n_samples, (long long)apply->width);
    int padded = (PREFIX + n + 1 + ALIGN - 1) / ALIGN * ALIGN - PREFIX;
    unsigned char prefix[PREFIX] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
    prefix[8] = (unsigned char)(padded & 0xff);
    prefix[9] = (unsigned char)(padded >> 8);
    rp_text_add_bytes(text, prefix, PREFIX);
    rp_text_add(text, "%-*s\n", padded - 1, header);
    int64_t total = apply->n_samples * apply->width;
    for (int64_t i = 0; i < total; i++) {
        uint32_t bits = rp_float_bits(predictions->number[i]);
        unsigned char bytes[4] = {(unsigned char)bits, (unsigned char)(bits >> 8),
                                  (unsigned char)(bits >> 16), (unsigned char)(bits >> 24)};
        rp_text_add_bytes(text, bytes, sizeof bytes);
    }
}

json_t *rp_predictions_json(const struct rp_predictions *predictions)
{
    const struct rp_apply *apply = predictions->apply;
    json_t *list = json_array();
    for (int64_t i = 0; i < apply->n_samples; i++) {
        json_t *row = json_object(), *numbers = json_array();
        int32_t class = predictions->class[i];
        if (predictions->classes) {
            char *name = class < 0 ? NULL : rp_cli_apply_class(apply, class);
            json_object_set_new(row, "class", name ? json_string(name) : json_null());
            rp_mem_free(name);
        }
        for (int64_t j = 0; j < apply->width; j++)
            json_array_append_new(
                numbers, rp_json_number((double)predictions->number[i * apply->width + j]));
        json_object_set_new(row, predictions->classes ? "probabilities" : "values", numbers);
        json_array_append_new(list, row);
    }
    return list;
}
