/* lm_loss_dxw.c - the gradient of the head of a language model and its loss on the CPU, block by
 * block of classes: the gradients of the block's logits for all rows, then what they add to dx and
 * their rows of dw. README.md chapter 10.
 *
 * A block is whole panels of the sum over the classes that dx is, so dx goes from block to block as
 * a sum of complete panels, and no chain is ever open. */
#include "lm_loss.h"

#include "cpu/classes.h"
#include "cpu/lm_head.h"
#include "cpu/parallel.h"

enum {
    ROOM = 1 << 22, /* floats of the gradients of a block: 16 MiB */
    PAD = 32,       /* rows a power of two apart would fall into the same sets of the caches */
};

struct head_job {
    const struct rp_op_call *call;
    const struct rp_pass *pass;
    float *d; /* (rows, stride): logits where they are made again, then gradients */
    int64_t rows, kept, stride; /* of the rows the last `kept` have their logits in the call */
    int64_t column, n_columns;  /* the block */
    int n_threads;
};

/* ---- gradients of logits --------------------------------------------------------------------- */

static void row_gradient(const struct head_job *job, int64_t row)
{
    const struct rp_op_call *call = job->call;
    int64_t classes = call->in[1].dims[0], made = job->rows - job->kept, n = job->n_columns;
    const float *stats = (const float *)call->in[3].data + 2 * row;
    float *d = job->d + row * job->stride;
    const float *x = d;
    if (row >= made) x = (const float *)call->in[4].data + (row - made) * classes + job->column;
    int64_t target = ((const int32_t *)call->in[2].data)[row];
    if (target == RP_LM_NO_TARGET) {
        memset(d, 0, (size_t)n * sizeof *d);
        return;
    }
    bool legal = target >= 0 && target < classes, here = legal && target >= job->column;
    int64_t at = target - job->column;
    float sum = legal ? stats[1] : rp_float_of_bits(0x7fc00000u), scale = job->pass->grad_scale;
    float smoothing = call->params.loss.label_smoothing, off = smoothing / (float)classes;
    float on = (1.0f - smoothing) + off;
    here = here && at < n;
    rp_vf x_at = rp_vset(here ? x[at] : 0.0f);
    for (int64_t i = 0; i < n; i += RP_VW) {
        int64_t lanes = n - i < RP_VW ? n - i : RP_VW;
        rp_vf p = rp_vexp(rp_vload_lanes(x + i, lanes) - rp_vset(stats[0])) / rp_vset(sum);
        rp_vstore_lanes(d + i, (p - rp_vset(off)) * rp_vset(scale), lanes);
    }
    if (here) d[at] = ((rp_vexp(x_at - rp_vset(stats[0])) / rp_vset(sum))[0] - on) * scale;
}

static void gradient_work(void *arg, int thread)
{
    const struct head_job *job = arg;
    int64_t row, end;
    rp_pool_cut(job->rows, 1, thread, job->n_threads, &row, &end);
    for (; row < end; row++) row_gradient(job, row);
}

/* ---- products -------------------------------------------------------------------------------- */

/* dx goes on from the classes before the block. */
static struct rp_gemm describe_dx(const struct head_job *job)
{
    const struct rp_tensor *w = &job->call->in[1];
    int64_t width = w->dims[1];
    return (struct rp_gemm){
        .m = job->rows,
        .n = width,
        .sum = {.shards = 1, .rows = w->dims[0], .first = job->column, .count = job->n_columns},
        .a = job->d,
        .b = (const float *)w->data + job->column * width,
        .c = job->call->out[0].data,
        .chain = job->call->out[0].data, /* none is ever open */
        .a_m = rp_gemm_plain(job->stride),
        .a_k = rp_gemm_plain(1),
        .b_n = rp_gemm_plain(1),
        .b_k = rp_gemm_plain(width),
        .c_m = rp_gemm_plain(width),
        .c_n = rp_gemm_plain(1),
    };
}

