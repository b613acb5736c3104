/* made_spec.h - specs filled by hand, for the tests of model/ and plan/: no parser is involved. */
#ifndef RP_MADE_SPEC_H
#define RP_MADE_SPEC_H

#include "plan/plan.h"
#include "test.h"

enum { MADE_LAYERS = 32 };

struct made {
    struct rp_spec spec;
    struct rp_spec_layer layer[MADE_LAYERS];
    struct rp_data_shape data;
};

/* Ten lines for error messages to quote. */
static char made_text[] =
    "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\nline 7\nline 8\nline 9\n";

/* Images of h x w x c in 10 classes, 1000 to train and 100 to validate, sgd, batch 32 in 8 shards.
 */
static inline void made_init(struct made *m, int64_t h, int64_t w, int64_t c)
{
    memset(m, 0, sizeof *m);
    struct rp_spec *spec = &m->spec;
    spec->path = (char *)(uintptr_t) "made.yaml";
    spec->bytes = made_text;
    spec->n_bytes = sizeof made_text - 1;
    spec->version = spec->numerics = 1;
    spec->seed = 7;
    snprintf(spec->name, sizeof spec->name, "made");
    spec->train_data.format = RP_FORMAT_IDX;
    spec->model.kind = RP_MODEL_SEQUENTIAL;
    spec->model.at = (struct rp_spec_place){2, 1};
    spec->model.layers.layer = m->layer;
    spec->model.activation = RP_LAYER_RELU;
    spec->train.duration = (struct rp_span){.value = 5, .unit = RP_UNIT_EPOCHS, .at = {8, 1}};
    spec->train.batch = 32;
    spec->train.shards = 8;
    spec->train.batch_at = (struct rp_spec_place){5, 1};
    spec->train.shards_at = (struct rp_spec_place){6, 1};
    spec->train.micro_batch_at = (struct rp_spec_place){7, 1};
    spec->train.optimizer.kind = RP_OPTIMIZER_SGD;
    spec->train.optimizer.lr = 0.1;
    spec->train.optimizer.momentum = 0.9;
    m->data = (struct rp_data_shape){.n_dims = 3,
                                     .dims = {h, w, c},
                                     .target = RP_TARGET_CLASSES,
                                     .n_classes = 10,
                                     .n_train = 1000,
                                     .n_valid = 100};
}

static inline struct rp_spec_layer *made_add(struct made *m, enum rp_layer_kind kind)
{
    int i = m->spec.model.layers.n++;
    m->layer[i] = (struct rp_spec_layer){
        .kind = kind, .at = {3 + i, 5}, .groups = 1, .eps = 1e-5f, .momentum = 0.1f, .bias = true};
    return &m->layer[i];
}

static inline void made_conv(struct made *m, int64_t out, int kernel, int stride, int padding)
{
    struct rp_spec_layer *layer = made_add(m, RP_LAYER_CONV2D);
    layer->out = out;
    layer->kernel[0] = layer->kernel[1] = kernel;
    layer->stride[0] = layer->stride[1] = stride;
    layer->padding[0] = layer->padding[1] = padding;
}

static inline void made_pool(struct made *m, enum rp_layer_kind kind, int kernel)
{
    struct rp_spec_layer *layer = made_add(m, kind);
    layer->kernel[0] = layer->kernel[1] = layer->stride[0] = layer->stride[1] = kernel;
}

static inline void made_linear(struct made *m, int64_t out)
{
    made_add(m, RP_LAYER_LINEAR)->out = out;
}

/* The convolutional net of LeCun et al. 1998 as the field writes it today: 44,426 parameters with
 * padding 0 on 28 x 28 images. */
static inline void made_lenet(struct made *m)
{
    made_init(m, 28, 28, 1);
    made_conv(m, 6, 5, 1, 0);
    made_add(m, RP_LAYER_RELU);
    made_pool(m, RP_LAYER_MAXPOOL2D, 2);
    made_conv(m, 16, 5, 1, 0);
    made_add(m, RP_LAYER_RELU);
    made_pool(m, RP_LAYER_MAXPOOL2D, 2);
    made_add(m, RP_LAYER_FLATTEN);
    made_linear(m, 120);
    made_add(m, RP_LAYER_RELU);
    made_linear(m, 84);
    made_add(m, RP_LAYER_RELU);
    made_linear(m, 10);
}

static inline void made_resnet(struct made *m, int depth, bool cifar_stem, int64_t size,
                               int64_t classes)
{
    made_init(m, size, size, 3);
    m->spec.model.kind = RP_MODEL_RESNET;
    m->spec.model.depth = depth;
    m->spec.model.cifar_stem = cifar_stem;
    m->data.n_classes = classes;
}

/* Pattern i of freeze, at line 4. */
static inline void made_freeze(struct made *m, int i, const char *pattern)
{
    m->spec.model.freeze[i] = (char *)(uintptr_t)pattern;
    m->spec.model.freeze_at[i] = (struct rp_spec_place){4, 2};
    if (m->spec.model.n_freeze <= i) m->spec.model.n_freeze = i + 1;
}

/* Builds for one pass over all shards; NULL and the message in `err` when that fails. */
static inline struct rp_model *made_build(struct made *m, struct rp_error *err)
{
    struct rp_model *model = NULL;
    struct rp_rows rows = {.samples_per_shard = m->spec.train.batch / m->spec.train.shards,
                           .n_shards = (int)m->spec.train.shards,
                           .n_samples = m->spec.train.batch};
    enum rp_status status = rp_model_build(&m->spec, &m->data, &rows, 16, 0, &model, err);
    if (status != RP_STATUS_OK) return NULL;
    return model;
}

static inline int made_tensor(const struct rp_graph *graph, const char *name)
{
    for (int t = 0; t < graph->n_tensors; t++)
        if (strcmp(graph->tensor[t].name, name) == 0) return t;
    return RP_GRAPH_NO_TENSOR;
}

static inline int made_count(const struct rp_graph *graph, enum rp_op op)
{
    int n = 0;
    for (int i = 0; i < graph->n_nodes; i++) n += graph->node[i].op == op;
    return n;
}

static inline const struct rp_model_tensor *made_kept(const struct rp_model *model,
                                                      const char *name)
{
    for (int i = 0; i < model->n_kept; i++)
        if (strcmp(model->kept[i].name, name) == 0) return &model->kept[i];
    return NULL;
}

#endif
