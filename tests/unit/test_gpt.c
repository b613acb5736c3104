/* test_gpt.c - language models: counts against those published, names and shapes, the graph of each
 * kind of block, what is drawn, recomputation, lengths in tokens, errors. */
#include "made_spec.h"

static struct rp_error err;

/* A spec with this model; the batch is 4 windows in 2 shards. */
static struct rp_spec *parse(const char *model, const char *more)
{
    struct rp_spec *spec = NULL;
    struct rp_text text = {0};
    rp_text_add(&text,
                "reprise: 1\nname: made\nseed: 5\n"
                "data: {train: {format: tokens, files: [x.bin]}, valid: {fraction: 0.1}}\n"
                "model: {kind: gpt, %s}\n"
                "train: {for: 10 steps, batch: 4, shards: 2, optimizer: {kind: adamw, lr: 0.001}}\n"
                "%s",
                model, more);
    enum rp_status status =
        rp_spec_parse("made.yaml", rp_text_get(&text), text.length, NULL, &spec, &err);
    rp_text_release(&text);
    if (status != RP_STATUS_OK) {
        printf("%s\n", err.text);
        exit(1);
    }
    return spec;
}

static struct rp_data_shape shape_for(const struct rp_spec *spec, int64_t vocab)
{
    return (struct rp_data_shape){.n_dims = 1,
                                  .dims = {spec->model.context},
                                  .target = RP_TARGET_TOKENS,
                                  .n_classes = vocab,
                                  .n_train = 1000,
                                  .n_valid = 10};
}

static int64_t logits_kept;

static enum rp_status try_build(const struct rp_spec *spec, int64_t vocab, struct rp_model **model)
{
    struct rp_data_shape data = shape_for(spec, vocab);
    struct rp_rows rows = {.samples_per_shard = 2, .n_shards = 2, .n_samples = 4};
    return rp_model_build(spec, &data, &rows, 3, logits_kept, model, &err);
}

static struct rp_model *build(const struct rp_spec *spec, int64_t vocab)
{
    struct rp_model *model = NULL;
    if (try_build(spec, vocab, &model) == RP_STATUS_OK) return model;
    printf("build failed: %s\n", err.text);
    exit(1);
}

/* ---- counts ---------------------------------------------------------------------------------- */

/* Of GPT-2 those of the published weights; of the others a sum by hand. */
static int64_t llama_count(int64_t layers, int64_t width, int64_t kv, int64_t mlp, int64_t tables)
{
    return tables * 32000 * width + width +
           layers * (2 * width + (width + 2 * kv) * width + width * width + 3 * mlp * width);
}

static void test_counts(void)
{
    const struct {
        const char *model;
        int64_t count;
    } cases[] = {
        {"preset: gpt2", 124439808},
        {"preset: gpt2-medium", 354823168},
        {"preset: gpt2-large", 774030080},
        {"preset: gpt2-xl", 1557611200},
        {"preset: llama-tiny, vocab: 32000", llama_count(6, 288, 2 * 48, 768, 1)},
        {"preset: llama-small, vocab: 32000", llama_count(12, 768, 4 * 64, 2048, 1)},
        {"preset: llama-1b, vocab: 32000", llama_count(22, 2048, 4 * 64, 5632, 2)},
        {"preset: gpt2, tied: false", 124439808 + 50257 * 768},
        {"preset: gpt2, bias: false", 124439808 - 12 * (2 + 3 + 1 + 4 + 1) * 768 - 768},
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        struct rp_spec *spec = parse(cases[i].model, "");
        struct rp_model *model = build(spec, -1);
        CHECK_INT(model->parameter_elements, cases[i].count);
        int64_t listed = 0;
        for (int l = 0; l < model->n_layers; l++) listed += model->layer[l].parameters;
        CHECK_INT(listed, cases[i].count);
        rp_model_free(model);
        rp_spec_free(spec);
    }
}

/* ---- names, shapes, nodes -------------------------------------------------------------------- */

