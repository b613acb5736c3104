/* layers.c - one layer of the spec at a time: what it accepts, its parameters, its nodes. */
#include "model/model_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *rp_layer_word(enum rp_layer_kind kind)
{
    static const char *const words[] = {
        [RP_LAYER_LINEAR] = "linear",
        [RP_LAYER_CONV2D] = "conv2d",
        [RP_LAYER_MAXPOOL2D] = "maxpool2d",
        [RP_LAYER_AVGPOOL2D] = "avgpool2d",
        [RP_LAYER_GLOBAL_AVGPOOL] = "global_avgpool",
        [RP_LAYER_RELU] = "relu",
        [RP_LAYER_GELU] = "gelu",
        [RP_LAYER_GELU_TANH] = "gelu_tanh",
        [RP_LAYER_SILU] = "silu",
        [RP_LAYER_SIGMOID] = "sigmoid",
        [RP_LAYER_TANH] = "tanh",
        [RP_LAYER_BATCH_NORM] = "batch_norm",
        [RP_LAYER_LAYER_NORM] = "layer_norm",
        [RP_LAYER_DROPOUT] = "dropout",
        [RP_LAYER_FLATTEN] = "flatten",
        [RP_LAYER_RESIDUAL] = "residual",
    };
    return words[kind];
}

static const struct rp_tensor *shape_of(const struct rp_builder *b, const struct rp_flow *flow)
{
    return &b->graph->tensor[flow->tensor].shape;
}

void rp_flow_text(const struct rp_builder *b, const struct rp_flow *flow, char text[128])
{
    const struct rp_tensor *shape = shape_of(b, flow);
    size_t at = 0;
    text[0] = '\0';
    for (int i = 1; i < shape->n_dims; i++)
        at +=
            (size_t)snprintf(text + at, 128 - at, "%s%" PRId64, i > 1 ? ", " : "(", shape->dims[i]);
    snprintf(text + at, 128 - at, ")");
}

/* ---- what a layer accepts -------------------------------------------------------------------- */

static enum rp_status need_image(struct rp_builder *b, const struct rp_spec_layer *layer,
                                 const struct rp_flow *flow)
{
    if (shape_of(b, flow)->n_dims == 4) return RP_STATUS_OK;
    char gives[128];
    rp_flow_text(b, flow, gives);
    const char *word = rp_layer_word(layer->kind);
    if (flow->hwc[0])
        return rp_spec_fail(b->spec, layer->at, RP_STATUS_USAGE, b->err,
                            "%s needs an image (H, W, C), but the layer before gives %s: put it "
                            "before `flatten`",
                            word, gives);
    bool at_input = flow->tensor == b->graph->input;
    return rp_spec_fail(b->spec, layer->at, RP_STATUS_USAGE, b->err,
                        "%s needs an image (H, W, C), but the %s %s: %s", word,
                        at_input ? "data gives samples of shape" : "layer before gives", gives,
                        at_input
                            ? "use `linear` layers or a data set of images"
                            : "put it before the first `flatten`, `global_avgpool` or `linear`");
}

