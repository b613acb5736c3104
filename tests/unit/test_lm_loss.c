/* test_lm_loss.c - the fused head and loss of a language model beside the chain that it replaces,
 * op by op: the same bits, whatever rows of logits are kept, in whatever blocks of classes, whole
 * or in passes that end inside a shard. And its shapes: what is refused, how many rows are kept. */
#include <stdbool.h>

#include "device.h"
#include "test.h"

enum { MAX_DEVICES = 4 };

static struct rp_device *devices[MAX_DEVICES];
static int n_devices;

static void open_devices(void)
{
    char paths[64];
    struct rp_error err = {0};
    snprintf(paths, sizeof paths, "%s", rp_cpu_paths());
    for (char *path = strtok(paths, " "); path; path = strtok(NULL, " ")) {
        struct rp_device_config config = {
            .threads = n_devices % 2 ? 1 : 2, .path = path, .poison = true};
        if (n_devices == MAX_DEVICES) return;
        CHECK_OK(rp_device_cpu.open(&config, &devices[n_devices++], &err), &err);
    }
}

struct sizes {
    int samples, tokens, width, classes, shards, parts; /* parts: one shard in so many passes */
    int kept, columns;                                  /* 0: as the op chooses */
    float smoothing;
    bool gaps; /* some rows have no target */
};

/* What the chain and the fused ops make of the same numbers. */
struct results {
    float *loss, *dx, *dw;
    int32_t *rank;
};

struct numbers {
    float *x, *w;
    int32_t *target;
};

static uint32_t random_state = 1;

static float random_value(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(int32_t)random_state / 2147483648.0f;
}

static void *room(int64_t n)
{
    void *block = malloc((size_t)n * sizeof(float) + 1);
    if (!block) exit(1);
    memset(block, 0xff, (size_t)n * sizeof(float));
    return block;
}

static float *random_room(int64_t n)
{
    float *values = room(n);
    for (int64_t i = 0; i < n; i++) values[i] = random_value();
    return values;
}

static int64_t rows_of(const struct sizes *s)
{
    return (int64_t)s->samples * s->tokens;
}

static void make_numbers(const struct sizes *s, struct numbers *v)
{
    v->x = random_room(rows_of(s) * s->width);
    v->w = random_room((int64_t)s->classes * s->width);
    v->target = room(rows_of(s));
    for (int64_t r = 0; r < rows_of(s); r++) {
        v->target[r] = (int32_t)((random_value() + 1) / 2 * (float)s->classes) % s->classes;
        if (s->gaps && random_value() > 0.5f) v->target[r] = -1;
    }
}

static void free_numbers(struct numbers *v)
{
    free(v->x);
    free(v->w);
    free(v->target);
}

static void make_results(const struct sizes *s, struct results *r)
{
    r->loss = room(rows_of(s));
    r->rank = room(rows_of(s));
    r->dx = room(rows_of(s) * s->width);
    r->dw = room((int64_t)s->classes * s->width);
}

static void free_results(struct results *r)
{
    free(r->loss);
    free(r->rank);
    free(r->dx);
    free(r->dw);
}

static struct rp_tensor tensor(enum rp_dtype dtype, void *data, int64_t d0, int64_t d1, int64_t d2)
{
    struct rp_tensor t = {.data = data, .dtype = dtype, .dims = {d0, d1, d2}};
    t.n_dims = d2 ? 3 : d1 ? 2 : 1;
    return t;
}

static void run(struct rp_device *device, struct rp_op_call *call, const struct rp_pass *pass)
{
    struct rp_error err = {0};
    CHECK_OK(rp_op_shape(call, &err), &err);
    CHECK_OK(device->table->run(device, call, pass, &err), &err);
}

static struct rp_pass whole_pass(const struct sizes *s)
{
    return (struct rp_pass){.rows = {.samples_per_shard = s->samples / s->shards,
                                     .n_shards = s->shards,
                                     .n_samples = s->samples},
                            .grad_scale = 1.0f / 48};
}

/* ---- the chain ------------------------------------------------------------------------------- */

static void run_chain(struct rp_device *device, const struct sizes *s, const struct numbers *v,
                      struct results *r)
{
    int64_t rows = rows_of(s), n = s->classes;
    struct rp_pass pass = whole_pass(s);
    float *logits = room(rows * n), *d = room(rows * n);
    int32_t *target = room(rows);
    for (int64_t i = 0; i < rows; i++) target[i] = v->target[i] < 0 ? 0 : v->target[i];
    struct rp_tensor x = tensor(RP_DTYPE_F32, v->x, s->samples, s->tokens, s->width);
    struct rp_tensor w = tensor(RP_DTYPE_F32, v->w, n, s->width, 0);
    struct rp_op_call head = {.op = RP_OP_linear, .in = {x, w}, .out = {{.data = logits}}};
    run(device, &head, &pass);

