/* gpt.c - decoder-only transformers: GPT-2 (Radford et al. 2019), Llama (Touvron et al. 2023) and
 * what lies between. Tensors have the names of GPT-2's published weights.
 *
 *     embedding -> blocks: x + attention(norm(x)), then x + mlp(norm(x)) -> norm -> head and loss
 *
 * The sites of random draws: 0 of the embedding's dropout; 1 + 3 i of the weights of attention in
 * block i, 2 + 3 i and 3 + 3 i of what its attention and its mlp add. */
#include "model/model_int.h"
#include "numerics.h"

#include <inttypes.h>
#include <stdio.h>

static const float init_deviation = 0.02f; /* of every matrix, Radford et al. 2018 */

static const struct rp_spec_gpt *gpt_of(const struct rp_builder *b)
{
    return &b->spec->model.gpt;
}

static struct rp_spec_place here(const struct rp_builder *b)
{
    return b->spec->model.at;
}

static int64_t head_dim(const struct rp_builder *b)
{
    return gpt_of(b)->width / gpt_of(b)->heads;
}

/* Numbers in a row of q, k, v. */
static int64_t qkv_width(const struct rp_builder *b)
{
    return (gpt_of(b)->heads + 2 * (int64_t)gpt_of(b)->kv_heads) * head_dim(b);
}

/* ---- tensors and nodes ----------------------------------------------------------------------- */

static int add_activation(struct rp_builder *b, const char *name, const char *part)
{
    return rp_graph_add_tensor(b->graph, RP_ROLE_ACTIVATION, here(b), "%s%s", name, part);
}

/* A matrix, drawn; `deviation` of its first values. */
static enum rp_status keep_matrix(struct rp_builder *b, const char *layer, int64_t rows,
                                  int64_t columns, float deviation, int *tensor)
{
    struct rp_kept_request request = {.layer = layer,
                                      .what = "weight",
                                      .at = here(b),
                                      .drawn = true,
                                      .init = {.kind = RP_INIT_NORMAL, .std = deviation},
                                      .fan_in = columns,
                                      .fan_out = rows,
                                      .shape = {.n_dims = 2, .dims = {rows, columns}}};
    return rp_builder_keep(b, &request, tensor);
}

static enum rp_status keep_vector(struct rp_builder *b, const char *layer, const char *what,
                                  int64_t n, float fill, int *tensor)
{
    struct rp_kept_request request = {.layer = layer,
                                      .what = what,
                                      .at = here(b),
                                      .fill = fill,
                                      .fan_in = n,
                                      .fan_out = n,
                                      .shape = {.n_dims = 1, .dims = {n}}};
    return rp_builder_keep(b, &request, tensor);
}

/* The node takes the flow, and its first output becomes it. */
static enum rp_status pass_through(struct rp_builder *b, const char *name,
                                   struct rp_graph_node *node, struct rp_flow *flow)
{
    node->in[0] = flow->tensor;
    node->out[0] = add_activation(b, name, "");
    RP_TRY(rp_builder_add_node(b, node, here(b), "gpt"));
    flow->tensor = node->out[0];
    return RP_STATUS_OK;
}

static enum rp_status add_norm(struct rp_builder *b, const char *name, struct rp_flow *flow)
{
    const struct rp_spec_gpt *gpt = gpt_of(b);
    bool rms = gpt->norm == RP_GPT_NORM_RMS;
    struct rp_graph_node node = rp_graph_node_new(rms ? RP_OP_rms_norm : RP_OP_layer_norm);
    node.params.norm.eps = gpt->norm_eps;
    RP_TRY(keep_vector(b, name, "weight", gpt->width, 1.0f, &node.in[1]));
    if (!rms && gpt->bias) RP_TRY(keep_vector(b, name, "bias", gpt->width, 0.0f, &node.in[2]));
    int saved = 1;
    if (!rms) node.out[saved++] = add_activation(b, name, ".mean");
    node.out[saved] = add_activation(b, name, ".inv");
    return pass_through(b, name, &node, flow);
}

static enum rp_status add_linear(struct rp_builder *b, const char *name, int64_t in, int64_t out,
                                 float deviation, struct rp_flow *flow)
{
    struct rp_graph_node node = rp_graph_node_new(RP_OP_linear);
    RP_TRY(keep_matrix(b, name, out, in, deviation, &node.in[1]));
    if (gpt_of(b)->bias) RP_TRY(keep_vector(b, name, "bias", out, 0.0f, &node.in[2]));
    return pass_through(b, name, &node, flow);
}

