/* adam.c - the update of adam and adamw on the CPU. README.md chapter 11. */
#include "cpu/update.h"

struct adam_scalars {
    rp_vf factor, decay, beta1, rest1, beta2, rest2, over_c1, over_c2, eps, minus_lr,
        minus_lr_decay;
    bool decays, decoupled;
};

static void scalars_make(const struct rp_update_job *job, struct adam_scalars *s)
{
    const struct rp_update *u = job->call->update;
    const struct rp_optim_params *params = &job->call->params.optim;
    *s = (struct adam_scalars){
        .factor = rp_vset(job->factor),
        .decay = rp_vset(params->weight_decay),
        .beta1 = rp_vset(u->beta1),
        .rest1 = rp_vset(u->one_minus_beta1),
        .beta2 = rp_vset(u->beta2),
        .rest2 = rp_vset(u->one_minus_beta2),
        .over_c1 = rp_vset(u->one_over_c1),
        .over_c2 = rp_vset(u->one_over_c2),
        .eps = rp_vset(params->eps),
        .minus_lr = rp_vset(-u->lr),
        .minus_lr_decay = rp_vset(-u->lr_decay),
        .decays = !params->decoupled && params->weight_decay != 0,
        .decoupled = params->decoupled,
    };
}

RP_VEC_FN void adam_step(const struct adam_scalars *s, rp_vf g, rp_vf *p, rp_vf *m, rp_vf *v)
{
    g = g * s->factor;
    if (s->decays) g = rp_vfma(s->decay, *p, g);
    *m = rp_vfma(s->beta1, *m, s->rest1 * g);
    *v = rp_vfma(s->beta2, *v, (s->rest2 * g) * g);
    rp_vf h = *m * s->over_c1;
    rp_vf d = rp_vsqrt(*v * s->over_c2) + s->eps;
    rp_vf p1 = s->decoupled ? rp_vfma(s->minus_lr_decay, *p, *p) : *p;
    *p = rp_vfma(s->minus_lr, h / d, p1);
}

static void adam_span(const struct rp_update_job *job, int64_t begin, int64_t end)
{
    const struct rp_op_call *call = job->call;
    const float *p = call->in[0].data, *g = call->in[1].data;
    const float *m = call->in[2].data, *v = call->in[3].data;
    float *p_out = call->out[0].data, *m_out = call->out[1].data, *v_out = call->out[2].data;
    struct adam_scalars s;
    scalars_make(job, &s);
    int64_t i = begin;
    for (; i + RP_VW <= end; i += RP_VW) {
        rp_vf pi = rp_vload(p + i), mi = rp_vload(m + i), vi = rp_vload(v + i);
        adam_step(&s, rp_vload(g + i), &pi, &mi, &vi);
        rp_vstore(p_out + i, pi);
        rp_vstore(m_out + i, mi);
        rp_vstore(v_out + i, vi);
    }
    if (i < end) {
        int64_t n = end - i;
        rp_vf pi = rp_vload_first(p + i, n), mi = rp_vload_first(m + i, n);
        rp_vf vi = rp_vload_first(v + i, n);
        adam_step(&s, rp_vload_first(g + i, n), &pi, &mi, &vi);
        rp_vstore_first(p_out + i, pi, n);
        rp_vstore_first(m_out + i, mi, n);
        rp_vstore_first(v_out + i, vi, n);
    }
}

RP_CPU_KERNEL(adam)
{
    (void)pass;
    (void)err;
    rp_update_run(cpu, call, 2, adam_span);
    return RP_STATUS_OK;
}
