/* test_model.c - the shapes, names and counts of models against those of the field; backward;
 * errors. */
#include "made_spec.h"

static struct rp_error err;

static struct rp_model *build(struct made *m)
{
    struct rp_model *model = made_build(m, &err);
    if (!model) {
        printf("build failed: %s\n", err.text);
        test_failures++;
        exit(1);
    }
    return model;
}

static const struct rp_tensor *shape(const struct rp_graph *graph, const char *name)
{
    int t = made_tensor(graph, name);
    if (t < 0) {
        printf("no tensor %s\n", name);
        exit(1);
    }
    return &graph->tensor[t].shape;
}

/* ---- shapes and counts ----------------------------------------------------------------------- */

static void test_lenet(void)
{
    struct made m;
    made_lenet(&m);
    struct rp_model *model = build(&m);
    CHECK_INT(model->parameter_elements, 44426);
    CHECK_INT(model->n_parameters, 10);
    CHECK_INT(model->n_kept, 10);
    CHECK_INT(model->samples_per_loss_value, 1);
    CHECK_TEXT(model->kept[0].name, "layers.0.weight");
    CHECK_TEXT(model->kept[9].name, "layers.11.bias");
    const struct rp_tensor *conv = shape(&model->train, "layers.3");
    CHECK_INT(conv->n_dims, 4);
    CHECK_INT(conv->dims[0], 32);
    CHECK_INT(conv->dims[1], 8);
    CHECK_INT(conv->dims[3], 16);
    const struct rp_tensor *flat = shape(&model->train, "layers.6");
    CHECK_INT(flat->n_dims, 2);
    CHECK_INT(flat->dims[1], 256);
    CHECK_INT(shape(&model->eval, "layers.11")->dims[0], 16);
    CHECK_INT(shape(&model->eval, "layers.11")->dims[1], 10);
    CHECK_INT(model->train.logits, made_tensor(&model->train, "layers.11"));
    const struct rp_model_tensor *fc = made_kept(model, "layers.7.weight");
    CHECK_INT(fc->layout, RP_LAYOUT_LINEAR_HWC);
    CHECK_INT(fc->hwc[0], 4);
    CHECK_INT(fc->hwc[2], 16);
    CHECK_INT(made_kept(model, "layers.9.weight")->layout, RP_LAYOUT_PLAIN);
    CHECK_INT(made_kept(model, "layers.0.weight")->layout, RP_LAYOUT_CONV_OHWI);
    CHECK_INT(fc->fan_in, 256);
    rp_model_free(model);
}

/* Counts published with the models: torchvision's 18, 34 and 50, He et al.'s 0.27, 0.46 and 0.85 M.
 */
static void test_resnet_counts(void)
{
    static const struct {
        int depth;
        bool cifar_stem;
        int64_t size, classes, parameters;
    } cases[] = {
        {18, true, 32, 10, 11173962},     {18, false, 224, 1000, 11689512},
        {34, false, 224, 1000, 21797672}, {50, false, 224, 1000, 25557032},
        {20, false, 32, 10, 272474},      {32, false, 32, 10, 466906},
        {56, false, 32, 10, 855770},
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        struct made m;
        made_resnet(&m, cases[i].depth, cases[i].cifar_stem, cases[i].size, cases[i].classes);
        struct rp_model *model = build(&m);
        CHECK_INT(model->parameter_elements, cases[i].parameters);
        CHECK(model->has_batch_norm);
        int64_t listed = 0;
        for (int l = 0; l < model->n_layers; l++) listed += model->layer[l].parameters;
        CHECK_INT(listed, cases[i].parameters);
        rp_model_free(model);
    }
}

