/* lives.c - from when to when each tensor is needed, and which op may write over its input. */
#include "model/model_int.h"

/* The tensor whose memory t uses. */
static int root_of(const struct rp_graph *graph, int t)
{
    while (graph->tensor[t].alias_of != RP_GRAPH_NO_TENSOR) t = graph->tensor[t].alias_of;
    return t;
}

static void touch(struct rp_graph_tensor *tensor, int node)
{
    if (tensor->first_node < 0 || node < tensor->first_node) tensor->first_node = node;
    if (node > tensor->last_node) tensor->last_node = node;
}

static void touch_all(struct rp_graph *graph)
{
    for (int n = 0; n < graph->n_nodes; n++) {
        const struct rp_graph_node *node = &graph->node[n];
        for (int i = 0; i < RP_OP_MAX_IN; i++)
            if (node->in[i] != RP_GRAPH_NO_TENSOR) touch(&graph->tensor[node->in[i]], n);
        for (int i = 0; i < RP_OP_MAX_OUT; i++)
            if (node->out[i] != RP_GRAPH_NO_TENSOR) touch(&graph->tensor[node->out[i]], n);
    }
    for (int t = 0; t < graph->n_tensors; t++)
        if (graph->tensor[t].role == RP_ROLE_RESULT) touch(&graph->tensor[t], graph->n_nodes - 1);
}

/* The owner of the memory lives as long as any of its views. */
static void touch_owner(struct rp_graph *graph, int t)
{
    const struct rp_graph_tensor *tensor = &graph->tensor[t];
    if (tensor->first_node < 0) return;
    struct rp_graph_tensor *owner = &graph->tensor[root_of(graph, t)];
    touch(owner, tensor->first_node);
    touch(owner, tensor->last_node);
}

/* May node n write out[0] over in[0]? Only when nothing reads in[0] afterwards, under any name, and
 * nothing else in the call uses that memory. Memory of inputs, parameters and sums is never shared.
 */
static bool can_overwrite(const struct rp_graph *graph, int n)
{
    const struct rp_graph_node *node = &graph->node[n];
    int in = node->in[0], out = node->out[0];
    if (!rp_op_info(node->op)->in_place || in < 0 || out < 0) return false;
    int from = root_of(graph, in);
    const struct rp_graph_tensor *owner = &graph->tensor[from], *result = &graph->tensor[out];
    if (owner->role != RP_ROLE_ACTIVATION || owner->last_node != n) return false;
    if (result->role != RP_ROLE_ACTIVATION && result->role != RP_ROLE_RESULT) return false;
    if (result->alias_of != RP_GRAPH_NO_TENSOR) return false;
    if (rp_tensor_bytes(&owner->shape) != rp_tensor_bytes(&result->shape)) return false;
    for (int i = 1; i < RP_OP_MAX_IN; i++)
        if (node->in[i] >= 0 && root_of(graph, node->in[i]) == from) return false;
    return true;
}

void rp_graph_set_lives(struct rp_graph *graph)
{
    touch_all(graph);
    for (int t = 0; t < graph->n_tensors; t++) touch_owner(graph, t);
    for (int n = 0; n < graph->n_nodes; n++) {
        if (!can_overwrite(graph, n)) continue;
        int out = graph->node[n].out[0];
        graph->tensor[out].alias_of = root_of(graph, graph->node[n].in[0]);
        touch_owner(graph, out);
    }
    for (int t = 0; t < graph->n_tensors; t++)
        if (graph->tensor[t].alias_of != RP_GRAPH_NO_TENSOR)
            graph->tensor[t].alias_of = root_of(graph, t);
}
