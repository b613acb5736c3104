/* owners.c - which rank updates what (DESIGN 8), and how the blocks of gradients and parameters are
 * laid out for it: what a rank owns of a bucket (buckets.c) is one piece of it.
 *
 * A rank owns chunks of 4096 elements. Parameters that are updated element by element come first,
 * each bucket cut into equal numbers of chunks; then the matrices under muon, each with one owner,
 * cut so that their products take equally long. One rank owns everything, in the order of the
 * parameters. */
#include "plan/plan_int.h"

#include <string.h>

enum { CHUNK = RP_PLAN_CHUNK, NOWHERE = RP_GRAPH_NO_TENSOR };

static int64_t chunks_of(const struct rp_model_tensor *tensor)
{
    return rp_plan_chunks(rp_tensor_elements(&tensor->shape));
}

/* ---- layout ---------------------------------------------------------------------------------- */

/* Matrices under muon behind the others, where ranks share the work; and the number of each one's
 * first chunk. How many there are. */
static int set_order(struct rp_plan_owners *o, const struct rp_model *model)
{
    int n = 0;
    o->order = RP_NEW_ARRAY(int, model->n_kept + 1);
    o->first_chunk = RP_NEW_ARRAY(int64_t, model->n_kept + 1);
    for (int matrices = 0; matrices < 2; matrices++) {
        for (int i = 0; i < model->n_kept; i++) {
            const struct rp_model_tensor *kept = &model->kept[i];
            if (!rp_model_is_trained(kept) || (o->ranks > 1 && kept->by_muon) != matrices) continue;
            o->order[n++] = i;
            o->first_chunk[i] = o->n_chunks;
            o->n_chunks += chunks_of(kept);
        }
    }
    return n;
}

static void place_kept(struct rp_plan_owners *o, const struct rp_model *model, int n)
{
    o->kept_offset = RP_NEW_ARRAY(uint64_t, model->n_kept + 1);
    for (int k = 0; k < n; k++) {
        o->kept_offset[o->order[k]] = o->kept_bytes;
        o->kept_bytes += rp_plan_align(rp_tensor_bytes(&model->kept[o->order[k]].shape));
    }
    for (int i = 0; i < model->n_kept; i++) {
        if (rp_model_is_trained(&model->kept[i])) continue;
        o->kept_offset[i] = o->kept_bytes;
        o->kept_bytes += rp_plan_align(rp_tensor_bytes(&model->kept[i].shape));
    }
}

static void place_sum(struct rp_plan_owners *o, const struct rp_graph *graph, int tensor)
{
    if (tensor == NOWHERE || o->sum_offset[tensor] != UINT64_MAX) return;
    o->sum_offset[tensor] = o->sum_bytes;
    o->sum_bytes += rp_plan_align(rp_tensor_bytes(&graph->tensor[tensor].shape));
}

/* The node that makes a gradient and can add it to another (rp_embedding_params); -1: none can. */
static int adding_node(const struct rp_graph *graph, int gradient)
{
    for (int i = 0; i < graph->n_nodes; i++)
        if (graph->node[i].out[0] == gradient)
            return graph->node[i].op == RP_OP_embedding_dw ? i : -1;
    return -1;
}

/* Gradients, then those of second uses, each in the order of the parameters; then what belongs to
 * everybody. Where a parameter's second use is done before its first is summed, in one pass on one
 * rank, both are one sum. */
static void place_sums(struct rp_plan_owners *o, const struct rp_model *model, int n, bool one_pass)
{
    const struct rp_graph *graph = &model->train;
    o->sum_offset = RP_NEW_ARRAY(uint64_t, graph->n_tensors + 1);
    memset(o->sum_offset, 0xff, ((size_t)graph->n_tensors + 1) * sizeof *o->sum_offset);
    for (int k = 0; k < n; k++) place_sum(o, graph, model->kept[o->order[k]].grad_tensor);
    for (int k = 0; k < n; k++) {
        const struct rp_model_tensor *kept = &model->kept[o->order[k]];
        if (one_pass && kept->grad_tensor2 != NOWHERE && adding_node(graph, kept->grad_tensor) >= 0)
            o->sum_offset[kept->grad_tensor2] = o->sum_offset[kept->grad_tensor];
        place_sum(o, graph, kept->grad_tensor2);
    }
    o->shared_sums = o->sum_bytes;
    for (int t = 0; t < graph->n_tensors; t++)
        if (graph->tensor[t].role == RP_ROLE_SUM) place_sum(o, graph, t);
}

int rp_plan_tie_node(const struct rp_plan *plan, int tensor)
{
    const struct rp_model_tensor *kept = &plan->model->kept[tensor];
    const uint64_t *offset = plan->owners.sum_offset;
    if (kept->grad_tensor2 == NOWHERE || offset[kept->grad_tensor] != offset[kept->grad_tensor2])
        return -1;
    return adding_node(&plan->model->train, kept->grad_tensor);
}

/* ---- borders --------------------------------------------------------------------------------- */

/* Where chunk `chunk` lies in a block that has tensor `order[k]` at `offset[k]`; behind the last of
 * the bucket: its end. Tensors at UINT64_MAX are not in the block. */
static uint64_t byte_of(const struct rp_plan_owners *o, const struct rp_model *model,
                        const struct rp_plan_bucket *bucket, const uint64_t *offset, int64_t chunk)
{
    uint64_t end = 0;
    for (int k = bucket->first; k < bucket->first + bucket->n; k++) {
        const struct rp_model_tensor *tensor = &model->kept[o->order[k]];
        int64_t first = o->first_chunk[o->order[k]];
        if (offset[k] == UINT64_MAX) continue;
        if (chunk <= first) return offset[k];
        if (chunk < first + chunks_of(tensor))
            return offset[k] + (uint64_t)(chunk - first) * CHUNK * sizeof(float);
        end = offset[k] + rp_plan_align(rp_tensor_bytes(&tensor->shape));
    }
    return end;
}

