/* elementwise.h - private to kernels/cpu: ops that go through tensors element by element.
 *
 * A term turns one vector of each input into one of the output; rp_elementwise_span is inlined with
 * it, so that each op gets its own loop. Threads take parts on multiples of 1024 elements. */
#ifndef RP_ELEMENTWISE_H
#define RP_ELEMENTWISE_H

#include "cpu/parallel.h"
#include "cpu/vec.h"

typedef rp_vf (*rp_elementwise_term)(rp_vf a, rp_vf b);

/* out[i] = term(a[i], b[i]) for i in [0, n); b may be NULL. out may be a or b. */
RP_VEC_FN void rp_elementwise_span(const float *a, const float *b, float *out, int64_t n,
                                   rp_elementwise_term term)
{
    int64_t i = 0;
    for (; i + RP_VW <= n; i += RP_VW) {
        rp_vf x = rp_vload(a + i);
        rp_vstore(out + i, term(x, b ? rp_vload(b + i) : x));
    }
    if (i < n) {
        rp_vf x = rp_vload_first(a + i, n - i);
        rp_vstore_first(out + i, term(x, b ? rp_vload_first(b + i, n - i) : x), n - i);
    }
}

struct rp_elementwise_job {
    const float *a, *b;
    float *out;
    int64_t n;
    int n_parts;
};

static inline struct rp_elementwise_job
rp_elementwise_begin(struct rp_cpu *cpu, const struct rp_op_call *call, int cost)
{
    int64_t n = rp_tensor_elements(&call->in[0]);
    return (struct rp_elementwise_job){.a = call->in[0].data,
                                       .b = call->in[1].data,
                                       .out = call->out[0].data,
                                       .n = n,
                                       .n_parts = rp_parts_for(cpu, n * cost)};
}

/* Defines the kernel of `op` from its term; `cost` is its work per element beside that of an add.
 */
#define RP_ELEMENTWISE_KERNEL(op, cost)                                                            \
    static void op##_work(void *arg, int part)                                                     \
    {                                                                                              \
        const struct rp_elementwise_job *job = arg;                                                \
        int64_t begin, end;                                                                        \
        rp_pool_cut(job->n, 1024, part, job->n_parts, &begin, &end);                               \
        rp_elementwise_span(job->a + begin, job->b ? job->b + begin : NULL, job->out + begin,      \
                            end - begin, op##_term);                                               \
    }                                                                                              \
    RP_CPU_KERNEL(op)                                                                              \
    {                                                                                              \
        (void)pass, (void)err;                                                                     \
        struct rp_elementwise_job job = rp_elementwise_begin(cpu, call, cost);                     \
        rp_pool_run(cpu->pool, job.n_parts, op##_work, &job);                                      \
        return RP_STATUS_OK;                                                                       \
    }

#endif
