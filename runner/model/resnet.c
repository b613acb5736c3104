/* resnet.c - residual networks: for CIFAR with 20, 32 or 56 layers (He et al. 2016, section 4.2,
 * with 1x1 projections, their option B), and with 18, 34 or 50 as the field builds them.
 * Tensors are named conv1, bn1, layer1.0.conv1, ..., layer2.0.downsample.0, ..., fc. */
#include "model/model_int.h"

#include <inttypes.h>
#include <stdio.h>

struct plan_of_depth {
    int depth, n_stages;
    int blocks[4];
    int64_t width;   /* channels of the first stage; each later one doubles it */
    bool bottleneck; /* 1x1, 3x3, 1x1 with four times the channels out */
};

static const struct plan_of_depth plans[] = {
    {18, 4, {2, 2, 2, 2}, 64, false}, {34, 4, {3, 4, 6, 3}, 64, false},
    {50, 4, {3, 4, 6, 3}, 64, true},  {20, 3, {3, 3, 3}, 16, false},
    {32, 3, {5, 5, 5}, 16, false},    {56, 3, {9, 9, 9}, 16, false},
};

static enum rp_status add_conv(struct rp_builder *b, const char *name, int64_t out, int kernel,
                               int stride, struct rp_flow *flow)
{
    struct rp_spec_layer layer = {.kind = RP_LAYER_CONV2D,
                                  .at = b->spec->model.at,
                                  .out = out,
                                  .kernel = {kernel, kernel},
                                  .stride = {stride, stride},
                                  .padding = {kernel / 2, kernel / 2},
                                  .groups = 1};
    return rp_builder_add_layer(b, name, &layer, flow);
}

static enum rp_status add_norm(struct rp_builder *b, const char *name, struct rp_flow *flow)
{
    struct rp_spec_layer layer = {
        .kind = RP_LAYER_BATCH_NORM, .at = b->spec->model.at, .eps = 1e-5f, .momentum = 0.1f};
    return rp_builder_add_layer(b, name, &layer, flow);
}

static enum rp_status add_relu(struct rp_builder *b, const char *name, struct rp_flow *flow)
{
    struct rp_spec_layer layer = {.kind = RP_LAYER_RELU, .at = b->spec->model.at};
    return rp_builder_add_layer(b, name, &layer, flow);
}

/* One residual block: its convolutions, each followed by a norm and, but for the last, a relu; then
 * the sum with the input or its projection, and a relu. The stride is that of the first 3x3. */
static enum rp_status add_block(struct rp_builder *b, const char *block, bool bottleneck,
                                int64_t width, int stride, struct rp_flow *flow)
{
    struct rp_flow shortcut = *flow;
    int64_t in = b->graph->tensor[flow->tensor].shape.dims[3];
    int64_t out = bottleneck ? 4 * width : width;
    int n = bottleneck ? 3 : 2;
    char name[RP_MODEL_NAME_BYTES];
    for (int i = 0; i < n; i++) {
        bool wide = !bottleneck || i == 1;
        snprintf(name, sizeof name, "%s.conv%d", block, i + 1);
        RP_TRY(add_conv(b, name, i == n - 1 ? out : width, wide ? 3 : 1,
                        i == (bottleneck ? 1 : 0) ? stride : 1, flow));
        snprintf(name, sizeof name, "%s.bn%d", block, i + 1);
        RP_TRY(add_norm(b, name, flow));
        snprintf(name, sizeof name, "%s.relu%d", block, i + 1);
        if (i < n - 1) RP_TRY(add_relu(b, name, flow));
    }
    if (stride != 1 || in != out) {
        snprintf(name, sizeof name, "%s.downsample.0", block);
        RP_TRY(add_conv(b, name, out, 1, stride, &shortcut));
        snprintf(name, sizeof name, "%s.downsample.1", block);
        RP_TRY(add_norm(b, name, &shortcut));
    }
    snprintf(name, sizeof name, "%s.add", block);
    RP_TRY(rp_builder_add_sum(b, name, b->spec->model.at, &shortcut, flow));
    return add_relu(b, block, flow);
}

/* 7x7 stride 2 and a pool for images of some 224 pixels; 3x3 stride 1 for those of 32. */
static enum rp_status add_stem(struct rp_builder *b, bool small, int64_t width,
                               struct rp_flow *flow)
{
    RP_TRY(add_conv(b, "conv1", width, small ? 3 : 7, small ? 1 : 2, flow));
    RP_TRY(add_norm(b, "bn1", flow));
    RP_TRY(add_relu(b, "relu", flow));
    if (small) return RP_STATUS_OK;
    struct rp_spec_layer pool = {.kind = RP_LAYER_MAXPOOL2D,
                                 .at = b->spec->model.at,
                                 .kernel = {3, 3},
                                 .stride = {2, 2},
                                 .padding = {1, 1}};
    return rp_builder_add_layer(b, "maxpool", &pool, flow);
}

enum rp_status rp_builder_add_resnet(struct rp_builder *b, struct rp_flow *flow)
{
    const struct rp_spec_model *model = &b->spec->model;
    const struct plan_of_depth *plan = NULL;
    for (size_t i = 0; i < RP_COUNT(plans); i++)
        if (plans[i].depth == model->depth) plan = &plans[i];
    if (!plan)
        return rp_spec_fail(b->spec, model->at, RP_STATUS_USAGE, b->err,
                            "resnet: there is no depth %d: use 20, 32, 56 (CIFAR) or 18, 34, 50",
                            model->depth);
    if (b->data->n_dims != 3)
        return rp_spec_fail(b->spec, model->at, RP_STATUS_USAGE, b->err,
                            "resnet needs images (H, W, C), but the data gives rows of %" PRId64
                            " numbers: use `kind: mlp` or a data set of images",
                            b->data->dims[0]);
    RP_TRY(add_stem(b, model->cifar_stem || plan->n_stages == 3, plan->width, flow));
    int64_t width = plan->width;
    for (int stage = 0; stage < plan->n_stages; stage++) {
        for (int i = 0; i < plan->blocks[stage]; i++) {
            char name[32];
            snprintf(name, sizeof name, "layer%d.%d", stage + 1, i);
            RP_TRY(add_block(b, name, plan->bottleneck, width, stage > 0 && i == 0 ? 2 : 1, flow));
        }
        width *= 2;
    }
    struct rp_spec_layer pool = {.kind = RP_LAYER_GLOBAL_AVGPOOL, .at = model->at};
    RP_TRY(rp_builder_add_layer(b, "avgpool", &pool, flow));
    struct rp_spec_layer fc = {.kind = RP_LAYER_LINEAR, .at = model->at, .bias = true};
    fc.out = model->out ? model->out : rp_builder_width(b) ? rp_builder_width(b) : 1;
    return rp_builder_add_layer(b, "fc", &fc, flow);
}
