/* cases.c - the cases of every row of ops.def: odd sizes, lengths beyond a panel of 1024 and not a
 * multiple of it, groups, strides, padding, 1 to 8 shards, shards cut into several passes. */
#include <inttypes.h>

#include "cases.h"

enum { MAX_CASES = 2048 };

struct op_case *case_add(struct op_cases *cases, enum rp_op op)
{
    if (cases->n == MAX_CASES) {
        fprintf(stderr, "more than %d cases\n", MAX_CASES);
        exit(1);
    }
    struct op_case *c = &cases->item[cases->n++];
    *c = (struct op_case){.call.op = op, .parts = 1};
    c->pass.seed = 0x123456789abcdefu;
    c->pass.position = 1000;
    c->pass.grad_scale = 1.0f / 48;
    return c;
}

void case_set_dims(struct rp_tensor *tensor, enum rp_dtype dtype, int n_dims, const int64_t *dims)
{
    tensor->dtype = dtype;
    tensor->n_dims = n_dims;
    for (int i = 0; i < n_dims; i++) tensor->dims[i] = dims[i];
}

void case_set_in(struct op_case *c, int i, enum fill fill, int n_dims, const int64_t *dims)
{
    static const enum rp_dtype dtypes[] = {
        [FILL_TARGETS] = RP_DTYPE_I32, [FILL_MIXES] = RP_DTYPE_I32,  [FILL_TOKENS] = RP_DTYPE_I32,
        [FILL_TAPS] = RP_DTYPE_U8,     [FILL_CHUNKS] = RP_DTYPE_F64, [FILL_CONTROL] = RP_DTYPE_U8};
    enum rp_dtype dtype = fill < FILL_TARGETS ? RP_DTYPE_F32 : dtypes[fill];
    case_set_dims(&c->call.in[i], dtype, n_dims, dims);
    c->fill[i] = fill;
}

void case_set_rows(struct op_case *c, int64_t samples, int shards, int parts)
{
    c->pass.rows = (struct rp_rows){
        .samples_per_shard = samples / shards, .n_shards = shards, .n_samples = samples};
    c->parts = parts;
}

/* ---- products ------------------------------------------------------------------------------- */

static void add_linear(struct op_cases *cases, int64_t n, int64_t t, int64_t k, int64_t o,
                       int shards, int parts)
{
    int first = cases->n;
    for (int bias = 0; bias < 2; bias++) {
        struct op_case *c = case_add(cases, RP_OP_linear);
        IN(c, 0, FILL_RANDOM, n, t, k);
        IN(c, 1, FILL_RANDOM, o, k);
        if (bias) IN(c, 2, FILL_RANDOM, o);
        case_set_rows(c, n, shards, 1);
    }
    struct op_case *c = case_add(cases, RP_OP_linear_dx);
    IN(c, 0, FILL_RANDOM, n, t, o);
    IN(c, 1, FILL_RANDOM, o, k);
    case_set_rows(c, n, shards, 1);
    for (int cut = 1; cut <= parts; cut += parts > 1 ? parts - 1 : 1) {
        c = case_add(cases, RP_OP_linear_dw);
        IN(c, 0, FILL_RANDOM, n, t, o);
        IN(c, 1, FILL_RANDOM, n, t, k);
        case_set_rows(c, n, cut > 1 ? 1 : shards, cut);
    }
    /* The race detector keeps a record of each output. */
    for (struct op_case *each = cases->item + first; each < cases->item + cases->n; each++)
        each->slow = o * k > (each->call.op == RP_OP_linear_dw ? 1 << 18 : 1 << 20);
}

static void add_linear_cases(struct op_cases *cases)
{
    static const int64_t shapes[][6] = {
        /* samples, rows of each, K, O, shards, parts */
        {1, 1, 1, 1, 1, 1},      {3, 1, 5, 7, 1, 3},       {8, 1, 784, 10, 8, 3},
        {64, 1, 33, 65, 4, 5},   {4, 3, 1023, 17, 2, 2},   {2, 1, 1024, 31, 2, 2},
        {6, 1, 1025, 9, 1, 2},   {5, 7, 2500, 130, 1, 5},  {37, 1, 64, 37, 1, 4},
        {128, 1, 100, 48, 8, 7}, {1100, 1, 13, 19, 1, 3},  {16, 150, 24, 8, 2, 3},
        {8, 300, 5, 3, 1, 8},    {2, 1, 3000, 2, 1, 1},    {2048, 1, 16, 24, 2, 4},
        {16, 1, 7, 1100, 16, 1}, {3, 1025, 40, 1, 1, 2},   {1, 4100, 9, 33, 1, 1},
        {32, 1, 256, 512, 8, 2}, {4, 1, 2049, 1030, 4, 2}, {6, 1, 1028, 130, 1, 2},
    };
    for (size_t i = 0; i < RP_COUNT(shapes); i++)
        add_linear(cases, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3], (int)shapes[i][4],
                   (int)shapes[i][5]);
}

struct conv_shape {
    int n, h, w, c, o, kh, kw, sh, sw, ph, pw, groups, shards, parts;
};

