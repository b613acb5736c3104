/* lm_loss_dxw.cu - the gradient of the head of a language model and its loss, block by block of
 * classes: the gradients of the block's logits for all rows, then what they add to dx and their
 * rows of dw. README.md chapter 10.
 *
 * A block is whole panels of the sum over the classes that dx is, so dx goes from block to block as
 * a sum of complete panels, and no chain is ever open. */
#include "cuda/lm_head.cuh"

enum {
    ROOM = 1 << 26, /* floats of the gradients of a block: 256 MiB */
    THREADS = 256,
    EACH = 4, /* gradients that a thread makes */
    ROUND = 32
};

struct head_job {
    float *d;            /* (rows, stride): logits where they are made again, then gradients */
    const float *logits; /* (rows - made, classes) */
    const float *stats;  /* (rows, 2) */
    const int32_t *target;
    int64_t made, stride, column;  /* the block begins at column */
    int classes, n_columns, parts; /* blocks of threads for each row */
    float smoothing;
    const struct rp_pass *pass;
};

/* ---- gradients of logits --------------------------------------------------------------------- */

static __global__ void __launch_bounds__(THREADS) lm_gradients(struct head_job job)
{
    int64_t row = blockIdx.x / (unsigned)job.parts;
    int part = (int)(blockIdx.x % (unsigned)job.parts);
    float *d = job.d + row * job.stride;
    const float *x = d;
    if (row >= job.made) x = job.logits + (row - job.made) * job.classes + job.column;
    int target = job.target[row];
    int64_t at = target - job.column;
    float maximum = job.stats[2 * row], sum = job.stats[2 * row + 1];
    float scale = job.pass->grad_scale;
    float off = job.smoothing / (float)job.classes, on = (1.0f - job.smoothing) + off;
    if (target < 0 || target >= job.classes) sum = rp_float_of_bits(0x7fc00000u);
    RP_UNROLL
    for (int i = 0; i < EACH; i++) {
        int j = part * THREADS * EACH + i * THREADS + (int)threadIdx.x;
        if (j >= job.n_columns) continue;
        float p = rp_exp(x[j] - maximum) / sum;
        float gradient = (p - (j == at ? on : off)) * scale;
        d[j] = target == RP_LM_NO_TARGET ? 0.0f : gradient;
    }
}

/* ---- products -------------------------------------------------------------------------------- */

/* dx goes on from the classes before the block. */
static enum rp_status run_dx(struct rp_cuda *cuda, const struct rp_op_call *call,
                             const struct head_job *job, struct rp_error *err)
{
    const struct rp_tensor *w = &call->in[1];
    int64_t width = w->dims[1];
    const float *from = (const float *)w->data + job->column * width;
    struct rp_gemm gemm = {};
    gemm.m = rp_tensor_rows(&call->in[0]), gemm.n = width, gemm.groups = 1;
    gemm.sum.shards = 1, gemm.sum.rows = job->classes;
    gemm.sum.first = job->column, gemm.sum.count = job->n_columns;
    gemm.c = rp_gemm_out_plain((float *)call->out[0].data, width, width, 0);
    struct rp_operands<rp_source_matrix<true>, rp_source_matrix<false>, true, false> of = {
        {job->d, (int)job->stride, 0}, { from, (int)width, 0 }
    };
    bool narrow = !rp_gemm_aligned(from) || width % 4 != 0;
    return rp_gemm_run(cuda, gemm, of, narrow, err);
}

