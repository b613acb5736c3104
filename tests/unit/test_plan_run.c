/* test_plan_run.c - graphs run on the CPU device: the planned arena, with all that is done in
 * place, gives the very bits of a run where every tensor has memory of its own; and the gradients
 * of a whole model are those of its loss, by central differences along random directions. */
#include "made_spec.h"

#include "base/mem.h"
#include "numerics.h"

#include <math.h>

static struct rp_error err;

/* One graph with memory: everything that lies outside the arena is shared between the two ways. */
struct machine {
    struct rp_plan *plan;
    const struct rp_graph *graph;
    struct rp_device *device;
    void **kept; /* per kept tensor */
    void *x, *y;
};

struct run {
    void **memory; /* per tensor of the graph */
    void *arena;
};

static void *block(size_t bytes)
{
    void *made = rp_mem_try(bytes ? bytes : 1);
    if (!made) exit(1);
    return made;
}

/* Values in [-1, 1) that depend on `salt` and place only. */
static void draw(float *values, int64_t n, uint32_t salt)
{
    for (int64_t i = 0; i < n; i++) {
        struct rp_draw bits = rp_draw_block(99, RP_PURPOSE_TEST, salt, 0, (uint32_t)i);
        values[i] = 2.0f * rp_uniform(bits.u[0]) - 1.0f;
    }
}

static void machine_init(struct machine *m, struct made *made)
{
    struct rp_device_config config = {.threads = 1, .poison = true};
    m->plan = NULL;
    if (rp_plan_make(&made->spec, &made->data, 1, &m->plan, &err) != RP_STATUS_OK ||
        rp_device_cpu.open(&config, &m->device, &err) != RP_STATUS_OK) {
        printf("%s\n", err.text);
        exit(1);
    }
    const struct rp_model *model = m->plan->model;
    m->graph = &model->train;
    m->kept = calloc((size_t)model->n_kept, sizeof *m->kept);
    for (int i = 0; i < model->n_kept; i++) {
        m->kept[i] = block(rp_tensor_bytes(&model->kept[i].shape));
        rp_model_init_part(model, made->spec.seed, i, 0, rp_tensor_elements(&model->kept[i].shape),
                           m->kept[i]);
    }
    const struct rp_tensor *x = &m->graph->tensor[m->graph->input].shape;
    const struct rp_tensor *y = &m->graph->tensor[m->graph->target].shape;
    m->x = block(rp_tensor_bytes(x));
    m->y = block(rp_tensor_bytes(y));
    draw(m->x, rp_tensor_elements(x), 1);
    if (y->dtype == RP_DTYPE_F32) draw(m->y, rp_tensor_elements(y), 2);
    int32_t *classes = m->y;
    for (int64_t i = 0; y->dtype == RP_DTYPE_I32 && i < rp_tensor_elements(y); i++)
        classes[i] = (int32_t)((i * 7) % made->data.n_classes);
}

static void machine_release(struct machine *m)
{
    for (int i = 0; i < m->plan->model->n_kept; i++) rp_mem_free(m->kept[i]);
    free(m->kept);
    rp_mem_free(m->x);
    rp_mem_free(m->y);
    rp_device_cpu.close(m->device);
    rp_plan_free(m->plan);
}

static void *outside(const struct machine *m, int t)
{
    const struct rp_model *model = m->plan->model;
    if (t == m->graph->input) return m->x;
    if (t == m->graph->target) return m->y;
    for (int i = 0; i < model->n_kept; i++)
        if (model->kept[i].train_tensor == t) return m->kept[i];
    return NULL;
}

/* planned: where the plan says. Else: all by themselves, but views, which a node reads and none
 * writes. */