static const char small[] = "layers: 2, heads: 4, width: 24, context: 7, vocab: 11";

static void check_dims(const struct rp_tensor *shape, int n, const int64_t *dims)
{
    CHECK_INT(shape->n_dims, n);
    for (int i = 0; i < n; i++) CHECK_INT(shape->dims[i], dims[i]);
}

static void test_gpt2_tensors(void)
{
    static const struct {
        const char *name;
        int n;
        int64_t dims[2];
    } kept[] = {
        {"wte.weight", 2, {11, 24}},
        {"wpe.weight", 2, {7, 24}},
        {"h.0.ln_1.weight", 1, {24}},
        {"h.0.ln_1.bias", 1, {24}},
        {"h.0.attn.c_attn.weight", 2, {72, 24}},
        {"h.0.attn.c_attn.bias", 1, {72}},
        {"h.0.attn.c_proj.weight", 2, {24, 24}},
        {"h.0.attn.c_proj.bias", 1, {24}},
        {"h.0.ln_2.weight", 1, {24}},
        {"h.0.ln_2.bias", 1, {24}},
        {"h.0.mlp.c_fc.weight", 2, {96, 24}},
        {"h.0.mlp.c_fc.bias", 1, {96}},
        {"h.0.mlp.c_proj.weight", 2, {24, 96}},
        {"h.0.mlp.c_proj.bias", 1, {24}},
        {"h.1.ln_1.weight", 1, {24}},
    };
    struct rp_spec *spec = parse(small, "");
    struct rp_model *model = build(spec, 11);
    CHECK_INT(model->n_kept, 2 + 2 * 12 + 2);
    for (size_t i = 0; i < RP_COUNT(kept); i++) {
        CHECK_TEXT(model->kept[i].name, kept[i].name);
        check_dims(&model->kept[i].shape, kept[i].n, kept[i].dims);
        bool first = i == 0;
        CHECK((model->kept[i].grad_tensor2 != RP_GRAPH_NO_TENSOR) == first); /* tied */
        CHECK(model->kept[i].grad_tensor != RP_GRAPH_NO_TENSOR);
    }
    CHECK_TEXT(model->kept[model->n_kept - 2].name, "ln_f.weight");
    const struct rp_graph *graph = &model->train;
    CHECK_TEXT(graph->tensor[model->kept[0].grad_tensor].name, "wte.weight.grad");
    CHECK_INT(graph->tensor[graph->input].shape.dtype, RP_DTYPE_I32);
    check_dims(&graph->tensor[graph->target].shape, 2, (int64_t[]){4, 7});
    check_dims(&graph->tensor[graph->loss_rows].shape, 2, (int64_t[]){28, 1});
    check_dims(&model->eval.tensor[model->eval.rank_rows].shape, 1, (int64_t[]){21});
    CHECK_INT(model->rows_per_sample, 7);
    CHECK_INT(made_count(graph, RP_OP_layer_norm), 5);
    CHECK_INT(made_count(graph, RP_OP_attention_dx), 2);
    CHECK_INT(made_count(graph, RP_OP_gelu_tanh), 2);
    CHECK_INT(made_count(graph, RP_OP_rope), 0);
    CHECK_INT(made_count(graph, RP_OP_dropout), 0);
    CHECK_INT(made_count(graph, RP_OP_position_dw), 1);
    CHECK_INT(made_count(&model->eval, RP_OP_lm_loss_dxw), 0);
    rp_model_free(model);
    rp_spec_free(spec);
}

