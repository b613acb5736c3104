/* digest.c - the digest of one tensor on the CPU. README.md chapter 12. */
#include <stdatomic.h>

#include "cpu/digest.h"
#include "cpu/parallel.h"

struct digest_job {
    const float *x;
    int64_t n;
    int n_threads;
    uint32_t tensor_number, first_chunk;
    atomic_uint_fast64_t sum;
};

static void digest_work(void *arg, int thread)
{
    struct digest_job *job = arg;
    int64_t begin, end;
    rp_pool_cut(job->n, RP_DIGEST_CHUNK, thread, job->n_threads, &begin, &end);
    atomic_fetch_add(&job->sum,
                     rp_digest_range(job->x, begin, end, job->tensor_number, job->first_chunk));
}

RP_CPU_KERNEL(digest)
{
    (void)pass;
    (void)err;
    struct digest_job job = {.x = call->in[0].data,
                             .n = rp_tensor_elements(&call->in[0]),
                             .tensor_number = call->params.digest.tensor_number,
                             .first_chunk = call->params.digest.first_chunk};
    job.n_threads = rp_threads_for(cpu, job.n);
    rp_pool_run(cpu->pool, job.n_threads, digest_work, &job);
    uint64_t *digest = call->out[0].data;
    *digest += atomic_load(&job.sum);
    return RP_STATUS_OK;
}
