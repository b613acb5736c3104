/* summary.c - the model as a table: layer, kind, output shape, parameters. */
#include "model/model_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* 1234567 as "1,234,567". */
static void group_digits(int64_t value, char text[32])
{
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%" PRId64, value);
    int at = 0;
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = '\0';
}

static void shape_text(int n_dims, const int64_t *dims, char text[96])
{
    size_t at = 0;
    text[0] = '\0';
    for (int i = 0; i < n_dims; i++)
        at += (size_t)snprintf(text + at, 96 - at, "%s%" PRId64, i ? " x " : "", dims[i]);
}

void rp_model_summary(const struct rp_spec *spec, const struct rp_model *model,
                      struct rp_text *text)
{
    (void)spec;
    int width = (int)strlen("input");
    for (int i = 0; i < model->n_layers; i++) {
        int length = (int)strlen(model->layer[i].name);
        if (length > width) width = length;
    }
    char shape[96], count[32];
    const struct rp_tensor *x = &model->train.tensor[model->train.input].shape;
    rp_text_add(text, "%-*s  %-14s  %-16s  %12s\n", width, "layer", "kind", "output", "parameters");
    shape_text(x->n_dims - 1, &x->dims[1], shape);
    rp_text_add(text, "%-*s  %-14s  %s\n", width, "input", "", shape);
    for (int i = 0; i < model->n_layers; i++) {
        const struct rp_model_layer *layer = &model->layer[i];
        shape_text(layer->n_dims, layer->dims, shape);
        group_digits(layer->parameters, count);
        if (layer->parameters == 0)
            rp_text_add(text, "%-*s  %-14s  %s\n", width, layer->name, layer->kind, shape);
        else
            rp_text_add(text, "%-*s  %-14s  %-16s  %12s\n", width, layer->name, layer->kind, shape,
                        count);
    }
    int64_t frozen = 0;
    for (int i = 0; i < model->n_parameters; i++)
        if (model->kept[i].frozen) frozen += rp_tensor_elements(&model->kept[i].shape);
    group_digits(model->parameter_elements, count);
    rp_text_add(text, "%s parameters", count);
    if (frozen) {
        group_digits(frozen, count);
        rp_text_add(text, ", of which %s frozen", count);
    }
    rp_text_add(text, "\n");
}
