/* graph.c - the parts of a graph: tensors, views, nodes, and the tensors that the model keeps. */
#include "model/model_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Elements that one tensor may have: far beyond any machine, and no product of dims overflows. */
static const int64_t max_elements = (int64_t)1 << 40;

/* Arrays grow by doubling: a power of two, or nothing yet, means full. */
static bool is_full(int n)
{
    return (n & (n - 1)) == 0;
}

int rp_graph_add_tensor(struct rp_graph *graph, enum rp_role role, struct rp_spec_place at,
                        const char *format, ...)
{
    int i = graph->n_tensors;
    char name[RP_MODEL_NAME_BYTES]; /* first: what it is made from may be the name of a tensor */
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    if (is_full(i)) {
        size_t room = i ? 2 * (size_t)i : 1;
        graph->tensor = rp_mem_grow(graph->tensor, room * sizeof *graph->tensor);
    }
    graph->n_tensors++;
    graph->tensor[i] = (struct rp_graph_tensor){.role = role,
                                                .alias_of = RP_GRAPH_NO_TENSOR,
                                                .first_node = -1,
                                                .last_node = -1,
                                                .of = RP_GRAPH_NO_TENSOR,
                                                .at = at};
    memcpy(graph->tensor[i].name, name, sizeof name);
    return i;
}

int rp_graph_add_view(struct rp_graph *graph, int source, const struct rp_tensor *shape,
                      const char *name)
{
    int view = rp_graph_add_tensor(graph, graph->tensor[source].role, graph->tensor[source].at,
                                   "%s", name);
    graph->tensor[view].shape = *shape;
    graph->tensor[view].alias_of = source;
    return view;
}

struct rp_graph_node rp_graph_node_new(enum rp_op op)
{
    struct rp_graph_node node = {.op = op};
    for (int i = 0; i < RP_OP_MAX_IN; i++) node.in[i] = RP_GRAPH_NO_TENSOR;
    for (int i = 0; i < RP_OP_MAX_OUT; i++) node.out[i] = RP_GRAPH_NO_TENSOR;
    return node;
}

static void set_argument(const struct rp_graph *graph, int tensor, struct rp_tensor *argument)
{
    static char given; /* only its address is used: "this argument is there" */
    if (tensor == RP_GRAPH_NO_TENSOR) return;
    *argument = graph->tensor[tensor].shape;
    argument->data = &given;
}

void rp_graph_call(const struct rp_graph *graph, int node, struct rp_op_call *call)
{
    const struct rp_graph_node *n = &graph->node[node];
    *call = (struct rp_op_call){.op = n->op, .params = n->params};
    for (int i = 0; i < RP_OP_MAX_IN; i++) set_argument(graph, n->in[i], &call->in[i]);
    for (int i = 0; i < RP_OP_MAX_OUT; i++) set_argument(graph, n->out[i], &call->out[i]);
}

static bool is_too_large(const struct rp_tensor *shape)
{
    int64_t room = max_elements;
    for (int i = 0; i < shape->n_dims; i++) {
        if (shape->dims[i] <= 0) return false; /* the op's own check names it */
        room /= shape->dims[i];
    }
    return room == 0;
}

enum rp_status rp_builder_add_node(struct rp_builder *b, const struct rp_graph_node *node,
                                   struct rp_spec_place at, const char *what)
{
    struct rp_graph *graph = b->graph;
    if (is_full(graph->n_nodes)) {
        size_t room = graph->n_nodes ? 2 * (size_t)graph->n_nodes : 1;
        graph->node = rp_mem_grow(graph->node, room * sizeof *graph->node);
    }
    graph->node[graph->n_nodes] = *node;
    graph->node[graph->n_nodes++].block = b->block;
    struct rp_op_call call;
    rp_graph_call(graph, graph->n_nodes - 1, &call);
    struct rp_error *why = RP_NEW(struct rp_error);
    enum rp_status status = rp_op_shape(&call, why);
    if (status != RP_STATUS_OK) {
        status = rp_spec_fail(b->spec, at, RP_STATUS_USAGE, b->err, "%s", why->text);
        goto done;
    }
    for (int i = 0; i < RP_OP_MAX_OUT; i++) {
        if (node->out[i] == RP_GRAPH_NO_TENSOR) continue;
        struct rp_tensor *shape = &graph->tensor[node->out[i]].shape;
        *shape = call.out[i];
        shape->data = NULL;
        if (is_too_large(shape)) {
            status = rp_spec_fail(b->spec, at, RP_STATUS_USAGE, b->err,
                                  "%s: its output would have more than 2^40 numbers", what);
            goto done;
        }
    }
done:
    rp_mem_free(why);
    return status;
}