static void add_conv2d(struct op_cases *cases, const struct conv_shape *s)
{
    struct rp_conv2d_params params = {.kernel_h = s->kh,
                                      .kernel_w = s->kw,
                                      .stride_h = s->sh,
                                      .stride_w = s->sw,
                                      .pad_h = s->ph,
                                      .pad_w = s->pw,
                                      .groups = s->groups};
    int64_t oh = (s->h + 2 * s->ph - s->kh) / s->sh + 1,
            ow = (s->w + 2 * s->pw - s->kw) / s->sw + 1;
    int first = cases->n;
    for (int bias = 0; bias < 2; bias++) {
        struct op_case *c = case_add(cases, RP_OP_conv2d);
        IN(c, 0, FILL_RANDOM, s->n, s->h, s->w, s->c);
        IN(c, 1, FILL_RANDOM, s->o, s->kh, s->kw, s->c / s->groups);
        if (bias) IN(c, 2, FILL_RANDOM, s->o);
        case_set_rows(c, s->n, s->shards, 1);
        c->call.params.conv2d = params;
    }
    struct op_case *c = case_add(cases, RP_OP_conv2d_dx);
    IN(c, 0, FILL_RANDOM, s->n, oh, ow, s->o);
    IN(c, 1, FILL_RANDOM, s->o, s->kh, s->kw, s->c / s->groups);
    OUT(c, 0, s->n, s->h, s->w, s->c);
    case_set_rows(c, s->n, s->shards, 1);
    c->call.params.conv2d = params;
    for (int cut = 1; cut <= s->parts; cut += s->parts > 1 ? s->parts - 1 : 1) {
        c = case_add(cases, RP_OP_conv2d_dw);
        IN(c, 0, FILL_RANDOM, s->n, oh, ow, s->o);
        IN(c, 1, FILL_RANDOM, s->n, s->h, s->w, s->c);
        case_set_rows(c, s->n, cut > 1 ? 1 : s->shards, cut);
        c->call.params.conv2d = params;
    }
    int64_t terms = (int64_t)s->kh * s->kw * s->c / s->groups;
    for (int i = first; i < cases->n; i++)
        cases->item[i].slow = s->n * oh * ow * s->o * terms > 1 << 25;
}

static void add_conv2d_cases(struct op_cases *cases)
{
    static const struct conv_shape shapes[] = {
        /* n  h   w   c    o   kh kw sh sw ph pw g  S  parts */
        {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1},
        {2, 5, 5, 3, 8, 3, 3, 1, 1, 1, 1, 1, 2, 2},
        {4, 28, 28, 1, 20, 5, 5, 1, 1, 2, 2, 1, 4, 3},
        {3, 7, 9, 5, 7, 3, 3, 2, 2, 1, 1, 1, 1, 3},
        {2, 8, 8, 16, 32, 1, 1, 2, 2, 0, 0, 1, 2, 2},
        {8, 6, 6, 12, 18, 3, 3, 1, 1, 1, 1, 3, 8, 4},
        {2, 9, 8, 8, 8, 3, 3, 1, 1, 1, 1, 8, 1, 2},
        {2, 4, 4, 150, 33, 3, 3, 1, 1, 1, 1, 1, 1, 2},
        {2, 11, 6, 4, 6, 5, 3, 3, 2, 4, 2, 2, 2, 1},
        {2, 3, 3, 2, 3, 5, 5, 1, 1, 4, 4, 1, 2, 2},
        {3, 20, 21, 3, 16, 7, 7, 2, 2, 3, 3, 1, 1, 3},
        {2, 13, 13, 6, 5, 2, 4, 3, 1, 0, 1, 1, 2, 1},
        {1, 6, 6, 260, 20, 2, 2, 1, 1, 0, 0, 1, 1, 1},
        {16, 8, 8, 64, 64, 3, 3, 1, 1, 1, 1, 1, 4, 2},
        {16, 8, 8, 8, 64, 3, 3, 1, 1, 1, 1, 1, 4, 2},
        {16, 8, 8, 64, 8, 3, 3, 1, 1, 1, 1, 1, 4, 2},
        {2, 10, 10, 4, 300, 3, 3, 1, 1, 1, 1, 1, 2, 1},
        {1, 40, 60, 2, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1},
        {1, 6, 7, 8, 300, 3, 3, 2, 2, 1, 1, 1, 1, 1},
        {2, 9, 8, 8, 32, 3, 3, 1, 1, 1, 1, 4, 1, 2},
        {2, 23, 25, 1, 4, 3, 2, 1, 2, 1, 0, 1, 2, 1},
    };
    for (size_t i = 0; i < RP_COUNT(shapes); i++) add_conv2d(cases, &shapes[i]);
}

/* ---- sums, pooling, activations ------------------------------------------------------------- */

