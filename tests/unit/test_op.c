/* test_op.c - the table of ops: sizes, shapes, refusals, costs. The arithmetic is tested in
 * tests/ops. */
#include "op.h"
#include "test.h"

static struct rp_tensor tensor(enum rp_dtype dtype, int n_dims, const int64_t *dims)
{
    struct rp_tensor t = {.dtype = dtype, .n_dims = n_dims};
    memcpy(t.dims, dims, sizeof(*dims) * (size_t)n_dims);
    return t;
}
#define F32(...)                                                                                   \
    tensor(RP_DTYPE_F32, (int)RP_COUNT(((int64_t[]){__VA_ARGS__})), (int64_t[]){__VA_ARGS__})
#define BYTES(n) tensor(RP_DTYPE_U8, 1, (int64_t[]){n})

static void test_tensors(void)
{
    struct rp_tensor t = F32(2, 3, 5), scalar = {.dtype = RP_DTYPE_F64};
    CHECK_INT(rp_tensor_elements(&t), 30);
    CHECK_INT(rp_tensor_bytes(&t), 120);
    CHECK_INT(rp_tensor_rows(&t), 6);
    CHECK_INT(rp_tensor_elements(&scalar), 1);
    CHECK_INT(rp_tensor_bytes(&scalar), 8);
    t = F32(0, 4);
    CHECK_INT(rp_tensor_elements(&t), 0);
    CHECK_INT(rp_dtype_bytes(RP_DTYPE_U8), 1);
    CHECK_INT(rp_dtype_bytes(RP_DTYPE_I32), 4);
    CHECK_INT(rp_dtype_bytes(RP_DTYPE_U64), 8);
}

static bool is_forward(enum rp_op op)
{
    return op == RP_OP_linear || op == RP_OP_conv2d || op == RP_OP_batch_norm || op == RP_OP_relu;
}

/* Each rule names inputs and outputs that its forward op and its own op have. */
static void test_rules(void)
{
    for (int op = 0; op < RP_OP_COUNT; op++) {
        const struct rp_op_info *info = rp_op_info((enum rp_op)op);
        CHECK(info->name && info->shape);
        CHECK(info->n_sums <= info->n_out && info->n_out + info->n_sums <= RP_OP_MAX_OUT);
        CHECK(!is_forward((enum rp_op)op) || info->rules);
        for (const struct rp_grad_rule *r = info->rules; r && r->out[0]; r++) {
            const struct rp_op_info *to = rp_op_info(r->op);
            int n_in = 0, n_out = 0;
            for (; n_in < RP_OP_MAX_IN && r->in[n_in]; n_in++) {
                int i = r->in[n_in] & 15, kind = r->in[n_in] & 0xf0;
                CHECK(kind == RP_GRAD_IN ? i < info->n_in : i < info->n_out);
                CHECK(kind == RP_GRAD_IN || kind == RP_GRAD_OUT || kind == RP_GRAD_DOUT);
            }
            for (; n_out < RP_OP_MAX_OUT && r->out[n_out]; n_out++) {
                CHECK_INT(r->out[n_out] & 0xf0, RP_GRAD_DIN);
                CHECK((r->out[n_out] & 15) < info->n_in);
            }
            CHECK(n_in <= to->n_in && n_out <= to->n_out);
        }
    }
}

static struct rp_op_call adam_call(void)
{
    struct rp_op_call call = {.op = RP_OP_adam};
    for (int i = 0; i < 4; i++) call.in[i] = F32(7, 9);
    call.in[4] = BYTES(sizeof(struct rp_control));
    return call;
}