/* The matrix of the product just added holds several, one below the other, of so many rows. */
static void note_joined(struct rp_builder *b, int n, const int64_t rows[])
{
    const struct rp_graph_node *node = &b->graph->node[b->graph->n_nodes - 1];
    struct rp_model_tensor *kept = rp_builder_kept(b, node->in[1]);
    int64_t end = 0;
    kept->n_joined = n;
    for (int i = 0; i < n; i++) kept->joined_end[i] = end += rows[i];
}

static enum rp_status add_dropout(struct rp_builder *b, const char *name, float p, int site,
                                  struct rp_flow *flow)
{
    if (!b->training || p == 0.0f) return RP_STATUS_OK;
    struct rp_graph_node node = rp_graph_node_new(RP_OP_dropout);
    node.params.dropout = (struct rp_dropout_params){p, (uint32_t)site};
    return pass_through(b, name, &node, flow);
}

/* ---- a block --------------------------------------------------------------------------------- */

/* Of the matrices that write into the sum: each block adds two terms, and their variance adds up.
 */
static float residual_deviation(const struct rp_builder *b)
{
    return (float)(0.02 / rp_sqrt64(2.0 * (double)gpt_of(b)->layers));
}

static enum rp_status add_head_norm(struct rp_builder *b, const char *prefix,
                                    const struct rp_graph_node *like, struct rp_flow *flow)
{
    char name[RP_MODEL_NAME_BYTES];
    struct rp_graph_node node = rp_graph_node_new(RP_OP_head_norm);
    node.params = like->params;
    snprintf(name, sizeof name, "%s.attn.q_norm", prefix);
    RP_TRY(keep_vector(b, name, "weight", head_dim(b), 1.0f, &node.in[1]));
    snprintf(name, sizeof name, "%s.attn.k_norm", prefix);
    RP_TRY(keep_vector(b, name, "weight", head_dim(b), 1.0f, &node.in[2]));
    snprintf(name, sizeof name, "%s.attn.norm", prefix);
    node.out[1] = add_activation(b, name, ".inv");
    return pass_through(b, name, &node, flow);
}

/* From q, k, v to what the heads gather. */
static enum rp_status add_heads(struct rp_builder *b, const char *prefix, int block,
                                struct rp_flow *flow)
{
    const struct rp_spec_gpt *gpt = gpt_of(b);
    char name[RP_MODEL_NAME_BYTES];
    struct rp_graph_node node = rp_graph_node_new(RP_OP_attention);
    node.params.attention =
        (struct rp_attention_params){.heads = gpt->heads,
                                     .kv_heads = gpt->kv_heads,
                                     .head_dim = (int)head_dim(b),
                                     .rope_base = gpt->rope_base,
                                     .eps = gpt->norm_eps,
                                     .p = b->training ? gpt->dropout_attention : 0.0f,
                                     .site = (uint32_t)(1 + 3 * block)};
    if (gpt->qk_norm) RP_TRY(add_head_norm(b, prefix, &node, flow));
    if (gpt->position == RP_GPT_POSITION_ROPE) {
        struct rp_graph_node rope = rp_graph_node_new(RP_OP_rope);
        rope.params = node.params;
        snprintf(name, sizeof name, "%s.attn.rope", prefix);
        RP_TRY(pass_through(b, name, &rope, flow));
    }
    snprintf(name, sizeof name, "%s.attn", prefix);
    node.out[1] = add_activation(b, name, ".stats");
    return pass_through(b, name, &node, flow);
}

static enum rp_status add_activation_of_mlp(struct rp_builder *b, const char *prefix,
                                            struct rp_flow *flow)
{
    static const enum rp_op ops[] = {[RP_GPT_MLP_GELU] = RP_OP_gelu,
                                     [RP_GPT_MLP_GELU_TANH] = RP_OP_gelu_tanh,
                                     [RP_GPT_MLP_SWIGLU] = RP_OP_swiglu};
    char name[RP_MODEL_NAME_BYTES];
    struct rp_graph_node node = rp_graph_node_new(ops[gpt_of(b)->mlp]);
    snprintf(name, sizeof name, "%s.mlp.act", prefix);
    return pass_through(b, name, &node, flow);
}

/* What was computed from the sum goes into it. The branch comes first, since nobody needs it any
 * more and the result may be written over it. */
static enum rp_status join(struct rp_builder *b, const char *name, int sum, struct rp_flow *flow)
{
    struct rp_graph_node node = rp_graph_node_new(RP_OP_add);
    node.in[1] = sum;
    return pass_through(b, name, &node, flow);
}