/* Rows of dw: of the columns [first, first + n) of the block. */
static enum rp_status run_dw(struct rp_cuda *cuda, const struct rp_op_call *call,
                             const struct rp_rows *rows, const struct head_job *job, int64_t first,
                             int64_t n, struct rp_error *err)
{
    const struct rp_tensor *x = &call->in[0];
    int64_t width = call->in[1].dims[1], at = (job->column + first) * width;
    float *chain = (float *)call->out[2].data;
    struct rp_gemm gemm = {};
    gemm.m = n, gemm.n = width, gemm.groups = 1;
    gemm.sum = rp_gemm_cut(rows, rp_tensor_rows(x) / rows->n_samples);
    gemm.c = rp_gemm_out_plain((float *)call->out[1].data + at, width, width, 0);
    gemm.chain = chain ? chain + at : NULL;
    struct rp_operands<rp_source_matrix<false>, rp_source_matrix<false>, false, false> of = {
        {job->d + first, (int)job->stride, 0}, { (const float *)x->data, (int)width, 0 }
    };
    bool narrow = !rp_gemm_aligned(x->data) || width % 4 != 0 || n % 4 != 0;
    return rp_gemm_run(cuda, gemm, of, narrow, err);
}

static enum rp_status run_block(struct rp_cuda *cuda, struct rp_cuda *behind,
                                const struct rp_op_call *call, const struct rp_pass *pass,
                                struct head_job *job, struct rp_error *err)
{
    int64_t rows = rp_tensor_rows(&call->in[0]), whole = job->n_columns / 4 * 4;
    job->parts = (job->n_columns + THREADS * EACH - 1) / (THREADS * EACH);
    if (job->made > 0)
        RP_TRY(rp_lm_head(behind, call, 0, job->made, job->column, job->n_columns, job->d,
                          job->stride, err));
    RP_LAUNCH(cuda, lm_gradients, (unsigned)(rows * job->parts), THREADS, 0, *job);
    if (call->out[0].data) RP_TRY(run_dx(behind, call, job, err));
    if (!call->out[1].data) return RP_STATUS_OK;
    /* Loads of four columns for as many as there are. */
    RP_TRY(run_dw(behind, call, &pass->rows, job, 0, whole, err));
    return run_dw(behind, call, &pass->rows, job, whole, job->n_columns - whole, err);
}

/* ---- entry ----------------------------------------------------------------------------------- */

static int64_t stride_of(int64_t columns)
{
    return (columns + ROUND - 1) / ROUND * ROUND;
}

RP_CUDA_KERNEL(lm_loss_dxw)
{
    int64_t rows = rp_tensor_rows(&call->in[0]), classes = call->in[1].dims[0];
    int64_t columns = rp_lm_columns(call, ROOM);
    struct head_job job = {};
    job.d = (float *)cuda->scratch;
    job.logits = (const float *)call->in[4].data;
    job.stats = (const float *)call->in[3].data;
    job.target = (const int32_t *)call->in[2].data;
    job.made = rows - call->in[4].dims[0];
    job.stride = stride_of(columns);
    job.classes = (int)classes;
    job.smoothing = call->params.loss.label_smoothing;
    job.pass = rp_cuda_pass(cuda, pass);
    struct rp_cuda behind = rp_lm_device(cuda, rp_lm_bytes(rows * job.stride));
    for (; job.column < classes; job.column += columns) {
        job.n_columns = (int)(classes - job.column < columns ? classes - job.column : columns);
        RP_TRY(run_block(cuda, &behind, call, pass, &job, err));
    }
    return RP_STATUS_OK;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t rp_cuda_scratch_lm_loss_dxw(const struct rp_op_call *call)
{
    int64_t rows = rp_tensor_rows(&call->in[0]), width = call->in[1].dims[1];
    int64_t classes = call->in[1].dims[0], columns = rp_lm_columns(call, ROOM);
    int64_t made = rows - call->in[4].dims[0];
    size_t bytes = larger(rp_gemm_scratch(rows, width, 1, columns, false),
                          rp_gemm_scratch(columns, width, 1, rows, true));
    if (made > 0) bytes = larger(bytes, rp_gemm_scratch(made, columns, 1, width, false));
    if (classes % columns > 0) /* the last block, and columns left over from loads of four */
        bytes = larger(bytes, rp_gemm_scratch(classes % columns, width, 1, rows, true));
    return rp_lm_bytes(rows * stride_of(columns)) + bytes;
}
