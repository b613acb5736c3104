/* sgd.c - the update of sgd, with and without momentum, on the CPU. README.md chapter 11. */
#include "cpu/update.h"

struct sgd_scalars {
    rp_vf factor, decay, momentum, rest, minus_lr;
    bool decays, nesterov, first;
};

static void scalars_make(const struct rp_update_job *job, struct sgd_scalars *s)
{
    const struct rp_optim_params *params = &job->call->params.optim;
    *s = (struct sgd_scalars){
        .factor = rp_vset(job->factor),
        .decay = rp_vset(params->weight_decay),
        .momentum = rp_vset(params->momentum),
        .rest = rp_vset(1.0f - params->dampening),
        .minus_lr = rp_vset(-job->call->update->lr),
        .decays = params->weight_decay != 0,
        .nesterov = params->nesterov,
        .first = job->call->update->first,
    };
}

RP_VEC_FN rp_vf sgd_gradient(const struct sgd_scalars *s, rp_vf g, rp_vf p)
{
    g = g * s->factor;
    return s->decays ? rp_vfma(s->decay, p, g) : g;
}

RP_VEC_FN rp_vf sgd_buffer(const struct sgd_scalars *s, rp_vf g, rp_vf b)
{
    return rp_vfma(s->momentum, b, s->rest * g);
}

static void plain_span(const struct rp_update_job *job, int64_t begin, int64_t end)
{
    const float *p = job->call->in[0].data, *g = job->call->in[1].data;
    float *p_out = job->call->out[0].data;
    struct sgd_scalars s;
    scalars_make(job, &s);
    int64_t i = begin;
    for (; i + RP_VW <= end; i += RP_VW) {
        rp_vf pi = rp_vload(p + i);
        rp_vstore(p_out + i, rp_vfma(s.minus_lr, sgd_gradient(&s, rp_vload(g + i), pi), pi));
    }
    if (i < end) {
        rp_vf pi = rp_vload_first(p + i, end - i);
        rp_vf u = sgd_gradient(&s, rp_vload_first(g + i, end - i), pi);
        rp_vstore_first(p_out + i, rp_vfma(s.minus_lr, u, pi), end - i);
    }
}

/* The first update must not read the buffer: what it holds then is nobody's. */
static void momentum_span(const struct rp_update_job *job, int64_t begin, int64_t end)
{
    const float *p = job->call->in[0].data, *g = job->call->in[1].data, *b = job->call->in[2].data;
    float *p_out = job->call->out[0].data, *b_out = job->call->out[1].data;
    struct sgd_scalars s;
    scalars_make(job, &s);
    int64_t i = begin;
    for (; i + RP_VW <= end; i += RP_VW) {
        rp_vf pi = rp_vload(p + i), gi = sgd_gradient(&s, rp_vload(g + i), pi);
        rp_vf bi = s.first ? gi : sgd_buffer(&s, gi, rp_vload(b + i));
        rp_vf u = s.nesterov ? rp_vfma(s.momentum, bi, gi) : bi;
        rp_vstore(b_out + i, bi);
        rp_vstore(p_out + i, rp_vfma(s.minus_lr, u, pi));
    }
    if (i < end) {
        int64_t n = end - i;
        rp_vf pi = rp_vload_first(p + i, n), gi = sgd_gradient(&s, rp_vload_first(g + i, n), pi);
        rp_vf bi = s.first ? gi : sgd_buffer(&s, gi, rp_vload_first(b + i, n));
        rp_vf u = s.nesterov ? rp_vfma(s.momentum, bi, gi) : bi;
        rp_vstore_first(b_out + i, bi, n);
        rp_vstore_first(p_out + i, rp_vfma(s.minus_lr, u, pi), n);
    }
}

RP_CPU_KERNEL(sgd)
{
    (void)pass;
    (void)err;
    bool momentum = call->in[2].data != NULL;
    rp_update_run(cpu, call, 1, momentum ? momentum_span : plain_span);
    return RP_STATUS_OK;
}
