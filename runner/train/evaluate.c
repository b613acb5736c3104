/* evaluate.c - a split measured: each sample once, in file order, summed in fp64 on the host, so
 * that the size of a pass cannot change a bit. */
#include "train/train_int.h"

#include "base/mem.h"

#include <string.h>

struct buffers {
    float *x;
    void *y;
    float *loss;
    int32_t *rank;
};

/* A pass always has the size that the graph was built for; the last one repeats its own samples to
 * fill up. */
static enum rp_status run_pass(struct rp_trainer *t, enum rp_split split, int64_t first, int64_t n,
                               struct buffers *b, struct rp_error *err)
{
    const struct rp_graph *graph = &t->model->eval;
    const struct rp_device_table *device = t->device->table;
    struct rp_pass pass = {.rows = {.samples_per_shard = t->model->eval_samples,
                                    .n_shards = 1,
                                    .n_samples = t->model->eval_samples},
                           .seed = t->spec->seed};
    rp_data_fill_eval(t->data, split, first, n, b->x, b->y);
    RP_TRY(device->copy_in(t->device, t->eval.input, b->x,
                           rp_tensor_bytes(&graph->tensor[graph->input].shape), err));
    RP_TRY(device->copy_in(t->device, t->eval.target, b->y,
                           rp_tensor_bytes(&graph->tensor[graph->target].shape), err));
    for (int i = 0; i < graph->n_nodes; i++)
        RP_TRY(rp_trainer_run(t, &t->eval.call[i], &pass, err));
    RP_TRY(device->sync(t->device, err));
    const struct rp_plan_place *place = &t->plan->eval_place;
    RP_TRY(device->copy_out(t->device, b->loss, t->arena + place->offset[graph->loss_rows],
                            (size_t)n * sizeof(float), err));
    if (graph->rank_rows == RP_GRAPH_NO_TENSOR) return RP_STATUS_OK;
    return device->copy_out(t->device, b->rank, t->arena + place->offset[graph->rank_rows],
                            (size_t)n * sizeof(int32_t), err);
}

static void add_pass(struct rp_evaluation *e, const struct buffers *b, int64_t n, int64_t *first,
                     int64_t *five)
{
    for (int64_t i = 0; i < n; i++) {
        e->loss += (double)b->loss[i];
        if (!e->classification) continue;
        *first += b->rank[i] == 0;
        *five += b->rank[i] < 5;
    }
    e->samples += n;
}

enum rp_status rp_evaluate(struct rp_trainer *t, enum rp_split split, struct rp_evaluation *e,
                           struct rp_error *err)
{
    const struct rp_graph *graph = &t->model->eval;
    int64_t total = split == RP_SPLIT_VALID ? t->plan->data.n_valid : t->plan->data.n_train,
            first_right = 0, five_right = 0;
    struct buffers b = {.x = rp_mem_try(rp_tensor_bytes(&graph->tensor[graph->input].shape)),
                        .y = rp_mem_try(rp_tensor_bytes(&graph->tensor[graph->target].shape)),
                        .loss = RP_NEW_ARRAY(float, t->model->eval_samples),
                        .rank = RP_NEW_ARRAY(int32_t, t->model->eval_samples)};
    enum rp_status status = RP_STATUS_OK;
    *e = (struct rp_evaluation){.classification = graph->rank_rows != RP_GRAPH_NO_TENSOR,
                                .top5 = -1};
    if (!b.x || !b.y)
        status = rp_error_set(err, RP_STATUS_MEMORY, "no memory for an evaluation batch");
    for (int64_t at = 0; status == RP_STATUS_OK && at < total; at += t->model->eval_samples) {
        int64_t n = total - at < t->model->eval_samples ? total - at : t->model->eval_samples;
        if (rp_signals_stop_asked()) {
            e->abandoned = true;
            break;
        }
        status = run_pass(t, split, at, n, &b, err);
        if (status == RP_STATUS_OK) add_pass(e, &b, n, &first_right, &five_right);
    }
    if (e->samples > 0) {
        e->loss /= (double)e->samples * t->model->samples_per_loss_value;
        e->accuracy = (double)first_right / (double)e->samples;
        if (e->classification && t->plan->data.n_classes > 5)
            e->top5 = (double)five_right / (double)e->samples;
    }
    rp_mem_free(b.rank);
    rp_mem_free(b.loss);
    rp_mem_free(b.y);
    rp_mem_free(b.x);
    return status;
}

bool rp_evaluation_metric(const struct rp_evaluation *e, const char *name, double *value,
                          bool *larger_is_better)
{
    *larger_is_better = strcmp(name, "valid/loss") != 0;
    if (strcmp(name, "valid/loss") == 0)
        *value = e->loss;
    else if (strcmp(name, "valid/accuracy") == 0 && e->classification)
        *value = e->accuracy;
    else if (strcmp(name, "valid/top5_accuracy") == 0 && e->top5 >= 0)
        *value = e->top5;
    else
        return false;
    return true;
}