static enum rp_status add_attention(struct rp_builder *b, const char *prefix, int block,
                                    struct rp_flow *flow)
{
    const struct rp_spec_gpt *gpt = gpt_of(b);
    char name[RP_MODEL_NAME_BYTES];
    int sum = flow->tensor;
    snprintf(name, sizeof name, "%s.ln_1", prefix);
    RP_TRY(add_norm(b, name, flow));
    snprintf(name, sizeof name, "%s.attn.c_attn", prefix);
    RP_TRY(add_linear(b, name, gpt->width, qkv_width(b), init_deviation, flow));
    int64_t keys = gpt->kv_heads * head_dim(b);
    note_joined(b, 3, (int64_t[]){gpt->width, keys, keys});
    RP_TRY(add_heads(b, prefix, block, flow));
    snprintf(name, sizeof name, "%s.attn.c_proj", prefix);
    RP_TRY(add_linear(b, name, gpt->width, gpt->width, residual_deviation(b), flow));
    snprintf(name, sizeof name, "%s.attn.dropout", prefix);
    RP_TRY(add_dropout(b, name, gpt->dropout_residual, 2 + 3 * block, flow));
    snprintf(name, sizeof name, "%s.attn.add", prefix);
    return join(b, name, sum, flow);
}

static enum rp_status add_mlp(struct rp_builder *b, const char *prefix, int block,
                              struct rp_flow *flow)
{
    const struct rp_spec_gpt *gpt = gpt_of(b);
    bool halves = gpt->mlp == RP_GPT_MLP_SWIGLU;
    int64_t wide = gpt->mlp_width * (halves ? 2 : 1);
    char name[RP_MODEL_NAME_BYTES];
    int sum = flow->tensor;
    snprintf(name, sizeof name, "%s.ln_2", prefix);
    RP_TRY(add_norm(b, name, flow));
    snprintf(name, sizeof name, "%s.mlp.c_fc", prefix);
    RP_TRY(add_linear(b, name, gpt->width, wide, init_deviation, flow));
    if (halves) note_joined(b, 2, (int64_t[]){gpt->mlp_width, gpt->mlp_width});
    RP_TRY(add_activation_of_mlp(b, prefix, flow));
    snprintf(name, sizeof name, "%s.mlp.c_proj", prefix);
    RP_TRY(add_linear(b, name, gpt->mlp_width, gpt->width, residual_deviation(b), flow));
    snprintf(name, sizeof name, "%s.mlp.dropout", prefix);
    RP_TRY(add_dropout(b, name, gpt->dropout_residual, 3 + 3 * block, flow));
    return join(b, prefix, sum, flow);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* How many tokens there are: the spec says it, or the data does. */
static enum rp_status find_vocab(const struct rp_builder *b, int64_t *vocab)
{
    const struct rp_spec_gpt *gpt = gpt_of(b);
    int64_t known = b->data->n_classes;
    *vocab = b->spec->model.vocab ? b->spec->model.vocab : known;
    if (*vocab < 1)
        return rp_spec_fail(b->spec, here(b), RP_STATUS_USAGE, b->err,
                            "the data does not say how many different tokens there are: write "
                            "`vocab: 50257` here (GPT-2's tokenizer has so many)");
    if (known > *vocab && b->spec->model.init_from.given)
        return rp_spec_fail(b->spec, b->spec->train_data.at, RP_STATUS_DATA, b->err,
                            "the data has tokens 0 to %" PRId64 ", and the model, which begins "
                            "with trained weights, knows %" PRId64 ": encode the text with the "
                            "tokenizer of these weights",
                            known - 1, *vocab);
    if (known > *vocab)
        return rp_spec_fail(b->spec, gpt->vocab_at.line ? gpt->vocab_at : here(b), RP_STATUS_DATA,
                            b->err,
                            "the data has tokens 0 to %" PRId64 ", and the model knows %" PRId64
                            ": write `vocab: %" PRId64 "`, or leave it out",
                            known - 1, *vocab, known);
    return RP_STATUS_OK;
}

static enum rp_status add_embedding(struct rp_builder *b, struct rp_flow *flow)
{
    const struct rp_spec_gpt *gpt = gpt_of(b);
    int64_t vocab, context = b->data->dims[0];
    struct rp_graph_node node = rp_graph_node_new(RP_OP_embedding);
    RP_TRY(find_vocab(b, &vocab));
    RP_TRY(keep_matrix(b, "wte", vocab, gpt->width, init_deviation, &node.in[1]));
    b->embedding = node.in[1];
    if (gpt->position == RP_GPT_POSITION_LEARNED)
        RP_TRY(keep_matrix(b, "wpe", context, gpt->width, init_deviation, &node.in[2]));
    RP_TRY(pass_through(b, "wte", &node, flow));
    const struct rp_tensor *output = &b->graph->tensor[flow->tensor].shape;
    rp_builder_note_layer(b, "wte", "embedding", vocab * gpt->width, output);
    if (gpt->position == RP_GPT_POSITION_LEARNED)
        rp_builder_note_layer(b, "wpe", "positions", context * gpt->width, output);
    return add_dropout(b, "dropout", gpt->dropout_embedding, 0, flow);
}

static enum rp_status add_block(struct rp_builder *b, int block, struct rp_flow *flow)
{
    char prefix[32];
    int64_t before = b->model->parameter_elements;
    snprintf(prefix, sizeof prefix, "h.%d", block);
    b->block = block + 1;
    RP_TRY(add_attention(b, prefix, block, flow));
    RP_TRY(add_mlp(b, prefix, block, flow));
    b->block = 0;
    rp_builder_note_layer(b, prefix, "block", b->model->parameter_elements - before,
                          &b->graph->tensor[flow->tensor].shape);
    return RP_STATUS_OK;
}

enum rp_status rp_builder_add_gpt(struct rp_builder *b, struct rp_flow *flow)
{
    const struct rp_spec_gpt *gpt = gpt_of(b);
    RP_TRY(add_embedding(b, flow));
    for (int block = 0; block < gpt->layers; block++) RP_TRY(add_block(b, block, flow));
    int64_t before = b->model->parameter_elements;
    RP_TRY(add_norm(b, "ln_f", flow));
    rp_builder_note_layer(b, "ln_f", gpt->norm == RP_GPT_NORM_RMS ? "rms_norm" : "layer_norm",
                          b->model->parameter_elements - before,
                          &b->graph->tensor[flow->tensor].shape);
    return RP_STATUS_OK;
}

/* ---- the head -------------------------------------------------------------------------------- */

/* All logits, where they are few enough to be kept; else the op chooses. */
static struct rp_tensor kept_logits(const struct rp_builder *b, const struct rp_tensor *x,
                                    int64_t vocab)
{
    struct rp_tensor logits = {.dtype = RP_DTYPE_F32};
    int64_t rows = x->dims[0] * x->dims[1];
    if (rows > b->logits_kept / vocab) return logits;
    logits.n_dims = 2;
    logits.dims[0] = rows;
    logits.dims[1] = vocab;
    return logits;
}

/* The last product and the loss of each token in one op, which holds all logits only where they are
 * few enough. */
enum rp_status rp_builder_add_head(struct rp_builder *b, const struct rp_flow *flow)
{
    struct rp_graph *graph = b->graph;
    const struct rp_tensor *table = &graph->tensor[b->embedding].shape;
    int64_t vocab = table->dims[0], before = b->model->parameter_elements;
    bool tied = gpt_of(b)->tied;
    struct rp_graph_node node = rp_graph_node_new(RP_OP_lm_loss);
    node.params.loss.label_smoothing = b->spec->train.label_smoothing;
    node.in[0] = flow->tensor;
    node.in[1] = b->embedding;
    node.in[2] = graph->target;
    if (!tied)
        RP_TRY(keep_matrix(b, "lm_head", vocab, gpt_of(b)->width, init_deviation, &node.in[1]));
    node.out[0] = graph->loss_rows = rp_graph_add_tensor(graph, RP_ROLE_RESULT, here(b), "loss");
    node.out[1] = graph->rank_rows = rp_graph_add_tensor(graph, RP_ROLE_RESULT, here(b), "rank");
    graph->logits = RP_GRAPH_NO_TENSOR;
    if (b->training) {
        node.out[2] = add_activation(b, "lm_head", ".stats");
        node.out[3] = add_activation(b, "lm_head", ".logits");
        graph->tensor[node.out[3]].shape =
            kept_logits(b, &graph->tensor[flow->tensor].shape, vocab);
    }
    struct rp_tensor output = graph->tensor[flow->tensor].shape;
    output.dims[2] = vocab;
    rp_builder_note_layer(b, "lm_head", tied ? "head, tied" : "head",
                          b->model->parameter_elements - before, &output);
    return rp_builder_add_node(b, &node, here(b), "lm_head");
}