    struct rp_op_call loss = {.op = RP_OP_cross_entropy,
                              .in = {head.out[0], tensor(RP_DTYPE_I32, target, rows, 0, 0)},
                              .out = {{.data = r->loss}, {.data = r->rank}},
                              .params.loss.label_smoothing = s->smoothing};
    run(device, &loss, &pass);
    struct rp_op_call loss_dx = loss;
    loss_dx.op = RP_OP_cross_entropy_dx;
    loss_dx.out[0] = (struct rp_tensor){.data = d};
    run(device, &loss_dx, &pass);
    for (int64_t i = 0; i < rows; i++) {
        if (v->target[i] >= 0) continue;
        r->loss[i] = 0;
        r->rank[i] = -1;
        memset(d + i * n, 0, (size_t)n * sizeof *d);
    }
    struct rp_op_call dx = {
        .op = RP_OP_linear_dx, .in = {loss_dx.out[0], w}, .out = {{.data = r->dx}}};
    struct rp_op_call dw = {
        .op = RP_OP_linear_dw, .in = {loss_dx.out[0], x}, .out = {{.data = r->dw}}};
    run(device, &dx, &pass);
    run(device, &dw, &pass);
    free(logits);
    free(d);
    free(target);
}

/* ---- the fused ops --------------------------------------------------------------------------- */

/* Samples [first, first + n) of the numbers; `wanted`: bit 0 dx, bit 1 dw. */
static void run_fused(struct rp_device *device, const struct sizes *s, const struct numbers *v,
                      const struct rp_pass *pass, int64_t first, int64_t n, float *chain,
                      unsigned wanted, struct results *r)
{
    int64_t at = first * s->tokens, rows = n * s->tokens;
    struct rp_op_call loss = {
        .op = RP_OP_lm_loss,
        .in = {tensor(RP_DTYPE_F32, v->x + at * s->width, n, s->tokens, s->width),
               tensor(RP_DTYPE_F32, v->w, s->classes, s->width, 0),
               tensor(RP_DTYPE_I32, v->target + at, n, s->tokens, 0)},
        .params.loss = {.label_smoothing = s->smoothing, .columns = s->columns}};
    struct rp_error err = {0};
    int64_t kept = s->kept < rows ? s->kept : rows;
    if (kept) loss.out[3] = tensor(RP_DTYPE_F32, NULL, kept, s->classes, 0);
    CHECK_OK(rp_op_shape(&loss, &err), &err);
    loss.out[0].data = r->loss + at;
    loss.out[1].data = r->rank + at;
    loss.out[2].data = room(rows * 2);
    loss.out[3].data = room(rp_tensor_elements(&loss.out[3]));
    run(device, &loss, pass);

    struct rp_op_call dxw = {.op = RP_OP_lm_loss_dxw,
                             .in = {loss.in[0], loss.in[1], loss.in[2], loss.out[2], loss.out[3]},
                             .params = loss.params};
    if (wanted & 1) dxw.out[0].data = r->dx + at * s->width;
    if (wanted & 2) dxw.out[1].data = r->dw;
    if (wanted & 2) dxw.out[2].data = chain;
    run(device, &dxw, pass);
    free(loss.out[2].data);
    free(loss.out[3].data);
}

static void run_parts(struct rp_device *device, const struct sizes *s, const struct numbers *v,
                      unsigned wanted, struct results *r)
{
    struct rp_pass pass = whole_pass(s);
    float *chain = s->parts > 1 ? room((int64_t)s->classes * s->width) : NULL;
    for (int part = 0; part < s->parts; part++) {
        int64_t first = s->samples * part / s->parts, end = s->samples * (part + 1) / s->parts;
        pass.rows.first_sample = first;
        pass.rows.n_samples = end - first;
        run_fused(device, s, v, &pass, first, end - first, chain, wanted, r);
    }
    free(chain);
}

static bool same(const char *what, const void *got, const void *want, int64_t n, bool say)
{
    if (memcmp(got, want, (size_t)n * sizeof(float)) == 0) return true;
    for (int64_t i = 0; say && i < n; i++) {
        float a = ((const float *)got)[i], b = ((const float *)want)[i];
        if (memcmp(&a, &b, sizeof a) == 0) continue;
        printf("%s: element %" PRId64 " of %" PRId64 " is %a, want %a\n", what, i, n, (double)a,
               (double)b);
        break;
    }
    return false;
}

