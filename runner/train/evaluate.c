/* evaluate.c - a split measured: each sample once, in file order (of tokens each target), summed in
 * fp64 on the host, so that the size of a pass cannot change a bit. */
#include "train/train_int.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

void rp_eval_buffers_release(struct rp_eval_buffers *b)
{
    rp_mem_free(b->output);
    rp_mem_free(b->rank);
    rp_mem_free(b->loss);
    rp_mem_free(b->y);
    rp_mem_free(b->x);
    *b = (struct rp_eval_buffers){0};
}

enum rp_status rp_eval_buffers_init(const struct rp_trainer *t, bool with_output,
                                    struct rp_eval_buffers *b, struct rp_error *err)
{
    const struct rp_graph *graph = &t->model->eval;
    int64_t losses = rp_tensor_elements(&graph->tensor[graph->loss_rows].shape);
    with_output = with_output && graph->logits != RP_GRAPH_NO_TENSOR;
    *b = (struct rp_eval_buffers){
        .row = losses / t->model->eval_samples,
        .is_tokens = t->plan->data.target == RP_TARGET_TOKENS,
        .x = rp_mem_try(rp_tensor_bytes(&graph->tensor[graph->input].shape)),
        .y = rp_mem_try(rp_tensor_bytes(&graph->tensor[graph->target].shape)),
        .loss = RP_NEW_ARRAY(float, losses),
        .rank = RP_NEW_ARRAY(int32_t, losses)};
    if (with_output) b->output = rp_mem_try(rp_tensor_bytes(&graph->tensor[graph->logits].shape));
    if (b->x && b->y && (b->output || !with_output)) return RP_STATUS_OK;
    rp_eval_buffers_release(b);
    return rp_error_set(
        err, RP_STATUS_MEMORY,
        "no memory for an evaluation batch: lower train.micro_batch, or take a machine with more");
}

/* The first `bytes` of a result of the pass that has just run; a view lies where its owner does. */
static enum rp_status copy_result(struct rp_trainer *t, int tensor, void *to, size_t bytes,
                                  struct rp_error *err)
{
    const struct rp_graph *graph = &t->model->eval;
    while (graph->tensor[tensor].alias_of != RP_GRAPH_NO_TENSOR)
        tensor = graph->tensor[tensor].alias_of;
    return t->device->table->copy_out(t->device, to, t->arena + t->plan->eval_place.offset[tensor],
                                      bytes, err);
}

enum rp_status rp_evaluate_pass(struct rp_trainer *t, enum rp_split split, int64_t first, int64_t n,
                                struct rp_eval_buffers *b, struct rp_error *err)
{
    const struct rp_graph *graph = &t->model->eval;
    const struct rp_device_table *device = t->device->table;
    struct rp_pass pass = {.rows = {.samples_per_shard = t->model->eval_samples,
                                    .n_shards = 1,
                                    .n_samples = t->model->eval_samples},
                           .seed = t->spec->seed};
    rp_batch_fill_eval(t, split, first, n, b->x, b->y);
    RP_TRY(device->copy_in(t->device, t->eval.input, b->x,
                           rp_tensor_bytes(&graph->tensor[graph->input].shape), err));
    RP_TRY(device->copy_in(t->device, t->eval.target, b->y,
                           rp_tensor_bytes(&graph->tensor[graph->target].shape), err));
    for (int i = 0; i < graph->n_nodes; i++)
        RP_TRY(rp_trainer_run(t, &t->eval.call[i], &pass, err));
    RP_TRY(device->sync(t->device, err));
    if (b->output) {
        size_t bytes = rp_tensor_bytes(&graph->tensor[graph->logits].shape);
        RP_TRY(copy_result(t, graph->logits, b->output,
                           bytes / (size_t)t->model->eval_samples * (size_t)n, err));
    }
    size_t losses = (size_t)(n * b->row);
    RP_TRY(copy_result(t, graph->loss_rows, b->loss, losses * sizeof(float), err));
    if (graph->rank_rows == RP_GRAPH_NO_TENSOR) return RP_STATUS_OK;
    return copy_result(t, graph->rank_rows, b->rank, losses * sizeof(int32_t), err);
}

void rp_evaluation_begin(const struct rp_trainer *t, struct rp_evaluation *e)
{
    *e = (struct rp_evaluation){.classification = t->model->eval.rank_rows != RP_GRAPH_NO_TENSOR,
                                .text = t->plan->data.target == RP_TARGET_TOKENS,
                                .top5 = -1,
                                .bits_per_byte = -1};
}

void rp_evaluation_add(struct rp_evaluation *e, const struct rp_eval_buffers *b, int64_t n)
{
    const int32_t *target = b->is_tokens ? b->y : NULL;
    for (int64_t i = 0; i < n * b->row; i++) {
        if (target && target[i] < 0) continue;
        e->loss += (double)b->loss[i];
        e->values++;
        if (!e->classification) continue;
        e->first_right += b->rank[i] == 0;
        e->five_right += b->rank[i] < 5;
    }
    e->samples += n;
}

/* e^x from fixed operations alone, so that a metric is the same wherever it is made; to 1e-13 of
 * it. */
static double exponential(double x)
{
    double halvings = 0, sum = 1, term = 1;
    if (x > 700) return HUGE_VAL;
    for (; x > 0.5; halvings++) x /= 2;
    for (int i = 1; i < 20; i++) sum += term *= x / i;
    for (; halvings > 0; halvings--) sum *= sum;
    return sum;
}

/* `bytes` of the text that the targets stand for; 0: not known. */
static void end_text(struct rp_evaluation *e, double nats, int64_t bytes)
{
    static const double ln2 = 0x1.62e42fefa39efp-1;
    e->perplexity = exponential(e->loss);
    if (bytes > 0) e->bits_per_byte = nats / ln2 / (double)bytes;
}

void rp_evaluation_end(const struct rp_trainer *t, enum rp_split split, struct rp_evaluation *e)
{
    double nats = e->loss;
    if (e->values <= 0) return;
    e->loss /= (double)e->values * t->model->samples_per_loss_value;
    e->accuracy = (double)e->first_right / (double)e->values;
    if (e->classification && t->plan->data.n_classes > 5)
        e->top5 = (double)e->five_right / (double)e->values;
    if (e->text && !e->abandoned) end_text(e, nats, rp_data_target_bytes(t->data, split));
}

int rp_evaluation_metrics(const struct rp_evaluation *e,
                          struct rp_metric metrics[RP_EVALUATION_METRICS])
{
    int n = 0;
    metrics[n++] = (struct rp_metric){"loss", e->loss};
    if (e->text) metrics[n++] = (struct rp_metric){"perplexity", e->perplexity};
    if (e->text && e->bits_per_byte >= 0)
        metrics[n++] = (struct rp_metric){"bits_per_byte", e->bits_per_byte};
    if (e->classification) metrics[n++] = (struct rp_metric){"accuracy", e->accuracy};
    if (e->top5 >= 0) metrics[n++] = (struct rp_metric){"top5_accuracy", e->top5};
    return n;
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