static void add_sum_rows_cases(struct op_cases *cases)
{
    static const int64_t shapes[][5] = {
        /* samples, rows of each, columns, shards, parts */
        {1, 1, 1, 1, 1},     {8, 1, 1, 8, 2},      {128, 1, 10, 8, 5},   {64, 49, 20, 4, 3},
        {7, 3, 65, 1, 7},    {1024, 1, 3, 1, 2},   {1025, 1, 130, 1, 4}, {4, 1030, 5, 2, 3},
        {16, 256, 33, 8, 2}, {4096, 1, 1, 4, 9},   {2048, 1, 7, 2, 2},   {2, 5000, 17, 1, 2},
        {3, 683, 200, 1, 3}, {64, 1, 1000, 64, 1}, {1, 9000, 64, 1, 1},  {256, 1, 4, 256, 1},
        {2, 5000, 20, 1, 2}, {4, 1100, 260, 2, 3},
    };
    for (size_t i = 0; i < RP_COUNT(shapes); i++) {
        const int64_t *s = shapes[i];
        for (int cut = 1; cut <= s[4]; cut += s[4] > 1 ? (int)s[4] - 1 : 1) {
            struct op_case *c = case_add(cases, RP_OP_sum_rows);
            IN(c, 0, FILL_RANDOM, s[0], s[1], s[2]);
            case_set_rows(c, s[0], cut > 1 ? 1 : (int)s[3], cut);
        }
    }
}

static void add_pool(struct op_cases *cases, const struct conv_shape *s)
{
    struct rp_pool2d_params params = {.kernel_h = s->kh,
                                      .kernel_w = s->kw,
                                      .stride_h = s->sh,
                                      .stride_w = s->sw,
                                      .pad_h = s->ph,
                                      .pad_w = s->pw};
    int64_t oh = (s->h + 2 * s->ph - s->kh) / s->sh + 1,
            ow = (s->w + 2 * s->pw - s->kw) / s->sw + 1;
    static const enum rp_op ops[] = {RP_OP_maxpool2d,      RP_OP_avgpool2d,
                                     RP_OP_global_avgpool, RP_OP_maxpool2d_dx,
                                     RP_OP_avgpool2d_dx,   RP_OP_global_avgpool_dx};
    for (size_t i = 0; i < RP_COUNT(ops); i++) {
        struct op_case *c = case_add(cases, ops[i]);
        c->call.params.pool2d = params;
        case_set_rows(c, s->n, 1, 1);
        if (i < 3) {
            IN(c, 0, FILL_RANDOM, s->n, s->h, s->w, s->c);
            continue;
        }
        OUT(c, 0, s->n, s->h, s->w, s->c);
        if (ops[i] == RP_OP_global_avgpool_dx)
            IN(c, 0, FILL_RANDOM, s->n, s->c);
        else
            IN(c, 0, FILL_RANDOM, s->n, oh, ow, s->c);
        if (ops[i] == RP_OP_maxpool2d_dx) IN(c, 1, FILL_TAPS, s->n, oh, ow, s->c);
    }
}

static void add_pool_cases(struct op_cases *cases)
{
    static const struct conv_shape shapes[] = {
        {.n = 1, .h = 2, .w = 2, .c = 1, .kh = 2, .kw = 2, .sh = 2, .sw = 2},
        {.n = 4, .h = 28, .w = 28, .c = 20, .kh = 2, .kw = 2, .sh = 2, .sw = 2},
        {.n = 3, .h = 9, .w = 7, .c = 5, .kh = 3, .kw = 3, .sh = 2, .sw = 2, .ph = 1, .pw = 1},
        {.n = 2, .h = 6, .w = 11, .c = 33, .kh = 3, .kw = 2, .sh = 1, .sw = 1, .ph = 1},
        {.n = 2, .h = 13, .w = 13, .c = 64, .kh = 3, .kw = 3, .sh = 2, .sw = 2},
        {.n = 2, .h = 5, .w = 5, .c = 3, .kh = 5, .kw = 5, .sh = 1, .sw = 1, .ph = 2, .pw = 2},
        {.n = 1, .h = 8, .w = 70, .c = 2, .kh = 2, .kw = 3, .sh = 3, .sw = 4, .pw = 1},
        {.n = 2, .h = 70, .w = 66, .c = 3, .kh = 1, .kw = 1, .sh = 2, .sw = 2},
        {.n = 2, .h = 7, .w = 9, .c = 8, .kh = 2, .kw = 3, .sh = 3, .sw = 4, .pw = 1},
        {.n = 17, .h = 13, .w = 13, .c = 64, .kh = 2, .kw = 2, .sh = 2, .sw = 2},
        {.n = 9, .h = 34, .w = 33, .c = 12, .kh = 3, .kw = 2, .sh = 2, .sw = 2, .ph = 1},
    };
    for (size_t i = 0; i < RP_COUNT(shapes); i++) add_pool(cases, &shapes[i]);
}

static const enum rp_op pointwise_ops[] = {
    RP_OP_relu,         RP_OP_relu_dx, RP_OP_gelu,    RP_OP_gelu_dx, RP_OP_gelu_tanh,
    RP_OP_gelu_tanh_dx, RP_OP_silu,    RP_OP_silu_dx, RP_OP_sigmoid, RP_OP_sigmoid_dx,
    RP_OP_tanh,         RP_OP_tanh_dx, RP_OP_add,
};

