/* op.h - what an op is: tensors in, tensors out, parameters, and a gradient rule.
 *
 * kernels/ knows tensors and devices and nothing of training. An op call is static (it can be
 * recorded once and replayed every step); what changes from pass to pass stands in struct rp_pass.
 * The arithmetic of each op, and the order of its additions, is in kernels/README.md (rp-num-1). */
#ifndef RP_OP_H
#define RP_OP_H

#include "base/base.h"

enum { RP_MAX_DIMS = 6, RP_OP_MAX_IN = 6, RP_OP_MAX_OUT = 8 };

enum rp_dtype {
    RP_DTYPE_F32,
    RP_DTYPE_F64,
    RP_DTYPE_I32,
    RP_DTYPE_U8,
    RP_DTYPE_U64,
    RP_DTYPE_COUNT
};

/* A view. Dense, row-major, NHWC for images; memory is owned by whoever allocated the block.
 * data == NULL means "not given" (no bias, gradient not wanted). */
struct rp_tensor {
    void *data;
    enum rp_dtype dtype;
    int n_dims;
    int64_t dims[RP_MAX_DIMS];
};

size_t rp_dtype_bytes(enum rp_dtype dtype);
int64_t rp_tensor_elements(const struct rp_tensor *tensor);
size_t rp_tensor_bytes(const struct rp_tensor *tensor);
/* All dimensions but the last multiplied: rows of a (rows, columns) view. */
int64_t rp_tensor_rows(const struct rp_tensor *tensor);

/* How the samples of one pass lie in the logical shards of the step (DESIGN 1.2, 6).
 * Either whole shards: n_shards is a power of two, first_shard a multiple of it, and the pass holds
 *   n_shards * samples_per_shard samples (first_sample 0); sums over samples give that node of the
 *   tree over shards;
 * or part of one: n_shards is 1 and the pass holds samples [first_sample, first_sample + n_samples)
 *   of that shard; sums continue the chain that an earlier pass left open (see `open` below). */
struct rp_rows {
    int64_t samples_per_shard;
    int first_shard, n_shards;
    int64_t first_sample, n_samples; /* n_samples: samples in this pass in all */
};

/* What changes from pass to pass. */
struct rp_pass {
    struct rp_rows rows;
    uint64_t seed;
    uint64_t position; /* p of the first sample in the pass: step * batch + slot (DESIGN 1.1) */
    int64_t
        first_token;  /* place in its sequence of every sample's first token; 0 but in sampling */
    float grad_scale; /* 1 / (samples, or values, that the mean loss is over), rounded once from
                         fp64 */
};

/* Scalars of one update, made on the host in fp64 and rounded once (kernels/README.md, optimizers).
 */
struct rp_update {
    float lr;          /* of this step, schedule applied */
    float lr_decay;    /* lr * weight_decay */
    float one_over_c1; /* adam: 1 / (1 - beta1^t) */
    float one_over_c2; /* adam: 1 / (1 - beta2^t) */
    bool first;        /* sgd: no momentum buffer yet */
    float beta1, one_minus_beta1, beta2, one_minus_beta2;
};

/* Made on the device by `clip`, read by the updates; the host reads it a step later. */
struct rp_control {
    double norm;   /* global gradient norm before clipping */
    float factor;  /* multiply every gradient by this; 1 when nothing is clipped */
    int32_t apply; /* 1: all finite; 0: the updates write nothing */
};

/* ---- parameters, one struct per op that has any --------------------------------------------- */

struct rp_conv2d_params {
    int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, groups;
};
struct rp_pool2d_params {
    int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
};
struct rp_norm_params {
    float eps;
};
/* A row of q, k, v together is (heads + 2 kv_heads) x head_dim: the heads of q, those of k, those
 * of v. Query head h reads head h / (heads / kv_heads) of k and v. */
