/* grad_norm.c - the fp64 sum of squares of each chunk of 4096 elements. README.md chapter 11. */
#include "cpu/digest.h"
#include "cpu/parallel.h"
#include "row.h"

static double chunk_squares(const float *x, int64_t n)
{
    double lane[RP_ROW_LANES] = {0};
    int64_t i = 0;
    for (; i + RP_ROW_LANES <= n; i += RP_ROW_LANES)
        for (int j = 0; j < RP_ROW_LANES; j++) lane[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i + j < n; j++) lane[j] += (double)x[i + j] * (double)x[i + j];
    for (int half = RP_ROW_LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0] == lane[0] ? lane[0] : (double)__builtin_nan("");
}

struct grad_norm_job {
    const float *g;
    double *chunks;
    int64_t n;
    int n_parts;
};

static void grad_norm_work(void *arg, int part)
{
    const struct grad_norm_job *job = arg;
    int64_t begin, end;
    rp_pool_cut(job->n, RP_DIGEST_CHUNK, part, job->n_parts, &begin, &end);
    for (int64_t at = begin; at < end; at += RP_DIGEST_CHUNK) {
        int64_t n = end - at < RP_DIGEST_CHUNK ? end - at : RP_DIGEST_CHUNK;
        job->chunks[at / RP_DIGEST_CHUNK] = chunk_squares(job->g + at, n);
    }
}

RP_CPU_KERNEL(grad_norm)
{
    (void)pass;
    (void)err;
    struct grad_norm_job job = {
        .g = call->in[0].data, .chunks = call->out[0].data, .n = rp_tensor_elements(&call->in[0])};
    job.n_parts = rp_parts_for(cpu, job.n);
    rp_pool_run(cpu->pool, job.n_parts, grad_norm_work, &job);
    return RP_STATUS_OK;
}