static void add_pointwise(struct op_cases *cases, enum rp_op op, int64_t n)
{
    struct op_case *c = case_add(cases, op);
    IN(c, 0, FILL_RANDOM, 1, n);
    if (rp_op_info(op)->n_in == 2) IN(c, 1, FILL_RANDOM, 1, n);
    case_set_rows(c, 1, 1, 1);
}

static void add_activation_cases(struct op_cases *cases)
{
    static const int64_t sizes[] = {1, 7, 64, 1003, 4096, 20000};
    for (size_t i = 0; i < RP_COUNT(pointwise_ops); i++)
        for (size_t j = 0; j < RP_COUNT(sizes); j++)
            add_pointwise(cases, pointwise_ops[i], sizes[j]);
    static const int64_t shapes[][3] = {
        {1, 1, 1}, {3, 5, 7}, {8, 1, 1003}, {64, 2, 33}, {2, 1, 40000}};
    static const float chances[] = {0, 0.1f, 0.5f, 0.999f};
    for (size_t i = 0; i < RP_COUNT(shapes); i++)
        for (size_t j = 0; j < 2 * RP_COUNT(chances); j++) {
            struct op_case *c = case_add(cases, j % 2 ? RP_OP_dropout_dx : RP_OP_dropout);
            IN(c, 0, FILL_RANDOM, shapes[i][0], shapes[i][1], shapes[i][2]);
            case_set_rows(c, shapes[i][0], 1, 1);
            c->call.params.dropout = (struct rp_dropout_params){.p = chances[j / 2], .site = 5};
            if (i == 1) c->pass.position = 0xfffffffeu; /* the count of samples passes 2^32 */
        }
}

/* ---- norms ---------------------------------------------------------------------------------- */

void case_add_unwanted(struct op_cases *cases, unsigned unwanted)
{
    struct op_case last = cases->item[cases->n - 1];
    *case_add(cases, last.call.op) = last;
    cases->item[cases->n - 1].unwanted = unwanted;
}

static void add_batch_norm(struct op_cases *cases, int64_t n, int64_t t, int64_t channels,
                           int shards)
{
    struct rp_norm_params params = {.eps = 1e-5f};
    struct op_case *c = case_add(cases, RP_OP_batch_norm);
    IN(c, 0, FILL_RANDOM, n, t, channels);
    IN(c, 1, FILL_RANDOM, channels);
    IN(c, 2, FILL_RANDOM, channels);
    OUT(c, 1, shards, channels);
    c->call.params.norm = params;
    case_set_rows(c, n, shards, 1);

    c = case_add(cases, RP_OP_batch_norm_dx);
    IN(c, 0, FILL_RANDOM, n, t, channels);
    IN(c, 1, FILL_RANDOM, n, t, channels);
    IN(c, 2, FILL_RANDOM, channels);
    IN(c, 3, FILL_RANDOM, shards, channels);
    IN(c, 4, FILL_POSITIVE, shards, channels);
    c->call.params.norm = params;
    case_set_rows(c, n, shards, 1);
    for (unsigned unwanted = 1; unwanted < 7; unwanted++) case_add_unwanted(cases, unwanted);

    c = case_add(cases, RP_OP_batch_norm_eval);
    IN(c, 0, FILL_RANDOM, n, t, channels);
    for (int i = 1; i < 4; i++) IN(c, i, FILL_RANDOM, channels);
    IN(c, 4, FILL_POSITIVE, channels);
    c->call.params.norm = params;
    case_set_rows(c, n, shards, 1);
}

static void add_layer_norm(struct op_cases *cases, int64_t n, int64_t t, int64_t width, int parts)
{
    struct rp_norm_params params = {.eps = 1e-5f};
    struct op_case *c = case_add(cases, RP_OP_layer_norm);
    IN(c, 0, FILL_RANDOM, n, t, width);
    IN(c, 1, FILL_RANDOM, width);
    IN(c, 2, FILL_RANDOM, width);
    c->call.params.norm = params;
    case_set_rows(c, n, 1, 1);

    c = case_add(cases, RP_OP_layer_norm); /* without beta */
    IN(c, 0, FILL_RANDOM, n, t, width);
    IN(c, 1, FILL_RANDOM, width);
    c->call.params.norm = params;
    case_set_rows(c, n, 1, 1);

    c = case_add(cases, RP_OP_layer_norm_dx);
    IN(c, 0, FILL_RANDOM, n, t, width);
    IN(c, 1, FILL_RANDOM, n, t, width);
    IN(c, 2, FILL_RANDOM, width);
    IN(c, 3, FILL_RANDOM, n * t);
    IN(c, 4, FILL_POSITIVE, n * t);
    c->call.params.norm = params;
    case_set_rows(c, n, 1, 1);

    for (int cut = 1; cut <= parts; cut += parts > 1 ? parts - 1 : 1) {
        c = case_add(cases, RP_OP_layer_norm_dgb);
        IN(c, 0, FILL_RANDOM, n, t, width);
        IN(c, 1, FILL_RANDOM, n, t, width);
        IN(c, 2, FILL_RANDOM, n * t);
        IN(c, 3, FILL_POSITIVE, n * t);
        c->call.params.norm = params;
        case_set_rows(c, n, cut == 1 && n % 4 == 0 ? 4 : 1, cut);
        case_add_unwanted(cases, 1);
        case_add_unwanted(cases, 2);
    }
}

