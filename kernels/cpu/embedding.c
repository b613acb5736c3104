/* embedding.c - rows of a table by token, and the gradient of positions, on the CPU. README.md
 * chapter 6. */
#include "cpu/parallel.h"
#include "cpu/vec.h"
#include "numerics.h"

struct embedding_job {
    const int32_t *token; /* (rows) */
    const float *w, *pos; /* (V, C); (P, C) from first_token on, or NULL */
    float *y;             /* (rows, C) */
    int64_t rows, n_cols, n_ids, per_sample;
    int n_threads;
};

static void embed_row(const struct embedding_job *job, int64_t row)
{
    int64_t n = job->n_cols, token = job->token[row];
    bool known = token >= 0 && token < job->n_ids;
    const float *w = known ? job->w + token * n : NULL;
    const float *pos = job->pos ? job->pos + row % job->per_sample * n : NULL;
    float *y = job->y + row * n;
    for (int64_t i = 0; i < n; i += RP_VW) {
        int64_t lanes = n - i < RP_VW ? n - i : RP_VW;
        rp_vf v = w ? rp_vload_lanes(w + i, lanes) : rp_vset(rp_float_of_bits(0x7fc00000u));
        if (pos) v += rp_vload_lanes(pos + i, lanes);
        rp_vstore_lanes(y + i, v, lanes);
    }
}

static void embed_work(void *arg, int thread)
{
    const struct embedding_job *job = arg;
    int64_t row, end;
    rp_pool_cut(job->rows, 1, thread, job->n_threads, &row, &end);
    for (; row < end; row++) embed_row(job, row);
}

RP_CPU_KERNEL(embedding)
{
    (void)err;
    const struct rp_tensor *tokens = &call->in[0], *w = &call->in[1], *pos = &call->in[2];
    struct embedding_job job = {.token = tokens->data,
                                .w = w->data,
                                .y = call->out[0].data,
                                .rows = rp_tensor_elements(tokens),
                                .n_cols = w->dims[1],
                                .n_ids = w->dims[0],
                                .per_sample = tokens->dims[1],
                                .n_threads =
                                    rp_threads_for(cpu, rp_tensor_elements(&call->out[0]))};
    if (pos->data && pass->first_token + job.per_sample > pos->dims[0])
        return rp_error_set(err, RP_STATUS_INTERNAL, "embedding: tokens past the last position");
    if (pos->data) job.pos = (const float *)pos->data + pass->first_token * job.n_cols;
    rp_pool_run(cpu->pool, job.n_threads, embed_work, &job);
    return RP_STATUS_OK;
}

/* ---- the gradient of positions: sum_rows of (samples, T C) ----------------------------------- */

static struct rp_op_call flat_call(const struct rp_op_call *call)
{
    struct rp_op_call flat = *call;
    flat.op = RP_OP_sum_rows;
    flat.in[0].n_dims = 2;
    flat.in[0].dims[1] *= flat.in[0].dims[2];
    for (int i = 0; i < 2; i++) {
        flat.out[i].n_dims = 1;
        flat.out[i].dims[0] = flat.in[0].dims[1];
    }
    return flat;
}

size_t RP_ISA_NAME(rp_cpu_scratch_position_dw)(const struct rp_op_call *call, int n_threads)
{
    struct rp_op_call flat = flat_call(call);
    return RP_ISA_NAME(rp_cpu_scratch_sum_rows)(&flat, n_threads);
}

RP_CPU_KERNEL(position_dw)
{
    struct rp_op_call flat = flat_call(call);
    return RP_ISA_NAME(rp_cpu_sum_rows)(cpu, &flat, pass, err);
}
