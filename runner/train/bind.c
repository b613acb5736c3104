/* bind.c - from graph nodes to op calls with every tensor at its place in memory. */
#include "train/train_int.h"

#include "base/mem.h"

/* Which kept tensor a graph tensor is; NO_TENSOR when it is none. */
static int kept_number(const struct rp_model *model, bool eval, int tensor)
{
    for (int i = 0; i < model->n_kept; i++)
        if ((eval ? model->kept[i].eval_tensor : model->kept[i].train_tensor) == tensor) return i;
    return RP_GRAPH_NO_TENSOR;
}

static void *place_of(const struct rp_trainer *t, const struct rp_bound *bound, int tensor)
{
    const struct rp_graph *graph = bound->graph;
    bool eval = bound == &t->eval;
    const struct rp_plan_place *place = eval ? &t->plan->eval_place : &t->plan->train_place;
    while (graph->tensor[tensor].alias_of != RP_GRAPH_NO_TENSOR)
        tensor = graph->tensor[tensor].alias_of;
    switch (graph->tensor[tensor].role) {
    case RP_ROLE_INPUT:
        return bound->input;
    case RP_ROLE_TARGET:
        return bound->target;
    case RP_ROLE_PARAMETER:
    case RP_ROLE_STATISTIC:
        tensor = kept_number(t->model, eval, tensor);
        return eval ? rp_trainer_shown(t, tensor) : t->kept[tensor];
    case RP_ROLE_SUM:
        return t->sums + t->sum_offset[tensor];
    case RP_ROLE_ACTIVATION:
    case RP_ROLE_RESULT:
        break;
    }
    return t->arena + place->offset[tensor];
}

static struct rp_tensor tensor_at(const struct rp_trainer *t, const struct rp_bound *bound,
                                  int tensor)
{
    if (tensor == RP_GRAPH_NO_TENSOR) return (struct rp_tensor){0};
    struct rp_tensor view = bound->graph->tensor[tensor].shape;
    view.data = place_of(t, bound, tensor);
    return view;
}

static void bind_node(const struct rp_trainer *t, const struct rp_bound *bound, int number)
{
    const struct rp_graph_node *node = &bound->graph->node[number];
    const struct rp_op_info *info = rp_op_info(node->op);
    struct rp_op_call *call = &bound->call[number];
    call->op = node->op;
    call->params = node->params;
    for (int i = 0; i < info->n_in; i++) call->in[i] = tensor_at(t, bound, node->in[i]);
    for (int i = 0; i < info->n_out; i++) call->out[i] = tensor_at(t, bound, node->out[i]);
    if (bound != &t->train || !t->plan->partial) return;
    /* Passes that end inside a shard keep each sum's open chain behind the levels of the tree. */
    uint64_t open_chains = (uint64_t)t->plan->n_levels * t->plan->owners.sum_bytes;
    for (int i = info->n_out - info->n_sums; i < info->n_out; i++) {
        call->out[i + info->n_sums] = call->out[i];
        if (call->out[i].data)
            call->out[i + info->n_sums].data = (unsigned char *)call->out[i].data + open_chains;
    }
}

static void bind_graph(struct rp_trainer *t, struct rp_bound *bound)
{
    bound->call = RP_NEW_ARRAY(struct rp_op_call, bound->graph->n_nodes);
    for (int i = 0; i < bound->graph->n_nodes; i++) bind_node(t, bound, i);
}

void rp_trainer_point_sums(struct rp_trainer *t, int level)
{
    if (t->plan->n_levels == 1) return;
    for (int i = 0; i < t->train.graph->n_nodes; i++) {
        const struct rp_graph_node *node = &t->train.graph->node[i];
        const struct rp_op_info *info = rp_op_info(node->op);
        for (int k = info->n_out - info->n_sums; k < info->n_out; k++) {
            if (node->out[k] == RP_GRAPH_NO_TENSOR) continue;
            t->train.call[i].out[k].data =
                t->sums + (uint64_t)level * t->plan->owners.sum_bytes + t->sum_offset[node->out[k]];
        }
    }
}

enum rp_status rp_trainer_join_level(struct rp_trainer *t, int level, uint64_t begin, uint64_t end,
                                     const struct rp_pass *pass, struct rp_error *err)
{
    unsigned char *right = t->sums + (uint64_t)level * t->plan->owners.sum_bytes + begin;
    unsigned char *left = right - t->plan->owners.sum_bytes;
    struct rp_op_call add = rp_op_add_call(left, right, (end - begin) / sizeof(float), left);
    return rp_trainer_run(t, &add, pass, err);
}

static struct rp_tensor flat(void *data, enum rp_dtype dtype, int64_t n)
{
    return (struct rp_tensor){.data = data, .dtype = dtype, .n_dims = 1, .dims = {n}};
}

