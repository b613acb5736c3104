/* test_gemm.c - linear, conv2d and their gradients against loops that read like the formula: the
 * same bits on every instruction set, for any number of threads and any cut of a shard into passes.
 */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "device.h"
#include "test.h"

enum { PANEL = 1024 };

/* ---- the formula ----------------------------------------------------------------------------- */

struct fold {
    float chain, sum, tree[24];
    int64_t n;
    int shards;
};

static void fold_close_panel(struct fold *fold)
{
    fold->sum = fold->n <= PANEL ? fold->chain : fold->sum + fold->chain;
    fold->chain = 0;
}

static void fold_term(struct fold *fold, float a, float b)
{
    fold->chain = fmaf(a, b, fold->chain);
    if (++fold->n % PANEL == 0) fold_close_panel(fold);
}

static float fold_end_shard(struct fold *fold)
{
    if (fold->n % PANEL != 0 || fold->n == 0) fold_close_panel(fold);
    float node = fold->sum;
    int level = 0;
    for (; fold->shards >> level & 1; level++) node = fold->tree[level] + node;
    fold->tree[level] = node;
    fold->shards++;
    fold->n = 0;
    fold->sum = 0;
    return node;
}

/* ---- tensors and devices --------------------------------------------------------------------- */

static uint32_t random_state = 1;

static float random_value(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(int32_t)random_state / 2147483648.0f;
}

static struct rp_tensor make(int n_dims, int64_t d0, int64_t d1, int64_t d2, int64_t d3)
{
    struct rp_tensor tensor = {.n_dims = n_dims, .dims = {d0, d1, d2, d3}};
    size_t n = (size_t)rp_tensor_elements(&tensor);
    float *values = malloc(n * sizeof *values + 1);
    for (size_t i = 0; i < n; i++) values[i] = random_value();
    tensor.data = values;
    return tensor;
}

static float *data(const struct rp_tensor *tensor)
{
    return tensor->data;
}

static void release_call(struct rp_op_call *call)
{
    for (int i = 0; i < RP_OP_MAX_IN; i++) free(call->in[i].data);
    for (int i = 0; i < RP_OP_MAX_OUT; i++) free(call->out[i].data);
}

enum { MAX_DEVICES = 12 };
static struct rp_device *devices[MAX_DEVICES];
static int n_devices;

static void open_devices(void)
{
    static const int threads[] = {1, 2, 7};
    static char paths[64];
    struct rp_error err = {0};
    snprintf(paths, sizeof paths, "%s", rp_cpu_paths());
    for (char *path = strtok(paths, " "); path; path = strtok(NULL, " ")) {
        for (size_t i = 0; i < RP_COUNT(threads); i++) {
            struct rp_device_config config = {.threads = threads[i], .path = path};
            CHECK_OK(rp_device_cpu.open(&config, &devices[n_devices], &err), &err);
            CHECK_TEXT(devices[n_devices]->config.path, path);
            n_devices++;
        }
    }
    CHECK(n_devices >= 3);
}

static void run(struct rp_device *device, const struct rp_op_call *call, const struct rp_pass *pass)
{
    struct rp_error err = {0};
    CHECK_OK(device->table->run(device, call, pass, &err), &err);
}

/* Index of the first element that differs in bits, or -1. */
static int64_t first_difference(const float *got, const float *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0) return i;
    return -1;
}

/* Runs the call on every device and compares with `want`. */
static void check_everywhere(const char *what, struct rp_op_call *call, const struct rp_pass *pass,
                             const float *want)
{
    struct rp_error err = {0};
    CHECK_OK(rp_op_shape(call, &err), &err);
    int64_t n = rp_tensor_elements(&call->out[0]);
    for (int d = 0; d < n_devices; d++) {
        memset(call->out[0].data, 0xff, (size_t)n * sizeof(float));
        run(devices[d], call, pass);
        int64_t at = first_difference(call->out[0].data, want, n);
        if (at < 0) continue;
        printf("%s: %s, %d threads: element %lld of %lld is %a, want %a\n", what,
               devices[d]->config.path, devices[d]->config.threads, (long long)at, (long long)n,
               (double)data(&call->out[0])[at], (double)want[at]);
        test_failures++;
    }
}

/* ---- linear ---------------------------------------------------------------------------------- */

