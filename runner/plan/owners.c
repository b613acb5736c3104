/* owners.c - which rank updates what (DESIGN 8), and how the blocks of gradients and parameters are
 * laid out for it: what a rank owns of a region is one piece of it.
 *
 * A rank owns chunks of 4096 elements. Parameters that are updated element by element come first,
 * cut into equal numbers of chunks; then the matrices under muon, each with one owner, cut so that
 * their products take equally long. One rank owns everything, in the order of the parameters. */
#include "plan/plan_int.h"

#include <string.h>

enum { CHUNK = RP_PLAN_CHUNK, NOWHERE = RP_GRAPH_NO_TENSOR };

/* Which region a trained parameter belongs to. */
static int region_of(const struct rp_plan_owners *o, const struct rp_model_tensor *tensor)
{
    return o->ranks > 1 && tensor->by_muon;
}

static int64_t chunks_of(const struct rp_model_tensor *tensor)
{
    return rp_plan_chunks(rp_tensor_elements(&tensor->shape));
}

/* ---- layout -------------------------------------------------------------------------------------
 */

/* Trained parameters by region, and the number of each one's first chunk. */
static void set_order(struct rp_plan_owners *o, const struct rp_model *model)
{
    int n = 0;
    o->order = RP_NEW_ARRAY(int, model->n_kept + 1);
    o->first_chunk = RP_NEW_ARRAY(int64_t, model->n_kept + 1);
    for (int region = 0; region < RP_PLAN_REGIONS; region++) {
        o->region[region].first = n;
        for (int i = 0; i < model->n_kept; i++) {
            if (!rp_model_is_trained(&model->kept[i]) || region_of(o, &model->kept[i]) != region)
                continue;
            o->order[n++] = i;
            o->first_chunk[i] = o->n_chunks;
            o->n_chunks += chunks_of(&model->kept[i]);
        }
        o->region[region].n = n - o->region[region].first;
    }
    for (int k = 1; k < n; k++) o->reordered |= o->order[k] < o->order[k - 1];
}

