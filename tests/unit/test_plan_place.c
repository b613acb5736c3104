/* test_plan_place.c - by brute force: no two tensors that are needed at the same time share a byte,
 * unless the op in between may write in place and nobody reads what it overwrites. */
#include "made_spec.h"

static struct rp_error err;

static struct rp_plan *make(struct made *m)
{
    struct rp_plan *plan = NULL;
    if (rp_plan_make(&m->spec, &m->data, 1, &plan, &err) != RP_STATUS_OK) {
        printf("plan failed: %s\n", err.text);
        exit(1);
    }
    return plan;
}

/* Runs the graph on paper: every 256 bytes of the arena remember which node wrote them last. A read
 * must find what the node that made that tensor wrote; otherwise something else was laid over it.
 */
struct paper {
    const struct rp_graph *graph;
    const struct rp_plan_place *place;
    int *writer; /* per 256 bytes: the node that wrote it last, -1 none */
    int *made;   /* per tensor: the node that wrote it */
};

static bool lies_in_arena(const struct paper *p, int t)
{
    return p->place->offset[t] != UINT64_MAX;
}

static int find_maker(const struct paper *p, int t)
{
    if (p->made[t] >= 0) return p->made[t];
    /* A view is made by the node that made what it shows: any written tensor of its memory that is
     * not itself in place on another. Views are the only tensors that no node writes. */
    int owner = p->graph->tensor[t].alias_of;
    return owner >= 0 ? -2 : -1;
}

static int count_damage(const struct rp_graph *graph, const struct rp_plan_place *place)
{
    size_t n = (size_t)(place->bytes / 256 + 1);
    struct paper p = {.graph = graph, .place = place};
    p.writer = malloc(n * sizeof *p.writer);
    p.made = malloc((size_t)graph->n_tensors * sizeof *p.made);
    for (size_t i = 0; i < n; i++) p.writer[i] = -1;
    for (int t = 0; t < graph->n_tensors; t++) p.made[t] = -1;
    int damage = 0;
    for (int node = 0; node <= graph->n_nodes; node++) {
        for (int i = 0; node < graph->n_nodes && i < RP_OP_MAX_IN; i++) {
            int t = graph->node[node].in[i];
            if (t < 0 || !lies_in_arena(&p, t)) continue;
            size_t from = (size_t)place->offset[t] / 256;
            size_t count = (rp_tensor_bytes(&graph->tensor[t].shape) + 255) / 256;
            int maker = find_maker(&p, t);
            for (size_t c = from; c < from + count; c++)
                damage += maker == -2 ? p.writer[c] < 0 || p.writer[c] != p.writer[from]
                                      : p.writer[c] != maker;
        }
        for (int i = 0; node < graph->n_nodes && i < RP_OP_MAX_OUT; i++) {
            int t = graph->node[node].out[i];
            if (t < 0 || !lies_in_arena(&p, t)) continue;
            size_t from = (size_t)place->offset[t] / 256;
            size_t count = (rp_tensor_bytes(&graph->tensor[t].shape) + 255) / 256;
            damage += place->offset[t] % 256 != 0 || place->offset[t] + count * 256 > place->bytes;
            for (size_t c = from; c < from + count; c++) p.writer[c] = node;
            p.made[t] = node;
        }
    }
    /* What the host reads after the pass must still be there. */
    for (int t = 0; t < graph->n_tensors; t++) {
        if (graph->tensor[t].role != RP_ROLE_RESULT || p.made[t] < 0) continue;
        size_t from = (size_t)place->offset[t] / 256;
        size_t count = (rp_tensor_bytes(&graph->tensor[t].shape) + 255) / 256;
        bool shared = false; /* in place of one that is itself the result: the last writer counts */
        for (int o = 0; o < graph->n_tensors; o++) shared |= graph->tensor[o].alias_of == t;
        for (size_t c = from; c < from + count && !shared; c++) damage += p.writer[c] != p.made[t];
    }
    free(p.made);
    free(p.writer);
    return damage;
}

/* Two tensors that are written by one node must not overlap, nor an output and an input of one
 * node, but out[0] on in[0] of an op that allows it. */