static const int linear_shapes[][3] = {
    /* rows, in, out */
    {1, 1, 1},
    {5, 7, 10},
    {13, 300, 17},
    {37, 1024, 33},
    {64, 1025, 16},
    {9, 2500, 50},
    {1, 3300, 1},
    {200, 65, 97},
    {3, 40, 700},
    {700, 12, 3},
    {96, 256, 32},
    {31, 257, 1},
    {2, 5000, 130},
    /* few rows: lines of 16 k and what is left of one, panels, strips that are not full */
    {1, 4, 64},
    {2, 19, 129},
    {3, 1024, 33},
    {4, 2049, 97},
    {1, 1039, 31},
    {4, 16, 7},
    {1, 2048, 65},
    {2, 35, 16},
    {3, 1055, 200},
};

static void test_linear(int rows, int k, int o, bool with_bias)
{
    struct rp_op_call call = {.op = RP_OP_linear};
    struct rp_pass pass = {0};
    char what[64];
    snprintf(what, sizeof what, "linear %d x %d -> %d", rows, k, o);
    call.in[0] = make(2, rows, k, 0, 0);
    call.in[1] = make(2, o, k, 0, 0);
    if (with_bias) call.in[2] = make(1, o, 0, 0, 0);
    call.out[0] = make(2, rows, o, 0, 0);
    struct rp_tensor want = make(2, rows, o, 0, 0);
    for (int m = 0; m < rows; m++) {
        for (int n = 0; n < o; n++) {
            struct fold fold = {0};
            for (int i = 0; i < k; i++)
                fold_term(&fold, data(&call.in[0])[m * k + i], data(&call.in[1])[n * k + i]);
            float y = fold_end_shard(&fold);
            data(&want)[m * o + n] = with_bias ? y + data(&call.in[2])[n] : y;
        }
    }
    check_everywhere(what, &call, &pass, data(&want));
    release_call(&call);
    free(want.data);
}

static void test_linear_dx(int rows, int k, int o)
{
    struct rp_op_call call = {.op = RP_OP_linear_dx};
    struct rp_pass pass = {0};
    char what[64];
    snprintf(what, sizeof what, "linear_dx %d x %d <- %d", rows, k, o);
    call.in[0] = make(2, rows, o, 0, 0);
    call.in[1] = make(2, o, k, 0, 0);
    call.out[0] = make(2, rows, k, 0, 0);
    struct rp_tensor want = make(2, rows, k, 0, 0);
    for (int m = 0; m < rows; m++) {
        for (int n = 0; n < k; n++) {
            struct fold fold = {0};
            for (int i = 0; i < o; i++)
                fold_term(&fold, data(&call.in[0])[m * o + i], data(&call.in[1])[i * k + n]);
            data(&want)[m * k + n] = fold_end_shard(&fold);
        }
    }
    check_everywhere(what, &call, &pass, data(&want));
    release_call(&call);
    free(want.data);
}

/* dw of `shards` shards of `samples` samples of `per_sample` rows, by the formula. */
static void formula_linear_dw(const struct rp_op_call *call, int shards, int64_t rows, float *want)
{
    int64_t o = call->in[0].dims[2], k = call->in[1].dims[2];
    for (int64_t m = 0; m < o; m++) {
        for (int64_t n = 0; n < k; n++) {
            struct fold fold = {0};
            for (int64_t s = 0, row = 0; s < shards; s++) {
                for (int64_t r = 0; r < rows; r++, row++)
                    fold_term(&fold, data(&call->in[0])[row * o + m],
                              data(&call->in[1])[row * k + n]);
                want[m * k + n] = fold_end_shard(&fold);
            }
        }
    }
}

static void test_linear_dw(int shards, int samples, int per_sample, int o, int k)
{
    struct rp_op_call call = {.op = RP_OP_linear_dw};
    struct rp_pass pass = {.rows = {.samples_per_shard = samples,
                                    .n_shards = shards,
                                    .n_samples = (int64_t)samples * shards}};
    char what[96];
    snprintf(what, sizeof what, "linear_dw (%d, %d) of %d shards of %d x %d", o, k, shards, samples,
             per_sample);
    call.in[0] = make(3, (int64_t)shards * samples, per_sample, o, 0);
    call.in[1] = make(3, (int64_t)shards * samples, per_sample, k, 0);
    call.out[0] = make(2, o, k, 0, 0);
    struct rp_tensor want = make(2, o, k, 0, 0);
    formula_linear_dw(&call, shards, (int64_t)samples * per_sample, data(&want));
    check_everywhere(what, &call, &pass, data(&want));
    release_call(&call);
    free(want.data);
}