static void add_norm_cases(struct op_cases *cases)
{
    static const int64_t batch[][4] = {
        {1, 1, 1, 1},     {8, 1, 5, 2},    {4, 49, 20, 4},   {3, 700, 7, 1},  {16, 64, 33, 8},
        {2, 1024, 16, 2}, {2, 2500, 3, 1}, {64, 1, 130, 4},  {8, 9, 64, 8},   {8, 300, 12, 4},
        {4, 1050, 4, 2},  {8, 16, 260, 2}, {8, 1100, 16, 8}, {16, 70, 20, 16}};
    for (size_t i = 0; i < RP_COUNT(batch); i++)
        add_batch_norm(cases, batch[i][0], batch[i][1], batch[i][2], (int)batch[i][3]);
    static const int64_t layer[][4] = {
        {1, 1, 1, 1},    {4, 3, 31, 2},   {8, 2, 32, 3},    {5, 1, 33, 5},   {4, 300, 96, 2},
        {2, 1, 4096, 1}, {1, 2, 4097, 1}, {2, 1, 10000, 2}, {1100, 1, 9, 3}, {16, 7, 768, 2},
        {9, 1, 256, 1},  {3, 1, 257, 1},  {5, 1, 1024, 1},  {3, 1, 1025, 1}, {2, 1, 3001, 1},
        {1, 2, 5120, 1}, {1, 2, 8192, 1}, {1, 2, 8193, 1}};
    for (size_t i = 0; i < RP_COUNT(layer); i++)
        add_layer_norm(cases, layer[i][0], layer[i][1], layer[i][2], (int)layer[i][3]);
}

/* ---- losses --------------------------------------------------------------------------------- */

static void add_loss_cases(struct op_cases *cases)
{
    static const int64_t shapes[][2] = {{1, 1},     {3, 2},      {8, 10},    {5, 31},   {64, 33},
                                        {7, 1000},  {2, 4096},   {2, 4100},  {1, 8192}, {1, 8193},
                                        {1, 12345}, {300, 10},   {41, 257},  {9, 1024}, {9, 1025},
                                        {1, 50257}, {29, 12345}, {9, 40000}, {500, 300}};
    static const float smoothing[] = {0, 0.1f};
    for (size_t i = 0; i < RP_COUNT(shapes); i++) {
        int64_t n = shapes[i][0], width = shapes[i][1];
        for (int j = 0; j < 12; j++) {
            static const enum rp_op ops[] = {RP_OP_cross_entropy,
                                             RP_OP_cross_entropy_dx,
                                             RP_OP_cross_entropy_mix,
                                             RP_OP_cross_entropy_mix_dx,
                                             RP_OP_mse,
                                             RP_OP_mse_dx};
            enum rp_op op = ops[j % 6];
            bool classes = j % 6 < 2, mixes = j % 6 / 2 == 1;
            if (j >= 10) continue; /* mse has no smoothing */
            struct op_case *c = case_add(cases, op);
            IN(c, 0, FILL_RANDOM, n, width);
            if (classes)
                IN(c, 1, FILL_TARGETS, n);
            else if (mixes)
                IN(c, 1, FILL_MIXES, n, 3);
            else
                IN(c, 1, FILL_RANDOM, n, width);
            c->classes = width;
            c->call.params.loss.label_smoothing = smoothing[j / 6];
            case_set_rows(c, n, 1, 1);
        }
    }
}

/* ---- the update ----------------------------------------------------------------------------- */

static const struct rp_update update_scalars = {.lr = 0.01f,
                                                .lr_decay = 0.01f * 0.05f,
                                                .one_over_c1 = 1.9f,
                                                .one_over_c2 = 31.7f,
                                                .beta1 = 0.9f,
                                                .one_minus_beta1 = 0.1f,
                                                .beta2 = 0.999f,
                                                .one_minus_beta2 = 0.001f};

