/* backward.c - gradients: the rules of each op, applied in reverse, for what is trained and no
 * more. */
#include "model/model_int.h"

#include <stdio.h>

/* What a sweep knows of the forward tensors; numbers of gradient tensors are not in these lists. */
struct sweep {
    struct rp_builder *b;
    int n;        /* forward tensors */
    bool *needed; /* the loss depends on it through something trained: its gradient is wanted */
    int *grad;    /* its gradient so far, or NO_TENSOR */
    int *view_of; /* flatten: what it shows, or NO_TENSOR */
    int *now;     /* where its values are: itself, or what a block computed again */
};

static struct rp_graph_tensor *tensor_at(struct sweep *s, int i)
{
    return &s->b->graph->tensor[i];
}

/* Parameters that are trained, and every tensor computed from one. */
static void mark_needed(struct sweep *s)
{
    struct rp_graph *graph = s->b->graph;
    for (int i = 0; i < s->b->model->n_kept; i++) {
        const struct rp_model_tensor *kept = &s->b->model->kept[i];
        if (rp_model_is_trained(kept)) s->needed[kept->train_tensor] = true;
    }
    for (int n = 0; n < graph->n_forward; n++) {
        const struct rp_graph_node *node = &graph->node[n];
        bool any = false;
        for (int i = 0; i < RP_OP_MAX_IN; i++) {
            int in = node->in[i];
            if (in == RP_GRAPH_NO_TENSOR) continue;
            if (s->view_of[in] != RP_GRAPH_NO_TENSOR) s->needed[in] = s->needed[s->view_of[in]];
            any |= s->needed[in];
        }
        if (any && node->out[0] != RP_GRAPH_NO_TENSOR) s->needed[node->out[0]] = true;
    }
}

/* Adds a contribution to the gradient of forward tensor t. That of a view goes to what it shows. Of
 * several uses the later one in the net contributes first, and the sum is (so far) + (new). */
static enum rp_status contribute(struct sweep *s, int t, int gradient)
{
    if (!s->needed[t]) return RP_STATUS_OK;
    struct rp_graph *graph = s->b->graph;
    if (s->view_of[t] != RP_GRAPH_NO_TENSOR) {
        int source = s->view_of[t];
        struct rp_tensor shape = tensor_at(s, source)->shape;
        char name[RP_MODEL_NAME_BYTES];
        snprintf(name, sizeof name, "%.90s.grad", tensor_at(s, source)->name);
        return contribute(s, source, rp_graph_add_view(graph, gradient, &shape, name));
    }
    if (s->grad[t] == RP_GRAPH_NO_TENSOR) {
        s->grad[t] = gradient;
        return RP_STATUS_OK;
    }
    struct rp_graph_node node = rp_graph_node_new(RP_OP_add);
    node.backward = true;
    node.in[0] = s->grad[t];
    node.in[1] = gradient;
    struct rp_spec_place at = tensor_at(s, t)->at;
    node.out[0] =
        rp_graph_add_tensor(graph, RP_ROLE_ACTIVATION, at, "%.90s.grad", tensor_at(s, t)->name);
    s->grad[t] = node.out[0];
    return rp_builder_add_node(s->b, &node, at, "gradient");
}

/* The tensor that a rule names, of the forward node f. */
static int rule_source(const struct sweep *s, const struct rp_graph_node *f, uint8_t source)
{
    int i = source & 0xf, t = RP_GRAPH_NO_TENSOR;
    switch (source & 0xf0) {
    case RP_GRAD_IN:
        t = f->in[i];
        break;
    case RP_GRAD_OUT:
        t = f->out[i];
        break;
    case RP_GRAD_DOUT:
        return f->out[i] == RP_GRAPH_NO_TENSOR ? RP_GRAPH_NO_TENSOR : s->grad[f->out[i]];
    default:
        break;
    }
    return t == RP_GRAPH_NO_TENSOR ? t : s->now[t];
}

/* A new tensor for the gradient of forward tensor t: a sum over samples if it is a parameter. */
static int new_gradient(struct sweep *s, int t)
{
    struct rp_graph_tensor of = *tensor_at(s, t);
    bool sum = of.role == RP_ROLE_PARAMETER;
    int g = rp_graph_add_tensor(s->b->graph, sum ? RP_ROLE_SUM : RP_ROLE_ACTIVATION, of.at,
                                "%.90s.grad", of.name);
    tensor_at(s, g)->shape = of.shape; /* some ops are told their output's dims */
    if (sum) tensor_at(s, g)->of = t;
    return g;
}

/* Which forward tensor the rule's output i is the gradient of, NO_TENSOR when it has no such output
 * or the input was not given. */
static int rule_target(const struct rp_graph_node *f, const struct rp_grad_rule *rule, int i)
{
    if ((rule->out[i] & 0xf0) != RP_GRAD_DIN) return RP_GRAPH_NO_TENSOR;
    return f->in[rule->out[i] & 0xf];
}

