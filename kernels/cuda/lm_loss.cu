/* lm_loss.cu - the head of a language model and its loss: the product of some rows, then their
 * losses. README.md chapter 10. */
#include "cuda/classes.cuh"
#include "cuda/lm_head.cuh"

/* Where nobody wants the logits: 256 MiB of them, or the rows of a tile. */
enum { FLOATS_UNKEPT = 1 << 26, ROWS_LEAST = 128 };

static int64_t rows_at_once(const struct rp_op_call *call)
{
    int64_t rows = rp_tensor_rows(&call->in[0]), most = FLOATS_UNKEPT / call->in[1].dims[0];
    if (call->out[3].data) return call->out[3].dims[0];
    if (most < ROWS_LEAST) most = ROWS_LEAST;
    return rows < most ? rows : most;
}

static size_t logits_bytes(const struct rp_op_call *call)
{
    return call->out[3].data ? 0 : rp_lm_bytes(rows_at_once(call) * call->in[1].dims[0]);
}

static struct rp_classes_job job_of(const struct rp_op_call *call, int64_t row, int64_t rows,
                                    const float *logits)
{
    struct rp_classes_job job = {};
    job.logits = logits;
    job.target = (const int32_t *)call->in[2].data + row;
    job.loss = (float *)call->out[0].data + row;
    if (call->out[1].data) job.rank = (int32_t *)call->out[1].data + row;
    if (call->out[2].data) job.stats = (float *)call->out[2].data + 2 * row;
    job.rows = rows;
    job.n = (int)call->in[1].dims[0];
    job.smoothing = call->params.loss.label_smoothing;
    job.gaps = true;
    return job;
}

RP_CUDA_KERNEL(lm_loss)
{
    (void)pass;
    int64_t rows = rp_tensor_rows(&call->in[0]), n = call->in[1].dims[0];
    int64_t most = rows_at_once(call), count = rows % most ? rows % most : most;
    float *logits = (float *)(call->out[3].data ? call->out[3].data : cuda->scratch);
    struct rp_cuda behind = rp_lm_device(cuda, logits_bytes(call));
    for (int64_t row = 0; row < rows; row += count, count = most) { /* the last rows stay */
        RP_TRY(rp_lm_head(&behind, call, row, count, 0, n, logits, n, err));
        struct rp_classes_job job = job_of(call, row, count, logits);
        struct rp_row_plan plan = rp_classes_plan(cuda, job);
        RP_CLASSES_LAUNCH(cuda, plan, rp_classes_rows, rp_classes_kept<false>, job);
    }
    return RP_STATUS_OK;
}

size_t rp_cuda_scratch_lm_loss(const struct rp_op_call *call)
{
    const struct rp_tensor *w = &call->in[1];
    return logits_bytes(call) +
           rp_gemm_scratch(rows_at_once(call), w->dims[0], 1, w->dims[1], false);
}