/* Rows [column, column + n_columns) of dw, for the rows of x of the pass. */
static struct rp_gemm describe_dw(const struct head_job *job, struct rp_gemm_sum sum)
{
    const struct rp_op_call *call = job->call;
    int64_t width = call->in[1].dims[1];
    float *dw = call->out[1].data, *chain = call->out[2].data;
    return (struct rp_gemm){
        .m = job->n_columns,
        .n = width,
        .sum = sum,
        .a = job->d,
        .b = call->in[0].data,
        .c = dw ? dw + job->column * width : NULL,
        .chain = chain ? chain + job->column * width : NULL,
        .a_m = rp_gemm_plain(1),
        .a_k = rp_gemm_plain(job->stride),
        .b_n = rp_gemm_plain(1),
        .b_k = rp_gemm_plain(width),
        .c_m = rp_gemm_plain(width),
        .c_n = rp_gemm_plain(1),
    };
}

static struct head_job begin(const struct rp_op_call *call)
{
    int64_t columns = rp_lm_columns(call, ROOM);
    return (struct head_job){.call = call,
                             .rows = rp_tensor_rows(&call->in[0]),
                             .kept = call->in[4].dims[0],
                             .stride = (columns + PAD - 1) / PAD * PAD + PAD,
                             .n_columns = columns};
}

static size_t gradient_bytes(const struct head_job *job)
{
    return RP_GEMM_ROUND((size_t)(job->rows * job->stride) * sizeof(float));
}

static void run_block(struct rp_cpu *cpu, struct head_job *job, unsigned char *scratch)
{
    const struct rp_op_call *call = job->call;
    int64_t made = job->rows - job->kept;
    if (made > 0) {
        struct rp_gemm gemm =
            rp_lm_head(call, 0, made, job->column, job->n_columns, job->d, job->stride);
        RP_ISA_NAME(rp_gemm_run)(cpu, &gemm, scratch);
    }
    job->n_threads = rp_threads_for(cpu, 8 * job->rows * job->n_columns);
    rp_pool_run(cpu->pool, job->n_threads, gradient_work, job);
    if (call->out[0].data) {
        struct rp_gemm gemm = describe_dx(job);
        RP_ISA_NAME(rp_gemm_run)(cpu, &gemm, scratch);
    }
    if (call->out[1].data) {
        int64_t per_sample = job->rows / job->pass->rows.n_samples;
        struct rp_gemm gemm = describe_dw(job, rp_gemm_cut(&job->pass->rows, per_sample));
        RP_ISA_NAME(rp_gemm_run)(cpu, &gemm, scratch);
    }
}

RP_CPU_KERNEL(lm_loss_dxw)
{
    (void)err;
    struct head_job job = begin(call);
    int64_t classes = call->in[1].dims[0], columns = job.n_columns;
    job.pass = pass;
    job.d = (float *)cpu->scratch;
    for (; job.column < classes; job.column += columns) {
        if (classes - job.column < columns) job.n_columns = classes - job.column;
        run_block(cpu, &job, cpu->scratch + gradient_bytes(&job));
    }
    return RP_STATUS_OK;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* What the products of one block need. */
static size_t block_bytes(const struct head_job *job, int n_threads)
{
    struct rp_gemm head = rp_lm_head(job->call, 0, 1, 0, job->n_columns, NULL, job->stride);
    struct rp_gemm dx = describe_dx(job), dw = describe_dw(job, rp_gemm_whole(job->rows));
    size_t bytes = RP_ISA_NAME(rp_gemm_scratch)(&head, n_threads);
    bytes = larger(bytes, RP_ISA_NAME(rp_gemm_scratch)(&dx, n_threads));
    return larger(bytes, RP_ISA_NAME(rp_gemm_scratch)(&dw, n_threads));
}

size_t RP_ISA_NAME(rp_cpu_scratch_lm_loss_dxw)(const struct rp_op_call *call, int n_threads)
{
    struct head_job job = begin(call);
    size_t bytes = block_bytes(&job, n_threads);
    int64_t last = call->in[1].dims[0] % job.n_columns;
    size_t gradients = gradient_bytes(&job);
    if (last > 0) {
        job.n_columns = last;
        bytes = larger(bytes, block_bytes(&job, n_threads));
    }
    return gradients + bytes;
}
