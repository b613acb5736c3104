/* model.h - from the layers of a spec to a static graph of op calls, forward and backward.
 *
 * The graph knows every shape and every use; it holds no memory. plan/ gives each tensor its place,
 * train/ runs it. Pure: the same spec and shape give the same graph on every machine. */
#ifndef RP_MODEL_H
#define RP_MODEL_H

#include "data/data.h"
#include "op.h"

enum rp_role {
    RP_ROLE_INPUT,  /* x of the pass */
    RP_ROLE_TARGET, /* y of the pass */
    RP_ROLE_PARAMETER,
    RP_ROLE_STATISTIC,  /* running statistics: kept by the model, not trained */
    RP_ROLE_ACTIVATION, /* lives within a pass, backward's intermediates included */
    RP_ROLE_SUM,   /* a sum over samples that outlives the pass: parameter gradients, loss, seen
                      statistics */
    RP_ROLE_RESULT /* per-sample values that the host reads after the pass: loss, rank, logits in
                      eval */
};

enum { RP_GRAPH_NO_TENSOR = -1 };

struct rp_graph_tensor {
    char name[96]; /* "layers.0.weight", "layers.3", "layers.0.weight.grad" */
    enum rp_role role;
    struct rp_tensor shape; /* data is NULL */
    int alias_of; /* a view of this tensor (flatten), or in place on it: always one that has its
                   * own memory, never another alias; else NO_TENSOR */
    int first_node, last_node; /* first and last node that touch it, -1 when none does; of a tensor
                                * with its own memory: that touch it or an alias of it. A RESULT
                                * lives until the last node of the pass */
    int of; /* SUM: the parameter or statistic it belongs to, NO_TENSOR for the loss */
    struct rp_spec_place at;
};

struct rp_graph_node {
    enum rp_op op;
    int in[RP_OP_MAX_IN], out[RP_OP_MAX_OUT]; /* tensor numbers or NO_TENSOR */
    union rp_op_params params;
    int block; /* of a transformer, from 1; 0: of none */
    bool backward;
};

/* How a stored tensor's bytes in memory become the field's layout in a file (OHWI -> OIHW, the
 * columns of a linear behind flatten: (H, W, C) -> (C, H, W)). */
enum rp_layout { RP_LAYOUT_PLAIN, RP_LAYOUT_CONV_OHWI, RP_LAYOUT_LINEAR_HWC };

/* A tensor that the model keeps, in the order that every list uses: parameters first, then
 * statistics. */
struct rp_model_tensor {
    char name[96]; /* the field's name: "layers.0.weight", "layer1.0.bn1.running_mean" */
    int train_tensor, eval_tensor; /* its number in each graph */
    int grad_tensor;  /* SUM tensor in the train graph, NO_TENSOR when frozen or a statistic */
    int grad_tensor2; /* of its second use (a tied head): added to the first, which is earlier in
                         the net, when both are summed over the whole step; else NO_TENSOR */
    int seen_tensor;  /* a statistic: SUM tensor in the train graph of what this step saw; else
                         NO_TENSOR */
    float momentum;   /* a statistic: of running_update */
    bool statistic;
    bool frozen;  /* keeps its value: no gradient, no update; a frozen statistic is not moved either
                   */
    bool decays;  /* weight decay applies under the spec's rule */
    bool by_muon; /* a matrix of a hidden layer, under an optimizer that is for these */
    int n_joined; /* matrices that lie in it one below the other (q, k, v), where the optimizer is
                     to take them apart; else 0 */
    int64_t joined_end[3]; /* behind the last row of each */
    enum rp_layout layout;
    int64_t hwc[3]; /* LINEAR_HWC */
    struct rp_spec_init init;
    int64_t fan_in, fan_out;
    float fill; /* value of a ones/zeros tensor (norm gains, running variance) when init is not
                   drawn */
    bool drawn; /* from init with Philox keyed by the tensor's number */
    struct rp_tensor shape;
    struct rp_spec_place at;
};