static bool same_results(const struct sizes *s, const struct results *got,
                         const struct results *want, unsigned wanted, bool say)
{
    int64_t rows = rows_of(s);
    bool good = same("loss", got->loss, want->loss, rows, say);
    good = same("rank", got->rank, want->rank, rows, say) && good;
    if (wanted & 1) good = same("dx", got->dx, want->dx, rows * s->width, say) && good;
    if (wanted & 2)
        good = same("dw", got->dw, want->dw, (int64_t)s->classes * s->width, say) && good;
    return good;
}

static void test_chain(const struct sizes *s)
{
    struct numbers v;
    make_numbers(s, &v);
    for (int d = 0; d < n_devices; d++) {
        struct results want;
        make_results(s, &want);
        run_chain(devices[d], s, &v, &want);
        for (unsigned wanted = 1; wanted < 4; wanted++) {
            struct results got;
            make_results(s, &got);
            run_parts(devices[d], s, &v, wanted, &got);
            if (!same_results(s, &got, &want, wanted, true)) {
                printf("  of %d x %d rows, width %d, %d classes, kept %d, columns %d, parts %d\n",
                       s->samples, s->tokens, s->width, s->classes, s->kept, s->columns, s->parts);
                test_failures++;
            }
            free_results(&got);
        }
        free_results(&want);
    }
    free_numbers(&v);
}

static void test_chains(void)
{
    static const struct sizes sizes[] = {
        /* samples, tokens, width, classes, shards, parts, kept, columns */
        {1, 1, 1, 1, 1, 1, 0, 0, 0, false},
        {4, 9, 24, 65, 4, 1, 0, 0, 0, true},
        {4, 9, 24, 65, 2, 1, 7, 0, 0.1f, false},
        {8, 5, 33, 256, 2, 1, 13, 0, 0, true},
        {6, 5, 24, 256, 1, 4, 3, 0, 0, true},
        {4, 6, 24, 1030, 2, 1, 5, 1024, 0.1f, true},
        {5, 3, 20, 1030, 1, 2, 1, 1024, 0, false},
        {4, 5, 17, 5000, 4, 1, 11, 1024, 0, true},
        {3, 7, 16, 5000, 1, 3, 2, 2048, 0.2f, true},
        {3, 400, 8, 70, 1, 3, 100, 0, 0, true}, /* passes that end inside a panel of rows */
        {2, 1030, 6, 40, 2, 1, 500, 0, 0, false},
        {2, 3, 1050, 65, 1, 1, 2, 0, 0, false},
    };
    for (size_t i = 0; i < RP_COUNT(sizes); i++) test_chain(&sizes[i]);
}

/* A wrong result is seen: another scale, another target, one more row without a target. */
static void test_controls(void)
{
    struct sizes s = {4, 9, 24, 65, 2, 1, 7, 0, 0, false}, smooth = s;
    struct results want, got;
    struct numbers v;
    make_numbers(&s, &v);
    make_results(&s, &want);
    make_results(&s, &got);
    run_chain(devices[0], &s, &v, &want);
    run_parts(devices[0], &s, &v, 3, &got);
    CHECK(same_results(&s, &got, &want, 3, true));
    smooth.smoothing = 0.01f;
    run_parts(devices[0], &smooth, &v, 3, &got);
    CHECK(!same_results(&s, &got, &want, 3, false));
    for (int change = 0; change < 2; change++) {
        int32_t kept = v.target[20];
        v.target[20] = change ? -1 : (kept + 1) % s.classes;
        run_parts(devices[0], &s, &v, 3, &got);
        CHECK(!same("loss", got.loss, want.loss, rows_of(&s), false));
        CHECK(!same("dx", got.dx, want.dx, rows_of(&s) * s.width, false));
        CHECK(!same("dw", got.dw, want.dw, (int64_t)s.classes * s.width, false));
        v.target[20] = kept;
    }
    free_results(&want);
    free_results(&got);
    free_numbers(&v);
}

/* ---- shapes ---------------------------------------------------------------------------------- */

static struct rp_op_call call_of(int64_t n, int64_t t, int64_t width, int64_t classes)
{
    return (struct rp_op_call){.op = RP_OP_lm_loss,
                               .in = {tensor(RP_DTYPE_F32, NULL, n, t, width),
                                      tensor(RP_DTYPE_F32, NULL, classes, width, 0),
                                      tensor(RP_DTYPE_I32, NULL, n, t, 0)}};
}

