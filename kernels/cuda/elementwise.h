/* elementwise.h - private to kernels/cuda: ops that go through tensors element by element.
 *
 * A term is a function object: prepare() runs once in each thread, then term(a, b) makes one
 * element of the output from one of each input (an op of one input gets it twice). All loads of a
 * thread come before its first store, so the output may be the very buffer of an input. */
#ifndef RP_CUDA_ELEMENTWISE_H
#define RP_CUDA_ELEMENTWISE_H

#include "cuda/quad.h"

enum { RP_MAP_THREADS = 256, RP_MAP_QUADS = 2, RP_MAP_BLOCK = 4 * RP_MAP_THREADS * RP_MAP_QUADS };

struct rp_term { /* what most terms need of prepare() */
    __device__ void prepare() {}
};

template <class Term, int inputs, bool aligned>
__global__ void __launch_bounds__(RP_MAP_THREADS)
    rp_map(int64_t n, const float *a, const float *b, float *out, Term term)
{
    int64_t first = (int64_t)blockIdx.x * RP_MAP_BLOCK + 4 * (int64_t)threadIdx.x;
    float x[RP_MAP_QUADS][4], y[RP_MAP_QUADS][4];
    RP_UNROLL
    for (int i = 0; i < RP_MAP_QUADS; i++) {
        int64_t at = first + i * 4 * RP_MAP_THREADS;
        rp_quad_load<aligned>(a, at, n, x[i]);
        if (inputs == 2) rp_quad_load<aligned>(b, at, n, y[i]);
    }
    term.prepare();
    RP_UNROLL
    for (int i = 0; i < RP_MAP_QUADS; i++) {
        RP_UNROLL
        for (int k = 0; k < 4; k++) x[i][k] = term(x[i][k], inputs == 2 ? y[i][k] : x[i][k]);
        rp_quad_store<aligned>(out, first + i * 4 * RP_MAP_THREADS, n, x[i]);
    }
}

template <class Term, int inputs>
static enum rp_status rp_map_run(struct rp_cuda *cuda, const struct rp_op_call *call, Term term,
                                 struct rp_error *err)
{
    const float *a = (const float *)call->in[0].data;
    const float *b = inputs == 2 ? (const float *)call->in[1].data : NULL;
    float *out = (float *)call->out[0].data;
    int64_t n = rp_tensor_elements(&call->in[0]);
    unsigned blocks = rp_blocks(n, RP_MAP_BLOCK);
    if (rp_quad_fits(a) && rp_quad_fits(b) && rp_quad_fits(out))
        RP_LAUNCH(cuda, (rp_map<Term, inputs, true>), blocks, RP_MAP_THREADS, 0, n, a, b, out,
                  term);
    else
        RP_LAUNCH(cuda, (rp_map<Term, inputs, false>), blocks, RP_MAP_THREADS, 0, n, a, b, out,
                  term);
    return RP_STATUS_OK;
}

/* Defines the entry of `op` from struct <op>_term. */
#define RP_MAP_KERNEL(op, inputs)                                                                  \
    RP_CUDA_KERNEL(op)                                                                             \
    {                                                                                              \
        (void)pass;                                                                                \
        return rp_map_run<op##_term, inputs>(cuda, call, op##_term(), err);                        \
    }

#endif