static int count_overlaps(const struct rp_graph *graph, const struct rp_plan_place *place)
{
    int overlaps = 0;
    for (int n = 0; n < graph->n_nodes; n++) {
        int t[RP_OP_MAX_IN + RP_OP_MAX_OUT];
        for (int i = 0; i < RP_OP_MAX_IN; i++) t[i] = graph->node[n].in[i];
        for (int i = 0; i < RP_OP_MAX_OUT; i++) t[RP_OP_MAX_IN + i] = graph->node[n].out[i];
        for (int a = 0; a < RP_OP_MAX_IN + RP_OP_MAX_OUT; a++) {
            for (int b = RP_OP_MAX_IN; b < RP_OP_MAX_IN + RP_OP_MAX_OUT; b++) {
                if (a >= b || t[a] < 0 || t[b] < 0) continue;
                uint64_t x = place->offset[t[a]], y = place->offset[t[b]];
                if (x == UINT64_MAX || y == UINT64_MAX) continue;
                if (a == 0 && b == RP_OP_MAX_IN && x == y &&
                    rp_op_info(graph->node[n].op)->in_place)
                    continue;
                overlaps += x < y + rp_tensor_bytes(&graph->tensor[t[b]].shape) &&
                            y < x + rp_tensor_bytes(&graph->tensor[t[a]].shape);
            }
        }
    }
    return overlaps;
}

static void check(struct made *m)
{
    struct rp_plan *plan = make(m);
    CHECK_INT(count_damage(&plan->model->train, &plan->train_place), 0);
    CHECK_INT(count_overlaps(&plan->model->train, &plan->train_place), 0);
    CHECK_INT(count_damage(&plan->model->eval, &plan->eval_place), 0);
    CHECK_INT(count_overlaps(&plan->model->eval, &plan->eval_place), 0);
    const struct rp_graph *graph = &plan->model->train;
    for (int t = 0; t < graph->n_tensors; t++) {
        enum rp_role role = graph->tensor[t].role;
        bool elsewhere = role != RP_ROLE_ACTIVATION && role != RP_ROLE_RESULT;
        if (elsewhere) CHECK(plan->train_place.offset[t] == UINT64_MAX);
    }
    rp_plan_free(plan);
}

static void test_nets(void)
{
    struct made m;
    made_lenet(&m);
    check(&m);
    m.spec.train.micro_batch = 2;
    check(&m);
    for (int depth = 18; depth <= 50; depth += depth == 18 ? 2 : 30) { /* 18, 20, 50 */
        made_resnet(&m, depth, depth == 18, 32, 10);
        check(&m);
    }
    made_init(&m, 8, 8, 2);
    m.spec.model.kind = RP_MODEL_MLP;
    m.spec.model.activation = RP_LAYER_SILU;
    m.spec.model.dropout = 0.25f;
    for (int i = 0; i < 5; i++) m.spec.model.hidden[i] = 40 - 7 * i;
    m.spec.model.n_hidden = 5;
    check(&m);
}

/* An activation of every kind, one after another, with norms. */
static void test_all_layers(void)
{
    struct made m;
    made_init(&m, 12, 12, 3);
    made_conv(&m, 8, 3, 1, 1);
    made_add(&m, RP_LAYER_BATCH_NORM);
    made_add(&m, RP_LAYER_GELU);
    made_add(&m, RP_LAYER_LAYER_NORM);
    made_add(&m, RP_LAYER_SIGMOID);
    made_pool(&m, RP_LAYER_AVGPOOL2D, 2);
    made_add(&m, RP_LAYER_TANH);
    struct rp_spec_layer body[3] = {{.kind = RP_LAYER_SILU, .at = {4, 1}},
                                    {.kind = RP_LAYER_DROPOUT, .at = {4, 1}, .p = 0.5f},
                                    {.kind = RP_LAYER_RELU, .at = {4, 1}}};
    made_add(&m, RP_LAYER_RESIDUAL)->body = (struct rp_spec_layers){.layer = body, .n = 3};
    made_add(&m, RP_LAYER_RESIDUAL); /* x + x */
    made_pool(&m, RP_LAYER_MAXPOOL2D, 2);
    made_add(&m, RP_LAYER_FLATTEN);
    made_add(&m, RP_LAYER_GELU_TANH);
    made_add(&m, RP_LAYER_DROPOUT)->p = 0.1f;
    made_linear(&m, 10);
    made_add(&m, RP_LAYER_RELU);
    check(&m);
}

/* ---- in place -------------------------------------------------------------------------------- */