static void run_init(struct run *run, const struct machine *m, bool planned)
{
    const struct rp_graph *graph = m->graph;
    char *written = calloc((size_t)graph->n_tensors, 1);
    run->memory = calloc((size_t)graph->n_tensors, sizeof *run->memory);
    run->arena = block(m->plan->train_place.bytes);
    memset(run->arena, 0xff, m->plan->train_place.bytes); /* NaN */
    for (int n = 0; n < graph->n_nodes; n++)
        for (int i = 0; i < RP_OP_MAX_OUT; i++)
            if (graph->node[n].out[i] >= 0) written[graph->node[n].out[i]] = 1;
    for (int t = 0; t < graph->n_tensors; t++) {
        enum rp_role role = graph->tensor[t].role;
        uint64_t offset = m->plan->train_place.offset[t];
        run->memory[t] = outside(m, t);
        if (role == RP_ROLE_SUM || (!planned && written[t]))
            run->memory[t] = block(rp_tensor_bytes(&graph->tensor[t].shape));
        else if (planned && offset != UINT64_MAX)
            run->memory[t] = (char *)run->arena + offset;
    }
    free(written);
}

static void run_release(struct run *run, const struct machine *m)
{
    for (int t = 0; t < m->graph->n_tensors; t++) {
        char *at = run->memory[t], *arena = run->arena;
        bool in_arena = at >= arena && at < arena + m->plan->train_place.bytes;
        if (!in_arena && at != outside(m, t)) rp_mem_free(at);
    }
    rp_mem_free(run->arena);
    free(run->memory);
}

/* The memory of a tensor; of a view without the plan, what the last node wrote that it shows. */
static void *memory_of(const struct run *run, const struct machine *m, const int *shown, int t)
{
    if (t < 0) return NULL;
    if (run->memory[t]) return run->memory[t];
    (void)m;
    return run->memory[shown[t]];
}

static void run_graph(struct run *run, const struct machine *m, const int *shown)
{
    const struct rp_plan *plan = m->plan;
    struct rp_pass pass = {.seed = 5, .grad_scale = 1.0f / (float)plan->pass_samples};
    uint64_t slot;
    rp_plan_pass(plan, 0, &pass.rows, &slot);
    for (int n = 0; n < m->graph->n_nodes; n++) {
        struct rp_op_call call;
        rp_graph_call(m->graph, n, &call);
        for (int i = 0; i < RP_OP_MAX_IN; i++)
            call.in[i].data = memory_of(run, m, shown, m->graph->node[n].in[i]);
        for (int i = 0; i < RP_OP_MAX_OUT; i++)
            call.out[i].data = memory_of(run, m, shown, m->graph->node[n].out[i]);
        CHECK_OK(rp_device_cpu.run(m->device, &call, &pass, &err), &err);
    }
    CHECK_OK(rp_device_cpu.sync(m->device, &err), &err);
}

/* What each view shows: of the tensors that share its memory in the plan, the one that a node wrote
 * last before the view is read; a view of the input has none. */
static int *find_shown(const struct rp_graph *graph)
{
    int *shown = malloc((size_t)graph->n_tensors * sizeof *shown);
    int *by = malloc((size_t)graph->n_tensors * sizeof *by);
    for (int t = 0; t < graph->n_tensors; t++) shown[t] = by[t] = -1;
    for (int n = 0; n < graph->n_nodes; n++)
        for (int i = 0; i < RP_OP_MAX_OUT; i++)
            if (graph->node[n].out[i] >= 0) by[graph->node[n].out[i]] = n;
    for (int n = 0; n < graph->n_nodes; n++) {
        for (int i = 0; i < RP_OP_MAX_IN; i++) {
            int view = graph->node[n].in[i], best = -1;
            if (view < 0 || by[view] >= 0 || graph->tensor[view].alias_of < 0) continue;
            int owner = graph->tensor[view].alias_of;
            for (int t = 0; t < graph->n_tensors; t++) {
                bool same = t == owner || graph->tensor[t].alias_of == owner;
                if (same && by[t] >= 0 && by[t] < n && (best < 0 || by[t] > by[best])) best = t;
            }
            shown[view] = best < 0 ? owner : best; /* a view of the input */
        }
    }
    free(by);
    return shown;
}