static enum rp_status apply_rule(struct sweep *s, const struct rp_graph_node *f,
                                 const struct rp_grad_rule *rule)
{
    bool wanted = false;
    for (int i = 0; i < RP_OP_MAX_OUT; i++) {
        int t = rule_target(f, rule, i);
        wanted |= t != RP_GRAPH_NO_TENSOR && s->needed[t];
    }
    if (!wanted) return RP_STATUS_OK;
    struct rp_graph_node node = rp_graph_node_new(rule->op);
    node.params = f->params;
    node.backward = true;
    for (int i = 0; i < RP_OP_MAX_IN; i++) node.in[i] = rule_source(s, f, rule->in[i]);
    for (int i = 0; i < RP_OP_MAX_OUT; i++) {
        int t = rule_target(f, rule, i);
        if (t != RP_GRAPH_NO_TENSOR && s->needed[t]) node.out[i] = new_gradient(s, t);
    }
    RP_TRY(
        rp_builder_add_node(s->b, &node, tensor_at(s, f->out[0])->at, rp_op_info(rule->op)->name));
    for (int i = 0; i < RP_OP_MAX_OUT; i++) {
        if (node.out[i] == RP_GRAPH_NO_TENSOR) continue;
        int t = rule_target(f, rule, i);
        if (tensor_at(s, t)->role != RP_ROLE_PARAMETER) {
            RP_TRY(contribute(s, t, node.out[i]));
            continue;
        }
        struct rp_model_tensor *kept = rp_builder_kept(s->b, t);
        if (kept->grad_tensor2 != RP_GRAPH_NO_TENSOR)
            return rp_error_set(s->b->err, RP_STATUS_INTERNAL,
                                "parameter %s has three uses, and no layer makes such a model",
                                kept->name);
        kept->grad_tensor2 = kept->grad_tensor; /* of the later use, which came first here */
        kept->grad_tensor = node.out[i];
    }
    return RP_STATUS_OK;
}

static enum rp_status differentiate(struct sweep *s, int n, bool is_loss)
{
    struct rp_graph_node f = s->b->graph->node[n]; /* a copy: the array grows below */
    int dout = is_loss ? RP_GRAPH_NO_TENSOR : s->grad[f.out[0]];
    if (!is_loss && dout == RP_GRAPH_NO_TENSOR) return RP_STATUS_OK;
    if (f.op == RP_OP_add) { /* d(a + b) is dy for both: no op */
        RP_TRY(contribute(s, f.in[0], dout));
        return contribute(s, f.in[1], dout);
    }
    const struct rp_grad_rule *rule = rp_op_info(f.op)->rules;
    for (; rule && rule->out[0] != RP_GRAD_NONE; rule++) RP_TRY(apply_rule(s, &f, rule));
    return RP_STATUS_OK;
}

/* Gradients of the forward nodes, the last first. Where blocks are recomputed, each block's nodes
 * come again when its last node is reached. */
static enum rp_status sweep_nodes(struct sweep *s)
{
    struct rp_builder *b = s->b;
    const struct rp_graph *graph = b->graph;
    bool again = b->spec->train.recompute == RP_RECOMPUTE_BLOCK;
    int block = 0;
    for (int i = graph->n_forward - 1; i >= 0; i--) {
        const struct rp_graph_node *node = &graph->node[i];
        if (node->op == RP_OP_sum_rows) continue; /* the loss as a number: nothing depends on it */
        b->block = node->block;
        if (again && node->block != block && node->block != 0)
            RP_TRY(rp_builder_add_again(b, node->block, s->now));
        block = b->block;
        RP_TRY(differentiate(s, i, graph->node[i].out[0] == graph->loss_rows));
    }
    b->block = 0;
    return RP_STATUS_OK;
}

enum rp_status rp_builder_add_backward(struct rp_builder *b)
{
    struct rp_graph *graph = b->graph;
    int n = graph->n_tensors;
    struct sweep s = {.b = b, .n = n};
    s.needed = RP_NEW_ARRAY(bool, n);
    s.grad = RP_NEW_ARRAY(int, n);
    s.view_of = RP_NEW_ARRAY(int, n);
    s.now = RP_NEW_ARRAY(int, n);
    for (int i = 0; i < n; i++) {
        s.grad[i] = RP_GRAPH_NO_TENSOR;
        s.now[i] = i;
        s.view_of[i] = graph->tensor[i].alias_of; /* before lives.c aliases are views only */
    }
    mark_needed(&s);
    enum rp_status status = sweep_nodes(&s);
    rp_mem_free(s.now);
    rp_mem_free(s.view_of);
    rp_mem_free(s.grad);
    rp_mem_free(s.needed);
    return status;
}