static void test_resnet_shapes(void)
{
    struct made m;
    made_resnet(&m, 50, false, 224, 1000);
    struct rp_model *model = build(&m);
    CHECK_INT(shape(&model->train, "maxpool")->dims[1], 56);
    CHECK_INT(shape(&model->train, "layer1.0")->dims[3], 256);
    CHECK_INT(shape(&model->train, "layer4.2")->dims[1], 7);
    CHECK_INT(shape(&model->train, "layer4.2")->dims[3], 2048);
    /* The stride is on the 3x3 convolution of a bottleneck, as torchvision has it. */
    CHECK_INT(shape(&model->train, "layer2.0.conv1")->dims[1], 56);
    CHECK_INT(shape(&model->train, "layer2.0.conv2")->dims[1], 28);
    CHECK(made_kept(model, "layer1.0.downsample.0.weight") != NULL);
    CHECK(made_kept(model, "layer1.1.downsample.0.weight") == NULL);
    CHECK(made_kept(model, "conv1.bias") == NULL);
    CHECK(made_kept(model, "fc.bias") != NULL);
    CHECK_TEXT(model->kept[model->n_parameters].name, "bn1.running_mean");
    CHECK_INT(model->n_kept - model->n_parameters, 2 * 53);
    CHECK_INT(model->kept[model->n_parameters + 1].fill, 1);
    rp_model_free(model);

    made_resnet(&m, 20, false, 32, 10);
    model = build(&m);
    CHECK_INT(shape(&model->train, "relu")->dims[1], 32);
    CHECK_INT(shape(&model->train, "layer3.2")->dims[1], 8);
    CHECK_INT(shape(&model->train, "layer3.2")->dims[3], 64);
    CHECK_INT(shape(&model->train, "bn1.mean")->dims[0], 8);
    CHECK_INT(shape(&model->train, "bn1.mean")->dims[1], 16);
    rp_model_free(model);
}

/* ---- an mlp is the sequential that it stands for --------------------------------------------- */

static void test_mlp(void)
{
    struct made a, b;
    made_init(&a, 28, 28, 1);
    a.spec.model.kind = RP_MODEL_MLP;
    a.spec.model.hidden[0] = 512;
    a.spec.model.hidden[1] = 256;
    a.spec.model.n_hidden = 2;
    made_init(&b, 28, 28, 1);
    made_add(&b, RP_LAYER_FLATTEN);
    made_linear(&b, 512);
    made_add(&b, RP_LAYER_RELU);
    made_linear(&b, 256);
    made_add(&b, RP_LAYER_RELU);
    made_linear(&b, 10);
    struct rp_model *mlp = build(&a), *sequential = build(&b);
    CHECK_INT(mlp->parameter_elements, 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10);
    CHECK_INT(mlp->n_kept, sequential->n_kept);
    for (int i = 0; i < mlp->n_kept; i++) CHECK_TEXT(mlp->kept[i].name, sequential->kept[i].name);
    CHECK_INT(mlp->train.n_nodes, sequential->train.n_nodes);
    for (int i = 0; i < mlp->train.n_nodes; i++)
        CHECK_INT(
            memcmp(&mlp->train.node[i], &sequential->train.node[i], sizeof mlp->train.node[i]), 0);
    rp_model_free(sequential);
    a.spec.model.dropout = 0.5f; /* control: another graph */
    rp_model_free(mlp);
    mlp = build(&a);
    CHECK_INT(made_count(&mlp->train, RP_OP_dropout), 2);
    CHECK_INT(made_count(&mlp->eval, RP_OP_dropout), 0);
    CHECK_TEXT(mlp->kept[2].name, "layers.4.weight");
    int sites[2], n = 0;
    for (int i = 0; i < mlp->train.n_nodes; i++)
        if (mlp->train.node[i].op == RP_OP_dropout)
            sites[n++] = (int)mlp->train.node[i].params.dropout.site;
    CHECK_INT(sites[0], 3);
    CHECK_INT(sites[1], 6);
    rp_model_free(mlp);
}

/* ---- backward -------------------------------------------------------------------------------- */