static void test_update_shapes(void)
{
    struct rp_error err = {0};
    struct rp_op_call call = adam_call();
    CHECK_OK(rp_op_shape(&call, &err), &err);
    CHECK_INT(call.out[2].dims[1], 9);
    CHECK_INT(call.out[3].dtype, RP_DTYPE_U64);
    CHECK_INT(rp_tensor_elements(&call.out[3]), 1);

    call = adam_call();
    call.in[1] = F32(9, 7); /* a gradient of another shape */
    CHECK_STATUS(rp_op_shape(&call, &err), RP_STATUS_USAGE, &err);
    call = adam_call();
    call.in[3].n_dims = 0; /* adam needs both of its states */
    CHECK_STATUS(rp_op_shape(&call, &err), RP_STATUS_USAGE, &err);
    call = adam_call();
    call.in[4] = BYTES(8);
    CHECK_STATUS(rp_op_shape(&call, &err), RP_STATUS_USAGE, &err);
    call = adam_call();
    call.in[0].dtype = RP_DTYPE_F64;
    CHECK_STATUS(rp_op_shape(&call, &err), RP_STATUS_USAGE, &err);

    struct rp_op_call sgd = {.op = RP_OP_sgd}; /* its momentum is optional */
    sgd.in[0] = sgd.in[1] = F32(5);
    sgd.in[3] = BYTES(sizeof(struct rp_control));
    CHECK_OK(rp_op_shape(&sgd, &err), &err);
    CHECK_INT(sgd.out[1].n_dims, 0);
}

static void test_norm_shapes(void)
{
    struct rp_error err = {0};
    static const int64_t sizes[][2] = {{1, 1}, {4096, 1}, {4097, 2}, {8192, 2}, {8193, 3}};
    for (size_t i = 0; i < RP_COUNT(sizes); i++) {
        struct rp_op_call call = {.op = RP_OP_grad_norm, .in = {F32(sizes[i][0])}};
        CHECK_OK(rp_op_shape(&call, &err), &err);
        CHECK_INT(call.out[0].dims[0], sizes[i][1]);
        CHECK_INT(call.out[0].dtype, RP_DTYPE_F64);
    }
    struct rp_op_call clip = {.op = RP_OP_clip};
    clip.in[0] = tensor(RP_DTYPE_F64, 1, (int64_t[]){3});
    CHECK_OK(rp_op_shape(&clip, &err), &err);
    CHECK_INT(rp_tensor_bytes(&clip.out[0]), sizeof(struct rp_control));
    clip.params.clip.max_norm = -1;
    CHECK_STATUS(rp_op_shape(&clip, &err), RP_STATUS_USAGE, &err);
    clip.params.clip.max_norm = 0.0 / (clip.params.clip.max_norm + 1);
    CHECK_STATUS(rp_op_shape(&clip, &err), RP_STATUS_USAGE, &err);
    clip.params.clip.max_norm = 1;
    clip.in[1] = F32(2); /* the loss is one number */
    CHECK_STATUS(rp_op_shape(&clip, &err), RP_STATUS_USAGE, &err);

    struct rp_op_call sum = {.op = RP_OP_sum_rows, .in = {F32(8)}};
    CHECK_STATUS(rp_op_shape(&sum, &err), RP_STATUS_USAGE, &err);
    sum.in[0] = F32(4, 3, 8);
    CHECK_OK(rp_op_shape(&sum, &err), &err);
    CHECK_INT(sum.out[0].dims[0], 8);
}

static void test_costs(void)
{
    struct rp_error err = {0};
    double flops, bytes;
    struct rp_op_call linear = {.op = RP_OP_linear, .in = {F32(32, 100), F32(10, 100), F32(10)}};
    CHECK_OK(rp_op_shape(&linear, &err), &err);
    rp_op_cost(&linear, &flops, &bytes);
    CHECK(flops == 2.0 * 32 * 100 * 10);
    CHECK(bytes == 4.0 * (32 * 100 + 10 * 100 + 10 + 32 * 10));

    struct rp_op_call dw = {.op = RP_OP_linear_dw, .in = {F32(32, 10), F32(32, 100)}};
    CHECK_OK(rp_op_shape(&dw, &err), &err);
    rp_op_cost(&dw, &flops, &bytes);
    CHECK(flops == 2.0 * 32 * 100 * 10);

    struct rp_op_call conv = {.op = RP_OP_conv2d, .in = {F32(4, 8, 8, 6), F32(10, 3, 3, 3)}};
    conv.params.conv2d = (struct rp_conv2d_params){3, 3, 1, 1, 1, 1, 2};
    CHECK_OK(rp_op_shape(&conv, &err), &err);
    rp_op_cost(&conv, &flops, &bytes);
    CHECK(flops == 2.0 * (4 * 8 * 8 * 10) * (3 * 3 * 3));
    struct rp_op_call conv_dw = {.op = RP_OP_conv2d_dw, .in = {F32(4, 8, 8, 10), F32(4, 8, 8, 6)}};
    conv_dw.params = conv.params;
    CHECK_OK(rp_op_shape(&conv_dw, &err), &err);
    rp_op_cost(&conv_dw, &flops, &bytes);
    CHECK(flops == 2.0 * (4 * 8 * 8 * 10) * (3 * 3 * 3));
}

