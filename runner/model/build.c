/* build.c - both graphs of a model: input, net, loss, gradients, lives; then the checks of the
 * whole. */
#include "model/model_int.h"

#include <string.h>

static const struct rp_spec_place nowhere;

/* ---- input and loss -------------------------------------------------------------------------- */

static void add_inputs(struct rp_builder *b, struct rp_flow *flow)
{
    struct rp_graph *graph = b->graph;
    const struct rp_data_shape *data = b->data;
    int64_t n = b->rows.n_samples;
    graph->input = rp_graph_add_tensor(graph, RP_ROLE_INPUT, nowhere, "x");
    bool classes = data->target == RP_TARGET_CLASSES, tokens = data->target == RP_TARGET_TOKENS;
    struct rp_tensor *x = &graph->tensor[graph->input].shape;
    x->dtype = tokens ? RP_DTYPE_I32 : RP_DTYPE_F32;
    x->n_dims = 1 + data->n_dims;
    x->dims[0] = n;
    memcpy(&x->dims[1], data->dims, (size_t)data->n_dims * sizeof x->dims[0]);
    graph->target = rp_graph_add_tensor(graph, RP_ROLE_TARGET, nowhere, "y");
    struct rp_tensor *y = &graph->tensor[graph->target].shape;
    bool mixed = b->training && data->mixes;
    y->dtype = classes || tokens ? RP_DTYPE_I32 : RP_DTYPE_F32;
    y->n_dims = classes && !mixed ? 1 : 2;
    y->dims[0] = n;
    y->dims[1] = mixed ? 3 : classes ? 0 : tokens ? data->dims[0] : data->n_values;
    *flow = (struct rp_flow){.tensor = graph->input};
}

static enum rp_status add_plain_loss(struct rp_builder *b, const struct rp_flow *flow)
{
    struct rp_graph *graph = b->graph;
    bool classes = b->spec->train.loss == RP_LOSS_CROSS_ENTROPY;
    bool mixed = classes && b->training && b->data->mixes;
    struct rp_spec_place at = b->spec->model.at;
    struct rp_graph_node node = rp_graph_node_new(mixed     ? RP_OP_cross_entropy_mix
                                                  : classes ? RP_OP_cross_entropy
                                                            : RP_OP_mse);
    if (classes) node.params.loss.label_smoothing = b->spec->train.label_smoothing;
    node.in[0] = graph->logits = flow->tensor;
    node.in[1] = graph->target;
    node.out[0] = graph->loss_rows = rp_graph_add_tensor(graph, RP_ROLE_RESULT, at, "loss");
    graph->rank_rows = RP_GRAPH_NO_TENSOR;
    if (classes && !mixed)
        node.out[1] = graph->rank_rows = rp_graph_add_tensor(graph, RP_ROLE_RESULT, at, "rank");
    return rp_builder_add_node(b, &node, at, "loss");
}

/* Loss per sample, of tokens one each; and its sum in training. */
static enum rp_status add_loss(struct rp_builder *b, const struct rp_flow *flow)
{
    struct rp_graph *graph = b->graph;
    struct rp_spec_place at = b->spec->model.at;
    bool tokens = b->data->target == RP_TARGET_TOKENS;
    RP_TRY(tokens ? rp_builder_add_head(b, flow) : add_plain_loss(b, flow));
    graph->loss_sum = RP_GRAPH_NO_TENSOR;
    if (!b->training) return RP_STATUS_OK;
    struct rp_graph_node sum = rp_graph_node_new(RP_OP_sum_rows);
    sum.in[0] = graph->loss_rows;
    sum.out[0] = graph->loss_sum = rp_graph_add_tensor(graph, RP_ROLE_SUM, at, "loss.sum");
    return rp_builder_add_node(b, &sum, at, "loss");
}