/* sgd plain; momentum, first and later; all of it; adam; adamw; lion; each applied and not. */
static void add_update(struct op_cases *cases, int kind, int64_t n, bool apply)
{
    static const enum rp_op ops[] = {RP_OP_sgd,  RP_OP_sgd,  RP_OP_sgd, RP_OP_sgd,
                                     RP_OP_adam, RP_OP_adam, RP_OP_lion};
    int states = kind == 4 || kind == 5 ? 2 : 1;
    struct op_case *c = case_add(cases, ops[kind]);
    c->update = update_scalars;
    c->update.first = kind == 1;
    c->control = (struct rp_control){.norm = 3, .factor = 0.37f, .apply = apply};
    c->call.params.optim = (struct rp_optim_params){
        .eps = 1e-8f, .tensor_number = 11, .first_chunk = (uint32_t)(n % 7)};
    if (kind >= 1 && kind <= 3) c->call.params.optim.momentum = 0.9f;
    if (kind == 3) c->call.params.optim.nesterov = true;
    if (kind == 2) c->call.params.optim.dampening = 0.1f;
    if (kind >= 2 && kind <= 5) c->call.params.optim.weight_decay = 0.05f;
    if (kind == 5) c->call.params.optim.decoupled = true;
    IN(c, 0, FILL_RANDOM, n);
    IN(c, 1, FILL_RANDOM, n);
    if (kind != 0) IN(c, 2, FILL_RANDOM, n);
    if (states == 2) IN(c, 3, FILL_POSITIVE, n);
    IN(c, 2 + states, FILL_CONTROL, 16);
}

/* A matrix, or filters; `nesterov` and a step that is not applied in turn. */
static void add_muon(struct op_cases *cases, int64_t rows, int64_t columns, int kernel)
{
    for (int kind = 0; kind < 3; kind++) {
        struct op_case *c = case_add(cases, RP_OP_muon);
        c->update = update_scalars;
        c->update.beta1 = 0.95f, c->update.one_minus_beta1 = 0.05f;
        c->control = (struct rp_control){.norm = 3, .factor = 0.37f, .apply = kind != 1};
        c->call.params.optim =
            (struct rp_optim_params){.nesterov = kind == 2, .scale = 1.5f, .tensor_number = 12};
        for (int i = 0; i < 3; i++) {
            if (kernel > 1)
                IN(c, i, FILL_RANDOM, rows, kernel, kernel, columns);
            else
                IN(c, i, FILL_RANDOM, rows, columns);
        }
        IN(c, 3, FILL_CONTROL, 16);
    }
}

/* Several matrices in one, a tall one among them; nothing of it aligned, or all. */
static void add_muon_parts(struct op_cases *cases)
{
    static const int64_t sizes[][4] = {
        {3, 5, 9, 7}, {1, 2, 3, 1}, {20, 60, 0, 33}, {64, 80, 96, 64}};
    for (size_t i = 0; i < RP_COUNT(sizes); i++) {
        int first = cases->n, n = sizes[i][2] ? 3 : 2;
        add_muon(cases, sizes[i][n - 1], sizes[i][3], 1);
        for (int j = first; j < cases->n; j++) {
            struct rp_optim_params *optim = &cases->item[j].call.params.optim;
            optim->n_parts = n;
            for (int k = 0; k < n; k++)
                optim->part[k] = (struct rp_muon_part){sizes[i][k], 0.5f + 0.75f * (float)k};
        }
    }
}

static void add_update_cases(struct op_cases *cases)
{
    add_muon_parts(cases);
    static const int64_t sizes[] = {1, 2, 13, 4096, 4097, 40001};
    for (size_t i = 0; i < RP_COUNT(sizes); i++) {
        for (int kind = 0; kind < 7; kind++) {
            add_update(cases, kind, sizes[i], true);
            add_update(cases, kind, sizes[i], false);
        }
        static const int64_t matrices[][3] = {{1, 1, 1}, {3, 5, 1},     {17, 9, 1},   {33, 70, 1},
                                              {6, 4, 3}, {20, 1030, 1}, {1030, 20, 1}};
        add_muon(cases, matrices[i][0], matrices[i][1], (int)matrices[i][2]);
        if (i == 0) add_muon(cases, 1030, 20, 1);
        struct op_case *c = case_add(cases, RP_OP_digest);
        IN(c, 0, FILL_RANDOM, sizes[i]);
        c->call.params.digest.tensor_number = 3;
        c->call.params.digest.first_chunk = (uint32_t)i;
        c = case_add(cases, RP_OP_grad_norm);
        IN(c, 0, FILL_RANDOM, sizes[i]);
        for (int shards = 1; shards <= 8; shards *= 8) {
            c = case_add(cases, RP_OP_running_update);
            IN(c, 0, FILL_RANDOM, sizes[i]);
            IN(c, 1, FILL_RANDOM, sizes[i]);
            IN(c, 2, FILL_CONTROL, 16);
            c->control = (struct rp_control){.norm = 1, .factor = 1, .apply = shards == 8 || i % 2};
            c->call.params.running = (struct rp_running_params){
                .momentum = 0.1f, .shards = shards, .tensor_number = 9, .first_chunk = (uint32_t)i};
        }
    }
    static const int64_t chunks[] = {1, 31, 33, 1000, 4096, 4097, 9001};
    static const double norms[] = {0, 1, 1e30};
    for (size_t i = 0; i < RP_COUNT(chunks); i++)
        for (size_t j = 0; j < RP_COUNT(norms); j++) {
            struct op_case *c = case_add(cases, RP_OP_clip);
            IN(c, 0, FILL_CHUNKS, chunks[i]);
            if (i % 2) IN(c, 1, FILL_RANDOM, 1);
            c->call.params.clip.max_norm = norms[j];
        }
}