static void test_llama_tensors(void)
{
    struct rp_spec *spec = parse("layers: 2, heads: 4, kv_heads: 2, width: 24, context: 7, vocab: "
                                 "11, mlp: swiglu, norm: rmsnorm, position: rope, bias: false, "
                                 "tied: false, qk_norm: true",
                                 "");
    struct rp_model *model = build(spec, 11);
    CHECK_INT(model->n_kept, 1 + 2 * 8 + 2);
    CHECK_TEXT(model->kept[3].name, "h.0.attn.q_norm.weight");
    CHECK_TEXT(model->kept[4].name, "h.0.attn.k_norm.weight");
    CHECK_TEXT(model->kept[18].name, "lm_head.weight");
    check_dims(&made_kept(model, "h.0.attn.c_attn.weight")->shape, 2, (int64_t[]){48, 24});
    check_dims(&made_kept(model, "h.1.mlp.c_fc.weight")->shape, 2, (int64_t[]){128, 24});
    check_dims(&made_kept(model, "h.1.mlp.c_proj.weight")->shape, 2, (int64_t[]){24, 64});
    for (int i = 0; i < model->n_kept; i++)
        CHECK_INT(model->kept[i].grad_tensor2, RP_GRAPH_NO_TENSOR);
    CHECK_INT(made_count(&model->train, RP_OP_rms_norm), 5);
    CHECK_INT(made_count(&model->train, RP_OP_head_norm), 2);
    CHECK_INT(made_count(&model->train, RP_OP_rope_dx), 2);
    CHECK_INT(made_count(&model->train, RP_OP_swiglu), 2);
    CHECK_INT(made_count(&model->train, RP_OP_sum_rows), 1); /* no bias: the loss alone */
    rp_model_free(model);
    rp_spec_free(spec);
}

/* Decay of matrices: embeddings are matrices, biases and norms are none. */
static void test_decay(void)
{
    struct rp_spec *spec = parse(small, "");
    spec->train.optimizer.decay = RP_DECAY_MATRICES;
    struct rp_model *model = build(spec, 11);
    for (int i = 0; i < model->n_kept; i++)
        CHECK_INT(model->kept[i].decays, model->kept[i].shape.n_dims == 2);
    rp_model_free(model);
    rp_spec_free(spec);
}

/* ---- dropout --------------------------------------------------------------------------------- */

/* Sites are counted by place, so leaving one dropout out moves no other's draws. */
static void test_dropout_sites(void)
{
    struct rp_spec *all = parse("layers: 2, heads: 4, width: 24, context: 7, dropout: 0.25", "");
    struct rp_spec *one =
        parse("layers: 2, heads: 4, width: 24, context: 7, dropout: {residual: 0.25}", "");
    struct rp_model *model = build(all, 11);
    uint32_t want[] = {0, 2, 3, 5, 6};
    int n = 0, n_attention = 0;
    for (int i = 0; i < model->train.n_forward; i++) {
        const struct rp_graph_node *node = &model->train.node[i];
        if (node->op == RP_OP_dropout) CHECK_INT(node->params.dropout.site, want[n++]);
        if (node->op != RP_OP_attention) continue;
        CHECK_INT(node->params.attention.site, 1 + 3 * n_attention++);
        CHECK(node->params.attention.p == 0.25f);
    }
    CHECK_INT(n, 5);
    CHECK_INT(made_count(&model->eval, RP_OP_dropout), 0);
    rp_model_free(model);
    model = build(one, 11);
    n = 1;
    for (int i = 0; i < model->train.n_forward; i++)
        if (model->train.node[i].op == RP_OP_dropout)
            CHECK_INT(model->train.node[i].params.dropout.site, want[n++]);
    CHECK_INT(n, 5);
    rp_model_free(model);
    rp_spec_free(one);
    rp_spec_free(all);
}

/* ---- first values ---------------------------------------------------------------------------- */

static double deviation(const struct rp_model *model, const char *name)
{
    const struct rp_model_tensor *kept = made_kept(model, name);
    int64_t n = rp_tensor_elements(&kept->shape);
    float *values = malloc((size_t)n * sizeof *values);
    if (!values) exit(1);
    double squares = 0;
    rp_model_init_part(model, 3, (int)(kept - model->kept), 0, n, values);
    for (int64_t i = 0; i < n; i++) squares += (double)values[i] * (double)values[i];
    free(values);
    return squares / (double)n;
}

