/* muon.c - the update of muon on the CPU: ops of their own for norm and products (muon.h), and
 * elementwise passes between them. README.md chapter 11. */
#include "cpu/update.h"
#include "muon.h"

/* out[i] = term(a[i], b[i]) with two scalars; out may be a or b. */
typedef rp_vf (*muon_term)(rp_vf a, rp_vf b, rp_vf s, rp_vf t);

struct muon_map {
    const float *a, *b;
    float *out;
    int64_t n;
    float s, t;
    int n_threads;
};

RP_VEC_FN void map_part(const struct muon_map *map, int thread, muon_term term)
{
    int64_t i, end;
    rp_vf s = rp_vset(map->s), t = rp_vset(map->t);
    rp_pool_cut(map->n, 1024, thread, map->n_threads, &i, &end);
    for (; i < end; i += RP_VW) {
        int64_t lanes = end - i < RP_VW ? end - i : RP_VW;
        rp_vf a = rp_vload_lanes(map->a + i, lanes), b = rp_vload_lanes(map->b + i, lanes);
        rp_vstore_lanes(map->out + i, term(a, b, s, t), lanes);
    }
}

/* A pass over n elements by all threads, made from its term. */
#define MUON_MAP(name, expression)                                                                 \
    RP_VEC_FN rp_vf name##_term(rp_vf a, rp_vf b, rp_vf s, rp_vf t)                                \
    {                                                                                              \
        (void)a, (void)b, (void)s, (void)t;                                                        \
        return expression;                                                                         \
    }                                                                                              \
    static void name##_work(void *arg, int thread)                                                 \
    {                                                                                              \
        map_part(arg, thread, name##_term);                                                        \
    }                                                                                              \
    static void name(struct rp_cpu *cpu, const float *a, const float *b, float *out, int64_t n,    \
                     float s, float t)                                                             \
    {                                                                                              \
        struct muon_map map = {a, b, out, n, s, t, rp_threads_for(cpu, 4 * n)};                    \
        rp_pool_run(cpu->pool, map.n_threads, name##_work, &map);                                  \
    }
MUON_MAP(scale, a *s)                   /* g1; X */
MUON_MAP(average, rp_vfma(s, b - a, a)) /* the momentum moves towards g1 */
MUON_MAP(combine, rp_vfma(s, b, t *a))  /* B of A and A A */
MUON_MAP(turn, rp_vfma(s, a, b))        /* X of X and B X */

/* x = the direction before it is made orthogonal; the momentum goes to its place. Of the whole
 * parameter. */
static void make_direction(struct rp_cpu *cpu, const struct rp_op_call *call,
                           const struct rp_muon *m, float factor)
{
    int64_t n = rp_tensor_elements(&call->in[0]);
    const struct rp_update *u = call->update;
    const float *g = call->in[1].data, *old = call->in[2].data;
    float *momentum = call->out[1].data;
    scale(cpu, g, g, m->x, n, factor, 0);
    average(cpu, old, m->x, momentum, n, u->one_minus_beta1, 0);
    if (call->params.optim.nesterov)
        average(cpu, m->x, momentum, m->x, n, u->beta1, 0);
    else
        memcpy(m->x, momentum, sizeof(float) * (size_t)n);
}

/* Of the products of a matrix. */
static size_t scratch_of(const struct rp_muon *m, int n_threads)
{
    struct rp_op_call calls[] = {rp_muon_square(m), rp_muon_fourth(m), rp_muon_turn(m)};
    size_t most = 0;
    for (size_t i = 0; i < RP_COUNT(calls); i++) {
        size_t bytes = calls[i].op == RP_OP_linear
                           ? RP_ISA_NAME(rp_cpu_scratch_linear)(&calls[i], n_threads)
                       : calls[i].op == RP_OP_linear_dx
                           ? RP_ISA_NAME(rp_cpu_scratch_linear_dx)(&calls[i], n_threads)
                           : RP_ISA_NAME(rp_cpu_scratch_linear_dw)(&calls[i], n_threads);
        if (bytes > most) most = bytes;
    }
    return most;
}

static enum rp_status make_orthogonal(struct rp_cpu *cpu, const struct rp_muon *m,
                                      struct rp_error *err)
{
    struct rp_cpu inner = *cpu; /* the ops' scratch lies behind ours */
    struct rp_pass pass = rp_muon_pass(m);
    struct rp_op_call squares = rp_muon_squares(m), norm = rp_muon_norm(m);
    struct rp_op_call calls[] = {rp_muon_square(m), rp_muon_fourth(m), rp_muon_turn(m)};
    inner.scratch = m->scratch;
    RP_TRY(RP_ISA_NAME(rp_cpu_grad_norm)(&inner, &squares, &pass, err));
    RP_TRY(RP_ISA_NAME(rp_cpu_clip)(&inner, &norm, &pass, err));
    scale(cpu, m->x, m->x, m->x, m->n, (float)(1.0 / (m->control->norm + 1e-7)), 0);
    for (int step = 0; step < RP_MUON_STEPS; step++) {
        for (int i = 0; i < 3; i++) {
            RP_TRY(cpu->kernels->run[calls[i].op](&inner, &calls[i], &pass, err));
            if (i == 1) combine(cpu, m->a, m->b, m->b, m->side * m->side, RP_MUON_C, RP_MUON_B);
        }
        turn(cpu, m->x, m->y, m->x, m->n, RP_MUON_A, 0);
    }
    return RP_STATUS_OK;
}

size_t RP_ISA_NAME(rp_cpu_scratch_muon)(const struct rp_op_call *call, int n_threads)
{
    struct rp_muon whole = rp_muon_layout(call, NULL);
    size_t most = 0;
    for (int i = 0; i < rp_muon_parts(call); i++) {
        struct rp_muon m = rp_muon_part_of(&whole, call, i);
        size_t bytes = scratch_of(&m, n_threads);
        if (bytes > most) most = bytes;
    }
    return whole.bytes + most;
}

/* The direction of the whole parameter, each of its matrices made orthogonal, in whole->x. */
static enum rp_status make_update(struct rp_cpu *cpu, const struct rp_op_call *call,
                                  const struct rp_muon *whole, float factor, struct rp_error *err)
{
    make_direction(cpu, call, whole, factor);
    for (int i = 0; i < rp_muon_parts(call); i++) {
        struct rp_muon m = rp_muon_part_of(whole, call, i);
        RP_TRY(make_orthogonal(cpu, &m, err));
        if (call->params.optim.n_parts > 0)
            scale(cpu, m.x, m.x, m.x, m.n, call->params.optim.part[i].scale, 0);
    }
    return RP_STATUS_OK;
}

/* What rp_update_run goes through: the parameter, and x in the place of the gradient. */
static void step_span(const struct rp_update_job *job, int64_t begin, int64_t end)
{
    const struct rp_op_call *call = job->call;
    const struct rp_update *u = call->update;
    const float *p = call->in[0].data, *x = call->in[1].data;
    float *out = call->out[0].data;
    rp_vf minus_lr = rp_vset(-(u->lr * call->params.optim.scale));
    rp_vf minus_decay = rp_vset(-u->lr_decay);
    for (int64_t i = begin; i < end; i += RP_VW) {
        int64_t lanes = end - i < RP_VW ? end - i : RP_VW;
        rp_vf pi = rp_vload_lanes(p + i, lanes);
        pi = rp_vfma(minus_decay, pi, pi);
        rp_vstore_lanes(out + i, rp_vfma(minus_lr, rp_vload_lanes(x + i, lanes), pi), lanes);
    }
}

RP_CPU_KERNEL(muon)
{
    (void)pass;
    struct rp_control control;
    struct rp_muon whole = rp_muon_layout(call, cpu->scratch);
    struct rp_op_call update = *call;
    memcpy(&control, call->in[3].data, sizeof control);
    if (control.apply) {
        RP_TRY(make_update(cpu, call, &whole, control.factor, err));
        update.in[1].data = whole.x;
    }
    rp_update_run(cpu, &update, 1, step_span);
    return RP_STATUS_OK;
}