/* Bits of every sum and every result after both ways; the number of tensors compared. */
static int count_differences(const struct machine *m, const struct run *a, const struct run *b)
{
    int differences = 0;
    for (int t = 0; t < m->graph->n_tensors; t++) {
        enum rp_role role = m->graph->tensor[t].role;
        if (role != RP_ROLE_SUM && role != RP_ROLE_RESULT) continue;
        size_t bytes = rp_tensor_bytes(&m->graph->tensor[t].shape);
        differences += memcmp(a->memory[t], b->memory[t], bytes) != 0;
    }
    return differences;
}

static double loss_of(const struct machine *m, const struct run *run)
{
    const float *rows = run->memory[m->graph->loss_rows];
    int64_t n = rp_tensor_elements(&m->graph->tensor[m->graph->loss_rows].shape);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += rows[i];
    return sum / (double)n;
}

/* The gradient along a direction in one parameter: from the backward pass, and from the loss on
 * both sides. The loss is a mean of fp32 values of some 1: its error is below 1e-6, so a difference
 * of two over 2h with h = 1/64 is good to about 1e-4, to which the third derivative adds; kinks of
 * relu and maxpool are met by few samples. The bound of 2 % of the largest slope, plus 1e-3, has
 * room for both and none for a missing or doubled term. */
static void check_slope(const struct machine *m, struct run *run, const int *shown, int kept,
                        double largest)
{
    const struct rp_model_tensor *tensor = &m->plan->model->kept[kept];
    int64_t n = rp_tensor_elements(&tensor->shape);
    float *direction = block((size_t)n * sizeof(float)), *value = m->kept[kept];
    float *saved = block((size_t)n * sizeof(float));
    const float *grad = run->memory[tensor->grad_tensor];
    double slope = 0, length = 0, side[2];
    draw(direction, n, 100 + (uint32_t)kept);
    for (int64_t i = 0; i < n; i++) length += (double)direction[i] * direction[i];
    for (int64_t i = 0; i < n; i++) {
        direction[i] = (float)(direction[i] / sqrt(length));
        slope += (double)grad[i] * direction[i];
    }
    memcpy(saved, value, (size_t)n * sizeof(float));
    for (int s = 0; s < 2; s++) {
        for (int64_t i = 0; i < n; i++)
            value[i] = saved[i] + (s ? -0x1p-6f : 0x1p-6f) * direction[i];
        run_graph(run, m, shown);
        side[s] = loss_of(m, run);
    }
    memcpy(value, saved, (size_t)n * sizeof(float));
    double measured = (side[0] - side[1]) * 32.0;
    if (fabs(measured - slope) > 0.02 * largest + 1e-3) {
        printf("%s: slope %g, measured %g\n", tensor->name, slope, measured);
        test_failures++;
    }
    rp_mem_free(saved);
    rp_mem_free(direction);
}

static double gradient_length(const struct machine *m, const struct run *run, int kept)
{
    const struct rp_model_tensor *tensor = &m->plan->model->kept[kept];
    const float *grad = run->memory[tensor->grad_tensor];
    double squares = 0;
    for (int64_t i = 0; i < rp_tensor_elements(&tensor->shape); i++)
        squares += (double)grad[i] * grad[i];
    return sqrt(squares);
}

static void check(struct made *made, bool slopes)
{
    struct machine m;
    struct run planned, apart;
    machine_init(&m, made);
    int *shown = find_shown(m.graph);
    run_init(&planned, &m, true);
    run_init(&apart, &m, false);
    run_graph(&planned, &m, shown);
    run_graph(&apart, &m, shown);
    CHECK_INT(count_differences(&m, &planned, &apart), 0);
    CHECK(isfinite(loss_of(&m, &planned)));
    for (int i = 0; slopes && i < m.plan->model->n_parameters; i++) {
        if (m.plan->model->kept[i].frozen) continue;
        run_graph(&apart, &m, shown);
        check_slope(&m, &apart, shown, i, gradient_length(&m, &apart, i));
    }
    /* Control: another first weight gives other bits. */
    run_graph(&planned, &m, shown);
    ((float *)m.kept[0])[0] += 0.5f;
    run_graph(&apart, &m, shown);
    CHECK(count_differences(&m, &planned, &apart) > 0);
    run_release(&planned, &m);
    run_release(&apart, &m);
    free(shown);
    machine_release(&m);
}