/* Variances over tens of thousands of draws: within 6 deviations, which is 3 %. */
static void test_init(void)
{
    struct rp_spec *spec = parse("layers: 8, heads: 4, width: 256, context: 256", "");
    struct rp_model *model = build(spec, 300);
    const struct {
        const char *name;
        double variance;
    } cases[] = {{"wte.weight", 4e-4},
                 {"wpe.weight", 4e-4},
                 {"h.3.attn.c_attn.weight", 4e-4},
                 {"h.3.attn.c_proj.weight", 4e-4 / 16},
                 {"h.3.mlp.c_fc.weight", 4e-4},
                 {"h.3.mlp.c_proj.weight", 4e-4 / 16},
                 {"h.3.ln_1.weight", 1},
                 {"h.3.ln_1.bias", 0},
                 {"h.3.mlp.c_fc.bias", 0}};
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        double ratio = deviation(model, cases[i].name) / (cases[i].variance + 1e-30);
        if (cases[i].variance == 0)
            CHECK(ratio == 0);
        else
            CHECK(ratio > 0.97 && ratio < 1.03);
    }
    rp_model_free(model);
    rp_spec_free(spec);
}

/* ---- recompute ------------------------------------------------------------------------------- */

static uint64_t activations(const struct rp_spec *spec)
{
    struct rp_plan *plan = NULL;
    struct rp_data_shape data = shape_for(spec, 11);
    uint64_t bytes = 0;
    CHECK_OK(rp_plan_make(spec, &data, 1, &plan, &err), &err);
    for (int i = 0; plan && i < plan->n_memory; i++)
        if (strcmp(plan->memory[i].what, "activations") == 0) bytes = plan->memory[i].bytes;
    rp_plan_free(plan);
    return bytes;
}

/* All of a block but its last product comes again, and none of it outlives its block's part. */
static void test_recompute(void)
{
    static const char model_text[] = "layers: 6, heads: 4, width: 24, context: 64, dropout: 0.1";
    struct rp_spec *spec = parse(model_text, "");
    struct rp_model *model = build(spec, 11);
    uint64_t kept = activations(spec);
    int linear = made_count(&model->train, RP_OP_linear), n_nodes = model->train.n_nodes;
    rp_model_free(model);
    spec->train.recompute = RP_RECOMPUTE_BLOCK;
    model = build(spec, 11);
    uint64_t again = activations(spec);
    CHECK_INT(made_count(&model->train, RP_OP_linear), linear + 6 * 3);
    CHECK_INT(made_count(&model->train, RP_OP_attention), 12);
    CHECK_INT(made_count(&model->train, RP_OP_dropout), 1 + 6 * 2 + 6);
    CHECK_INT(model->train.n_nodes, n_nodes + 6 * 9);
    CHECK(again < kept / 2);
    for (int i = 0; i < model->train.n_tensors; i++) {
        const struct rp_graph_tensor *tensor = &model->train.tensor[i];
        if (strcmp(tensor->name, "h.0.mlp.c_fc") == 0)
            CHECK(tensor->last_node < model->train.n_forward);
    }
    rp_model_free(model);
    rp_spec_free(spec);
}

/* ---- a tied gradient ------------------------------------------------------------------------- */

/* The node that adds the table's gradient to the head's, or -1, of `ranks` ranks and passes of
 * `micro` samples. */
static int tie_node(const char *model_text, int ranks, int64_t micro)
{
    struct rp_spec *spec = parse(model_text, "");
    struct rp_plan *plan = NULL;
    struct rp_data_shape data = shape_for(spec, 11);
    spec->train.micro_batch = micro;
    CHECK_OK(rp_plan_make_for(spec, &data, 1, ranks, &rp_device_cpu, &plan, &err), &err);
    int node = rp_plan_tie_node(plan, 0);
    if (node >= 0) {
        const struct rp_graph_node *adds = &plan->model->train.node[node];
        const struct rp_model_tensor *kept = &plan->model->kept[0];
        const uint64_t *offset = plan->owners.sum_offset;
        CHECK_INT(adds->op, RP_OP_embedding_dw);
        CHECK_INT(adds->out[0], kept->grad_tensor);
        CHECK_INT((int64_t)offset[kept->grad_tensor], (int64_t)offset[kept->grad_tensor2]);
    }
    CHECK_INT(rp_plan_tie_node(plan, 1), -1); /* of one use */
    rp_plan_free(plan);
    rp_spec_free(spec);
    return node;
}