struct rp_graph {
    struct rp_graph_tensor *tensor;
    int n_tensors;
    struct rp_graph_node *node; /* forward, then loss, then backward */
    int n_nodes, n_forward;     /* nodes [0, n_forward) are forward and loss, the rest backward */
    int input, target;          /* tensor numbers */
    int loss_rows, rank_rows;   /* per-sample results, of tokens one each; rank_rows NO_TENSOR for
                                   regression */
    int loss_sum;               /* SUM tensor (1): train graph only */
    int logits; /* output of the last layer; NO_TENSOR where nobody holds it (gpt) */
};

/* One line of the summary, in the order built; its index is the site of a dropout's draws, but in a
 * gpt, which counts its own (gpt.c). */
struct rp_model_layer {
    char name[96];    /* "layers.3", "layer1.0.conv1" */
    const char *kind; /* "conv2d" */
    int n_dims;
    int64_t dims[RP_MAX_DIMS]; /* of one sample */
    int64_t parameters;
};

/* Updated by the optimizer. */
static inline bool rp_model_is_trained(const struct rp_model_tensor *kept)
{
    return !kept->statistic && !kept->frozen;
}

struct rp_model {
    struct rp_graph train; /* for a pass of `train_samples` */
    struct rp_graph
        eval; /* for a pass of `eval_samples`: no dropout, running statistics, no backward */
    struct rp_model_tensor *kept;
    int n_kept, n_parameters;   /* the first n_parameters are parameters */
    int64_t parameter_elements; /* frozen ones included */
    struct rp_model_layer *layer;
    int n_layers;
    bool has_batch_norm;
    int64_t train_samples, eval_samples;
    int64_t rows_per_sample;    /* results of a sample: 1, or the tokens of its window */
    int samples_per_loss_value; /* the mean loss is over batch * this many values (mse: width of y)
                                 */
};

/* Builds both graphs. `pass`: samples and shards in one training pass; logits_kept: struct
 * rp_device_table. A shape that does not fit is USAGE at the layer's line. free with rp_model_free.
 */
RP_NODISCARD enum rp_status rp_model_build(const struct rp_spec *spec,
                                           const struct rp_data_shape *data,
                                           const struct rp_rows *pass, int64_t eval_samples,
                                           int64_t logits_kept, struct rp_model **model,
                                           struct rp_error *err);
void rp_model_free(struct rp_model *model); /* NULL is fine */

/* The call of a node with every shape filled in. Pointers are NULL for what is not given and a
 * meaningless non-NULL value for the rest: enough for rp_op_shape, rp_op_cost and scratch_bytes. */
void rp_graph_call(const struct rp_graph *graph, int node, struct rp_op_call *call);

/* Initial values of kept tensor i, a pure function of seed and i: elements [first, first + n) of
 * them; first is a multiple of 4. */
void rp_model_init_part(const struct rp_model *model, uint64_t seed, int i, int64_t first,
                        int64_t n, float *values);

/* Layer, output shape, parameters: the table that `plan` prints. */
void rp_model_summary(const struct rp_spec *spec, const struct rp_model *model,
                      struct rp_text *text);

/* Numbers of a row: file and memory have the same rows in the same order, and only within one may
 * the order be another. 1: nowhere. The functions below take some rows, too: a copy of the tensor
 * with as many in dims[0]. */
int64_t rp_model_file_row(const struct rp_model_tensor *tensor);
/* Between memory and file layout; both hold the tensor's elements. File shape into dims (<= 4). */
void rp_model_to_file(const struct rp_model_tensor *tensor, const float *memory, float *file);
void rp_model_from_file(const struct rp_model_tensor *tensor, const float *file, float *memory);
int rp_model_file_dims(const struct rp_model_tensor *tensor, int64_t dims[RP_MAX_DIMS]);

/* "head.*" matches by prefix before the star; without a star, exactly. */
bool rp_model_name_matches(const char *pattern, const char *name);

#endif