/* One shard in passes that end anywhere gives the bits of one pass. */
static void test_linear_dw_in_parts(void)
{
    enum { SAMPLES = 700, ROWS = 3, O = 13, K = 35 };
    static const int cuts[] = {0, 1, 6, 341, 342, 343, 682, 683, 699, SAMPLES};
    struct rp_op_call call = {.op = RP_OP_linear_dw};
    call.in[0] = make(3, SAMPLES, ROWS, O, 0);
    call.in[1] = make(3, SAMPLES, ROWS, K, 0);
    call.out[0] = make(2, O, K, 0, 0);
    call.out[1] = make(2, O, K, 0, 0);
    struct rp_tensor want = make(2, O, K, 0, 0);
    formula_linear_dw(&call, 1, SAMPLES * ROWS, data(&want));
    for (int d = 0; d < n_devices; d++) {
        memset(call.out[0].data, 0xff, O * K * sizeof(float));
        memset(call.out[1].data, 0xff, O * K * sizeof(float));
        for (size_t i = 0; i + 1 < RP_COUNT(cuts); i++) {
            struct rp_op_call part = call;
            struct rp_pass pass = {.rows = {.samples_per_shard = SAMPLES,
                                            .n_shards = 1,
                                            .first_sample = cuts[i],
                                            .n_samples = cuts[i + 1] - cuts[i]}};
            for (int t = 0; t < 2; t++) {
                part.in[t].dims[0] = cuts[i + 1] - cuts[i];
                part.in[t].data = data(&call.in[t]) + cuts[i] * ROWS * call.in[t].dims[2];
            }
            run(devices[d], &part, &pass);
        }
        CHECK_INT(first_difference(call.out[0].data, data(&want), O * K), -1);
    }
    release_call(&call);
    free(want.data);
}

/* ---- conv2d ---------------------------------------------------------------------------------- */

static const struct conv_case {
    int n, h, w, c, o, kh, kw, sh, sw, ph, pw, groups;
} conv_cases[] = {
    {2, 5, 6, 1, 4, 3, 3, 1, 1, 1, 1, 1},    {1, 7, 9, 3, 18, 5, 3, 1, 1, 2, 1, 1},
    {4, 8, 8, 16, 32, 3, 3, 1, 1, 1, 1, 1},  {4, 8, 8, 16, 32, 3, 3, 2, 2, 1, 1, 1},
    {2, 9, 7, 5, 6, 1, 1, 2, 2, 0, 0, 1},    {2, 6, 6, 4, 8, 2, 2, 3, 3, 0, 0, 1},
    {2, 10, 11, 6, 9, 3, 4, 2, 3, 1, 2, 3},  {2, 5, 5, 8, 8, 3, 3, 1, 1, 1, 1, 8},
    {1, 4, 4, 3, 5, 2, 2, 1, 1, 3, 2, 1},    {2, 4, 4, 130, 20, 3, 3, 1, 1, 1, 1, 1},
    {2, 12, 12, 1, 16, 5, 5, 1, 1, 2, 2, 1}, {8, 20, 20, 2, 3, 3, 3, 1, 1, 1, 1, 1},
    {2, 16, 16, 3, 8, 7, 7, 2, 2, 3, 3, 1},
};

static struct rp_op_call make_conv_call(const struct conv_case *c, int64_t *oh, int64_t *ow)
{
    *oh = (c->h + 2 * c->ph - c->kh) / c->sh + 1;
    *ow = (c->w + 2 * c->pw - c->kw) / c->sw + 1;
    return (struct rp_op_call){.params.conv2d = {.kernel_h = c->kh,
                                                 .kernel_w = c->kw,
                                                 .stride_h = c->sh,
                                                 .stride_w = c->sw,
                                                 .pad_h = c->ph,
                                                 .pad_w = c->pw,
                                                 .groups = c->groups}};
}

static void describe_conv(const char *op, const struct conv_case *c, char what[128])
{
    snprintf(what, 128, "%s (%d, %d, %d, %d) -> %d, %dx%d, stride %dx%d, pad %dx%d, groups %d", op,
             c->n, c->h, c->w, c->c, c->o, c->kh, c->kw, c->sh, c->sw, c->ph, c->pw, c->groups);
}

/* (n, h, w, channel) of an image tensor, +0 outside. */
static float pixel(const struct rp_tensor *x, int64_t n, int64_t h, int64_t w, int64_t channel)
{
    if (h < 0 || w < 0 || h >= x->dims[1] || w >= x->dims[2]) return 0;
    return data(x)[((n * x->dims[1] + h) * x->dims[2] + w) * x->dims[3] + channel];
}

static float weight(const struct rp_tensor *w, int64_t o, int64_t kh, int64_t kw, int64_t c)
{
    return data(w)[((o * w->dims[1] + kh) * w->dims[2] + kw) * w->dims[3] + c];
}

