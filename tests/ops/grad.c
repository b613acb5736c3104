/* grad.c - every gradient rule against central differences of the fp64 forward.
 *
 * With random weights w_j on the outputs y_j, the rules must give g_k = sum over j of w_j
 * dy_j/dx_k. The differences also give M_k = sum over j of |w_j dy_j/dx_k|, the size of what is
 * added up, so the bound on |got - want| is u (terms + steps) (M_k + inner), u = 2^-24: `terms`
 * roundings of the sum (times `chain`, the sums that follow each other inside the op), `steps`
 * roundings of the rest, and `inner`, the size of the values of order one that may cancel inside
 * the op. */
#include <inttypes.h>
#include <math.h>

#include "run.h"

struct precision {
    double chain, steps, inner;
};

/* Products and pooling are sums alone; elementary functions are within 2 ulp (about 10 roundings on
 * the way); norms chain mean, variance, and two sums of the gradient, over values up to 4
 * deviations. */
static struct precision precision_of(const struct op_case *c)
{
    const struct rp_tensor *w = &c->call.in[1];
    switch (c->call.op) {
    case RP_OP_linear:
    case RP_OP_conv2d:
    case RP_OP_maxpool2d:
    case RP_OP_avgpool2d:
    case RP_OP_global_avgpool:
    case RP_OP_relu:
    case RP_OP_dropout:
    case RP_OP_embedding:
        return (struct precision){1, 4, 0};
    case RP_OP_batch_norm:
    case RP_OP_layer_norm:
    case RP_OP_rms_norm:
        return (struct precision){4, 16, 4};
    case RP_OP_lm_loss: /* and a sum over the classes of what a sum over the width made */
        return (struct precision){1, 16 + (double)(w->dims[0] + w->dims[1]), 4};
    case RP_OP_cross_entropy:
    case RP_OP_cross_entropy_mix:
    case RP_OP_mse:
        return (struct precision){1, 16, 4};
    default:
        return (struct precision){1, 16, 1.5};
    }
}

static struct op_case grad_case(const struct op_case *item)
{
    struct op_case c = *item;
    struct rp_error err = {0};
    c.unwanted = 0; /* the rules may read any output */
    if (c.call.op == RP_OP_relu || c.call.op == RP_OP_maxpool2d) c.fill[0] = FILL_DISTINCT;
    check_status(rp_op_shape(&c.call, &err), "shape", &err);
    return c;
}

/* What the rules of one case read and write, as fp32 on the host. */
struct gradients {
    struct op_values forward;
    float *weight;              /* of out[0]: its gradient */
    float *of_in[RP_OP_MAX_IN]; /* gradients that the rules made, or NULL */
};

static void *source_data(struct gradients *g, uint8_t source)
{
    int i = source & 15;
    switch (source & 0xf0) {
    case RP_GRAD_IN:
        return g->forward.in[i];
    case RP_GRAD_OUT:
        return g->forward.out[i];
    case RP_GRAD_DOUT:
        return g->weight;
    default:
        return NULL;
    }
}

static const struct rp_tensor *source_shape(const struct op_case *c, uint8_t source)
{
    int i = source & 15;
    switch (source & 0xf0) {
    case RP_GRAD_IN:
    case RP_GRAD_DIN:
        return &c->call.in[i];
    default:
        return &c->call.out[i];
    }
}

