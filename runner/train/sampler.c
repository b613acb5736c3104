/* sampler.c - the evaluation graph of a language model, run over a few tokens at a time: attention
 * over the cache in the place of attention, the last product alone in the place of the loss. */
#include "train/sampler.h"

#include "base/mem.h"

#include <string.h>

struct rp_sampler {
    struct rp_trainer *t;
    const struct rp_graph *graph;
    struct rp_op_call *call; /* of the graph's nodes before the loss */
    int n_calls;
    struct rp_op_call head;
    struct rp_tensor *shape; /* (tensors of the graph) for the number of tokens now shaped for */
    int64_t shaped;          /* that number; 0: none yet */
    int64_t places, used;
    unsigned char *cache;  /* keys and values of every block, and the logits, on the device */
    unsigned char *logits; /* into it */
};

/* ---- shapes ---------------------------------------------------------------------------------- */

static bool has_tokens(const struct rp_sampler *s, int tensor)
{
    enum rp_role role = s->graph->tensor[tensor].role;
    return role == RP_ROLE_INPUT || role == RP_ROLE_ACTIVATION || role == RP_ROLE_RESULT;
}

/* Takes the dims of what earlier nodes made; the memory stays where it is. */
static void take_dims(const struct rp_sampler *s, int tensor, struct rp_tensor *view)
{
    if (tensor == RP_GRAPH_NO_TENSOR || !has_tokens(s, tensor)) return;
    void *data = view->data;
    *view = s->shape[tensor];
    view->data = data;
}

static enum rp_status shape_for(struct rp_sampler *s, int64_t n, struct rp_error *err)
{
    if (s->shaped == n) return RP_STATUS_OK;
    s->shaped = 0;
    s->shape[s->graph->input] = s->graph->tensor[s->graph->input].shape;
    s->shape[s->graph->input].dims[0] = 1;
    s->shape[s->graph->input].dims[1] = n;
    for (int i = 0; i < s->n_calls; i++) {
        const struct rp_graph_node *node = &s->graph->node[i];
        const struct rp_op_info *info = rp_op_info(node->op);
        struct rp_op_call *call = &s->call[i];
        for (int k = 0; k < info->n_in; k++) take_dims(s, node->in[k], &call->in[k]);
        RP_TRY(rp_op_shape(call, err));
        for (int k = 0; k < info->n_out; k++)
            if (node->out[k] != RP_GRAPH_NO_TENSOR) s->shape[node->out[k]] = call->out[k];
        /* attention_cached has no statistics: its other outputs are the caches. */
    }
    s->shaped = n;
    return RP_STATUS_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + RP_PLAN_ALIGN - 1) / RP_PLAN_ALIGN * RP_PLAN_ALIGN;
}

static struct rp_tensor cache_of(const struct rp_sampler *s, const struct rp_attention_params *p,
                                 bool keys)
{
    int64_t a = keys ? p->head_dim : s->places, b = keys ? s->places : p->head_dim;
    return (struct rp_tensor){.dtype = RP_DTYPE_F32, .n_dims = 4, .dims = {1, p->kv_heads, a, b}};
}

/* The calls as training's evaluation has them; attention becomes attention over the cache, whose
 * places are counted in *bytes. */
static void take_calls(struct rp_sampler *s, uint64_t *bytes)
{
    for (int i = 0; i < s->n_calls; i++) {
        struct rp_op_call *call = &s->call[i];
        *call = s->t->eval.call[i];
        if (call->op != RP_OP_attention) continue;
        call->op = RP_OP_attention_cached;
        for (int k = 1; k <= 2; k++) {
            call->in[k] = cache_of(s, &call->params.attention, k == 1);
            call->in[k].data = (void *)(uintptr_t)*bytes; /* an offset, until there is a block */
            *bytes += aligned(rp_tensor_bytes(&call->in[k]));
        }
    }
}

static void place_caches(struct rp_sampler *s)
{
    for (int i = 0; i < s->n_calls; i++) {
        struct rp_op_call *call = &s->call[i];
        if (call->op != RP_OP_attention_cached) continue;
        for (int k = 1; k <= 2; k++) {
            call->in[k].data = s->cache + (uintptr_t)call->in[k].data;
            call->out[k] = call->in[k];
        }
    }
}

static void make_head(struct rp_sampler *s)
{
    const struct rp_op_call *loss = &s->t->eval.call[s->n_calls];
    const struct rp_tensor *w = &loss->in[1];
    s->head.op = RP_OP_linear;
    s->head.in[0] = (struct rp_tensor){.dtype = RP_DTYPE_F32, .n_dims = 2, .dims = {1, w->dims[1]}};
    s->head.in[1] = *w;
    s->head.out[0] = (struct rp_tensor){
        .data = s->logits, .dtype = RP_DTYPE_F32, .n_dims = 2, .dims = {1, w->dims[0]}};
}