/* What this rank owns of a tensor like kept tensor i: all of it, or a row of its elements. */
static struct rp_tensor own_part(const struct rp_trainer *t, int i, void *data)
{
    struct rp_tensor part = t->model->kept[i].shape;
    part.data = data;
    if (t->own[i].n == rp_tensor_elements(&part)) return part;
    return flat((float *)data + t->own[i].first, RP_DTYPE_F32, t->own[i].n);
}

/* The same of a state or average, of which there is no more than that. */
static struct rp_tensor own_state(const struct rp_trainer *t, int i, void *data)
{
    struct rp_tensor part = own_part(t, i, data);
    part.data = data;
    return part;
}

static uint32_t first_chunk(const struct rp_trainer *t, int i)
{
    return (uint32_t)(t->own[i].first / RP_PLAN_CHUNK);
}

static struct rp_tensor own_sum(const struct rp_trainer *t, int i, int sum)
{
    return own_part(t, i, t->sums + t->sum_offset[sum]);
}

/* The gradients of the two uses of a parameter, in the order of the net (chapter 13): one addition
 * each, when both are sums over the whole step. Where both are one sum, the later use has left it
 * when the earlier one, a table of tokens, comes to its own: it adds the few rows that it has. */
static void bind_ties(struct rp_trainer *t)
{
    const struct rp_model *model = t->model;
    t->tie_call = RP_NEW_ARRAY(struct rp_op_call, model->n_parameters);
    for (int i = 0; i < model->n_parameters; i++) {
        const struct rp_model_tensor *kept = &model->kept[i];
        if (kept->grad_tensor2 == RP_GRAPH_NO_TENSOR || t->own[i].n == 0) continue;
        int node = rp_plan_tie_node(t->plan, i);
        if (node >= 0) {
            t->train.call[node].params.embedding.onto = true;
            continue;
        }
        struct rp_op_call *call = &t->tie_call[t->n_tie_calls++];
        call->op = RP_OP_add;
        call->in[0] = call->out[0] = own_sum(t, i, kept->grad_tensor);
        call->in[1] = own_sum(t, i, kept->grad_tensor2);
    }
}

/* A row of two fp32 numbers for each fp64 one: an embedding moves their bits as they are. */
static void bind_order(struct rp_trainer *t)
{
    int64_t n = t->plan->owners.n_chunks;
    struct rp_op_call *call = &t->order_call;
    call->op = RP_OP_embedding;
    call->in[0] = (struct rp_tensor){
        .data = t->chunk_order, .dtype = RP_DTYPE_I32, .n_dims = 2, .dims = {1, n}};
    call->in[1] =
        (struct rp_tensor){.data = t->chunks, .dtype = RP_DTYPE_F32, .n_dims = 2, .dims = {n, 2}};
    call->out[0] = (struct rp_tensor){
        .data = t->in_order, .dtype = RP_DTYPE_F32, .n_dims = 3, .dims = {1, n, 2}};
}

/* grad_norm for what is owned of each trained parameter; clip over the chunks of all, in parameter
 * order. */
static void bind_norm(struct rp_trainer *t)
{
    const struct rp_model *model = t->model;
    const struct rp_plan_owners *o = &t->plan->owners;
    t->norm_call = RP_NEW_ARRAY(struct rp_op_call, model->n_parameters);
    for (int i = 0; i < model->n_parameters; i++) {
        const struct rp_model_tensor *kept = &model->kept[i];
        if (t->own[i].n == 0) continue;
        struct rp_op_call *call = &t->norm_call[t->n_norm_calls++];
        call->op = RP_OP_grad_norm;
        call->in[0] = own_sum(t, i, kept->grad_tensor);
        call->out[0] = flat(t->chunks + rp_plan_norm_chunk(t->plan, t->comm.rank, i), RP_DTYPE_F64,
                            rp_plan_chunks(t->own[i].n));
    }
    if (t->in_order) bind_order(t);
    t->clip_call.op = RP_OP_clip;
    t->clip_call.in[0] = flat(t->in_order ? t->in_order : t->chunks, RP_DTYPE_F64, o->n_chunks);
    t->clip_call.in[1] = flat(t->sums + t->sum_offset[model->train.loss_sum], RP_DTYPE_F32, 1);
    t->clip_call.out[0] = flat(t->control, RP_DTYPE_U8, sizeof *t->control);
    t->clip_call.params.clip.max_norm = t->spec->train.clip_norm;
}