static float formula_conv2d(const struct conv_case *c, const struct rp_op_call *call, int64_t n,
                            int64_t oh, int64_t ow, int o)
{
    int cg = c->c / c->groups, group = o / (c->o / c->groups);
    struct fold fold = {0};
    for (int kh = 0; kh < c->kh; kh++)
        for (int kw = 0; kw < c->kw; kw++)
            for (int i = 0; i < cg; i++)
                fold_term(&fold,
                          pixel(&call->in[0], n, oh * c->sh - c->ph + kh, ow * c->sw - c->pw + kw,
                                group * cg + i),
                          weight(&call->in[1], o, kh, kw, i));
    return fold_end_shard(&fold) + data(&call->in[2])[o];
}

static void test_conv2d(const struct conv_case *c)
{
    int64_t oh, ow, at = 0;
    char what[128];
    struct rp_op_call call = make_conv_call(c, &oh, &ow);
    struct rp_pass pass = {0};
    call.op = RP_OP_conv2d;
    describe_conv("conv2d", c, what);
    call.in[0] = make(4, c->n, c->h, c->w, c->c);
    call.in[1] = make(4, c->o, c->kh, c->kw, c->c / c->groups);
    call.in[2] = make(1, c->o, 0, 0, 0);
    call.out[0] = make(4, c->n, oh, ow, c->o);
    struct rp_tensor want = make(4, c->n, oh, ow, c->o);
    for (int64_t n = 0; n < c->n; n++)
        for (int64_t i = 0; i < oh; i++)
            for (int64_t j = 0; j < ow; j++)
                for (int o = 0; o < c->o; o++)
                    data(&want)[at++] = formula_conv2d(c, &call, n, i, j, o);
    check_everywhere(what, &call, &pass, data(&want));
    release_call(&call);
    free(want.data);
}

/* Taps that fall between outputs are absent; those that fall outside of them read +0. */
static float formula_conv2d_dx(const struct conv_case *c, const struct rp_op_call *call, int64_t n,
                               int64_t h, int64_t w, int channel)
{
    int cg = c->c / c->groups, og = c->o / c->groups, group = channel / cg;
    struct fold fold = {0};
    for (int kh = 0; kh < c->kh; kh++) {
        for (int kw = 0; kw < c->kw; kw++) {
            int64_t down = h + c->ph - kh, right = w + c->pw - kw;
            if (down % c->sh != 0 || right % c->sw != 0) continue;
            for (int o = group * og; o < (group + 1) * og; o++)
                fold_term(&fold, pixel(&call->in[0], n, down / c->sh, right / c->sw, o),
                          weight(&call->in[1], o, kh, kw, channel % cg));
        }
    }
    return fold_end_shard(&fold);
}

static void test_conv2d_dx(const struct conv_case *c)
{
    int64_t oh, ow, at = 0;
    char what[128];
    struct rp_op_call call = make_conv_call(c, &oh, &ow);
    struct rp_pass pass = {0};
    call.op = RP_OP_conv2d_dx;
    describe_conv("conv2d_dx", c, what);
    call.in[0] = make(4, c->n, oh, ow, c->o);
    call.in[1] = make(4, c->o, c->kh, c->kw, c->c / c->groups);
    call.out[0] = make(4, c->n, c->h, c->w, c->c);
    struct rp_tensor want = make(4, c->n, c->h, c->w, c->c);
    for (int64_t n = 0; n < c->n; n++)
        for (int64_t h = 0; h < c->h; h++)
            for (int64_t w = 0; w < c->w; w++)
                for (int i = 0; i < c->c; i++)
                    data(&want)[at++] = formula_conv2d_dx(c, &call, n, h, w, i);
    check_everywhere(what, &call, &pass, data(&want));
    release_call(&call);
    free(want.data);
}

static float formula_conv2d_dw(const struct conv_case *c, const struct rp_op_call *call, int shards,
                               int o, int kh, int kw, int i)
{
    const struct rp_tensor *dy = &call->in[0];
    int group = o / (c->o / c->groups), channel = group * (c->c / c->groups) + i;
    struct fold fold = {0};
    float node = 0;
    for (int n = 0; n < c->n; n++) {
        for (int64_t oh = 0; oh < dy->dims[1]; oh++)
            for (int64_t ow = 0; ow < dy->dims[2]; ow++)
                fold_term(&fold,
                          pixel(&call->in[1], n, oh * c->sh - c->ph + kh, ow * c->sw - c->pw + kw,
                                channel),
                          pixel(dy, n, oh, ow, o));
        if ((n + 1) % (c->n / shards) == 0) node = fold_end_shard(&fold);
    }
    return node;
}