static enum rp_status check_target(const struct rp_builder *b)
{
    bool classes = b->data->target == RP_TARGET_CLASSES, gpt = b->spec->model.kind == RP_MODEL_GPT;
    if (gpt != (b->data->target == RP_TARGET_TOKENS))
        return rp_spec_fail(b->spec, b->spec->model.at, RP_STATUS_USAGE, b->err,
                            "`kind: gpt` and text belong together: this %s",
                            gpt ? "data is no text" : "model cannot learn from tokens");
    if (gpt) return RP_STATUS_OK;
    if (classes == (b->spec->train.loss == RP_LOSS_CROSS_ENTROPY)) return RP_STATUS_OK;
    return rp_spec_fail(b->spec, b->spec->train_data.at, RP_STATUS_USAGE, b->err,
                        classes ? "the data gives classes, but `loss: mse` needs values: write "
                                  "`loss: cross_entropy` under train, or `target: values` here"
                                : "the data gives values, but `loss: cross_entropy` needs classes: "
                                  "write `loss: mse` under train, or `target: classes` here");
}

/* ---- one graph ------------------------------------------------------------------------------- */

/* The values of an evaluation that the host reads; a view shares its owner's life. */
static void mark_result(struct rp_graph *graph, int tensor)
{
    while (graph->tensor[tensor].alias_of != RP_GRAPH_NO_TENSOR)
        tensor = graph->tensor[tensor].alias_of;
    if (graph->tensor[tensor].role == RP_ROLE_ACTIVATION)
        graph->tensor[tensor].role = RP_ROLE_RESULT;
}

