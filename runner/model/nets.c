/* nets.c - whole nets from layers: sequential with residual blocks, and mlp, which is a sequential
 * that writes itself. resnet.c has the third kind. */
#include "model/model_int.h"

#include <inttypes.h>
#include <stdio.h>

int64_t rp_builder_width(const struct rp_builder *b)
{
    int64_t width = b->data->target == RP_TARGET_CLASSES ? b->data->n_classes : b->data->n_values;
    return width > 0 ? width : 0;
}

/* ---- sequential ------------------------------------------------------------------------------ */

static enum rp_status add_layers(struct rp_builder *b, const char *prefix,
                                 const struct rp_spec_layers *layers, struct rp_flow *flow);

static enum rp_status add_residual(struct rp_builder *b, const char *name,
                                   const struct rp_spec_layer *layer, struct rp_flow *flow)
{
    char part[RP_MODEL_NAME_BYTES + 16];
    struct rp_flow shortcut = *flow;
    snprintf(part, sizeof part, "%s.body", name);
    RP_TRY(add_layers(b, part, &layer->body, flow));
    snprintf(part, sizeof part, "%s.shortcut", name);
    RP_TRY(add_layers(b, part, &layer->shortcut, &shortcut));
    return rp_builder_add_sum(b, name, layer->at, &shortcut, flow);
}

/* Layer i of a list is named PREFIX.i, as a module list of the field would name it. */
static enum rp_status add_layers(struct rp_builder *b, const char *prefix,
                                 const struct rp_spec_layers *layers, struct rp_flow *flow)
{
    for (int i = 0; i < layers->n; i++) {
        const struct rp_spec_layer *layer = &layers->layer[i];
        char name[RP_MODEL_NAME_BYTES];
        int length = snprintf(name, sizeof name, "%s.%d", prefix, i);
        if (length >= RP_MODEL_NAME_BYTES - 20) /* room for ".running_mean" and ".grad" */
            return rp_spec_fail(b->spec, layer->at, RP_STATUS_USAGE, b->err,
                                "residual blocks are nested too deep here: the layer's name would "
                                "be longer than %d characters",
                                RP_MODEL_NAME_BYTES - 20);
        if (layer->kind == RP_LAYER_RESIDUAL)
            RP_TRY(add_residual(b, name, layer, flow));
        else
            RP_TRY(rp_builder_add_layer(b, name, layer, flow));
    }
    return RP_STATUS_OK;
}

/* ---- mlp ------------------------------------------------------------------------------------- */

/* The same layers, names and bits as the sequential [flatten, linear, activation, dropout, ...,
 * linear] written by hand: flatten only for images, dropout only where it is not 0. */
static enum rp_status add_mlp(struct rp_builder *b, struct rp_flow *flow)
{
    const struct rp_spec_model *model = &b->spec->model;
    struct rp_spec_layer layer[3 * RP_SPEC_MAX_HIDDEN + 2];
    struct rp_spec_layers layers = {.layer = layer};
    if (b->data->n_dims == 3)
        layer[layers.n++] = (struct rp_spec_layer){.kind = RP_LAYER_FLATTEN, .at = model->at};
    for (int i = 0; i <= model->n_hidden; i++) {
        bool last = i == model->n_hidden;
        int64_t width = model->out ? model->out : rp_builder_width(b) ? rp_builder_width(b) : 1;
        layer[layers.n++] = (struct rp_spec_layer){.kind = RP_LAYER_LINEAR,
                                                   .at = model->at,
                                                   .out = last ? width : model->hidden[i],
                                                   .bias = true};
        if (last) break;
        layer[layers.n++] = (struct rp_spec_layer){.kind = model->activation, .at = model->at};
        if (model->dropout > 0.0f)
            layer[layers.n++] = (struct rp_spec_layer){
                .kind = RP_LAYER_DROPOUT, .at = model->at, .p = model->dropout};
    }
    return add_layers(b, "layers", &layers, flow);
}

/* ---- any net --------------------------------------------------------------------------------- */

/* The last layer must give one number per class, or per value. */
static enum rp_status check_width(struct rp_builder *b, const struct rp_flow *flow)
{
    const struct rp_spec_model *model = &b->spec->model;
    const struct rp_tensor *shape = &b->graph->tensor[flow->tensor].shape;
    int64_t want = rp_builder_width(b);
    if (shape->n_dims == 2 && (want == 0 || shape->dims[1] == want)) return RP_STATUS_OK;
    struct rp_spec_place at = model->at;
    if (model->kind == RP_MODEL_SEQUENTIAL && model->layers.n > 0)
        at = model->layers.layer[model->layers.n - 1].at;
    char gives[128];
    rp_flow_text(b, flow, gives);
    bool classes = b->data->target == RP_TARGET_CLASSES;
    if (want == 0)
        return rp_spec_fail(
            b->spec, at, RP_STATUS_USAGE, b->err,
            "the model ends in %s, not in a row of numbers: end it with `- flatten` "
            "and `- linear: {out: %s}`",
            gives, classes ? "CLASSES" : "VALUES");
    return rp_spec_fail(b->spec, at, RP_STATUS_USAGE, b->err,
                        "the model ends in %s, but the data has %" PRId64
                        " %s: the last layer must "
                        "give (%" PRId64 "), for example `- linear: {out: %" PRId64 "}`",
                        gives, want, classes ? "classes" : "values per sample", want, want);
}

enum rp_status rp_builder_add_net(struct rp_builder *b, struct rp_flow *flow)
{
    switch (b->spec->model.kind) {
    case RP_MODEL_SEQUENTIAL:
        RP_TRY(add_layers(b, "layers", &b->spec->model.layers, flow));
        break;
    case RP_MODEL_MLP:
        RP_TRY(add_mlp(b, flow));
        break;
    case RP_MODEL_RESNET:
        RP_TRY(rp_builder_add_resnet(b, flow));
        break;
    case RP_MODEL_GPT:
        return rp_builder_add_gpt(b, flow);
    }
    return check_width(b, flow);
}