struct rp_attention_params {
    int heads, kv_heads, head_dim;
    float rope_base; /* rope: 10000 in most models */
    float eps;       /* head_norm */
    float p;         /* dropout of the weights, 0: none */
    uint32_t site;   /* its number, as in rp_dropout_params */
};
struct rp_embedding_params {
    bool onto; /* embedding_dw of all shards at once: adds to what is in dw, where another use of
                  the table has left its sum, and writes the rows of its tokens only */
};
struct rp_running_params {
    float momentum;         /* new = old + momentum * (seen / shards - old): PyTorch's meaning */
    int shards;             /* S of the step: `seen` is a sum over this many shards */
    uint32_t tensor_number; /* for its digest */
    uint32_t first_chunk;   /* of a part of a tensor: the number of its first chunk */
};
struct rp_dropout_params {
    float p;       /* probability that an element becomes zero */
    uint32_t site; /* number of the layer in the graph */
};
struct rp_loss_params {
    float label_smoothing;
    int columns; /* lm_loss_dxw: logits of so many classes at once, a multiple of 1024; 0: the
                    device's choice. Memory and speed only */
};
struct rp_clip_params {
    double max_norm; /* 0: only the norm and the finite flag */
};
/* Rows of a parameter, from the end of the part before, that are a matrix of their own under muon.
 */
struct rp_muon_part {
    int64_t end;
    float scale;
};
enum { RP_MUON_PARTS_MOST = 3 };

struct rp_optim_params {
    float momentum, dampening; /* sgd */
    bool nesterov;
    bool decoupled; /* adam: adamw's decay on the parameter; else added to the gradient */
    float weight_decay, eps;
    float scale; /* muon: of the update, times lr */
    int n_parts; /* muon: 0, the parameter is one matrix */
    struct rp_muon_part part[RP_MUON_PARTS_MOST];
    uint32_t tensor_number; /* place of the parameter in the model, for its digest */
    uint32_t first_chunk;   /* of a part of a parameter: the number of its first chunk */
};
struct rp_digest_params {
    uint32_t tensor_number, first_chunk;
};

union rp_op_params {
    struct rp_conv2d_params conv2d;
    struct rp_pool2d_params pool2d;
    struct rp_norm_params norm;
    struct rp_attention_params attention;
    struct rp_embedding_params embedding;
    struct rp_running_params running;
    struct rp_dropout_params dropout;
    struct rp_loss_params loss;
    struct rp_clip_params clip;
    struct rp_optim_params optim;
    struct rp_digest_params digest;
    int none;
};

/* ---- the list -------------------------------------------------------------------------------- */

enum rp_op {
#define RP_OP(name, ...) RP_OP_##name,
#include "ops.def"
#undef RP_OP
    RP_OP_COUNT
};

struct rp_op_call {
    enum rp_op op;
    struct rp_tensor in[RP_OP_MAX_IN];
    struct rp_tensor out[RP_OP_MAX_OUT];
    union rp_op_params params;
    const struct rp_update *update; /* optimizer updates only; host memory, read when run */
};

/* Where a gradient op takes an argument from, relative to the forward call. */
enum rp_grad_source {
    RP_GRAD_NONE = 0,    /* end of the list; an optional argument left out */
    RP_GRAD_IN = 0x10,   /* + i: forward input i */
    RP_GRAD_OUT = 0x20,  /* + i: forward output i */
    RP_GRAD_DOUT = 0x30, /* + i: gradient of forward output i */
    RP_GRAD_DIN = 0x40   /* + i: gradient of forward input i (outputs of the rule only) */
};
struct rp_grad_rule {
    enum rp_op op;
    uint8_t in[RP_OP_MAX_IN],
        out[RP_OP_MAX_OUT]; /* in place: RP_GRAD_NONE ends, and means "none" */
};

/* One row of the table; ops.def says the names and numbers, <op>.c the functions. */
struct rp_op_info {
    const char *name;
    int n_in, n_out;
    /* Outputs [n_out - n_sums, n_out) are sums over samples: each is a node of the tree, and when a
     * pass covers part of a shard output i + n_sums is its open chain (same shape). */
    int n_sums;
    bool in_place; /* out[0] may be the very buffer of in[0] */
    /* Checks inputs and parameters, sets dtype and dims of every output. `err` says what does not
     * fit, in the user's words, without a place: the caller adds the line of the spec. */
    enum rp_status (*shape)(struct rp_op_call *call, struct rp_error *err);
    const struct rp_grad_rule
        *rules; /* the forward op's gradient; ends with a rule whose out[0] is 0 */
};
const struct rp_op_info *rp_op_info(enum rp_op op);
RP_NODISCARD enum rp_status rp_op_shape(struct rp_op_call *call, struct rp_error *err);

/* sum = left + right, blocks of n numbers; sum may be either. */
struct rp_op_call rp_op_add_call(const void *left, const void *right, uint64_t n, void *sum);

/* Floating-point operations of one call (a fma is two) and bytes it must move at least: the floor.
 */
void rp_op_cost(const struct rp_op_call *call, double *flops, double *bytes);

#endif