/* ---- sizes of real models, for perf --------------------------------------------------------- */

struct model_sizes {
    int64_t samples, features; /* linear, square */
    struct conv_shape conv, stem, pool;
    int64_t images, positions, channels;          /* sums over samples, batch norm */
    int64_t elements, parameters;                 /* of an activation, of an update */
    int64_t sequences, tokens, width;             /* layer norm */
    int64_t rows, classes, few;                   /* cross entropy: with many and few classes */
    int64_t texts, context, vocabulary, embedded; /* language models */
    int64_t attention[5];
    int64_t head[5]; /* language model: samples, tokens, width, classes, rows of logits kept */
};

static const struct model_sizes cpu_sizes = {
    .samples = 512,
    .features = 1024,
    .conv = {128, 32, 32, 64, 64, 3, 3, 1, 1, 1, 1, 1, 8, 1},
    .stem = {16, 64, 64, 3, 64, 7, 7, 2, 2, 3, 3, 1, 8, 1},
    .pool = {.n = 128, .h = 32, .w = 32, .c = 64, .kh = 2, .kw = 2, .sh = 2, .sw = 2},
    .images = 128,
    .positions = 1024,
    .channels = 64,
    .elements = 4000000,
    .parameters = 4000000,
    .sequences = 64,
    .tokens = 64,
    .width = 1024,
    .rows = 4096,
    .classes = 1000,
    .few = 10,
    .texts = 8,
    .context = 128,
    .vocabulary = 50257,
    .embedded = 768,
    .attention = {12, 256, 6, 6, 64},
    .head = {8, 32, 768, 8192, 128}};

/* Beyond the caches of a GPU: GPT-2's vocabulary, parameters of the 124M model. */
static const struct model_sizes gpu_sizes = {
    .samples = 4096,
    .features = 4096,
    .conv = {256, 32, 32, 64, 64, 3, 3, 1, 1, 1, 1, 1, 8, 1},
    .stem = {64, 224, 224, 3, 64, 7, 7, 2, 2, 3, 3, 1, 8, 1},
    .pool = {.n = 256, .h = 64, .w = 64, .c = 64, .kh = 2, .kw = 2, .sh = 2, .sw = 2},
    .images = 256,
    .positions = 1024,
    .channels = 256,
    .elements = 1 << 26,
    .parameters = 124439808,
    .sequences = 64,
    .tokens = 128,
    .width = 4096,
    .rows = 8192,
    .classes = 50257,
    .few = 1000,
    .texts = 32,
    .context = 1024,
    .vocabulary = 50257,
    .embedded = 768,
    .attention = {8, 1024, 12, 12, 64},
    .head = {8, 1024, 768, 50257, 4096}};

static void add_model_cases(struct op_cases *cases, const struct model_sizes *s)
{
    add_linear(cases, s->samples, 1, s->features, s->features, 8, 1);
    add_conv2d(cases, &s->conv);
    add_conv2d(cases, &s->stem);
    struct op_case *c = case_add(cases, RP_OP_sum_rows);
    IN(c, 0, FILL_RANDOM, s->images, s->positions, s->channels);
    case_set_rows(c, s->images, 8, 1);
    add_pool(cases, &s->pool);
    for (size_t i = 0; i < RP_COUNT(pointwise_ops); i++)
        add_pointwise(cases, pointwise_ops[i], s->elements);
    c = case_add(cases, RP_OP_dropout);
    IN(c, 0, FILL_RANDOM, 128, s->elements / 128);
    c->call.params.dropout = (struct rp_dropout_params){.p = 0.1f, .site = 5};
    case_set_rows(c, 128, 1, 1);
    add_batch_norm(cases, s->images, s->positions, s->channels, 8);
    add_batch_norm(cases, 4 * s->images, 49, 2 * s->channels, 8);
    add_batch_norm(cases, s->images, 49, 8 * s->channels, 8);
    add_layer_norm(cases, s->sequences, s->tokens, s->width, 1);
    add_layer_norm(cases, s->texts, s->context, s->embedded, 1);
    cases_add_attention_model(cases, s->attention);
    cases_add_language_model(cases, s->texts, s->context, s->vocabulary, s->embedded);
    for (int i = 0; i < 4; i++) {
        int64_t classes = i < 2 ? s->classes : s->few, rows = i < 2 ? s->rows : 16 * s->rows;
        c = case_add(cases, i % 2 ? RP_OP_cross_entropy_dx : RP_OP_cross_entropy);
        IN(c, 0, FILL_RANDOM, rows, classes);
        IN(c, 1, FILL_TARGETS, rows);
        c->classes = classes;
        case_set_rows(c, rows, 8, 1);
    }
    cases_add_lm_loss_model(cases, s->head);
    for (int i = 0; i < 2; i++) {
        c = case_add(cases, i == 0 ? RP_OP_mse : RP_OP_mse_dx);
        for (int j = 0; j < 2; j++) IN(c, j, FILL_RANDOM, s->elements / 1024, 1024);
        case_set_rows(c, s->elements / 1024, 1, 1);
    }
    for (int kind = 0; kind < 7; kind++) add_update(cases, kind, s->parameters, true);
    add_muon(cases, s->features, s->features, 1);
    c = case_add(cases, RP_OP_grad_norm);
    IN(c, 0, FILL_RANDOM, s->parameters);
    c = case_add(cases, RP_OP_clip);
    IN(c, 0, FILL_CHUNKS, s->parameters / 4096);
    c = case_add(cases, RP_OP_digest);
    IN(c, 0, FILL_RANDOM, s->parameters);
}