static bool shares(const struct rp_plan *plan, bool eval, const char *a, const char *b)
{
    const struct rp_graph *graph = eval ? &plan->model->eval : &plan->model->train;
    const struct rp_plan_place *place = eval ? &plan->eval_place : &plan->train_place;
    int x = made_tensor(graph, a), y = made_tensor(graph, b);
    if (x < 0 || y < 0) {
        printf("no tensor %s or %s\n", a, b);
        exit(1);
    }
    int p = graph->tensor[x].alias_of >= 0 ? graph->tensor[x].alias_of : x;
    int q = graph->tensor[y].alias_of >= 0 ? graph->tensor[y].alias_of : y;
    return p == q && place->offset[x] == place->offset[y];
}

static void test_in_place(void)
{
    struct made m;
    made_lenet(&m);
    struct rp_plan *plan = make(&m);
    CHECK(shares(plan, false, "layers.0", "layers.1")); /* relu over the convolution's output */
    CHECK(shares(plan, false, "layers.5", "layers.6")); /* flatten is a view */
    CHECK(!shares(plan, false, "layers.1", "layers.2"));
    CHECK(shares(plan, false, "layers.11", "layers.11.grad")); /* dlogits over logits */
    CHECK(!shares(plan, false, "layers.8", "layers.8.grad"));  /* a relu's output is still read */
    CHECK(shares(plan, false, "layers.8.grad", "layers.7.grad"));
    uint64_t in_place = plan->train_place.bytes;
    rp_plan_free(plan);

    /* Control: gelu needs its input in backward, so it cannot overwrite it in training, nor may it
     * in evaluation, because the op is not one that can. */
    m.layer[1].kind = RP_LAYER_GELU;
    plan = make(&m);
    CHECK(!shares(plan, false, "layers.0", "layers.1"));
    CHECK(!shares(plan, true, "layers.0", "layers.1"));
    CHECK(plan->train_place.bytes > in_place);
    rp_plan_free(plan);

    /* The input of a residual block is read twice: its first relu must not overwrite it. */
    made_init(&m, 4, 4, 4);
    struct rp_spec_layer body[1] = {{.kind = RP_LAYER_RELU, .at = {4, 1}}};
    made_conv(&m, 4, 3, 1, 1);
    made_add(&m, RP_LAYER_RESIDUAL)->body = (struct rp_spec_layers){.layer = body, .n = 1};
    made_add(&m, RP_LAYER_FLATTEN);
    made_linear(&m, 10);
    plan = make(&m);
    CHECK(!shares(plan, true, "layers.0", "layers.1.body.0"));
    CHECK(shares(plan, true, "layers.1.body.0", "layers.1"));   /* evaluation: the sum may */
    CHECK(!shares(plan, false, "layers.1.body.0", "layers.1")); /* training: relu_dx reads it */
    rp_plan_free(plan);

    /* Nothing is written over the input or the parameters. */
    made_init(&m, 16, 1, 1);
    m.data.n_dims = 1;
    made_add(&m, RP_LAYER_RELU);
    made_linear(&m, 10);
    plan = make(&m);
    CHECK_INT(plan->model->train.tensor[made_tensor(&plan->model->train, "layers.0")].alias_of,
              RP_GRAPH_NO_TENSOR);
    rp_plan_free(plan);
}

/* ---- the checks can fail --------------------------------------------------------------------- */

static void test_controls(void)
{
    struct made m;
    made_lenet(&m);
    struct rp_plan *plan = make(&m);
    const struct rp_graph *graph = &plan->model->train;
    /* A large activation laid over the one before it. */
    int a = made_tensor(graph, "layers.0"), b = made_tensor(graph, "layers.2");
    uint64_t kept = plan->train_place.offset[b];
    plan->train_place.offset[b] = plan->train_place.offset[a];
    CHECK(count_damage(graph, &plan->train_place) > 0);
    CHECK(count_overlaps(graph, &plan->train_place) > 0);
    plan->train_place.offset[b] = kept;
    CHECK_INT(count_damage(graph, &plan->train_place), 0);
    /* One byte too few in a life: a tensor freed a node too early may be overwritten. */
    struct rp_plan_place *place = &plan->train_place;
    int tap = made_tensor(graph, "layers.2.tap"), grad = made_tensor(graph, "layers.7.grad");
    kept = place->offset[grad];
    place->offset[grad] = place->offset[tap];
    CHECK(count_damage(graph, place) > 0);
    place->offset[grad] = kept;
    rp_plan_free(plan);
}

int main(void)
{
    test_nets();
    test_all_layers();
    test_in_place();
    test_controls();
    return test_result();
}