static void run_rule(struct rp_device *device, const struct op_case *c,
                     const struct rp_grad_rule *rule, struct gradients *g)
{
    struct op_case r = {
        .call.op = rule->op, .call.params = c->call.params, .pass = c->pass, .parts = 1};
    struct op_values values = {0};
    struct rp_error err = {0};
    for (int i = 0; i < RP_OP_MAX_IN && rule->in[i] != RP_GRAD_NONE; i++) {
        r.call.in[i] = *source_shape(c, rule->in[i]);
        values.in[i] = source_data(g, rule->in[i]);
    }
    for (int i = 0; i < RP_OP_MAX_OUT && rule->out[i] != RP_GRAD_NONE; i++) {
        int to = rule->out[i] & 15;
        if (c->call.in[to].n_dims == 0) { /* no bias, no gradient of it */
            if (i == 0) return;
            continue;
        }
        r.call.out[i] = *source_shape(c, rule->out[i]);
        g->of_in[to] = malloc(rp_tensor_bytes(&r.call.out[i]));
        memset(g->of_in[to], 0xff, rp_tensor_bytes(&r.call.out[i]));
        values.out[i] = g->of_in[to];
    }
    check_status(rp_op_shape(&r.call, &err), rp_op_info(rule->op)->name, &err);
    if (!run_case(device, &r, &values, false, values.out)) {
        printf("%s wrote outside its outputs\n", rp_op_info(rule->op)->name);
        exit(1);
    }
}

/* ---- differences ---------------------------------------------------------------------------- */

static double *to_doubles(const struct rp_tensor *tensor, const void *data)
{
    int64_t n = rp_tensor_elements(tensor);
    double *x = malloc(sizeof(*x) * (size_t)n);
    if (!x) exit(1);
    for (int64_t i = 0; i < n; i++)
        x[i] = tensor->dtype == RP_DTYPE_I32 ? (double)((const int32_t *)data)[i]
                                             : (double)((const float *)data)[i];
    return x;
}

struct difference {
    double gradient, size; /* g_k and M_k */
    int64_t terms;
};

static struct difference differentiate(const struct op_case *c, double *const in[], int i,
                                       int64_t k, const float *weight, double *low, double *high)
{
    const double h = 0x1p-16, at = in[i][k];
    struct difference d = {0};
    in[i][k] = at - h;
    forward64(c, in, low);
    in[i][k] = at + h;
    forward64(c, in, high);
    in[i][k] = at;
    for (int64_t j = 0; j < rp_tensor_elements(&c->call.out[0]); j++) {
        double part = (double)weight[j] * (high[j] - low[j]) / (2 * h);
        d.gradient += part;
        d.size += fabs(part);
        d.terms += part != 0;
    }
    return d;
}

struct tally {
    int64_t elements, wrong, blind;
    double worst; /* error as a part of its bound */
};

static void check_input(const struct op_case *c, double *const in[], int i,
                        const struct gradients *g, struct tally *tally)
{
    int64_t n = rp_tensor_elements(&c->call.in[i]), n_out = rp_tensor_elements(&c->call.out[0]);
    double *low = malloc(sizeof(*low) * (size_t)n_out),
           *high = malloc(sizeof(*high) * (size_t)n_out);
    struct precision p = precision_of(c);
    double largest = 0;
    if (!low || !high) exit(1);
    for (int64_t j = 0; j < n_out; j++) largest = fmax(largest, fabs((double)g->weight[j]));
    for (int64_t k = 0; k < n; k++) {
        struct difference d = differentiate(c, in, i, k, g->weight, low, high);
        double error = fabs((double)g->of_in[i][k] - d.gradient);
        /* The differences themselves: h^2 of the third derivative and fp64 roundings over h. */
        double bound =
            0x1p-24 * (p.chain * (double)d.terms + p.steps) * (d.size + p.inner * largest) +
            0x1p-31 * (d.size + largest);
        if (d.size > 0) {
            tally->elements++;
            tally->blind += bound > 0.01 * fabs(d.gradient);
        }
        tally->worst = fmax(tally->worst, error / bound);
        if (error <= bound) continue;
        if (tally->wrong++ < 4) {
            char text[256];
            case_text(c, text, sizeof(text));
            printf("%s: gradient of input %d, element %" PRId64 ": got %.9g, want %.9g +- %.2g\n",
                   text, i, k, (double)g->of_in[i][k], d.gradient, bound);
        }
    }
    free(high);
    free(low);
}

