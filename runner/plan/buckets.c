/* buckets.c - gradients are exchanged in buckets while backward goes on: which parameters are in
 * one, who owns what of it, and when it is complete (DESIGN 8). A function of the order and the
 * sizes of the parameters alone, and place: it changes no bit. */
#include "plan/plan_int.h"

#include "base/mem.h"
#include "base/sys.h"

#include <stdlib.h>
#include <string.h>

/* As PyTorch's DistributedDataParallel has it (Li et al., PyTorch Distributed, VLDB 2020): large
 * enough for the bandwidth, small enough to begin early. */
static const uint64_t bucket_bytes = (uint64_t)25 << 20;

static uint64_t tensor_bytes(const struct rp_plan_owners *o, const struct rp_model *model, int k)
{
    return rp_tensor_bytes(&model->kept[o->order[k]].shape);
}

/* ---- which parameters ------------------------------------------------------------------------ */

static enum rp_status read_size(const struct rp_plan_owners *o, uint64_t *bytes,
                                struct rp_error *err)
{
    const char *text = rp_sys_env("REPRISE_BUCKET_BYTES");
    char *end = NULL;
    *bytes = o->ranks > 1 ? bucket_bytes : UINT64_MAX;
    if (!text || !text[0] || o->ranks == 1) return RP_STATUS_OK;
    *bytes = strtoull(text, &end, 10);
    if (*bytes > 0 && *end == '\0' && text[0] >= '0' && text[0] <= '9') return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "the variable REPRISE_BUCKET_BYTES is \"%s\", not a number of bytes above "
                        "zero: after so many the ranks begin to exchange gradients",
                        text);
}

/* From the back, where backward begins: so it is the last one to be exchanged, which nothing hides,
 * that is not full. */
static void cut_range(struct rp_plan_owners *o, const struct rp_model *model, int first, int end,
                      bool whole, uint64_t size)
{
    uint64_t bytes = 0;
    for (int k = end; k-- > first;) {
        bytes += tensor_bytes(o, model, k);
        bool full = bytes >= size && (!whole || end - k >= o->ranks);
        if (!full && k > first) continue;
        o->bucket[o->n_buckets++] =
            (struct rp_plan_bucket){.first = k, .n = end - k, .whole = whole};
        end = k;
        bytes = 0;
    }
}

static void make_buckets(struct rp_plan_owners *o, const struct rp_model *model, int n,
                         uint64_t size)
{
    int matrices = 0; /* under muon, behind all others */
    while (o->ranks > 1 && matrices < n && model->kept[o->order[n - 1 - matrices]].by_muon)
        matrices++;
    o->bucket = RP_NEW_ARRAY(struct rp_plan_bucket, n + 1);
    o->bucket_of = RP_NEW_ARRAY(int, model->n_kept + 1);
    cut_range(o, model, 0, n - matrices, false, size);
    cut_range(o, model, n - matrices, n, true, size);
    for (int j = 0; j < o->n_buckets; j++)
        for (int k = 0; k < o->bucket[j].n; k++) o->bucket_of[o->order[o->bucket[j].first + k]] = j;
}

/* ---- who owns what --------------------------------------------------------------------------- */

/* The chunk behind the last of parameter `order[k - 1]`. */
static int64_t chunk_of(const struct rp_plan_owners *o, int k, int n)
{
    return k < n ? o->first_chunk[o->order[k]] : o->n_chunks;
}

static void cut_chunks(const struct rp_plan_owners *o, struct rp_plan_bucket *bucket, int n_all)
{
    int64_t first = chunk_of(o, bucket->first, n_all);
    int64_t n = chunk_of(o, bucket->first + bucket->n, n_all) - first;
    for (int r = 0; r <= o->ranks; r++) bucket->chunk[r] = first + n * r / o->ranks;
}

/* What the products of muon cost for a matrix, in proportion. */
static double muon_cost(const struct rp_model_tensor *matrix)
{
    double rows = (double)matrix->shape.dims[0], n = (double)rp_tensor_elements(&matrix->shape);
    double columns = n / rows, cost = 0, begin = 0;
    for (int i = 0; i < matrix->n_joined; begin = (double)matrix->joined_end[i++]) {
        double part = (double)matrix->joined_end[i] - begin;
        cost += part * columns * (part < columns ? part : columns);
    }
    return matrix->n_joined ? cost : n * (rows < columns ? rows : columns);
}

/* A rank is to have an equal share of the cost of all buckets so far: its part of this one begins
 * at the matrix nearest to where those before it have theirs. load (ranks): of earlier buckets;
 * `*all`: the sum. */
