/* model_int.h - private to model/: the builder, and the pieces that it is made of.
 *
 * A graph is built in four sweeps: layers in forward order (layers.c, nets.c), the loss (build.c),
 * gradients in reverse (backward.c), and the lives of tensors with what can be done in place
 * (lives.c). The train and the eval graph come from the same forward code. */
#ifndef RP_MODEL_INT_H
#define RP_MODEL_INT_H

#include "model/model.h"

enum { RP_MODEL_NAME_BYTES = 96 };

/* What one layer hands to the next. */
struct rp_flow {
    int tensor;
    int64_t hwc[3]; /* the features are a flattened image of this size; {0} when they are not */
};

struct rp_builder {
    const struct rp_spec *spec;
    const struct rp_data_shape *data;
    struct rp_rows rows; /* of the pass being built */
    int64_t logits_kept; /* struct rp_device_table */
    bool training;       /* the train graph; else eval */
    struct rp_model *model;
    struct rp_graph *graph; /* the one being built */
    int next_kept;          /* eval: kept tensors are met in the order that train made them */
    int next_layer;
    int block;     /* of the nodes that are added: struct rp_graph_node */
    int embedding; /* gpt: the table of tokens, which a tied head uses again */
    struct rp_error *err;
};

/* ---- graph.c: tensors, nodes, kept tensors --------------------------------------------------- */

/* A new tensor without dims; its number. `of` as in struct rp_graph_tensor. */
int rp_graph_add_tensor(struct rp_graph *graph, enum rp_role role, struct rp_spec_place at,
                        const char *format, ...) RP_PRINTF(4, 5);
/* A view of `source` with the same elements and other dims. */
int rp_graph_add_view(struct rp_graph *graph, int source, const struct rp_tensor *shape,
                      const char *name);
/* A node whose tensors are given; sets dtype and dims of its outputs. USAGE at `at` in the words of
 * the op, which begin with its name; `what` is the layer's word, for a size that nothing holds. */
RP_NODISCARD enum rp_status rp_builder_add_node(struct rp_builder *b,
                                                const struct rp_graph_node *node,
                                                struct rp_spec_place at, const char *what);
/* A node with nothing but tensor slots set to NO_TENSOR. */
struct rp_graph_node rp_graph_node_new(enum rp_op op);

/* A tensor that the model keeps, as NAME.WHAT: made in the train graph, met again in eval. Its
 * number in the graph being built goes into *tensor. */
struct rp_kept_request {
    const char *layer, *what;
    struct rp_tensor shape;
    struct rp_spec_place at;
    bool statistic;
    float fill, momentum;
    bool drawn;
    struct rp_spec_init init;
    int64_t fan_in, fan_out;
    enum rp_layout layout;
    int64_t hwc[3];
};
RP_NODISCARD enum rp_status rp_builder_keep(struct rp_builder *b,
                                            const struct rp_kept_request *request, int *tensor);
/* The kept tensor behind a tensor of the graph being built. */
struct rp_model_tensor *rp_builder_kept(struct rp_builder *b, int tensor);

/* ---- layers.c, nets.c ------------------------------------------------------------------------ */

/* The word of the spec for a kind: "conv2d". */
const char *rp_layer_word(enum rp_layer_kind kind);
/* "(28, 28, 1)", of one sample. */
void rp_flow_text(const struct rp_builder *b, const struct rp_flow *flow, char text[128]);
/* One layer of any kind but residual: takes and replaces *flow. */
RP_NODISCARD enum rp_status rp_builder_add_layer(struct rp_builder *b, const char *name,
                                                 const struct rp_spec_layer *layer,
                                                 struct rp_flow *flow);
/* Notes a layer for the summary; its number is the site of its random draws. */
void rp_builder_note_layer(struct rp_builder *b, const char *name, const char *kind,
                           int64_t parameters, const struct rp_tensor *output);
/* a + b, both of one shape. */
RP_NODISCARD enum rp_status rp_builder_add_sum(struct rp_builder *b, const char *name,
                                               struct rp_spec_place at, const struct rp_flow *other,
                                               struct rp_flow *flow);
/* The whole net of the spec, from the input to the outputs. */
RP_NODISCARD enum rp_status rp_builder_add_net(struct rp_builder *b, struct rp_flow *flow);
/* Width that the data asks of the last layer; 0 when it is not known yet (csv before it is read).
 */
int64_t rp_builder_width(const struct rp_builder *b);

RP_NODISCARD enum rp_status rp_builder_add_resnet(struct rp_builder *b, struct rp_flow *flow);

/* From tokens to the last norm; then the head with its loss, which sets the graph's results. */
RP_NODISCARD enum rp_status rp_builder_add_gpt(struct rp_builder *b, struct rp_flow *flow);
RP_NODISCARD enum rp_status rp_builder_add_head(struct rp_builder *b, const struct rp_flow *flow);

/* ---- backward.c, lives.c --------------------------------------------------------------------- */

RP_NODISCARD enum rp_status rp_builder_add_backward(struct rp_builder *b);
/* recompute.c: the nodes of `block` once more, those whose outputs the backward part of the block
 * reads, with new activations. `now` (graph tensors) gets the new number of each; the others keep
 * theirs. */
RP_NODISCARD enum rp_status rp_builder_add_again(struct rp_builder *b, int block, int *now);
void rp_graph_set_lives(struct rp_graph *graph);

#endif
