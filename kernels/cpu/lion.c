/* lion.c - the update of lion on the CPU. README.md chapter 11. */
#include "cpu/update.h"

struct lion_scalars {
    rp_vf factor, beta1, rest1, beta2, rest2, minus_lr, minus_lr_decay;
};

static void scalars_make(const struct rp_update_job *job, struct lion_scalars *s)
{
    const struct rp_update *u = job->call->update;
    *s = (struct lion_scalars){
        .factor = rp_vset(job->factor),
        .beta1 = rp_vset(u->beta1),
        .rest1 = rp_vset(u->one_minus_beta1),
        .beta2 = rp_vset(u->beta2),
        .rest2 = rp_vset(u->one_minus_beta2),
        .minus_lr = rp_vset(-u->lr),
        .minus_lr_decay = rp_vset(-u->lr_decay),
    };
}

RP_VEC_FN void lion_step(const struct lion_scalars *s, rp_vf g, rp_vf *p, rp_vf *m)
{
    rp_vf zero = rp_vzero();
    g = g * s->factor;
    rp_vf c = rp_vfma(s->beta1, *m, s->rest1 * g);
    rp_vf sign = rp_vselect(c > zero, rp_vset(1), rp_vselect(c < zero, rp_vset(-1), zero));
    *p = rp_vfma(s->minus_lr, sign, rp_vfma(s->minus_lr_decay, *p, *p));
    *m = rp_vfma(s->beta2, *m, s->rest2 * g);
}

static void lion_span(const struct rp_update_job *job, int64_t begin, int64_t end)
{
    const struct rp_op_call *call = job->call;
    const float *p = call->in[0].data, *g = call->in[1].data, *m = call->in[2].data;
    float *p_out = call->out[0].data, *m_out = call->out[1].data;
    struct lion_scalars s;
    scalars_make(job, &s);
    int64_t i = begin;
    for (; i + RP_VW <= end; i += RP_VW) {
        rp_vf pi = rp_vload(p + i), mi = rp_vload(m + i);
        lion_step(&s, rp_vload(g + i), &pi, &mi);
        rp_vstore(p_out + i, pi);
        rp_vstore(m_out + i, mi);
    }
    if (i < end) {
        int64_t n = end - i;
        rp_vf pi = rp_vload_first(p + i, n), mi = rp_vload_first(m + i, n);
        lion_step(&s, rp_vload_first(g + i, n), &pi, &mi);
        rp_vstore_first(p_out + i, pi, n);
        rp_vstore_first(m_out + i, mi, n);
    }
}

RP_CPU_KERNEL(lion)
{
    (void)pass;
    (void)err;
    rp_update_run(cpu, call, 1, lion_span);
    return RP_STATUS_OK;
}
