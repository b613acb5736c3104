/* mse.c - the squared error and its gradient on the CPU. README.md chapter 10. */
#include "cpu/elementwise.h"
#include "cpu/rsum.h"

struct mse_job {
    const float *y, *target; /* (rows, C) */
    float *out;
    int64_t rows, n_cols;
    float scale;
    int n_threads;
};

static struct mse_job mse_begin(struct rp_cpu *cpu, const struct rp_op_call *call)
{
    const struct rp_tensor *y = &call->in[0];
    return (struct mse_job){.y = y->data,
                            .target = call->in[1].data,
                            .out = call->out[0].data,
                            .rows = rp_tensor_rows(y),
                            .n_cols = y->dims[y->n_dims - 1],
                            .n_threads = rp_threads_for(cpu, 2 * rp_tensor_elements(y))};
}

struct mse_row {
    const float *y, *target;
};

RP_VEC_FN rp_vf mse_term(const void *arg, int64_t i, int64_t lanes, rp_vf acc)
{
    const struct mse_row *row = arg;
    rp_vf d = rp_vload_lanes(row->y + i, lanes) - rp_vload_lanes(row->target + i, lanes);
    return rp_vfma(d, d, acc);
}

static void mse_work(void *arg, int thread)
{
    const struct mse_job *job = arg;
    int64_t row, end;
    rp_pool_cut(job->rows, 1, thread, job->n_threads, &row, &end);
    for (; row < end; row++) {
        struct mse_row one = {job->y + row * job->n_cols, job->target + row * job->n_cols};
        job->out[row] = rp_rsum(job->n_cols, mse_term, &one);
    }
}

RP_CPU_KERNEL(mse)
{
    (void)pass, (void)err;
    struct mse_job job = mse_begin(cpu, call);
    rp_pool_run(cpu->pool, job.n_threads, mse_work, &job);
    return RP_STATUS_OK;
}

static void mse_dx_work(void *arg, int thread)
{
    const struct mse_job *job = arg;
    int64_t i, end;
    rp_vf scale = rp_vset(job->scale);
    rp_pool_cut(job->rows * job->n_cols, 1024, thread, job->n_threads, &i, &end);
    for (; i < end; i += RP_VW) {
        int64_t lanes = end - i < RP_VW ? end - i : RP_VW;
        rp_vf d = rp_vload_lanes(job->y + i, lanes) - rp_vload_lanes(job->target + i, lanes);
        rp_vstore_lanes(job->out + i, (d + d) * scale, lanes);
    }
}

RP_CPU_KERNEL(mse_dx)
{
    (void)err;
    struct mse_job job = mse_begin(cpu, call);
    job.scale = pass->grad_scale;
    rp_pool_run(cpu->pool, job.n_threads, mse_dx_work, &job);
    return RP_STATUS_OK;
}
