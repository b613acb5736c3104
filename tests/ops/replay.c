/* replay.c - an op again and again, between poisoned outputs (and scratch: the device is opened
 * with `poison`): every time the same bits. Finds what depends on who comes first. */
#include <inttypes.h>

#include "run.h"

struct replay {
    struct rp_device *device;
    struct rp_op_call call;
    struct rp_pass pass;
    uint32_t *poison; /* as many bytes as the largest output */
    void *digest;     /* on the device */
};

static void *put(struct rp_device *device, const void *from, size_t bytes)
{
    struct rp_error err = {0};
    void *block = NULL;
    check_status(device->table->alloc(device, bytes, &block, &err), "alloc", &err);
    check_status(device->table->copy_in(device, block, from, bytes, &err), "copy_in", &err);
    return block;
}

/* 64 bits over all fp32 outputs, made on the device; other outputs come to the host. */
static uint64_t outputs_digest(struct replay *r)
{
    struct rp_error err = {0};
    const struct rp_device_table *table = r->device->table;
    uint64_t sum = 0, made = 0;
    check_status(table->zero(r->device, r->digest, sizeof sum, &err), "zero", &err);
    for (int i = 0; i < RP_OP_MAX_OUT; i++) {
        const struct rp_tensor *out = &r->call.out[i];
        if (!out->data) continue;
        if (out->dtype == RP_DTYPE_F32) {
            struct rp_op_call call = {.op = RP_OP_digest, .in = {*out}};
            call.out[0] = (struct rp_tensor){
                .data = r->digest, .dtype = RP_DTYPE_U64, .n_dims = 1, .dims = {1}};
            call.params.digest.tensor_number = (uint32_t)i;
            check_status(table->run(r->device, &call, &r->pass, &err), "digest", &err);
            continue;
        }
        size_t bytes = rp_tensor_bytes(out);
        unsigned char *host = malloc(bytes);
        if (!host) exit(1);
        check_status(table->copy_out(r->device, host, out->data, bytes, &err), "copy_out", &err);
        for (size_t k = 0; k < bytes; k++) sum = sum * 0x100000001b3u + host[k];
        free(host);
    }
    check_status(table->copy_out(r->device, &made, r->digest, sizeof made, &err), "copy_out", &err);
    return sum + made;
}

static void poison_outputs(struct replay *r)
{
    struct rp_error err = {0};
    for (int i = 0; i < RP_OP_MAX_OUT; i++) {
        const struct rp_tensor *out = &r->call.out[i];
        if (!out->data) continue;
        const struct rp_device_table *table = r->device->table;
        size_t bytes = rp_tensor_bytes(out);
        enum rp_status status = out->dtype == RP_DTYPE_U64 /* digests are added to */
                                    ? table->zero(r->device, out->data, bytes, &err)
                                    : table->copy_in(r->device, out->data, r->poison, bytes, &err);
        check_status(status, "poison", &err);
    }
}

static uint64_t run_once(struct replay *r)
{
    struct rp_error err = {0};
    poison_outputs(r);
    check_status(r->device->table->run(r->device, &r->call, &r->pass, &err), "run", &err);
    return outputs_digest(r);
}

/* False: some replay gave other bits. */
static bool replay_case(struct rp_device *device, const struct op_case *item, int n)
{
    struct op_case c = *item;
    struct op_values values;
    struct rp_error err = {0};
    size_t most = 8;
    check_status(rp_op_shape(&c.call, &err), "shape", &err);
    values_make(&c, 3, 0, &values);
    struct replay r = {.device = device, .call = c.call, .pass = c.pass};
    r.call.update = &c.update;
    for (int i = 0; i < RP_OP_MAX_IN; i++)
        if (values.in[i])
            r.call.in[i].data = put(device, values.in[i], rp_tensor_bytes(&c.call.in[i]));
    for (int i = 0; i < RP_OP_MAX_OUT; i++) {
        if (!values.out[i]) continue;
        size_t bytes = rp_tensor_bytes(&c.call.out[i]);
        r.call.out[i].data = put(device, values.out[i], bytes);
        if (bytes > most) most = bytes;
    }
    r.digest = put(device, &most, sizeof(uint64_t));
    r.poison = malloc(most);
    if (!r.poison) exit(1);
    for (size_t i = 0; i < most / 4; i++) r.poison[i] = 0x7fc0dead;
    uint64_t first = run_once(&r);
    int different = 0;
    for (int i = 1; i < n; i++) different += run_once(&r) != first;
    char text[256];
    case_text(&c, text, sizeof text);
    printf("%s: %d times, %s", text, n, different ? "FAILED" : "equal bits");
    if (different) printf(": %d differ", different);
    printf(", %016" PRIx64 "\n", first);
    device->table->free(device, r.digest);
    for (int i = 0; i < RP_OP_MAX_IN; i++)
        if (r.call.in[i].data) device->table->free(device, r.call.in[i].data);
    for (int i = 0; i < RP_OP_MAX_OUT; i++)
        if (r.call.out[i].data) device->table->free(device, r.call.out[i].data);
    free(r.poison);
    values_free(&values);
    return different == 0;
}

/* Sums and updates: where threads meet. The large cases where there are any, for n > 10. */
static bool contended(const struct op_case *c)
{
    enum rp_op op = c->call.op;
    return rp_op_info(op)->n_sums > 0 || op == RP_OP_grad_norm || op == RP_OP_clip ||
           op == RP_OP_digest || op == RP_OP_sgd || op == RP_OP_adam || op == RP_OP_lion ||
           op == RP_OP_muon || op == RP_OP_running_update;
}

int mode_replay(const struct op_cases *cases, const char *filter, int n)
{
    struct rp_device *device = device_open(device_is_cpu() ? NULL : device_paths(), 2);
    int failed = 0;
    for (int i = 0; i < cases->n; i++) {
        const struct op_case *c = &cases->item[i];
        bool last = i + 1 == cases->n || cases->item[i + 1].call.op != c->call.op ||
                    cases->item[i + 1].large != c->large;
        if (!contended(c) || !last || c->parts > 1 || !case_matches(c, filter)) continue;
        if (c->for_gpu || (c->large && n <= 10)) continue;
        failed += !replay_case(device, c, n);
    }
    device_close(device);
    return failed != 0;
}
