/* swiglu.c - silu of the gate times up, and its gradient, on the CPU. README.md chapter 8. */
#include "cpu/parallel.h"
#include "cpu/vec.h"

struct swiglu_job {
    const float *x, *dy; /* (rows, 2 F), (rows, F) */
    float *out;
    int64_t rows, half; /* F */
    int n_threads;
};

static void swiglu_row(const struct swiglu_job *job, int64_t r)
{
    int64_t n = job->half;
    const float *gate = job->x + 2 * r * n, *up = gate + n;
    for (int64_t i = 0; i < n; i += RP_VW) {
        int64_t lanes = n - i < RP_VW ? n - i : RP_VW;
        rp_vf a = rp_vload_lanes(gate + i, lanes), b = rp_vload_lanes(up + i, lanes);
        rp_vstore_lanes(job->out + r * n + i, a * rp_vsigmoid(a) * b, lanes);
    }
}

static void gradient_row(const struct swiglu_job *job, int64_t r)
{
    int64_t n = job->half;
    const float *gate = job->x + 2 * r * n, *up = gate + n, *dy = job->dy + r * n;
    float *out = job->out + 2 * r * n;
    for (int64_t i = 0; i < n; i += RP_VW) {
        int64_t lanes = n - i < RP_VW ? n - i : RP_VW;
        rp_vf a = rp_vload_lanes(gate + i, lanes), b = rp_vload_lanes(up + i, lanes);
        rp_vf g = rp_vload_lanes(dy + i, lanes);
        rp_vf e = rp_vexp(-rp_vabs(a)), w = rp_vset(1.0f) / (rp_vset(1.0f) + e), q = e * w;
        rp_vi negative = a < rp_vzero();
        rp_vf s = rp_vselect(negative, q, w), t = rp_vselect(negative, w, q);
        rp_vstore_lanes(out + i, g * b * (s * rp_vfma(a, t, rp_vset(1.0f))), lanes);
        rp_vstore_lanes(out + n + i, g * (a * s), lanes);
    }
}

static void swiglu_work(void *arg, int thread)
{
    const struct swiglu_job *job = arg;
    int64_t row, end;
    rp_pool_cut(job->rows, 1, thread, job->n_threads, &row, &end);
    for (; row < end; row++) {
        if (job->dy)
            gradient_row(job, row);
        else
            swiglu_row(job, row);
    }
}

RP_CPU_KERNEL(swiglu)
{
    (void)pass, (void)err;
    const struct rp_tensor *y = &call->out[0];
    struct swiglu_job job = {.x = call->in[0].data,
                             .out = y->data,
                             .rows = rp_tensor_rows(y),
                             .half = y->dims[y->n_dims - 1],
                             .n_threads = rp_threads_for(cpu, 8 * rp_tensor_elements(y))};
    rp_pool_run(cpu->pool, job.n_threads, swiglu_work, &job);
    return RP_STATUS_OK;
}

RP_CPU_KERNEL(swiglu_dx)
{
    (void)pass, (void)err;
    const struct rp_tensor *dy = &call->in[0];
    struct swiglu_job job = {.dy = dy->data,
                             .x = call->in[1].data,
                             .out = call->out[0].data,
                             .rows = rp_tensor_rows(dy),
                             .half = dy->dims[dy->n_dims - 1],
                             .n_threads = rp_threads_for(cpu, 10 * rp_tensor_elements(dy))};
    rp_pool_run(cpu->pool, job.n_threads, swiglu_work, &job);
    return RP_STATUS_OK;
}
