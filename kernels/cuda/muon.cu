/* muon.cu - the update of muon: ops of their own for norm and products (muon.h), and elementwise
 * passes between them. README.md chapter 11. */
#include "cuda/elementwise.h"
#include "cuda/update.h"
extern "C" {
#include "muon.h"
}

enum { MUON_THREADS = 256 };

/* x = the direction before it is made orthogonal; the momentum goes to its place, unless the step
 * is not applied: then what follows is computed and thrown away. */
static __global__ void __launch_bounds__(MUON_THREADS)
    muon_direction(int64_t n, const float *g, const float *old, float *momentum, float *x,
                   const struct rp_control *control, const struct rp_update *update, bool nesterov)
{
    int64_t i = (int64_t)blockIdx.x * MUON_THREADS + threadIdx.x;
    if (i >= n) return;
    float g1 = g[i] * control->factor, b = old[i];
    b = rp_fma(update->one_minus_beta1, g1 - b, b);
    if (control->apply) momentum[i] = b;
    x[i] = nesterov ? rp_fma(update->beta1, b - g1, g1) : b;
}

struct scale_term {
    const struct rp_control *control;
    float scale;
    __device__ void prepare() { scale = (float)(1.0 / (control->norm + 1e-7)); }
    __device__ float operator()(float x, float) const { return x * scale; }
};
struct part_term { /* a matrix of several that lie in one parameter */
    float scale;
    __device__ void prepare() {}
    __device__ float operator()(float x, float) const { return x * scale; }
};
struct combine_term : rp_term { /* B of A and A A */
    __device__ float operator()(float a, float aa) const
    {
        return rp_fma(RP_MUON_C, aa, RP_MUON_B * a);
    }
};
struct turn_term : rp_term { /* M of M and B M */
    __device__ float operator()(float x, float y) const { return rp_fma(RP_MUON_A, x, y); }
};

/* The op that a call of muon.h is for. */
static enum rp_status run_product(struct rp_cuda *cuda, const struct rp_op_call *call,
                                  const struct rp_pass *pass, struct rp_error *err)
{
    if (call->op == RP_OP_linear) return rp_cuda_linear(cuda, call, pass, err);
    if (call->op == RP_OP_linear_dx) return rp_cuda_linear_dx(cuda, call, pass, err);
    return rp_cuda_linear_dw(cuda, call, pass, err);
}

static enum rp_status make_orthogonal(struct rp_cuda *cuda, const struct rp_muon *m,
                                      struct rp_error *err)
{
    struct rp_cuda inner = *cuda; /* the ops' scratch lies behind ours */
    struct rp_pass pass = rp_muon_pass(m);
    struct rp_op_call squares = rp_muon_squares(m), norm = rp_muon_norm(m);
    struct rp_op_call products[] = {rp_muon_square(m), rp_muon_fourth(m), rp_muon_turn(m)};
    struct rp_tensor x = rp_muon_view(m->x, m->rows, m->columns);
    struct rp_tensor y = rp_muon_view(m->y, m->rows, m->columns);
    struct rp_tensor a = rp_muon_view(m->a, m->side, m->side);
    struct rp_tensor b = rp_muon_view(m->b, m->side, m->side);
    struct rp_op_call scale = rp_muon_call(RP_OP_add, x, x, x);
    struct rp_op_call combine = rp_muon_call(RP_OP_add, a, b, b);
    struct rp_op_call turn = rp_muon_call(RP_OP_add, x, y, x);
    scale_term by_norm = {};
    by_norm.control = m->control;
    inner.scratch = m->scratch;
    inner.scratch_bytes = cuda->scratch_bytes - m->bytes;
    RP_TRY(rp_cuda_grad_norm(&inner, &squares, &pass, err));
    RP_TRY(rp_cuda_clip(&inner, &norm, &pass, err));
    RP_TRY((rp_map_run<scale_term, 1>(cuda, &scale, by_norm, err)));
    for (int step = 0; step < RP_MUON_STEPS; step++) {
        RP_TRY(run_product(&inner, &products[0], &pass, err));
        RP_TRY(run_product(&inner, &products[1], &pass, err));
        RP_TRY((rp_map_run<combine_term, 2>(cuda, &combine, combine_term(), err)));
        RP_TRY(run_product(&inner, &products[2], &pass, err));
        RP_TRY((rp_map_run<turn_term, 2>(cuda, &turn, turn_term(), err)));
    }
    return RP_STATUS_OK;
}

/* Of the products of a matrix. */
static size_t scratch_of(const struct rp_muon *m)
{
    struct rp_op_call products[] = {rp_muon_square(m), rp_muon_fourth(m), rp_muon_turn(m)};
    size_t most = 0;
    for (size_t i = 0; i < RP_COUNT(products); i++) {
        const struct rp_op_call *product = &products[i];
        size_t bytes = product->op == RP_OP_linear      ? rp_cuda_scratch_linear(product)
                       : product->op == RP_OP_linear_dx ? rp_cuda_scratch_linear_dx(product)
                                                        : rp_cuda_scratch_linear_dw(product);
        most = bytes > most ? bytes : most;
    }
    return most;
}

size_t rp_cuda_scratch_muon(const struct rp_op_call *call)
{
    struct rp_muon whole = rp_muon_layout(call, NULL);
    size_t most = 0;
    for (int i = 0; i < rp_muon_parts(call); i++) {
        struct rp_muon m = rp_muon_part_of(&whole, call, i);
        size_t bytes = scratch_of(&m);
        most = bytes > most ? bytes : most;
    }
    return whole.bytes + most;
}

static enum rp_status scale_part(struct rp_cuda *cuda, const struct rp_muon *m, float scale,
                                 struct rp_error *err)
{
    struct rp_tensor x = rp_muon_view(m->x, m->rows, m->columns);
    struct rp_op_call call = rp_muon_call(RP_OP_add, x, x, x);
    part_term term = {};
    term.scale = scale;
    return rp_map_run<part_term, 1>(cuda, &call, term, err);
}

/* The last pass: what stands for the gradient is x. */
struct muon_rule {
    enum { states = 0 };
    float scale, minus_lr, minus_lr_decay;

    __device__ void prepare(const struct rp_update *update, float)
    {
        minus_lr = -(update->lr * scale);
        minus_lr_decay = -update->lr_decay;
    }
    __device__ bool reads_states() const { return false; }
    __device__ float step(float p, float x, float &, float &) const
    {
        return rp_fma(minus_lr, x, rp_fma(minus_lr_decay, p, p));
    }
};

RP_CUDA_KERNEL(muon)
{
    (void)pass;
    int64_t n = rp_tensor_elements(&call->in[0]);
    struct rp_muon whole = rp_muon_layout(call, (unsigned char *)cuda->scratch);
    struct rp_update_job job = rp_update_begin(cuda, call, 1);
    muon_rule rule = {};
    rule.scale = call->params.optim.scale;
    RP_LAUNCH(cuda, muon_direction, rp_blocks(n, MUON_THREADS), MUON_THREADS, 0, n, job.g,
              job.state[0], job.state_out[0], whole.x, job.control, job.update,
              call->params.optim.nesterov);
    for (int i = 0; i < rp_muon_parts(call); i++) {
        struct rp_muon m = rp_muon_part_of(&whole, call, i);
        RP_TRY(make_orthogonal(cuda, &m, err));
        if (call->params.optim.n_parts > 0)
            RP_TRY(scale_part(cuda, &m, call->params.optim.part[i].scale, err));
    }
    job.g = whole.x;
    return rp_update_launch(cuda, job, rule, err);
}
