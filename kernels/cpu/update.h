/* update.h - private to kernels/cpu: what the optimizer updates share.
 *
 * An update is one function over elements [begin, end) of a tensor. Threads take whole chunks of
 * 4096 elements; each chunk is updated and then, still in the cache, enters the digest. */
#ifndef RP_CPU_UPDATE_H
#define RP_CPU_UPDATE_H

#include <stdatomic.h>

#include "cpu/cpu_int.h"
#include "cpu/digest.h"
#include "cpu/parallel.h"

struct rp_update_job;
typedef void (*rp_update_span)(const struct rp_update_job *job, int64_t begin, int64_t end);

struct rp_update_job {
    const struct rp_op_call *call;
    rp_update_span span;
    int64_t n;
    int n_parts;
    float factor; /* of struct rp_control */
    bool apply;
    atomic_uint_fast64_t digest; /* integer sums: any order */
};

static inline void rp_update_work(void *arg, int part)
{
    struct rp_update_job *job = arg;
    const struct rp_op_call *call = job->call;
    const float *kept = job->apply ? call->out[0].data : call->in[0].data;
    uint32_t tensor_number = call->params.optim.tensor_number;
    int64_t first_chunk = call->params.optim.first_chunk;
    struct rp_digest_keys keys;
    uint64_t digest = 0;
    int64_t begin, end;
    rp_pool_cut(job->n, RP_DIGEST_CHUNK, part, job->n_parts, &begin, &end);
    rp_digest_keys_make(&keys, end - begin);
    for (int64_t at = begin; at < end; at += RP_DIGEST_CHUNK) {
        int64_t stop = at + RP_DIGEST_CHUNK < end ? at + RP_DIGEST_CHUNK : end;
        if (job->apply) job->span(job, at, stop);
        digest += rp_digest_chunk(kept + at, stop - at, &keys, tensor_number,
                                  first_chunk + at / RP_DIGEST_CHUNK);
    }
    atomic_fetch_add(&job->digest, digest);
}

/* Runs `span` over the tensor; n_states is how many state tensors stand between g and control. */
static inline void rp_update_run(struct rp_cpu *cpu, const struct rp_op_call *call, int n_states,
                                 rp_update_span span)
{
    struct rp_control control;
    memcpy(&control, call->in[2 + n_states].data, sizeof(control));
    struct rp_update_job job = {.call = call,
                                .span = span,
                                .n = rp_tensor_elements(&call->in[0]),
                                .factor = control.factor,
                                .apply = control.apply != 0};
    job.n_parts = rp_parts_for(cpu, job.n);
    rp_pool_run(cpu->pool, job.n_parts, rp_update_work, &job);
    uint64_t *digest = call->out[1 + n_states].data;
    if (digest) *digest += atomic_load(&job.digest);
}

#endif