/* Every trained parameter gets one gradient of its own shape; the input gets none. */
static void check_gradients(const struct rp_model *model)
{
    for (int i = 0; i < model->n_kept; i++) {
        const struct rp_model_tensor *kept = &model->kept[i];
        CHECK_TEXT(model->train.tensor[kept->train_tensor].name, kept->name);
        CHECK_TEXT(model->eval.tensor[kept->eval_tensor].name, kept->name);
        if (kept->statistic) {
            CHECK_INT(kept->grad_tensor, RP_GRAPH_NO_TENSOR);
            CHECK_INT(model->train.tensor[kept->seen_tensor].of, kept->train_tensor);
            CHECK_INT(model->train.tensor[kept->seen_tensor].role, RP_ROLE_SUM);
            continue;
        }
        if (kept->frozen) {
            CHECK_INT(kept->grad_tensor, RP_GRAPH_NO_TENSOR);
            continue;
        }
        CHECK(kept->grad_tensor >= 0);
        const struct rp_graph_tensor *grad = &model->train.tensor[kept->grad_tensor];
        CHECK_INT(grad->role, RP_ROLE_SUM);
        CHECK_INT(grad->of, kept->train_tensor);
        CHECK_INT(memcmp(&grad->shape, &kept->shape, sizeof kept->shape), 0);
    }
    CHECK_INT(made_tensor(&model->train, "x.grad"), RP_GRAPH_NO_TENSOR);
}

static void test_backward(void)
{
    struct made m;
    made_lenet(&m);
    struct rp_model *model = build(&m);
    check_gradients(model);
    CHECK_INT(made_count(&model->train, RP_OP_conv2d_dw), 2);
    CHECK_INT(made_count(&model->train, RP_OP_conv2d_dx), 1); /* not for the input */
    CHECK_INT(made_count(&model->train, RP_OP_linear_dx), 3);
    CHECK_INT(made_count(&model->train, RP_OP_sum_rows), 6); /* five biases and the loss */
    CHECK_INT(made_count(&model->eval, RP_OP_linear_dx), 0);
    CHECK_INT(model->eval.loss_sum, RP_GRAPH_NO_TENSOR);
    CHECK_INT(model->train.tensor[model->train.loss_sum].role, RP_ROLE_SUM);
    for (int i = 0; i < model->train.n_nodes; i++)
        CHECK_INT(model->train.node[i].backward, i >= model->train.n_forward);
    rp_model_free(model);

    made_resnet(&m, 20, false, 32, 10);
    model = build(&m);
    check_gradients(model);
    /* Nine blocks: forward a sum each; backward a sum each where the input is used twice. */
    CHECK_INT(made_count(&model->train, RP_OP_add), 18);
    CHECK_INT(made_count(&model->eval, RP_OP_batch_norm_eval), 21);
    CHECK_INT(made_count(&model->eval, RP_OP_batch_norm), 0);
    rp_model_free(model);
}

/* Every gradient is written before it is read, and nothing is written twice but in place. */
static void check_order(const struct rp_graph *graph)
{
    char *written = calloc((size_t)graph->n_tensors, 1);
    for (int t = 0; t < graph->n_tensors; t++) {
        enum rp_role role = graph->tensor[t].role;
        written[t] = role == RP_ROLE_INPUT || role == RP_ROLE_TARGET || role == RP_ROLE_PARAMETER ||
                     role == RP_ROLE_STATISTIC;
    }
    for (int n = 0; n < graph->n_nodes; n++) {
        for (int i = 0; i < RP_OP_MAX_IN; i++) {
            int t = graph->node[n].in[i];
            if (t < 0 || written[t]) continue;
            int owner = graph->tensor[t].alias_of; /* a view is as written as its owner */
            CHECK(owner >= 0 && written[owner]);
        }
        for (int i = 0; i < RP_OP_MAX_OUT; i++) {
            int t = graph->node[n].out[i];
            if (t < 0) continue;
            CHECK(!written[t]);
            written[t] = 1;
            if (graph->tensor[t].alias_of >= 0) written[graph->tensor[t].alias_of] = 1;
        }
    }
    free(written);
}

static void test_order(void)
{
    struct made m;
    made_lenet(&m);
    struct rp_model *model = build(&m);
    check_order(&model->train);
    check_order(&model->eval);
    rp_model_free(model);
    made_resnet(&m, 50, false, 64, 10);
    model = build(&m);
    check_order(&model->train);
    check_order(&model->eval);
    rp_model_free(model);
}

