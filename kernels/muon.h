/* muon.h - private to kernels/: the parts of a muon update (README.md chapter 11) that are ops of
 * their own, and the working memory between them; the same for every device. */
#ifndef RP_MUON_H
#define RP_MUON_H

#include "digest.h"
#include "op_int.h"

#include <string.h>

#define RP_MUON_A 3.4445f
#define RP_MUON_B (-4.7750f)
#define RP_MUON_C 2.0315f
enum { RP_MUON_STEPS = 5 };

/* A matrix: (rows, columns), of n numbers. M is it, or its transpose where it is tall. */
struct rp_muon {
    int64_t rows, columns, n;
    int64_t side; /* the smaller of the two: M has so many rows */
    bool tall;
    float *x, *y; /* like the matrix */
    float *a, *b; /* (side, side) */
    double *chunks;
    struct rp_control *control; /* of x: its norm */
    unsigned char *scratch;     /* of the ops, behind all of these */
    size_t bytes;               /* of what stands before it */
};

static inline int64_t rp_muon_chunks(const struct rp_muon *muon)
{
    return (muon->n + RP_DIGEST_CHUNK - 1) / RP_DIGEST_CHUNK;
}

/* The next part of the working memory at `base`, which may be NULL: only its size counts then. */
static inline void *rp_muon_take(struct rp_muon *muon, unsigned char *base, int64_t bytes)
{
    size_t at = muon->bytes;
    muon->bytes += (size_t)(bytes + 255) / 256 * 256;
    return base ? base + at : NULL;
}

static inline void rp_muon_set_rows(struct rp_muon *m, int64_t rows)
{
    m->rows = rows;
    m->n = rows * m->columns;
    m->tall = rows > m->columns;
    m->side = m->tall ? m->columns : rows;
}

/* How many matrices the parameter is; first and last row of one of them. */
static inline int rp_muon_parts(const struct rp_op_call *call)
{
    return call->params.optim.n_parts > 0 ? call->params.optim.n_parts : 1;
}
static inline int64_t rp_muon_begin(const struct rp_op_call *call, int part)
{
    return part == 0 ? 0 : call->params.optim.part[part - 1].end;
}
static inline int64_t rp_muon_end(const struct rp_op_call *call, int part)
{
    return call->params.optim.n_parts > 0 ? call->params.optim.part[part].end : call->in[0].dims[0];
}

/* Of the whole parameter, with room for the largest of its matrices behind x. */
static inline struct rp_muon rp_muon_layout(const struct rp_op_call *call, unsigned char *base)
{
    struct rp_muon m;
    int64_t most = 0;
    memset(&m, 0, sizeof m);
    m.columns = rp_tensor_elements(&call->in[0]) / call->in[0].dims[0];
    for (int i = 0; i < rp_muon_parts(call); i++) {
        int64_t rows = rp_muon_end(call, i) - rp_muon_begin(call, i);
        most = rows > most ? rows : most;
    }
    rp_muon_set_rows(&m, most);
    m.x = (float *)rp_muon_take(&m, base, 4 * rp_tensor_elements(&call->in[0]));
    m.y = (float *)rp_muon_take(&m, base, 4 * m.n);
    m.a = (float *)rp_muon_take(&m, base, 4 * m.side * m.side);
    m.b = (float *)rp_muon_take(&m, base, 4 * m.side * m.side);
    m.chunks = (double *)rp_muon_take(&m, base, 8 * rp_muon_chunks(&m));
    m.control = (struct rp_control *)rp_muon_take(&m, base, sizeof *m.control);
    m.scratch = (unsigned char *)rp_muon_take(&m, base, 0);
    return m;
}

/* One of the matrices of that layout. */
static inline struct rp_muon rp_muon_part_of(const struct rp_muon *whole,
                                             const struct rp_op_call *call, int part)
{
    struct rp_muon m = *whole;
    int64_t begin = rp_muon_begin(call, part);
    rp_muon_set_rows(&m, rp_muon_end(call, part) - begin);
    if (m.x) m.x += begin * m.columns;
    return m;
}

static inline struct rp_tensor rp_muon_view(void *data, int64_t rows, int64_t columns)
{
    struct rp_tensor view;
    memset(&view, 0, sizeof view);
    view.data = data;
    view.n_dims = 2;
    view.dims[0] = rows;
    view.dims[1] = columns;
    return view;
}

static inline struct rp_op_call rp_muon_call(enum rp_op op, struct rp_tensor a, struct rp_tensor b,
                                             struct rp_tensor out)
{
    struct rp_op_call call;
    memset(&call, 0, sizeof call);
    call.op = op;
    call.in[0] = a;
    call.in[1] = b;
    call.out[0] = out;
    return call;
}

/* a = M M^T: op linear, or of a tall matrix linear_dw. */
static inline struct rp_op_call rp_muon_square(const struct rp_muon *m)
{
    struct rp_tensor x = rp_muon_view(m->x, m->rows, m->columns);
    return rp_muon_call(m->tall ? RP_OP_linear_dw : RP_OP_linear, x, x,
                        rp_muon_view(m->a, m->side, m->side));
}

/* b = a a, and a is its own transpose: op linear. */
static inline struct rp_op_call rp_muon_fourth(const struct rp_muon *m)
{
    struct rp_tensor a = rp_muon_view(m->a, m->side, m->side);
    return rp_muon_call(RP_OP_linear, a, a, rp_muon_view(m->b, m->side, m->side));
}

/* y = b M, or transposed M^T b: op linear_dx, or of a tall matrix linear. */
static inline struct rp_op_call rp_muon_turn(const struct rp_muon *m)
{
    struct rp_tensor x = rp_muon_view(m->x, m->rows, m->columns);
    struct rp_tensor b = rp_muon_view(m->b, m->side, m->side);
    struct rp_tensor y = rp_muon_view(m->y, m->rows, m->columns);
    return m->tall ? rp_muon_call(RP_OP_linear, x, b, y) : rp_muon_call(RP_OP_linear_dx, b, x, y);
}

/* The rows that linear_dw sums over: one shard of them. */
static inline struct rp_pass rp_muon_pass(const struct rp_muon *m)
{
    struct rp_pass pass;
    memset(&pass, 0, sizeof pass);
    pass.rows.samples_per_shard = pass.rows.n_samples = m->rows;
    pass.rows.n_shards = 1;
    return pass;
}

/* The norm of x: ops grad_norm and clip. */
static inline struct rp_op_call rp_muon_squares(const struct rp_muon *m)
{
    struct rp_op_call call;
    memset(&call, 0, sizeof call);
    call.op = RP_OP_grad_norm;
    call.in[0] = rp_muon_view(m->x, m->rows, m->columns);
    call.out[0] = rp_muon_view(m->chunks, 1, rp_muon_chunks(m));
    call.out[0].dtype = RP_DTYPE_F64;
    return call;
}
static inline struct rp_op_call rp_muon_norm(const struct rp_muon *m)
{
    struct rp_op_call call;
    memset(&call, 0, sizeof call);
    call.op = RP_OP_clip;
    call.in[0] = rp_muon_view(m->chunks, 1, rp_muon_chunks(m));
    call.in[0].dtype = RP_DTYPE_F64;
    call.out[0] = rp_muon_view(m->control, 1, sizeof *m->control);
    call.out[0].dtype = RP_DTYPE_U8;
    return call;
}

#endif