static void check_case(struct rp_device *device, const struct op_case *item, struct tally *tally)
{
    struct op_case c = grad_case(item);
    struct gradients g = {0};
    double *in[RP_OP_MAX_IN] = {0};
    bool is_loss = c.call.op == RP_OP_cross_entropy || c.call.op == RP_OP_cross_entropy_mix ||
                   c.call.op == RP_OP_lm_loss || c.call.op == RP_OP_mse;
    int64_t n_out = rp_tensor_elements(&c.call.out[0]);
    values_make(&c, 3, 0, &g.forward);
    if (!run_case(device, &c, &g.forward, false, g.forward.out)) exit(1);
    g.weight = malloc(sizeof(*g.weight) * (size_t)n_out);
    for (int64_t j = 0; j < n_out; j++)
        g.weight[j] =
            is_loss ? c.pass.grad_scale : (float)(int32_t)random_word(99, (uint64_t)j) * 0x1p-31f;
    for (int i = 0; i < RP_OP_MAX_IN; i++)
        if (g.forward.in[i]) in[i] = to_doubles(&c.call.in[i], g.forward.in[i]);

    for (const struct rp_grad_rule *rule = rp_op_info(c.call.op)->rules; rule->out[0] != 0; rule++)
        run_rule(device, &c, rule, &g);
    for (int i = 0; i < RP_OP_MAX_IN; i++)
        if (g.of_in[i]) check_input(&c, in, i, &g, tally);

    for (int i = 0; i < RP_OP_MAX_IN; i++) {
        free(in[i]);
        free(g.of_in[i]);
    }
    free(g.weight);
    values_free(&g.forward);
}

/* Differences cost the square of a case's size: those with more work than this are left to compare.
 */
static bool is_small(const struct op_case *c)
{
    double flops, bytes, elements = 0;
    struct op_case shaped = grad_case(c);
    rp_op_cost(&shaped.call, &flops, &bytes);
    for (int i = 0; i < RP_OP_MAX_IN; i++)
        if (c->call.in[i].n_dims > 0) elements += (double)rp_tensor_elements(&c->call.in[i]);
    return elements * (flops + (double)rp_tensor_elements(&shaped.call.out[0])) < 3e8;
}

int mode_grad(const struct op_cases *cases, const char *filter)
{
    char paths[64];
    snprintf(paths, sizeof(paths), "%s", rp_cpu_paths());
    struct rp_device *device = device_open(strtok(paths, " "), 2);
    int failed = 0;
    for (int op = 0; op < RP_OP_COUNT; op++) {
        struct tally tally = {0};
        int n = 0;
        const struct rp_grad_rule *rules = rp_op_info((enum rp_op)op)->rules;
        if (!rules || rules->out[0] == 0) continue; /* add has rules but none to run */
        for (int i = 0; i < cases->n; i++) {
            const struct op_case *c = &cases->item[i];
            if (c->call.op != (enum rp_op)op || !case_matches(c, filter) || !is_small(c)) continue;
            if (c->unwanted) continue;             /* what the rules read is not there */
            if (c->pass.first_token > 0) continue; /* only sampling begins there */
            check_case(device, c, &tally);
            n++;
        }
        if (filter && n == 0) continue;
        /* A bound that would not see an error of 1 % in most elements is no test. */
        bool blind = n == 0 || tally.blind * 4 > tally.elements;
        if (blind)
            printf("%s: too few gradients are bounded tightly\n", rp_op_info((enum rp_op)op)->name);
        printf("%-16s %3d cases %8" PRId64 " gradients, worst error %.2f of its bound%s\n",
               rp_op_info((enum rp_op)op)->name, n, tally.elements, tally.worst,
               tally.wrong || blind ? "  FAILED" : "");
        failed += tally.wrong > 0 || blind;
    }
    device_close(device);
    return failed != 0;
}