static void test_freeze(void)
{
    struct made m;
    made_lenet(&m);
    made_freeze(&m, 0, "layers.0.*");
    made_freeze(&m, 1, "layers.3.weight");
    struct rp_model *model = build(&m);
    check_gradients(model);
    CHECK(made_kept(model, "layers.0.bias")->frozen);
    CHECK(made_kept(model, "layers.3.weight")->frozen);
    CHECK(!made_kept(model, "layers.3.bias")->frozen);
    CHECK_INT(made_count(&model->train, RP_OP_conv2d_dw), 0);
    CHECK_INT(made_count(&model->train, RP_OP_conv2d_dx), 0);
    CHECK_INT(made_count(&model->train, RP_OP_maxpool2d_dx), 1); /* down to the bias of layer 3 */
    CHECK_INT(made_count(&model->train, RP_OP_relu_dx), 3);
    rp_model_free(model);

    made_freeze(&m, 1, "layers.3.bias"); /* control: the weight is trained */
    model = build(&m);
    CHECK_INT(made_count(&model->train, RP_OP_conv2d_dw), 1);
    rp_model_free(model);

    made_resnet(&m, 20, false, 32, 10); /* an op with several gradients gives only those wanted */
    made_freeze(&m, 0, "bn1.weight");
    model = build(&m);
    check_gradients(model);
    CHECK(made_kept(model, "bn1.bias")->grad_tensor >= 0);
    rp_model_free(model);

    made_lenet(&m);
    made_freeze(&m, 0, "layers.0.*");
    made_freeze(&m, 1, "layer.3.bias");
    CHECK(made_build(&m, &err) == NULL);
    CHECK(strstr(err.text, "matches no tensor") && strstr(err.text, ":4:"));
    rp_error_clear(&err);
    made_freeze(&m, 1, "*");
    CHECK(made_build(&m, &err) == NULL);
    CHECK(strstr(err.text, "nothing to train"));
    rp_error_clear(&err);
}

/* ---- residual -------------------------------------------------------------------------------- */

static void residual(struct made *m, struct rp_spec_layer *body, struct rp_spec_layer *shortcut,
                     int stride)
{
    made_init(m, 8, 8, 4);
    struct rp_spec_layer *layer = made_add(m, RP_LAYER_RESIDUAL);
    struct rp_spec_layer conv = {.kind = RP_LAYER_CONV2D,
                                 .at = {4, 9},
                                 .out = 4,
                                 .kernel = {3, 3},
                                 .stride = {stride, stride},
                                 .padding = {1, 1},
                                 .groups = 1};
    body[0] = conv;
    layer->body = (struct rp_spec_layers){.layer = body, .n = 1};
    conv.kernel[0] = conv.kernel[1] = 1;
    conv.padding[0] = conv.padding[1] = 0;
    shortcut[0] = conv;
    layer->shortcut = (struct rp_spec_layers){.layer = shortcut, .n = stride > 1};
    made_add(m, RP_LAYER_FLATTEN);
    made_linear(m, 10);
}