/* The image tensors of one pass over samples [first, first + count). */
static struct rp_op_call conv_part(const struct rp_op_call *call, int first, int count)
{
    struct rp_op_call part = *call;
    for (int t = 0; t < 2; t++) {
        int64_t sample = rp_tensor_elements(&call->in[t]) / call->in[t].dims[0];
        part.in[t].data = data(&call->in[t]) + first * sample;
        part.in[t].dims[0] = count;
    }
    return part;
}

static void test_conv2d_dw(const struct conv_case *c, int shards)
{
    int64_t oh, ow, at = 0;
    char what[128];
    struct rp_op_call call = make_conv_call(c, &oh, &ow);
    struct rp_pass pass = {
        .rows = {.samples_per_shard = c->n / shards, .n_shards = shards, .n_samples = c->n}};
    call.op = RP_OP_conv2d_dw;
    describe_conv("conv2d_dw", c, what);
    call.in[0] = make(4, c->n, oh, ow, c->o);
    call.in[1] = make(4, c->n, c->h, c->w, c->c);
    call.out[0] = make(4, c->o, c->kh, c->kw, c->c / c->groups);
    struct rp_tensor want = make(4, c->o, c->kh, c->kw, c->c / c->groups);
    for (int o = 0; o < c->o; o++)
        for (int kh = 0; kh < c->kh; kh++)
            for (int kw = 0; kw < c->kw; kw++)
                for (int i = 0; i < c->c / c->groups; i++)
                    data(&want)[at++] = formula_conv2d_dw(c, &call, shards, o, kh, kw, i);
    check_everywhere(what, &call, &pass, data(&want));
    if (shards == 1 && c->n > 1) { /* the same shard in two passes */
        call.out[1] = make(4, c->o, c->kh, c->kw, c->c / c->groups);
        for (int d = 0; d < n_devices; d++) {
            struct rp_op_call begin = conv_part(&call, 0, 1), rest = conv_part(&call, 1, c->n - 1);
            pass.rows.first_sample = 0, pass.rows.n_samples = 1;
            run(devices[d], &begin, &pass);
            pass.rows.first_sample = 1, pass.rows.n_samples = c->n - 1;
            run(devices[d], &rest, &pass);
            CHECK_INT(first_difference(call.out[0].data, data(&want), at), -1);
        }
    }
    release_call(&call);
    free(want.data);
}

/* ---- controls -------------------------------------------------------------------------------- */

/* Each comparison above could fail: another order gives other bits. */
static void test_controls(void)
{
    enum { K = 3 * PANEL };
    float panel[3] = {0}, one_chain = 0;
    struct fold fold = {0};
    for (int i = 0; i < K; i++) {
        float a = random_value(), b = random_value();
        fold_term(&fold, a, b);
        one_chain = fmaf(a, b, one_chain);
        panel[i / PANEL] = fmaf(a, b, panel[i / PANEL]);
    }
    float right = fold_end_shard(&fold), swapped = (panel[0] + panel[2]) + panel[1];
    CHECK(right == (panel[0] + panel[1]) + panel[2]);
    CHECK(right != swapped);
    CHECK(right != one_chain);

    static const float node[4] = {1.0f, 0x1p-24f, 0x1p-24f, 0x1p-24f};
    float tree = (node[0] + node[1]) + (node[2] + node[3]);
    float chain = ((node[0] + node[1]) + node[2]) + node[3];
    CHECK(tree != chain);
}

int main(void)
{
    open_devices();
    for (size_t i = 0; i < RP_COUNT(linear_shapes); i++) {
        const int *s = linear_shapes[i];
        test_linear(s[0], s[1], s[2], i % 2 == 0);
        test_linear_dx(s[0], s[1], s[2]);
        test_linear_dw(1, s[0], 1, s[2], s[1] < 300 ? s[1] : 300);
    }
    for (int shards = 1; shards <= 8; shards *= 2) {
        test_linear_dw(shards, 16, 1, 50, 37);
        test_linear_dw(shards, 1, 1, 7, 16);
        test_linear_dw(shards, 100, 3, 20, 18);
        test_linear_dw(shards, 700, 3, 9, 21);
    }
    test_linear_dw_in_parts();
    for (size_t i = 0; i < RP_COUNT(conv_cases); i++) {
        test_conv2d(&conv_cases[i]);
        test_conv2d_dx(&conv_cases[i]);
        for (int shards = 1; conv_cases[i].n % shards == 0; shards *= 2)
            test_conv2d_dw(&conv_cases[i], shards);
    }
    test_controls();
    for (int d = 0; d < n_devices; d++) rp_device_cpu.close(devices[d]);
    return test_result();
}