/* Tokens, tables and halves of rows that do not fit are refused in words. */
static void test_language_shapes(void)
{
    struct rp_error err = {0};
    struct rp_tensor tokens = tensor(RP_DTYPE_I32, 2, (int64_t[]){3, 8});
    struct rp_op_call call = {.op = RP_OP_embedding, .in = {tokens, F32(50, 16), F32(8, 16)}};
    CHECK_OK(rp_op_shape(&call, &err), &err);
    CHECK_INT(rp_tensor_elements(&call.out[0]), 3 * 8 * 16);
    call.in[2] = F32(7, 16); /* fewer positions than tokens */
    CHECK_INT(rp_op_shape(&call, &err), RP_STATUS_USAGE);
    CHECK(strstr(err.text, "8 tokens") && strstr(err.text, "7 positions"));
    rp_error_clear(&err);
    call.in[2] = F32(8, 15);
    CHECK_STATUS(rp_op_shape(&call, &err), RP_STATUS_USAGE, &err);
    call.in[2].n_dims = 0;
    CHECK_OK(rp_op_shape(&call, &err), &err);
    call.in[0] = F32(3, 8); /* numbers are no tokens */
    CHECK_STATUS(rp_op_shape(&call, &err), RP_STATUS_USAGE, &err);

    struct rp_op_call dw = {.op = RP_OP_embedding_dw, .in = {F32(3, 8, 16), tokens}};
    CHECK_STATUS(rp_op_shape(&dw, &err), RP_STATUS_USAGE, &err); /* dims of dw are given */
    dw.out[0] = F32(50, 16);
    CHECK_OK(rp_op_shape(&dw, &err), &err);
    dw.out[0] = F32(50, 15);
    CHECK_STATUS(rp_op_shape(&dw, &err), RP_STATUS_USAGE, &err);
    dw.out[0] = F32(50, 16);
    dw.in[0] = F32(3, 7, 16);
    CHECK_STATUS(rp_op_shape(&dw, &err), RP_STATUS_USAGE, &err);
    struct rp_op_call places = {.op = RP_OP_position_dw, .in = {F32(3, 8, 16)}};
    CHECK_OK(rp_op_shape(&places, &err), &err);
    CHECK_INT(places.out[0].dims[0], 8);

    struct rp_op_call gates = {.op = RP_OP_swiglu, .in = {F32(5, 14)}};
    CHECK_OK(rp_op_shape(&gates, &err), &err);
    CHECK_INT(gates.out[0].dims[1], 7);
    gates.in[0] = F32(5, 13);
    CHECK_STATUS(rp_op_shape(&gates, &err), RP_STATUS_USAGE, &err);
    struct rp_op_call norm = {.op = RP_OP_rms_norm, .in = {F32(5, 14), F32(14)}};
    norm.params.norm.eps = 1e-6f;
    CHECK_OK(rp_op_shape(&norm, &err), &err);
    CHECK_INT(norm.out[1].dims[0], 5);
    norm.params.norm.eps = 0;
    CHECK_STATUS(rp_op_shape(&norm, &err), RP_STATUS_USAGE, &err);
    struct rp_op_call muon = {.op = RP_OP_muon, .in = {F32(7), F32(7), F32(7)}};
    muon.in[3] = BYTES(sizeof(struct rp_control));
    CHECK_STATUS(rp_op_shape(&muon, &err), RP_STATUS_USAGE, &err); /* no matrix */
}

int main(void)
{
    test_tensors();
    test_rules();
    test_update_shapes();
    test_norm_shapes();
    test_language_shapes();
    test_costs();
    return test_result();
}