static void test_lenet(void)
{
    struct made m;
    made_lenet(&m);
    check(&m, true);
    made_freeze(&m, 0, "layers.3.*");
    check(&m, true);
    made_freeze(&m, 0, "layers.9.weight");
    check(&m, true);
}

static void test_mlp(void)
{
    static const enum rp_layer_kind kinds[] = {RP_LAYER_RELU, RP_LAYER_GELU,    RP_LAYER_GELU_TANH,
                                               RP_LAYER_SILU, RP_LAYER_SIGMOID, RP_LAYER_TANH};
    for (size_t i = 0; i < RP_COUNT(kinds); i++) {
        struct made m;
        made_init(&m, 6, 5, 2);
        m.spec.model.kind = RP_MODEL_MLP;
        m.spec.model.activation = kinds[i];
        m.spec.model.dropout = i % 2 ? 0.25f : 0.0f;
        m.spec.model.hidden[0] = 33;
        m.spec.model.hidden[1] = 17;
        m.spec.model.n_hidden = 2;
        if (i == 3) {
            m.data.target = RP_TARGET_VALUES;
            m.data.n_values = 1;
            m.spec.train.loss = RP_LOSS_MSE;
        }
        check(&m, true);
    }
}

static void test_resnet(void)
{
    struct made m;
    made_resnet(&m, 20, false, 8, 10);
    check(&m, false);
    made_freeze(&m, 0, "bn1.weight");
    made_freeze(&m, 1, "layer2.0.bn1.*");
    check(&m, false);
    made_resnet(&m, 50, true, 8, 10);
    m.spec.train.batch = 8;
    m.spec.train.shards = 2;
    check(&m, false);
}

/* Norms, poolings, residual blocks in one small net, with slopes: uses of one tensor are added up.
 */
static void test_mixed(void)
{
    struct made m;
    made_init(&m, 6, 6, 3);
    made_conv(&m, 8, 3, 1, 1);
    m.layer[0].groups = 1;
    made_add(&m, RP_LAYER_BATCH_NORM);
    made_add(&m, RP_LAYER_TANH);
    struct rp_spec_layer body[2] = {{.kind = RP_LAYER_SILU, .at = {4, 1}},
                                    {.kind = RP_LAYER_CONV2D,
                                     .at = {4, 1},
                                     .out = 8,
                                     .kernel = {3, 3},
                                     .stride = {1, 1},
                                     .padding = {1, 1},
                                     .groups = 4,
                                     .bias = true}};
    struct rp_spec_layer shortcut[1] = {{.kind = RP_LAYER_LAYER_NORM, .at = {4, 1}, .eps = 1e-5f}};
    made_add(&m, RP_LAYER_RESIDUAL)->body = (struct rp_spec_layers){.layer = body, .n = 2};
    made_add(&m, RP_LAYER_RESIDUAL)->body = (struct rp_spec_layers){.layer = body, .n = 2};
    m.layer[4].shortcut = (struct rp_spec_layers){.layer = shortcut, .n = 1};
    made_add(&m, RP_LAYER_RESIDUAL); /* x + x */
    made_pool(&m, RP_LAYER_AVGPOOL2D, 2);
    made_add(&m, RP_LAYER_FLATTEN);
    made_linear(&m, 12);
    made_add(&m, RP_LAYER_LAYER_NORM);
    made_add(&m, RP_LAYER_DROPOUT)->p = 0.1f;
    made_linear(&m, 10);
    check(&m, true);
    made_freeze(&m, 0, "layers.9.weight");
    made_freeze(&m, 1, "layers.1.bias");
    check(&m, true);
}

int main(void)
{
    test_lenet();
    test_mlp();
    test_resnet();
    test_mixed();
    return test_result();
}