/* 64 MiB of logits are kept whole; of more, half the rows. */
static void test_rows_kept(void)
{
    static const int64_t want[][4] = {
        {2, 128, 50257, 256},   {1, 333, 50257, 333}, {1, 334, 50257, 256},  {8, 128, 50257, 512},
        {4, 1025, 50257, 2080}, {64, 128, 65, 8192},  {1, 200, 200000, 200}, {1, 1, 1, 1},
    };
    for (size_t i = 0; i < RP_COUNT(want); i++) {
        struct rp_error err = {0};
        struct rp_op_call call = call_of(want[i][0], want[i][1], 8, want[i][2]);
        CHECK_OK(rp_op_shape(&call, &err), &err);
        CHECK_INT(call.out[3].dims[0], want[i][3]);
        CHECK_INT(call.out[3].dims[1], want[i][2]);
        CHECK_INT(call.out[0].dims[0], want[i][0] * want[i][1]);
        CHECK_INT(call.out[1].dtype, RP_DTYPE_I32);
        CHECK_INT(call.out[2].dims[1], 2);
    }
}

static void test_refusals(void)
{
    struct rp_error err = {0};
    struct rp_op_call call = call_of(2, 3, 8, 11);
    call.in[1].dims[1] = 9; /* a head of another width */
    CHECK_STATUS(rp_op_shape(&call, &err), RP_STATUS_USAGE, &err);
    call = call_of(2, 3, 8, 11);
    call.in[2].dims[1] = 4; /* more targets than rows */
    CHECK_STATUS(rp_op_shape(&call, &err), RP_STATUS_USAGE, &err);
    call = call_of(2, 3, 8, 11);
    call.in[2].dtype = RP_DTYPE_F32;
    CHECK_STATUS(rp_op_shape(&call, &err), RP_STATUS_USAGE, &err);
    call = call_of(2, 3, 8, 11);
    call.params.loss.label_smoothing = 1;
    CHECK_STATUS(rp_op_shape(&call, &err), RP_STATUS_USAGE, &err);
    call = call_of(2, 3, 8, 11);
    call.params.loss.columns = 1000; /* no panels of the sum over the classes */
    CHECK_STATUS(rp_op_shape(&call, &err), RP_STATUS_USAGE, &err);
    call = call_of(2, 3, 8, 11);
    call.out[3] = tensor(RP_DTYPE_F32, NULL, 7, 11, 0); /* more rows of logits than there are */
    CHECK_STATUS(rp_op_shape(&call, &err), RP_STATUS_USAGE, &err);
    call = call_of(2, 3, 8, 11);
    call.in[0].dims[1] = 0;
    CHECK_STATUS(rp_op_shape(&call, &err), RP_STATUS_USAGE, &err);

    call = call_of(2, 3, 8, 11);
    CHECK_OK(rp_op_shape(&call, &err), &err);
    struct rp_op_call dxw = {.op = RP_OP_lm_loss_dxw,
                             .in = {call.in[0], call.in[1], call.in[2], call.out[2], call.out[3]}};
    CHECK_OK(rp_op_shape(&dxw, &err), &err);
    CHECK_INT(dxw.out[0].dims[2], 8);
    CHECK_INT(dxw.out[1].dims[0], 11);
    dxw.in[3].dims[0] = 5;
    CHECK_STATUS(rp_op_shape(&dxw, &err), RP_STATUS_USAGE, &err);
    dxw.in[3].dims[0] = 6;
    dxw.in[4].dims[1] = 12;
    CHECK_STATUS(rp_op_shape(&dxw, &err), RP_STATUS_USAGE, &err);
}

/* Forward one product; backward two, and the rows whose logits are made again. */
static void test_costs(void)
{
    struct rp_error err = {0};
    double flops, bytes;
    struct rp_op_call call = call_of(2, 3, 8, 11);
    call.out[3] = tensor(RP_DTYPE_F32, NULL, 4, 11, 0);
    CHECK_OK(rp_op_shape(&call, &err), &err);
    rp_op_cost(&call, &flops, &bytes);
    CHECK(flops == 2.0 * 6 * 8 * 11);
    struct rp_op_call dxw = {.op = RP_OP_lm_loss_dxw,
                             .in = {call.in[0], call.in[1], call.in[2], call.out[2], call.out[3]}};
    CHECK_OK(rp_op_shape(&dxw, &err), &err);
    rp_op_cost(&dxw, &flops, &bytes);
    CHECK(flops == 2.0 * (6 + 6 + 2) * 8 * 11);
}

int main(void)
{
    open_devices();
    test_chains();
    test_controls();
    test_rows_kept();
    test_refusals();
    test_costs();
    for (int i = 0; i < n_devices; i++) devices[i]->table->close(devices[i]);
    return test_result();
}