static void add_large_cases(struct op_cases *cases)
{
    int first = cases->n;
    add_model_cases(cases, &cpu_sizes);
    int first_for_gpu = cases->n;
    add_model_cases(cases, &gpu_sizes);
    for (int i = first; i < cases->n; i++) {
        cases->item[i].large = true;
        cases->item[i].for_gpu = i >= first_for_gpu;
    }
}

/* ---- all ------------------------------------------------------------------------------------ */

void cases_make(struct op_cases *cases)
{
    cases->item = calloc(MAX_CASES, sizeof(*cases->item));
    if (!cases->item) exit(1);
    cases->n = 0;
    add_linear_cases(cases);
    add_conv2d_cases(cases);
    add_sum_rows_cases(cases);
    add_pool_cases(cases);
    add_activation_cases(cases);
    add_norm_cases(cases);
    cases_add_attention(cases);
    cases_add_language(cases);
    add_loss_cases(cases);
    cases_add_lm_loss(cases);
    add_update_cases(cases);
    add_large_cases(cases);
}

void cases_free(struct op_cases *cases)
{
    free(cases->item);
}

void case_text(const struct op_case *c, char *text, size_t size)
{
    size_t at = 0;
#define PUT(...) at += at < size ? (size_t)snprintf(text + at, size - at, __VA_ARGS__) : 0
    PUT("%s", rp_op_info(c->call.op)->name);
    for (int i = 0; i < RP_OP_MAX_IN; i++) {
        const struct rp_tensor *tensor = &c->call.in[i];
        if (tensor->n_dims == 0) continue;
        for (int j = 0; j < tensor->n_dims; j++)
            PUT("%s%" PRId64, j == 0 ? " (" : ",", tensor->dims[j]);
        PUT(")");
    }
    const struct rp_conv2d_params *w = &c->call.params.conv2d;
    const struct rp_optim_params *o = &c->call.params.optim;
    const struct rp_attention_params *a = &c->call.params.attention;
    switch (c->call.op) {
    case RP_OP_conv2d:
    case RP_OP_conv2d_dx:
    case RP_OP_conv2d_dw:
        PUT(" groups %d", w->groups); /* fall through */
    case RP_OP_maxpool2d:
    case RP_OP_maxpool2d_dx:
    case RP_OP_avgpool2d:
    case RP_OP_avgpool2d_dx:
        PUT(" kernel %dx%d stride %dx%d pad %dx%d", w->kernel_h, w->kernel_w, w->stride_h,
            w->stride_w, w->pad_h, w->pad_w);
        break;
    case RP_OP_dropout:
    case RP_OP_dropout_dx:
        PUT(" p %g", (double)c->call.params.dropout.p);
        break;
    case RP_OP_rope:
    case RP_OP_rope_dx:
    case RP_OP_head_norm:
    case RP_OP_head_norm_dx:
    case RP_OP_head_norm_dg:
    case RP_OP_attention:
    case RP_OP_attention_dx:
    case RP_OP_attention_cached:
        PUT(" heads %d of %d, kv_heads %d, p %g, first token %" PRId64, a->heads, a->head_dim,
            a->kv_heads, (double)a->p, c->pass.first_token);
        break;
    case RP_OP_cross_entropy:
    case RP_OP_cross_entropy_dx:
    case RP_OP_cross_entropy_mix:
    case RP_OP_cross_entropy_mix_dx:
    case RP_OP_lm_loss:
    case RP_OP_lm_loss_dxw:
        PUT(" smoothing %g", (double)c->call.params.loss.label_smoothing);
        if (c->call.params.loss.columns) PUT(" columns %d", c->call.params.loss.columns);
        break;
    case RP_OP_clip:
        PUT(" max %g", c->call.params.clip.max_norm);
        break;
    case RP_OP_sgd:
    case RP_OP_adam:
    case RP_OP_lion:
        PUT(" momentum %g dampening %g decay %g%s%s%s apply %d", (double)o->momentum,
            (double)o->dampening, (double)o->weight_decay, o->nesterov ? " nesterov" : "",
            o->decoupled ? " decoupled" : "", c->update.first ? " first" : "", c->control.apply);
        break;
    default:
        break;
    }
    if (c->pass.rows.n_shards > 1) PUT(" shards %d", c->pass.rows.n_shards);
    if (c->parts > 1) PUT(" parts %d", c->parts);
    if (c->unwanted) PUT(" without outputs %x", c->unwanted);
#undef PUT
}
