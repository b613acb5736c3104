/* running_update.cu - running statistics of batch norm: an update of its own. README.md chapter 9.
 */
#include "cuda/update.h"

struct running_rule {
    enum { states = 0 };
    float momentum, shards;

    __device__ void prepare(const struct rp_update *, float) {}
    __device__ bool reads_states() const { return false; }
    __device__ float step(float old, float seen, float &, float &) const
    {
        return rp_fma(momentum, seen / shards - old, old);
    }
};

RP_CUDA_KERNEL(running_update)
{
    (void)pass;
    struct rp_update_job job = {};
    job.p = (const float *)call->in[0].data;
    job.g = (const float *)call->in[1].data;
    job.p_out = (float *)call->out[0].data;
    job.n = rp_tensor_elements(&call->in[0]);
    job.control = (const struct rp_control *)call->in[2].data;
    job.digest = (uint64_t *)call->out[1].data;
    job.tensor_number = call->params.running.tensor_number;
    job.first_chunk = call->params.running.first_chunk;
    running_rule rule = {};
    rule.momentum = call->params.running.momentum;
    rule.shards = (float)call->params.running.shards;
    return rp_update_launch(cuda, job, rule, err);
}
