/* recompute.c - the nodes of a block once more, just before its gradients (train.recompute: block):
 * the same ops on the same inputs give the same bits, and the activations of the forward part need
 * not be kept. Of all that a block computes only its input stays. */
#include "model/model_int.h"

#include <stdio.h>

/* The forward nodes of a block stand together. */
static void find_nodes(const struct rp_graph *graph, int block, int *first, int *end)
{
    *first = 0;
    while (*first < graph->n_forward && graph->node[*first].block != block) ++*first;
    *end = *first;
    while (*end < graph->n_forward && graph->node[*end].block == block) ++*end;
}

/* Marks the forward tensors that the gradient rules of a node read. */
static void mark_read(const struct rp_graph_node *node, bool *wanted)
{
    const struct rp_grad_rule *rule = rp_op_info(node->op)->rules;
    for (; rule && rule->out[0] != RP_GRAD_NONE; rule++)
        for (int i = 0; i < RP_OP_MAX_IN; i++) {
            int k = rule->in[i] & 0xf, t = RP_GRAPH_NO_TENSOR;
            if ((rule->in[i] & 0xf0) == RP_GRAD_IN) t = node->in[k];
            if ((rule->in[i] & 0xf0) == RP_GRAD_OUT) t = node->out[k];
            if (t != RP_GRAPH_NO_TENSOR) wanted[t] = true;
        }
}

static bool any_wanted(const struct rp_graph_node *node, const bool *wanted)
{
    for (int i = 0; i < RP_OP_MAX_OUT; i++)
        if (node->out[i] != RP_GRAPH_NO_TENSOR && wanted[node->out[i]]) return true;
    return false;
}

/* The node with new outputs and the newest of its inputs. */
static enum rp_status add_copy(struct rp_builder *b, int n, int *now)
{
    struct rp_graph_node copy = b->graph->node[n];
    copy.backward = true;
    for (int i = 0; i < RP_OP_MAX_IN; i++)
        if (copy.in[i] != RP_GRAPH_NO_TENSOR) copy.in[i] = now[copy.in[i]];
    for (int i = 0; i < RP_OP_MAX_OUT; i++) {
        int old = copy.out[i];
        if (old == RP_GRAPH_NO_TENSOR) continue;
        char name[RP_MODEL_NAME_BYTES];
        snprintf(name, sizeof name, "%.88s.again", b->graph->tensor[old].name);
        copy.out[i] = now[old] =
            rp_graph_add_tensor(b->graph, RP_ROLE_ACTIVATION, b->graph->tensor[old].at, "%s", name);
        b->graph->tensor[now[old]].shape = b->graph->tensor[old].shape;
    }
    return rp_builder_add_node(b, &copy, b->spec->model.at, "recompute");
}

enum rp_status rp_builder_add_again(struct rp_builder *b, int block, int *now)
{
    const struct rp_graph *graph = b->graph;
    int first, end;
    bool *wanted = RP_NEW_ARRAY(bool, graph->n_tensors);
    find_nodes(graph, block, &first, &end);
    bool *needed = RP_NEW_ARRAY(bool, end - first + 1);
    for (int n = first; n < end; n++) mark_read(&graph->node[n], wanted);
    for (int n = end; n-- > first;) {
        needed[n - first] = any_wanted(&graph->node[n], wanted);
        for (int i = 0; needed[n - first] && i < RP_OP_MAX_IN; i++)
            if (graph->node[n].in[i] != RP_GRAPH_NO_TENSOR) wanted[graph->node[n].in[i]] = true;
    }
    enum rp_status status = RP_STATUS_OK;
    for (int n = first; n < end && status == RP_STATUS_OK; n++)
        if (needed[n - first]) status = add_copy(b, n, now);
    rp_mem_free(needed);
    rp_mem_free(wanted);
    return status;
}