static enum rp_status build_graph(struct rp_builder *b)
{
    struct rp_flow flow;
    add_inputs(b, &flow);
    RP_TRY(rp_builder_add_net(b, &flow));
    RP_TRY(add_loss(b, &flow));
    b->graph->n_forward = b->graph->n_nodes;
    if (b->training)
        RP_TRY(rp_builder_add_backward(b));
    else if (b->graph->logits != RP_GRAPH_NO_TENSOR)
        mark_result(b->graph, b->graph->logits);
    rp_graph_set_lives(b->graph);
    return RP_STATUS_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Each pattern of the key `what` must be of use. */
static enum rp_status check_patterns(const struct rp_builder *b, const char *what,
                                     char *const patterns[], const struct rp_spec_place at[], int n)
{
    const struct rp_model *model = b->model;
    for (int p = 0; p < n; p++) {
        bool found = false;
        for (int i = 0; i < model->n_kept; i++)
            found |= rp_model_name_matches(patterns[p], model->kept[i].name);
        if (!found)
            return rp_spec_fail(b->spec, at[p], RP_STATUS_USAGE, b->err,
                                "%s: `%s` matches no tensor of the model; its tensors are named "
                                "like `%s` (`reprise plan` lists the layers)",
                                what, patterns[p],
                                model->n_kept ? model->kept[0].name : "layers.0.weight");
    }
    return RP_STATUS_OK;
}

static enum rp_status check_names(const struct rp_builder *b)
{
    const struct rp_model *model = b->model;
    const struct rp_spec *spec = b->spec;
    int n_trained = 0;
    for (int i = 0; i < model->n_kept; i++) n_trained += rp_model_is_trained(&model->kept[i]);
    RP_TRY(check_patterns(b, "freeze", spec->model.freeze, spec->model.freeze_at,
                          spec->model.n_freeze));
    RP_TRY(check_patterns(b, "skip", spec->model.init_from.skip, spec->model.init_from.skip_at,
                          spec->model.init_from.n_skip));
    RP_TRY(check_patterns(b, "no_decay", spec->train.optimizer.no_decay,
                          spec->train.optimizer.no_decay_at, spec->train.optimizer.n_no_decay));
    RP_TRY(check_patterns(b, "adamw_for", spec->train.optimizer.adamw_for,
                          spec->train.optimizer.adamw_for_at, spec->train.optimizer.n_adamw_for));
    if (n_trained > 0) return RP_STATUS_OK;
    if (b->spec->model.n_freeze > 0)
        return rp_spec_fail(b->spec, b->spec->model.freeze_at[0], RP_STATUS_USAGE, b->err,
                            "freeze leaves nothing to train: every parameter matches");
    return rp_spec_fail(b->spec, b->spec->model.at, RP_STATUS_USAGE, b->err,
                        "the model has no parameters, so there is nothing to train: add a `linear` "
                        "or `conv2d` layer");
}

/* ---- muon: matrices of hidden layers --------------------------------------------------------- */

/* Not the tables of embeddings, nor the layer that makes the outputs: lm_head of a language model,
 * else the last linear. */

static bool is_table(const struct rp_graph *graph, int tensor)
{
    for (int i = 0; i < graph->n_forward; i++) {
        const struct rp_graph_node *node = &graph->node[i];
        if (node->op == RP_OP_embedding && (node->in[1] == tensor || node->in[2] == tensor))
            return true;
    }
    return false;
}

static int head_of(const struct rp_graph *graph)
{
    int head = RP_GRAPH_NO_TENSOR;
    for (int i = 0; i < graph->n_forward; i++) {
        if (graph->node[i].op == RP_OP_embedding) return RP_GRAPH_NO_TENSOR;
        if (graph->node[i].op == RP_OP_linear) head = graph->node[i].in[1];
    }
    return head;
}

static void choose_matrices(const struct rp_spec *spec, struct rp_model *model)
{
    int head = head_of(&model->train);
    for (int i = 0; i < model->n_kept; i++) {
        struct rp_model_tensor *kept = &model->kept[i];
        bool adamw = kept->train_tensor == head || is_table(&model->train, kept->train_tensor) ||
                     strcmp(kept->name, "lm_head.weight") == 0;
        for (int p = 0; p < spec->train.optimizer.n_adamw_for; p++)
            adamw |= rp_model_name_matches(spec->train.optimizer.adamw_for[p], kept->name);
        kept->by_muon = spec->train.optimizer.kind == RP_OPTIMIZER_MUON && !kept->statistic &&
                        kept->shape.n_dims >= 2 && !adamw;
        if (!kept->by_muon || !spec->train.optimizer.split) kept->n_joined = 0;
    }
}

/* Parameters first, each group in the order built. */
static void sort_kept(struct rp_model *model)
{
    struct rp_model_tensor *sorted = RP_NEW_ARRAY(struct rp_model_tensor, model->n_kept + 1);
    int n = 0;
    for (int statistic = 0; statistic < 2; statistic++)
        for (int i = 0; i < model->n_kept; i++)
            if (model->kept[i].statistic == (statistic == 1)) sorted[n++] = model->kept[i];
    rp_mem_free(model->kept);
    model->kept = sorted;
}

enum rp_status rp_model_build(const struct rp_spec *spec, const struct rp_data_shape *data,
                              const struct rp_rows *pass, int64_t eval_samples, int64_t logits_kept,
                              struct rp_model **model, struct rp_error *err)
{
    enum rp_status status;
    *model = NULL;
    struct rp_model *made = RP_NEW(struct rp_model);
    made->train_samples = pass->n_samples;
    made->eval_samples = eval_samples;
    made->rows_per_sample = data->target == RP_TARGET_TOKENS ? data->dims[0] : 1;
    made->samples_per_loss_value = data->target == RP_TARGET_VALUES ? (int)data->n_values : 1;
    struct rp_builder b = {.spec = spec,
                           .data = data,
                           .rows = *pass,
                           .logits_kept = logits_kept,
                           .training = true,
                           .model = made,
                           .graph = &made->train,
                           .err = err};
    RP_TRY_GOTO(status, check_target(&b), done);
    RP_TRY_GOTO(status, build_graph(&b), done);
    RP_TRY_GOTO(status, check_names(&b), done);
    b.training = false;
    b.graph = &made->eval;
    b.next_layer = 0;
    b.rows = (struct rp_rows){
        .samples_per_shard = eval_samples, .n_shards = 1, .n_samples = eval_samples};
    RP_TRY_GOTO(status, build_graph(&b), done);
    sort_kept(made);
    choose_matrices(spec, made);
    *model = made;
    made = NULL;
done:
    rp_model_free(made);
    return status;
}

void rp_model_free(struct rp_model *model)
{
    if (!model) return;
    rp_mem_free(model->train.tensor);
    rp_mem_free(model->train.node);
    rp_mem_free(model->eval.tensor);
    rp_mem_free(model->eval.node);
    rp_mem_free(model->kept);
    rp_mem_free(model->layer);
    rp_mem_free(model);
}