static void set_bytes(struct rp_plan_owners *o, const struct rp_model *model, int n)
{
    uint64_t *offset[3]; /* of gradients, second uses, parameters */
    for (int j = 0; j < 3; j++) offset[j] = RP_NEW_ARRAY(uint64_t, n + 1);
    for (int k = 0; k < n; k++) {
        const struct rp_model_tensor *kept = &model->kept[o->order[k]];
        offset[0][k] = o->sum_offset[kept->grad_tensor];
        offset[1][k] =
            kept->grad_tensor2 == NOWHERE ? UINT64_MAX : o->sum_offset[kept->grad_tensor2];
        offset[2][k] = o->kept_offset[o->order[k]];
    }
    for (int j = 0; j < o->n_buckets; j++) {
        struct rp_plan_bucket *bucket = &o->bucket[j];
        bucket->gradient = RP_NEW_ARRAY(uint64_t, o->ranks + 1);
        bucket->second = RP_NEW_ARRAY(uint64_t, o->ranks + 1);
        bucket->kept = RP_NEW_ARRAY(uint64_t, o->ranks + 1);
        for (int r = 0; r <= o->ranks; r++) {
            int64_t chunk = bucket->chunk[r];
            bucket->gradient[r] = byte_of(o, model, bucket, offset[0], chunk);
            bucket->second[r] = byte_of(o, model, bucket, offset[1], chunk);
            bucket->kept[r] = byte_of(o, model, bucket, offset[2], chunk);
        }
    }
    for (int j = 0; j < 3; j++) rp_mem_free(offset[j]);
}

/* ---- who writes what ------------------------------------------------------------------------- */

/* Of those that own of a tensor: of what is nobody's, all. */
static int least_loaded(const struct rp_plan *plan, int tensor, const uint64_t *load)
{
    bool owned = rp_model_is_trained(&plan->model->kept[tensor]);
    int least = -1;
    for (int r = 0; r < plan->ranks; r++) {
        if (owned && rp_plan_owned(plan, r, tensor).n == 0) continue;
        if (least < 0 || load[r] < load[least]) least = r;
    }
    return least;
}

/* A checkpoint holds whole tensors: one of the owners writes it. */
static void set_writers(struct rp_plan *plan, const struct rp_spec *spec)
{
    struct rp_plan_owners *o = &plan->owners;
    const struct rp_model *model = plan->model;
    uint64_t *load = RP_NEW_ARRAY(uint64_t, o->ranks);
    o->writer = RP_NEW_ARRAY(int, model->n_kept + 1);
    for (int trained = 1; trained >= 0; trained--) {
        for (int i = 0; i < model->n_kept; i++) {
            if (rp_model_is_trained(&model->kept[i]) != trained) continue;
            o->writer[i] = least_loaded(plan, i, load);
            load[o->writer[i]] += rp_plan_checkpoint_numbers(spec, &model->kept[i]);
        }
    }
    rp_mem_free(load);
}

/* ---- the whole ------------------------------------------------------------------------------- */

struct rp_plan_part rp_plan_owned(const struct rp_plan *plan, int rank, int tensor)
{
    const struct rp_plan_owners *o = &plan->owners;
    const struct rp_model_tensor *kept = &plan->model->kept[tensor];
    int64_t n = rp_tensor_elements(&kept->shape);
    if (kept->frozen) return (struct rp_plan_part){-1, 0};
    if (kept->statistic) return (struct rp_plan_part){0, n};
    const int64_t *border = o->bucket[o->bucket_of[tensor]].chunk;
    int64_t first = o->first_chunk[tensor], end = first + chunks_of(kept);
    int64_t from = border[rank] > first ? border[rank] : first;
    int64_t to = border[rank + 1] < end ? border[rank + 1] : end;
    if (from >= to) return (struct rp_plan_part){-1, 0};
    struct rp_plan_part part = {(from - first) * CHUNK, (to - from) * CHUNK};
    if (part.first + part.n > n) part.n = n - part.first;
    return part;
}

int64_t rp_plan_norm_chunk(const struct rp_plan *plan, int rank, int tensor)
{
    const struct rp_plan_owners *o = &plan->owners;
    const struct rp_plan_bucket *bucket = &o->bucket[o->bucket_of[tensor]];
    int64_t own = rp_plan_owned(plan, rank, tensor).first / CHUNK;
    return bucket->norm[rank] + o->first_chunk[tensor] + own - bucket->chunk[rank];
}

enum rp_status rp_plan_set_owners(struct rp_plan *plan, const struct rp_spec *spec,
                                  struct rp_error *err)
{
    struct rp_plan_owners *o = &plan->owners;
    o->ranks = plan->ranks;
    int n = set_order(o, plan->model);
    place_kept(o, plan->model, n);
    place_sums(o, plan->model, n, plan->ranks == 1 && plan->n_passes == 1);
    RP_TRY(rp_plan_cut_buckets(o, plan->model, err));
    set_bytes(o, plan->model, n);
    rp_plan_set_exchanges(o, plan->model);
    set_writers(plan, spec);
    return RP_STATUS_OK;
}

void rp_plan_release_owners(struct rp_plan_owners *o)
{
    rp_plan_release_buckets(o);
    rp_mem_free(o->writer);
    rp_mem_free(o->sum_offset);
    rp_mem_free(o->kept_offset);
    rp_mem_free(o->first_chunk);
    rp_mem_free(o->order);
    *o = (struct rp_plan_owners){0};
}