static void cut_matrices(const struct rp_plan_owners *o, const struct rp_model *model,
                         struct rp_plan_bucket *bucket, int n_all, double *load, double *all)
{
    double begins = 0, before = 0;
    int k = bucket->first, end = bucket->first + bucket->n;
    for (int j = k; j < end; j++) *all += muon_cost(&model->kept[o->order[j]]);
    for (int r = 0; r < o->ranks; r++) {
        double share = *all / o->ranks - load[r];
        bucket->chunk[r] = chunk_of(o, k, n_all);
        if (share > 0) begins += share;
        for (; k < end; k++) {
            double cost = muon_cost(&model->kept[o->order[k]]);
            if (r + 1 < o->ranks && before + cost / 2 > begins) break;
            before += cost;
            load[r] += cost;
        }
    }
    bucket->chunk[o->ranks] = chunk_of(o, end, n_all);
}

/* The norm's chunks lie by owner, so that each gives one piece. */
static void place_norm(struct rp_plan_owners *o)
{
    int64_t at = 0;
    o->norm = RP_NEW_ARRAY(uint64_t, o->ranks + 1);
    for (int r = 0; r < o->ranks; r++) {
        for (int j = 0; j < o->n_buckets; j++) {
            o->bucket[j].norm[r] = at;
            at += o->bucket[j].chunk[r + 1] - o->bucket[j].chunk[r];
        }
        o->norm[r + 1] = (uint64_t)at * sizeof(double);
    }
    o->reordered = o->n_buckets > 1;
}

enum rp_status rp_plan_cut_buckets(struct rp_plan_owners *o, const struct rp_model *model,
                                   struct rp_error *err)
{
    uint64_t size = 0;
    double all = 0;
    int n = 0;
    RP_TRY(read_size(o, &size, err));
    for (int i = 0; i < model->n_kept; i++) n += rp_model_is_trained(&model->kept[i]);
    make_buckets(o, model, n, size);
    double *load = RP_NEW_ARRAY(double, o->ranks);
    for (int j = 0; j < o->n_buckets; j++) {
        struct rp_plan_bucket *bucket = &o->bucket[j];
        bucket->chunk = RP_NEW_ARRAY(int64_t, o->ranks + 1);
        bucket->norm = RP_NEW_ARRAY(int64_t, o->ranks);
        if (bucket->whole)
            cut_matrices(o, model, bucket, n, load, &all);
        else
            cut_chunks(o, bucket, n);
    }
    rp_mem_free(load);
    place_norm(o);
    return RP_STATUS_OK;
}

/* ---- when it is complete --------------------------------------------------------------------- */

static void add_exchange(struct rp_plan_owners *o, int after, const uint64_t *border)
{
    int at = o->n_exchanges;
    if (border[0] == border[o->ranks]) return;
    for (; at > 0 && o->exchange[at - 1].after > after; at--) o->exchange[at] = o->exchange[at - 1];
    o->exchange[at] = (struct rp_plan_exchange){after, border};
    o->n_exchanges++;
}

void rp_plan_set_exchanges(struct rp_plan_owners *o, const struct rp_model *model)
{
    const struct rp_graph *graph = &model->train;
    if (o->ranks == 1) return;
    o->exchange = RP_NEW_ARRAY(struct rp_plan_exchange, 2 * o->n_buckets + 1);
    for (int j = 0; j < o->n_buckets; j++) {
        const struct rp_plan_bucket *bucket = &o->bucket[j];
        int after = -1, second = -1;
        for (int k = bucket->first; k < bucket->first + bucket->n; k++) {
            const struct rp_model_tensor *kept = &model->kept[o->order[k]];
            const struct rp_graph_tensor *gradient = &graph->tensor[kept->grad_tensor];
            if (gradient->last_node > after) after = gradient->last_node;
            if (kept->grad_tensor2 == RP_GRAPH_NO_TENSOR) continue;
            gradient = &graph->tensor[kept->grad_tensor2];
            if (gradient->last_node > second) second = gradient->last_node;
        }
        add_exchange(o, second, bucket->second);
        add_exchange(o, after, bucket->gradient);
    }
}

struct rp_sha256 rp_plan_exchange_digest(const struct rp_plan *plan)
{
    const struct rp_plan_owners *o = &plan->owners;
    struct rp_text text = {0};
    for (int j = 0; j < o->n_exchanges; j++) {
        rp_text_add(&text, "after %d:", o->exchange[j].after);
        for (int r = 0; r <= o->ranks; r++)
            rp_text_add(&text, " %llu", (unsigned long long)o->exchange[j].border[r]);
        rp_text_add(&text, "\n");
    }
    struct rp_sha256 digest = rp_sha256_of(rp_text_get(&text), text.length);
    rp_text_release(&text);
    return digest;
}

void rp_plan_release_buckets(struct rp_plan_owners *o)
{
    for (int j = 0; j < o->n_buckets; j++) {
        rp_mem_free(o->bucket[j].chunk);
        rp_mem_free(o->bucket[j].gradient);
        rp_mem_free(o->bucket[j].second);
        rp_mem_free(o->bucket[j].kept);
        rp_mem_free(o->bucket[j].norm);
    }
    rp_mem_free(o->exchange);
    rp_mem_free(o->norm);
    rp_mem_free(o->bucket_of);
    rp_mem_free(o->bucket);
}