static void place_kept(struct rp_plan_owners *o, const struct rp_model *model)
{
    int n = o->region[0].n + o->region[1].n;
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

/* Gradients, then those of second uses, each in the order of the parameters; then what belongs to
 * everybody. */
static void place_sums(struct rp_plan_owners *o, const struct rp_model *model)
{
    const struct rp_graph *graph = &model->train;
    int n = o->region[0].n + o->region[1].n;
    o->sum_offset = RP_NEW_ARRAY(uint64_t, graph->n_tensors + 1);
    memset(o->sum_offset, 0xff, ((size_t)graph->n_tensors + 1) * sizeof *o->sum_offset);
    for (int k = 0; k < n; k++) place_sum(o, graph, model->kept[o->order[k]].grad_tensor);
    for (int k = 0; k < n; k++) place_sum(o, graph, model->kept[o->order[k]].grad_tensor2);
    o->shared_sums = o->sum_bytes;
    for (int t = 0; t < graph->n_tensors; t++)
        if (graph->tensor[t].role == RP_ROLE_SUM) place_sum(o, graph, t);
}

/* ---- borders ------------------------------------------------------------------------------------
 */

/* What the products of muon cost for a matrix, in proportion. */
static double muon_cost(const struct rp_model_tensor *matrix)
{
    double rows = (double)matrix->shape.dims[0], n = (double)rp_tensor_elements(&matrix->shape);
    double columns = n / rows;
    return n * (rows < columns ? rows : columns);
}

/* Matrix k of the region begins at the chunk nearest to a share of the cost. */
static void cut_matrices(struct rp_plan_owners *o, const struct rp_model *model, int64_t *border)
{
    const int *matrix = o->order + o->region[1].first;
    double all = 0, before = 0;
    int k = 0;
    for (int j = 0; j < o->region[1].n; j++) all += muon_cost(&model->kept[matrix[j]]);
    for (int r = 0; r < o->ranks; r++) {
        for (; k < o->region[1].n; k++) {
            double cost = muon_cost(&model->kept[matrix[k]]);
            if (before + cost / 2 > all * r / o->ranks) break;
            before += cost;
        }
        border[r] = k < o->region[1].n ? o->first_chunk[matrix[k]] : o->n_chunks;
    }
    border[o->ranks] = o->n_chunks;
}

static void cut_chunks(struct rp_plan_owners *o, int64_t *border)
{
    const struct rp_plan_region *matrices = &o->region[1];
    int64_t n = matrices->n > 0 ? o->first_chunk[o->order[matrices->first]] : o->n_chunks;
    for (int r = 0; r <= o->ranks; r++) border[r] = n * r / o->ranks;
}

/* Where chunk `chunk` lies in a block that has tensor `order[k]` at `offset[k]`; behind the last of
 * the region: its end. Tensors at UINT64_MAX are not in the block. */
static uint64_t byte_of(const struct rp_plan_owners *o, const struct rp_model *model,
                        const struct rp_plan_region *region, const uint64_t *offset, int64_t chunk)
{
    uint64_t end = 0;
    for (int k = region->first; k < region->first + region->n; k++) {
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

static void set_bytes(struct rp_plan_owners *o, const struct rp_model *model)
{
    int n = o->region[0].n + o->region[1].n;
    uint64_t *offset[3]; /* of gradients, second uses, parameters */
    for (int j = 0; j < 3; j++) offset[j] = RP_NEW_ARRAY(uint64_t, n + 1);
    for (int k = 0; k < n; k++) {
        const struct rp_model_tensor *kept = &model->kept[o->order[k]];
        offset[0][k] = o->sum_offset[kept->grad_tensor];
        offset[1][k] =
            kept->grad_tensor2 == NOWHERE ? UINT64_MAX : o->sum_offset[kept->grad_tensor2];
        offset[2][k] = o->kept_offset[o->order[k]];
    }
    for (int j = 0; j < RP_PLAN_REGIONS; j++) {
        struct rp_plan_region *region = &o->region[j];
        region->gradient = RP_NEW_ARRAY(uint64_t, o->ranks + 1);
        region->second = RP_NEW_ARRAY(uint64_t, o->ranks + 1);
        region->kept = RP_NEW_ARRAY(uint64_t, o->ranks + 1);
        region->norm = RP_NEW_ARRAY(uint64_t, o->ranks + 1);
        for (int r = 0; r <= o->ranks; r++) {
            int64_t chunk = region->chunk[r];
            region->gradient[r] = byte_of(o, model, region, offset[0], chunk);
            region->second[r] = byte_of(o, model, region, offset[1], chunk);
            region->kept[r] = byte_of(o, model, region, offset[2], chunk);
            region->norm[r] = (uint64_t)chunk * sizeof(double);
        }
    }
    for (int j = 0; j < 3; j++) rp_mem_free(offset[j]);
}

/* ---- who writes what ----------------------------------------------------------------------------
 */

static int least_loaded(const uint64_t *load, int n)
{
    int least = 0;
    for (int r = 1; r < n; r++)
        if (load[r] < load[least]) least = r;
    return least;
}

/* A checkpoint holds whole tensors: the owner of the first chunk writes it. */
static void set_writers(struct rp_plan *plan, const struct rp_spec *spec)
{
    struct rp_plan_owners *o = &plan->owners;
    const struct rp_model *model = plan->model;
    uint64_t *load = RP_NEW_ARRAY(uint64_t, o->ranks);
    o->writer = RP_NEW_ARRAY(int, model->n_kept + 1);
    for (int i = 0; i < model->n_kept; i++) {
        if (!rp_model_is_trained(&model->kept[i])) continue;
        while (rp_plan_owned(plan, o->writer[i], i).first != 0) o->writer[i]++;
        load[o->writer[i]] += rp_plan_checkpoint_numbers(spec, &model->kept[i]);
    }
    for (int i = 0; i < model->n_kept; i++) {
        if (rp_model_is_trained(&model->kept[i])) continue;
        o->writer[i] = least_loaded(load, o->ranks);
        load[o->writer[i]] += rp_plan_checkpoint_numbers(spec, &model->kept[i]);
    }
    rp_mem_free(load);
}

/* ---- the whole ----------------------------------------------------------------------------------
 */

struct rp_plan_part rp_plan_owned(const struct rp_plan *plan, int rank, int tensor)
{
    const struct rp_plan_owners *o = &plan->owners;
    const struct rp_model_tensor *kept = &plan->model->kept[tensor];
    int64_t n = rp_tensor_elements(&kept->shape);
    if (kept->frozen) return (struct rp_plan_part){-1, 0};
    if (kept->statistic) return (struct rp_plan_part){0, n};
    const int64_t *border = o->region[region_of(o, kept)].chunk;
    int64_t first = o->first_chunk[tensor], end = first + chunks_of(kept);
    int64_t from = border[rank] > first ? border[rank] : first;
    int64_t to = border[rank + 1] < end ? border[rank + 1] : end;
    if (from >= to) return (struct rp_plan_part){-1, 0};
    struct rp_plan_part part = {(from - first) * CHUNK, (to - from) * CHUNK};
    if (part.first + part.n > n) part.n = n - part.first;
    return part;
}

void rp_plan_set_owners(struct rp_plan *plan, const struct rp_spec *spec)
{
    struct rp_plan_owners *o = &plan->owners;
    o->ranks = plan->ranks;
    set_order(o, plan->model);
    place_kept(o, plan->model);
    place_sums(o, plan->model);
    for (int j = 0; j < RP_PLAN_REGIONS; j++)
        o->region[j].chunk = RP_NEW_ARRAY(int64_t, o->ranks + 1);
    cut_chunks(o, o->region[0].chunk);
    cut_matrices(o, plan->model, o->region[1].chunk);
    set_bytes(o, plan->model);
    set_writers(plan, spec);
}

void rp_plan_release_owners(struct rp_plan_owners *o)
{
    for (int j = 0; j < RP_PLAN_REGIONS; j++) {
        rp_mem_free(o->region[j].chunk);
        rp_mem_free(o->region[j].gradient);
        rp_mem_free(o->region[j].second);
        rp_mem_free(o->region[j].kept);
        rp_mem_free(o->region[j].norm);
    }
    rp_mem_free(o->writer);
    rp_mem_free(o->sum_offset);
    rp_mem_free(o->kept_offset);
    rp_mem_free(o->first_chunk);
    rp_mem_free(o->order);
    *o = (struct rp_plan_owners){0};
}