static void bind_parameter_update(struct rp_trainer *t, struct rp_op_call *call, int i)
{
    const struct rp_model_tensor *kept = &t->model->kept[i];
    struct rp_optim_kind kind = rp_plan_optim_kind(kept);
    int n_in = 0, n_out = 0;
    call->op = rp_optim_op(t->spec, kind);
    call->in[n_in++] = call->out[n_out++] = own_part(t, i, t->kept[i]);
    call->in[n_in++] = own_sum(t, i, kept->grad_tensor);
    for (int s = 0; s < 2 && t->state[s][i]; s++)
        call->in[n_in++] = call->out[n_out++] = own_state(t, i, t->state[s][i]);
    const struct rp_op_info *info = rp_op_info(call->op);
    call->in[info->n_in - 1] = flat(t->control, RP_DTYPE_U8, sizeof *t->control);
    call->out[info->n_out - 1] = flat(t->digests + i, RP_DTYPE_U64, 1);
    rp_optim_params(t->spec, kind, &kept->shape, (uint32_t)i, &call->params.optim);
    rp_optim_set_parts(t->spec, &kept->shape, kept->n_joined, kept->joined_end,
                       &call->params.optim);
    call->params.optim.first_chunk = first_chunk(t, i);
    call->update = &t->update[2 * kind.by_muon + kind.decays];
}

/* A statistic takes what the passes have seen: the tree's sum over shards (DESIGN 6). */
static void bind_statistic_update(struct rp_trainer *t, struct rp_op_call *call, int i)
{
    const struct rp_model_tensor *kept = &t->model->kept[i];
    struct rp_tensor value = kept->shape;
    value.data = t->kept[i];
    call->op = RP_OP_running_update;
    call->in[0] = call->out[0] = value;
    value.data = t->sums + t->sum_offset[kept->seen_tensor];
    call->in[1] = value;
    call->in[2] = flat(t->control, RP_DTYPE_U8, sizeof *t->control);
    call->out[1] = flat(t->digests + i, RP_DTYPE_U64, 1);
    call->params.running = (struct rp_running_params){
        .momentum = kept->momentum, .shards = (int)t->plan->shards, .tensor_number = (uint32_t)i};
}

/* The average moves towards what has just been updated: a running statistic of one shard. Its
 * digest goes with that of the tensor, as one that stands behind all of the model. */
static void bind_average(struct rp_trainer *t, struct rp_op_call *call, int i)
{
    call->op = RP_OP_running_update;
    call->in[0] = call->out[0] = own_state(t, i, t->average[i]);
    call->in[1] = own_part(t, i, t->kept[i]);
    call->in[2] = flat(t->control, RP_DTYPE_U8, sizeof *t->control);
    call->out[1] = flat(t->digests + i, RP_DTYPE_U64, 1);
    call->params.running =
        (struct rp_running_params){.momentum = (float)(1.0 - t->spec->train.ema_decay),
                                   .shards = 1,
                                   .tensor_number = (uint32_t)(t->model->n_kept + i),
                                   .first_chunk = first_chunk(t, i)};
}

static void bind_update(struct rp_trainer *t, int i)
{
    if (t->own[i].n == 0) return;
    struct rp_op_call *call = &t->update_call[t->n_update_calls++];
    if (t->model->kept[i].statistic)
        bind_statistic_update(t, call, i);
    else
        bind_parameter_update(t, call, i);
    if (t->average[i]) bind_average(t, &t->update_call[t->n_update_calls++], i);
}

static void bind_updates(struct rp_trainer *t)
{
    const struct rp_model *model = t->model;
    const struct rp_plan_owners *o = &t->plan->owners;
    t->update_call = RP_NEW_ARRAY(struct rp_op_call, 2 * model->n_kept);
    t->update_end = RP_NEW_ARRAY(int, o->n_buckets + 1);
    for (int j = 0; j < o->n_buckets; j++) {
        for (int k = 0; k < o->bucket[j].n; k++) bind_update(t, o->order[o->bucket[j].first + k]);
        t->update_end[j] = t->n_update_calls;
    }
    for (int i = 0; i < model->n_kept; i++)
        if (model->kept[i].statistic) bind_update(t, i);
}

enum rp_status rp_trainer_bind(struct rp_trainer *t, struct rp_error *err)
{
    (void)err;
    bind_graph(t, &t->eval);
    if (t->eval_only) return RP_STATUS_OK;
    bind_graph(t, &t->train);
    bind_ties(t);
    bind_norm(t);
    bind_updates(t);
    return RP_STATUS_OK;
}

enum rp_status rp_trainer_run(struct rp_trainer *t, const struct rp_op_call *call,
                              const struct rp_pass *pass, struct rp_error *err)
{
    double began = rp_profile_begin(t->profile);
    enum rp_status status = t->device->table->run(t->device, call, pass, err);
    if (rp_profile_is_timed(t->profile) && status == RP_STATUS_OK)
        status = t->device->table->sync(t->device, err);
    rp_profile_end(t->profile, call, began);
    return status;
}