/* ---- kept tensors ---------------------------------------------------------------------------- */

static bool is_named(char *const patterns[], int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (rp_model_name_matches(patterns[i], name)) return true;
    return false;
}

static bool decays(const struct rp_spec *spec, const struct rp_kept_request *request,
                   const char *name)
{
    bool matrix = request->shape.n_dims >= 2;
    if (request->statistic) return false;
    if (!matrix && spec->train.optimizer.decay != RP_DECAY_ALL) return false;
    return !is_named(spec->train.optimizer.no_decay, spec->train.optimizer.n_no_decay, name);
}

static void make_kept(struct rp_builder *b, const struct rp_kept_request *request)
{
    struct rp_model *model = b->model;
    if (is_full(model->n_kept)) {
        size_t room = model->n_kept ? 2 * (size_t)model->n_kept : 1;
        model->kept = rp_mem_grow(model->kept, room * sizeof *model->kept);
    }
    struct rp_model_tensor *kept = &model->kept[model->n_kept++];
    *kept = (struct rp_model_tensor){.grad_tensor = RP_GRAPH_NO_TENSOR,
                                     .grad_tensor2 = RP_GRAPH_NO_TENSOR,
                                     .seen_tensor = RP_GRAPH_NO_TENSOR,
                                     .eval_tensor = RP_GRAPH_NO_TENSOR,
                                     .momentum = request->momentum,
                                     .statistic = request->statistic,
                                     .layout = request->layout,
                                     .init = request->init,
                                     .fan_in = request->fan_in,
                                     .fan_out = request->fan_out,
                                     .fill = request->fill,
                                     .drawn = request->drawn,
                                     .shape = request->shape,
                                     .at = request->at};
    memcpy(kept->hwc, request->hwc, sizeof kept->hwc);
    snprintf(kept->name, sizeof kept->name, "%s.%s", request->layer, request->what);
    kept->frozen = is_named(b->spec->model.freeze, b->spec->model.n_freeze, kept->name);
    kept->decays = decays(b->spec, request, kept->name);
    if (request->statistic) return;
    model->n_parameters++;
    model->parameter_elements += rp_tensor_elements(&kept->shape);
}

enum rp_status rp_builder_keep(struct rp_builder *b, const struct rp_kept_request *request,
                               int *tensor)
{
    if (is_too_large(&request->shape))
        return rp_spec_fail(b->spec, request->at, RP_STATUS_USAGE, b->err,
                            "%s.%s would have more than 2^40 numbers", request->layer,
                            request->what);
    if (b->training) make_kept(b, request);
    int i = b->training ? b->model->n_kept - 1 : b->next_kept++;
    struct rp_model_tensor *kept = &b->model->kept[i];
    enum rp_role role = request->statistic ? RP_ROLE_STATISTIC : RP_ROLE_PARAMETER;
    *tensor = rp_graph_add_tensor(b->graph, role, request->at, "%s", kept->name);
    b->graph->tensor[*tensor].shape = kept->shape;
    if (b->training)
        kept->train_tensor = *tensor;
    else
        kept->eval_tensor = *tensor;
    return RP_STATUS_OK;
}

struct rp_model_tensor *rp_builder_kept(struct rp_builder *b, int tensor)
{
    for (int i = 0; i < b->model->n_kept; i++) {
        struct rp_model_tensor *kept = &b->model->kept[i];
        if ((b->training ? kept->train_tensor : kept->eval_tensor) == tensor) return kept;
    }
    return NULL;
}