static enum rp_status need_features(struct rp_builder *b, const struct rp_spec_layer *layer,
                                    const struct rp_flow *flow)
{
    if (shape_of(b, flow)->n_dims == 2) return RP_STATUS_OK;
    char gives[128];
    rp_flow_text(b, flow, gives);
    return rp_spec_fail(b->spec, layer->at, RP_STATUS_USAGE, b->err,
                        "%s needs a row of features (C), but the %s an image %s: put `- flatten` "
                        "or `- global_avgpool` before it",
                        rp_layer_word(layer->kind),
                        flow->tensor == b->graph->input ? "data gives" : "layer before gives",
                        gives);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static int add_activation(struct rp_builder *b, const char *name, struct rp_spec_place at)
{
    return rp_graph_add_tensor(b->graph, RP_ROLE_ACTIVATION, at, "%s", name);
}

/* The node's out[0] becomes the layer's output. */
static enum rp_status add_output(struct rp_builder *b, const char *name,
                                 const struct rp_spec_layer *layer, struct rp_graph_node *node,
                                 struct rp_flow *flow)
{
    node->in[0] = flow->tensor;
    node->out[0] = add_activation(b, name, layer->at);
    RP_TRY(rp_builder_add_node(b, node, layer->at, rp_layer_word(layer->kind)));
    flow->tensor = node->out[0];
    return RP_STATUS_OK;
}

static enum rp_status add_weights(struct rp_builder *b, const char *name,
                                  const struct rp_spec_layer *layer, struct rp_kept_request *weight,
                                  struct rp_graph_node *node)
{
    weight->layer = name;
    weight->what = "weight";
    weight->at = layer->at;
    weight->init = layer->init;
    weight->drawn = layer->init.kind != RP_INIT_ZEROS;
    weight->shape.dtype = RP_DTYPE_F32;
    RP_TRY(rp_builder_keep(b, weight, &node->in[1]));
    if (!layer->bias) return RP_STATUS_OK;
    struct rp_kept_request bias = {.layer = name,
                                   .what = "bias",
                                   .at = layer->at,
                                   .fan_in = weight->fan_in,
                                   .fan_out = weight->fan_out,
                                   .shape = {.n_dims = 1, .dims = {layer->out}}};
    return rp_builder_keep(b, &bias, &node->in[2]);
}

static enum rp_status add_linear(struct rp_builder *b, const char *name,
                                 const struct rp_spec_layer *layer, struct rp_flow *flow)
{
    RP_TRY(need_features(b, layer, flow));
    int64_t in = shape_of(b, flow)->dims[1];
    struct rp_kept_request weight = {
        .shape = {.n_dims = 2, .dims = {layer->out, in}}, .fan_in = in, .fan_out = layer->out};
    if (flow->hwc[0]) {
        weight.layout = RP_LAYOUT_LINEAR_HWC;
        memcpy(weight.hwc, flow->hwc, sizeof weight.hwc);
    }
    memset(flow->hwc, 0, sizeof flow->hwc);
    struct rp_graph_node node = rp_graph_node_new(RP_OP_linear);
    RP_TRY(add_weights(b, name, layer, &weight, &node));
    return add_output(b, name, layer, &node, flow);
}

static enum rp_status add_conv2d(struct rp_builder *b, const char *name,
                                 const struct rp_spec_layer *layer, struct rp_flow *flow)
{
    RP_TRY(need_image(b, layer, flow));
    int64_t channels = shape_of(b, flow)->dims[3];
    int groups = layer->groups;
    if (groups < 1 || channels % groups || layer->out % groups)
        return rp_spec_fail(b->spec, layer->at, RP_STATUS_USAGE, b->err,
                            "conv2d: groups is %d and must divide both the %" PRId64
                            " channels that come in and `out`, %" PRId64,
                            groups, channels, layer->out);
    int64_t taps = (int64_t)layer->kernel[0] * layer->kernel[1];
    struct rp_kept_request weight = {
        .shape = {.n_dims = 4,
                  .dims = {layer->out, layer->kernel[0], layer->kernel[1], channels / groups}},
        .fan_in = taps * (channels / groups),
        .fan_out = taps * layer->out,
        .layout = RP_LAYOUT_CONV_OHWI};
    struct rp_graph_node node = rp_graph_node_new(RP_OP_conv2d);
    node.params.conv2d = (struct rp_conv2d_params){layer->kernel[0],
                                                   layer->kernel[1],
                                                   layer->stride[0],
                                                   layer->stride[1],
                                                   layer->padding[0],
                                                   layer->padding[1],
                                                   groups};
    RP_TRY(add_weights(b, name, layer, &weight, &node));
    return add_output(b, name, layer, &node, flow);
}

static enum rp_status add_pool(struct rp_builder *b, const char *name,
                               const struct rp_spec_layer *layer, struct rp_flow *flow)
{
    RP_TRY(need_image(b, layer, flow));
    bool max = layer->kind == RP_LAYER_MAXPOOL2D;
    struct rp_graph_node node = rp_graph_node_new(max ? RP_OP_maxpool2d : RP_OP_avgpool2d);
    node.params.pool2d =
        (struct rp_pool2d_params){layer->kernel[0], layer->kernel[1],  layer->stride[0],
                                  layer->stride[1], layer->padding[0], layer->padding[1]};
    if (max)
        node.out[1] = rp_graph_add_tensor(b->graph, RP_ROLE_ACTIVATION, layer->at, "%s.tap", name);
    return add_output(b, name, layer, &node, flow);
}

static enum rp_status add_global_avgpool(struct rp_builder *b, const char *name,
                                         const struct rp_spec_layer *layer, struct rp_flow *flow)
{
    RP_TRY(need_image(b, layer, flow));
    struct rp_graph_node node = rp_graph_node_new(RP_OP_global_avgpool);
    return add_output(b, name, layer, &node, flow);
}

static enum rp_status add_elementwise(struct rp_builder *b, const char *name,
                                      const struct rp_spec_layer *layer, struct rp_flow *flow)
{
    static const enum rp_op ops[] = {
        [RP_LAYER_RELU] = RP_OP_relu,           [RP_LAYER_GELU] = RP_OP_gelu,
        [RP_LAYER_GELU_TANH] = RP_OP_gelu_tanh, [RP_LAYER_SILU] = RP_OP_silu,
        [RP_LAYER_SIGMOID] = RP_OP_sigmoid,     [RP_LAYER_TANH] = RP_OP_tanh,
    };
    struct rp_graph_node node = rp_graph_node_new(ops[layer->kind]);
    return add_output(b, name, layer, &node, flow);
}

static enum rp_status add_dropout(struct rp_builder *b, const char *name,
                                  const struct rp_spec_layer *layer, struct rp_flow *flow)
{
    if (!b->training || layer->p == 0.0f) return RP_STATUS_OK;
    struct rp_graph_node node = rp_graph_node_new(RP_OP_dropout);
    node.params.dropout = (struct rp_dropout_params){layer->p, (uint32_t)b->next_layer};
    return add_output(b, name, layer, &node, flow);
}

static enum rp_status add_flatten(struct rp_builder *b, const char *name,
                                  const struct rp_spec_layer *layer, struct rp_flow *flow)
{
    (void)layer;
    struct rp_tensor shape = *shape_of(b, flow);
    if (shape.n_dims != 4) return RP_STATUS_OK;
    memcpy(flow->hwc, &shape.dims[1], sizeof flow->hwc);
    shape.dims[1] *= shape.dims[2] * shape.dims[3];
    shape.n_dims = 2;
    flow->tensor = rp_graph_add_view(b->graph, flow->tensor, &shape, name);
    return RP_STATUS_OK;
}

/* ---- norms ----------------------------------------------------------------------------------- */

/* A vector of one number per channel or feature, behind `flatten` in the file order of an image. */
static enum rp_status add_vector(struct rp_builder *b, const char *name, const char *what,
                                 const struct rp_spec_layer *layer, const struct rp_flow *flow,
                                 float fill, bool statistic, int *tensor)
{
    const struct rp_tensor *x = shape_of(b, flow);
    int64_t width = x->dims[x->n_dims - 1];
    struct rp_kept_request request = {.layer = name,
                                      .what = what,
                                      .at = layer->at,
                                      .statistic = statistic,
                                      .fill = fill,
                                      .momentum = statistic ? layer->momentum : 0.0f,
                                      .fan_in = width,
                                      .fan_out = width,
                                      .shape = {.n_dims = 1, .dims = {width}}};
    if (flow->hwc[0]) {
        request.layout = RP_LAYOUT_LINEAR_HWC;
        memcpy(request.hwc, flow->hwc, sizeof request.hwc);
    }
    return rp_builder_keep(b, &request, tensor);
}

static int add_seen(struct rp_builder *b, const char *name, const char *what,
                    struct rp_spec_place at, int statistic)
{
    int seen = rp_graph_add_tensor(b->graph, RP_ROLE_SUM, at, "%s.%s", name, what);
    b->graph->tensor[seen].of = statistic;
    rp_builder_kept(b, statistic)->seen_tensor = seen;
    return seen;
}

static enum rp_status add_batch_norm(struct rp_builder *b, const char *name,
                                     const struct rp_spec_layer *layer, struct rp_flow *flow)
{
    const struct rp_tensor *x = shape_of(b, flow);
    int64_t values = b->rows.samples_per_shard;
    for (int i = 1; i + 1 < x->n_dims; i++) values *= x->dims[i];
    if (b->training && values < 2)
        return rp_spec_fail(b->spec, layer->at, RP_STATUS_USAGE, b->err,
                            "batch_norm takes its statistics within a shard, and a shard gives one "
                            "value per channel here: lower train.shards or raise train.batch");
    struct rp_tensor per_shard = {.n_dims = 2, .dims = {b->rows.n_shards, x->dims[x->n_dims - 1]}};
    struct rp_graph_node node =
        rp_graph_node_new(b->training ? RP_OP_batch_norm : RP_OP_batch_norm_eval);
    node.params.norm.eps = layer->eps;
    int mean, var;
    RP_TRY(add_vector(b, name, "weight", layer, flow, 1.0f, false, &node.in[1]));
    RP_TRY(add_vector(b, name, "bias", layer, flow, 0.0f, false, &node.in[2]));
    RP_TRY(add_vector(b, name, "running_mean", layer, flow, 0.0f, true, &mean));
    RP_TRY(add_vector(b, name, "running_var", layer, flow, 1.0f, true, &var));
    b->model->has_batch_norm = true;
    if (!b->training) {
        node.in[3] = mean;
        node.in[4] = var;
        return add_output(b, name, layer, &node, flow);
    }
    static const char *const saved[] = {"mean", "inv"};
    for (int i = 0; i < 2; i++) {
        node.out[1 + i] =
            rp_graph_add_tensor(b->graph, RP_ROLE_ACTIVATION, layer->at, "%s.%s", name, saved[i]);
        b->graph->tensor[node.out[1 + i]].shape = per_shard; /* the op cannot know the shards */
    }
    node.out[3] = add_seen(b, name, "seen_mean", layer->at, mean);
    node.out[4] = add_seen(b, name, "seen_var", layer->at, var);
    return add_output(b, name, layer, &node, flow);
}

static enum rp_status add_layer_norm(struct rp_builder *b, const char *name,
                                     const struct rp_spec_layer *layer, struct rp_flow *flow)
{
    struct rp_graph_node node = rp_graph_node_new(RP_OP_layer_norm);
    node.params.norm.eps = layer->eps;
    RP_TRY(add_vector(b, name, "weight", layer, flow, 1.0f, false, &node.in[1]));
    RP_TRY(add_vector(b, name, "bias", layer, flow, 0.0f, false, &node.in[2]));
    node.out[1] = rp_graph_add_tensor(b->graph, RP_ROLE_ACTIVATION, layer->at, "%s.mean", name);
    node.out[2] = rp_graph_add_tensor(b->graph, RP_ROLE_ACTIVATION, layer->at, "%s.inv", name);
    return add_output(b, name, layer, &node, flow);
}

/* ---- any layer ------------------------------------------------------------------------------- */

void rp_builder_note_layer(struct rp_builder *b, const char *name, const char *kind,
                           int64_t parameters, const struct rp_tensor *output)
{
    int i = b->next_layer++;
    if (!b->training) return;
    struct rp_model *model = b->model;
    if ((i & (i - 1)) == 0)
        model->layer = rp_mem_grow(model->layer, (i ? 2 * (size_t)i : 1) * sizeof *model->layer);
    struct rp_model_layer *layer = &model->layer[i];
    model->n_layers = i + 1;
    *layer = (struct rp_model_layer){.kind = kind, .parameters = parameters};
    snprintf(layer->name, sizeof layer->name, "%s", name);
    layer->n_dims = output->n_dims - 1;
    memcpy(layer->dims, &output->dims[1], (size_t)layer->n_dims * sizeof layer->dims[0]);
}

enum rp_status rp_builder_add_layer(struct rp_builder *b, const char *name,
                                    const struct rp_spec_layer *layer, struct rp_flow *flow)
{
    typedef enum rp_status (*add)(struct rp_builder *, const char *, const struct rp_spec_layer *,
                                  struct rp_flow *);
    static const add adds[] = {
        [RP_LAYER_LINEAR] = add_linear,
        [RP_LAYER_CONV2D] = add_conv2d,
        [RP_LAYER_MAXPOOL2D] = add_pool,
        [RP_LAYER_AVGPOOL2D] = add_pool,
        [RP_LAYER_GLOBAL_AVGPOOL] = add_global_avgpool,
        [RP_LAYER_RELU] = add_elementwise,
        [RP_LAYER_GELU] = add_elementwise,
        [RP_LAYER_GELU_TANH] = add_elementwise,
        [RP_LAYER_SILU] = add_elementwise,
        [RP_LAYER_SIGMOID] = add_elementwise,
        [RP_LAYER_TANH] = add_elementwise,
        [RP_LAYER_BATCH_NORM] = add_batch_norm,
        [RP_LAYER_LAYER_NORM] = add_layer_norm,
        [RP_LAYER_DROPOUT] = add_dropout,
        [RP_LAYER_FLATTEN] = add_flatten,
    };
    int64_t before = b->model->parameter_elements;
    RP_TRY(adds[layer->kind](b, name, layer, flow));
    rp_builder_note_layer(b, name, rp_layer_word(layer->kind),
                          b->model->parameter_elements - before, shape_of(b, flow));
    return RP_STATUS_OK;
}

static bool same_dims(const struct rp_tensor *a, const struct rp_tensor *b)
{
    if (a->n_dims != b->n_dims) return false;
    return memcmp(a->dims, b->dims, (size_t)a->n_dims * sizeof a->dims[0]) == 0;
}

enum rp_status rp_builder_add_sum(struct rp_builder *b, const char *name, struct rp_spec_place at,
                                  const struct rp_flow *other, struct rp_flow *flow)
{
    if (!same_dims(shape_of(b, flow), shape_of(b, other)) ||
        memcmp(flow->hwc, other->hwc, sizeof flow->hwc) != 0) {
        char body[128], shortcut[128];
        rp_flow_text(b, flow, body);
        rp_flow_text(b, other, shortcut);
        bool order = same_dims(shape_of(b, flow), shape_of(b, other));
        return rp_spec_fail(b->spec, at, RP_STATUS_USAGE, b->err,
                            order ? "residual: body gives %s and shortcut %s, but only one of them "
                                    "is a flattened image: put `flatten` before the residual"
                                  : "residual: body gives %s but shortcut gives %s; they are added "
                                    "and must agree: change `out`, `stride` or `padding` in one of "
                                    "them (an empty shortcut is the input itself)",
                            body, shortcut);
    }
    struct rp_graph_node node = rp_graph_node_new(RP_OP_add);
    node.in[0] = flow->tensor;
    node.in[1] = other->tensor;
    node.out[0] = add_activation(b, name, at);
    RP_TRY(rp_builder_add_node(b, &node, at, "residual"));
    flow->tensor = node.out[0];
    rp_builder_note_layer(b, name, "add", 0, shape_of(b, flow));
    return RP_STATUS_OK;
}