static void test_residual(void)
{
    struct made m;
    struct rp_spec_layer body[1], shortcut[1];
    residual(&m, body, shortcut, 2);
    struct rp_model *model = build(&m);
    CHECK(made_kept(model, "layers.0.body.0.weight") != NULL);
    CHECK(made_kept(model, "layers.0.shortcut.0.weight") != NULL);
    CHECK_INT(made_kept(model, "layers.2.weight")->hwc[2], 4);
    CHECK_INT(made_count(&model->train, RP_OP_add), 1);
    check_gradients(model);
    check_order(&model->train);
    rp_model_free(model);
    m.layer[0].shortcut.n = 0;
    CHECK(made_build(&m, &err) == NULL);
    CHECK(strstr(err.text, "body gives (4, 4, 4) but shortcut gives (8, 8, 4)"));
    CHECK(strstr(err.text, ":3:5"));
    rp_error_clear(&err);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void expect(struct made *m, const char *place, const char *words)
{
    struct rp_model *model = made_build(m, &err);
    if (model || !strstr(err.text, place) || !strstr(err.text, words)) {
        printf("want '%s' and '%s', got '%s'\n", place, words, err.text);
        test_failures++;
    }
    CHECK_INT(err.status, RP_STATUS_USAGE);
    rp_model_free(model);
    rp_error_clear(&err);
}

static void test_errors(void)
{
    struct made m;
    made_init(&m, 28, 28, 1);
    made_add(&m, RP_LAYER_FLATTEN);
    made_conv(&m, 4, 3, 1, 1);
    expect(&m, ":4:5",
           "conv2d needs an image (H, W, C), but the layer before gives (784): put it "
           "before `flatten`");
    made_init(&m, 28, 28, 1);
    made_linear(&m, 10);
    expect(&m, ":3:5",
           "linear needs a row of features (C), but the data gives an image (28, 28, 1)");
    made_init(&m, 28, 28, 1);
    made_conv(&m, 4, 31, 1, 0);
    expect(&m, ":3:5", "conv2d");
    made_init(&m, 28, 28, 3);
    made_conv(&m, 4, 3, 1, 0);
    m.layer[0].groups = 2;
    expect(&m, ":3:5", "groups is 2 and must divide both the 3 channels");
    made_lenet(&m);
    m.layer[11].out = 11;
    expect(&m, ":14:5", "ends in (11), but the data has 10 classes");
    made_lenet(&m);
    m.spec.model.layers.n = 6;
    expect(&m, ":8:5", "ends in (4, 4, 16), but the data has 10 classes");
    made_lenet(&m);
    m.spec.train.loss = RP_LOSS_MSE;
    expect(&m, "made.yaml", "`loss: mse` needs values");
    made_init(&m, 4, 4, 1);
    made_add(&m, RP_LAYER_FLATTEN);
    expect(&m, ":3:5", "ends in (16), but the data has 10");
    m.data.n_classes = 16;
    expect(&m, ":2:1", "no parameters");
    made_init(&m, 8, 8, 1);
    made_add(&m, RP_LAYER_GLOBAL_AVGPOOL);
    made_add(&m, RP_LAYER_BATCH_NORM);
    made_linear(&m, 10);
    m.spec.train.shards = 32;
    expect(&m, ":4:5", "one value per channel");
    made_resnet(&m, 19, false, 32, 10);
    expect(&m, ":2:1", "no depth 19");
    made_resnet(&m, 18, false, 32, 10);
    m.data.n_dims = 1;
    expect(&m, ":2:1", "resnet needs images");
    made_init(&m, 28, 28, 1);
    made_add(&m, RP_LAYER_FLATTEN);
    made_linear(&m, (int64_t)1 << 40);
    expect(&m, ":4:5", "2^40");
}

/* ---- regression ------------------------------------------------------------------------------ */

static void test_regression(void)
{
    struct made m;
    made_init(&m, 5, 1, 1);
    m.data.n_dims = 1;
    m.data.target = RP_TARGET_VALUES;
    m.data.n_values = 3;
    m.spec.train.loss = RP_LOSS_MSE;
    m.spec.model.kind = RP_MODEL_MLP;
    m.spec.model.hidden[0] = 4;
    m.spec.model.n_hidden = 1;
    m.spec.model.activation = RP_LAYER_GELU;
    struct rp_model *model = build(&m);
    CHECK_INT(model->samples_per_loss_value, 3);
    CHECK_INT(model->train.rank_rows, RP_GRAPH_NO_TENSOR);
    CHECK_INT(model->train.tensor[model->train.target].shape.dims[1], 3);
    CHECK_TEXT(model->kept[0].name, "layers.0.weight"); /* no flatten before a row */
    CHECK_INT(model->kept[0].layout, RP_LAYOUT_PLAIN);
    check_gradients(model);
    rp_model_free(model);
}

int main(void)
{
    test_lenet();
    test_resnet_counts();
    test_resnet_shapes();
    test_mlp();
    test_backward();
    test_order();
    test_freeze();
    test_residual();
    test_errors();
    test_regression();
    return test_result();
}
