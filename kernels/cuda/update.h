/* update.h - private to kernels/cuda: what the updates of a kept tensor share.
 *
 * A block takes a chunk of 4096 elements: it updates them and enters what it wrote into the digest
 * while it is in registers. A rule is a function object: prepare() reads the scalars of the step
 * from device memory, step() makes the new p and states of one element. */
#ifndef RP_CUDA_UPDATE_H
#define RP_CUDA_UPDATE_H

#include "cuda/chunk.h"

struct rp_update_job {
    const float *p, *g;
    const float *state[2]; /* of which the rule uses the first Rule::states */
    float *p_out, *state_out[2];
    int64_t n;
    const struct rp_control *control;
    const struct rp_update *update;
    uint64_t *digest; /* or NULL */
    uint32_t tensor_number, first_chunk;
};

/* One quad of p, g and the states at element `at`; p holds what the digest is over. */
template <class Rule, bool aligned>
static __device__ __forceinline__ void rp_update_quad(const struct rp_update_job &job, Rule &rule,
                                                      bool apply, int64_t at, float p[4])
{
    float g[4], state[2][4] = {};
    rp_quad_load<aligned>(job.p, at, job.n, p);
    if (!apply) return;
    rp_quad_load<aligned>(job.g, at, job.n, g);
    RP_UNROLL
    for (int i = 0; i < Rule::states; i++)
        if (rule.reads_states()) rp_quad_load<aligned>(job.state[i], at, job.n, state[i]);
    RP_UNROLL
    for (int k = 0; k < 4; k++) p[k] = rule.step(p[k], g[k], state[0][k], state[1][k]);
    rp_quad_store<aligned>(job.p_out, at, job.n, p);
    RP_UNROLL
    for (int i = 0; i < Rule::states; i++)
        rp_quad_store<aligned>(job.state_out[i], at, job.n, state[i]);
}

template <class Rule, bool aligned>
__global__ void __launch_bounds__(RP_CHUNK_THREADS) rp_update(struct rp_update_job job, Rule rule)
{
    bool apply = job.control->apply != 0;
    uint64_t pairs = 0;
    rule.prepare(job.update, job.control->factor);
    RP_UNROLL
    for (int i = 0; i < RP_CHUNK_QUADS; i++) {
        int64_t at = (int64_t)blockIdx.x * RP_DIGEST_CHUNK + rp_chunk_place(i);
        float p[4];
        uint32_t key[4];
        rp_update_quad<Rule, aligned>(job, rule, apply, at, p);
        rp_chunk_keys(rp_chunk_place(i), key);
        pairs += rp_chunk_pairs(p, at, job.n, key);
    }
    if (job.digest)
        rp_chunk_add(pairs, job.tensor_number, (uint64_t)job.first_chunk + blockIdx.x, job.digest);
}

template <class Rule>
static enum rp_status rp_update_launch(struct rp_cuda *cuda, const struct rp_update_job &job,
                                       Rule rule, struct rp_error *err)
{
    bool aligned = rp_quad_fits(job.p) && rp_quad_fits(job.g) && rp_quad_fits(job.p_out);
    for (int i = 0; i < Rule::states; i++)
        aligned = aligned && rp_quad_fits(job.state[i]) && rp_quad_fits(job.state_out[i]);
    unsigned blocks = rp_blocks(job.n, RP_DIGEST_CHUNK);
    if (aligned)
        RP_LAUNCH(cuda, (rp_update<Rule, true>), blocks, RP_CHUNK_THREADS, 0, job, rule);
    else
        RP_LAUNCH(cuda, (rp_update<Rule, false>), blocks, RP_CHUNK_THREADS, 0, job, rule);
    return RP_STATUS_OK;
}

/* The job of an optimizer: in p, g, n_states states, control; out p, the states, digest. */
static inline struct rp_update_job rp_update_begin(struct rp_cuda *cuda,
                                                   const struct rp_op_call *call, int n_states)
{
    struct rp_update_job job = {};
    job.p = (const float *)call->in[0].data;
    job.g = (const float *)call->in[1].data;
    job.p_out = (float *)call->out[0].data;
    for (int i = 0; i < n_states; i++) {
        job.state[i] = (const float *)call->in[2 + i].data;
        job.state_out[i] = (float *)call->out[1 + i].data;
    }
    job.n = rp_tensor_elements(&call->in[0]);
    job.control = (const struct rp_control *)call->in[2 + n_states].data;
    job.update = rp_cuda_update(cuda, call->update);
    job.digest = (uint64_t *)call->out[1 + n_states].data;
    job.tensor_number = call->params.optim.tensor_number;
    job.first_chunk = call->params.optim.first_chunk;
    return job;
}

#endif