/* What the kernels need beyond what evaluation took, for one token and for all. */
static enum rp_status reserve(struct rp_sampler *s, struct rp_error *err)
{
    const int64_t lengths[] = {1, s->places};
    struct rp_device *device = s->t->device;
    size_t most = device->table->scratch_bytes(&device->config, &s->head);
    for (size_t l = 0; l < RP_COUNT(lengths); l++) {
        RP_TRY(shape_for(s, lengths[l], err));
        for (int i = 0; i < s->n_calls; i++) {
            size_t bytes = device->table->scratch_bytes(&device->config, &s->call[i]);
            if (bytes > most) most = bytes;
        }
    }
    return device->table->reserve(device, most, err);
}

enum rp_status rp_sampler_open(struct rp_trainer *trainer, struct rp_sampler **sampler,
                               struct rp_error *err)
{
    const struct rp_graph *graph = &trainer->model->eval;
    struct rp_sampler *s = RP_NEW(struct rp_sampler);
    uint64_t bytes = 0;
    void *block = NULL;
    enum rp_status status = RP_STATUS_OK;
    *s = (struct rp_sampler){.t = trainer, .graph = graph, .n_calls = graph->n_forward - 1};
    s->places = trainer->spec->model.context;
    s->shape = RP_NEW_ARRAY(struct rp_tensor, graph->n_tensors);
    s->call = RP_NEW_ARRAY(struct rp_op_call, s->n_calls + 1);
    if (graph->n_forward < 1 || graph->node[s->n_calls].op != RP_OP_lm_loss) {
        status = rp_error_set(err, RP_STATUS_INTERNAL, "the graph does not end in lm_loss");
        goto out;
    }
    take_calls(s, &bytes);
    uint64_t logits_at = bytes;
    bytes += aligned((uint64_t)rp_sampler_vocab(s) * sizeof(float));
    RP_TRY_GOTO(status, trainer->device->table->alloc(trainer->device, bytes, &block, err), out);
    s->cache = block;
    s->logits = s->cache + logits_at;
    place_caches(s);
    make_head(s);
    status = reserve(s, err);
out:
    if (status != RP_STATUS_OK) {
        rp_sampler_close(s);
        s = NULL;
    }
    *sampler = s;
    return status;
}

void rp_sampler_close(struct rp_sampler *s)
{
    if (!s) return;
    s->t->device->table->free(s->t->device, s->cache);
    rp_mem_free(s->call);
    rp_mem_free(s->shape);
    rp_mem_free(s);
}

int64_t rp_sampler_vocab(const struct rp_sampler *s)
{
    return s->t->eval.call[s->n_calls].in[1].dims[0];
}

int64_t rp_sampler_places(const struct rp_sampler *s)
{
    return s->places;
}

int64_t rp_sampler_used(const struct rp_sampler *s)
{
    return s->used;
}

void rp_sampler_forget(struct rp_sampler *s)
{
    s->used = 0;
}

/* ---- feeding --------------------------------------------------------------------------------- */

enum rp_status rp_sampler_feed(struct rp_sampler *s, const int32_t *tokens, int64_t n,
                               float *logits, struct rp_error *err)
{
    struct rp_device *device = s->t->device;
    const struct rp_device_table *table = device->table;
    const struct rp_pass pass = {.rows = {.samples_per_shard = 1, .n_shards = 1, .n_samples = 1},
                                 .first_token = s->used};
    if (n < 1 || n > s->places - s->used)
        return rp_error_set(err, RP_STATUS_INTERNAL, "%lld tokens where %lld places are left",
                            (long long)n, (long long)(s->places - s->used));
    RP_TRY(shape_for(s, n, err));
    RP_TRY(table->copy_in(device, s->t->eval.input, tokens, (size_t)n * sizeof *tokens, err));
    for (int i = 0; i < s->n_calls; i++) RP_TRY(table->run(device, &s->call[i], &pass, err));
    const struct rp_tensor *x = &s->t->eval.call[s->n_calls].in[0];
    s->head.in[0].data = (unsigned char *)x->data + (n - 1) * s->head.in[0].dims[1] * 4;
    RP_TRY(table->run(device, &s->head, &pass, err));
    RP_TRY(table->sync(device, err));
    RP_TRY(table->copy_out(device, logits, s->logits, (size_t)rp_sampler_vocab(s) * sizeof *logits,
                           err));
    s->used += n;
    return RP_STATUS_OK;
}