/* In one pass of one rank both gradients are one sum; else each is a sum of its own. */
/* Logits of 4 x 1024 tokens: 785 MiB, all or half of them. */
static void test_logits_kept(void)
{
    const int64_t all = 4096 * INT64_C(50257);
    struct rp_spec *spec = parse("preset: gpt2", "");
    for (int less = 0; less < 2; less++) {
        logits_kept = all - less;
        struct rp_model *model = build(spec, -1);
        const struct rp_graph *graph = &model->train;
        int head = 0;
        while (graph->node[head].op != RP_OP_lm_loss) head++;
        check_dims(&graph->tensor[graph->node[head].out[3]].shape, 2,
                   (int64_t[]){less ? 2048 : 4096, 50257});
        rp_model_free(model);
    }
    logits_kept = 0;
    rp_spec_free(spec);
}

static void test_tie_node(void)
{
    CHECK(tie_node(small, 1, 4) >= 0);
    CHECK_INT(tie_node(small, 1, 2), -1);
    CHECK_INT(tie_node(small, 2, 2), -1);
    CHECK_INT(tie_node("layers: 2, heads: 4, width: 24, context: 7, vocab: 11, tied: false", 1, 4),
              -1);
}

/* ---- lengths in tokens ----------------------------------------------------------------------- */

static uint64_t steps_of(const char *length)
{
    struct rp_spec *spec = parse(small, "");
    struct rp_plan *plan = NULL;
    struct rp_data_shape data = shape_for(spec, 11);
    spec->train.duration = (struct rp_span){.value = atof(length), .unit = RP_UNIT_TOKENS};
    CHECK_OK(rp_plan_make(spec, &data, 1, &plan, &err), &err);
    uint64_t steps = plan ? plan->n_steps : 0;
    struct rp_spans every = {.n = 1, .item = {{.value = 56, .unit = RP_UNIT_TOKENS}}};
    if (plan) CHECK(rp_plan_due(plan, &every, 2) && !rp_plan_due(plan, &every, 3));
    rp_plan_free(plan);
    rp_spec_free(spec);
    return steps;
}

/* A step takes 4 windows of 7 tokens. */
static void test_tokens(void)
{
    CHECK_INT(steps_of("1"), 1);
    CHECK_INT(steps_of("28"), 1);
    CHECK_INT(steps_of("29"), 2);
    CHECK_INT(steps_of("2800"), 100);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void expect(const char *model_text, int64_t vocab, enum rp_status want, const char *words)
{
    struct rp_spec *spec = parse(model_text, "");
    struct rp_model *model = NULL;
    CHECK_INT(try_build(spec, vocab, &model), want);
    if (!strstr(err.text, words)) {
        printf("want '%s', got '%s'\n", words, err.text);
        test_failures++;
    }
    rp_error_clear(&err);
    rp_model_free(model);
    rp_spec_free(spec);
}

static void test_errors(void)
{
    expect("layers: 1, heads: 1, width: 8, context: 4", -1, RP_STATUS_USAGE, "`vocab: 50257`");
    expect("layers: 1, heads: 1, width: 8, context: 4, vocab: 10", 11, RP_STATUS_DATA,
           "`vocab: 11`");
    expect("layers: 1, heads: 1, width: 4096, context: 4", 11, RP_STATUS_USAGE, "a head is");
}

int main(void)
{
    test_counts();
    test_gpt2_tensors();
    test_llama_tensors();
    test_decay();
    test_dropout_sites();
    test_init();
    test_recompute();
    test_logits_kept();
    test_tie_node();
    test_tokens();
    test_errors();
    return test_result();
}
