/* run.c - runs a case on a device, between guards. */
#include "run.h"

enum { GUARD = 256 };
static const uint32_t guard_word =
    0x7fc0dead; /* a NaN: what reads past an input shows in the result */

/* A tensor on the device with a guard before and behind it. */
struct buffer {
    unsigned char *block; /* of the device */
    unsigned char *host;  /* what was put there, guards and all */
    size_t front, bytes;  /* of the guard before, of the tensor */
};

/* On a device of an even number of threads (which a GPU does not look at) every tensor begins 8
 * bytes beyond a multiple of 256: kernels with wide loads need another form there. */
static size_t front_of(const struct rp_device *device)
{
    return GUARD + (device->config.threads % 2 == 0 ? 8 : 0);
}

void check_status(enum rp_status status, const char *what, const struct rp_error *err)
{
    if (status != RP_STATUS_OK) die(what, err);
}

static void buffer_open(struct rp_device *device, struct buffer *buffer, const void *data,
                        size_t bytes)
{
    struct rp_error err = {0};
    size_t front = front_of(device), all = front + bytes + GUARD;
    void *block = NULL;
    buffer->front = front;
    buffer->bytes = bytes;
    buffer->host = malloc(all);
    if (!buffer->host) exit(1);
    for (size_t i = 0; i < all; i++)
        buffer->host[i] = (unsigned char)(guard_word >> (8 * ((i - front) % 4)));
    memcpy(buffer->host + front, data, bytes);
    check_status(device->table->alloc(device, all, &block, &err), "alloc", &err);
    buffer->block = block;
    check_status(device->table->copy_in(device, block, buffer->host, all, &err), "copy_in", &err);
}

/* Takes the contents back into `data` (NULL: they must be as they were). False: something was
 * written where it must not be. */
static bool buffer_close(struct rp_device *device, struct buffer *buffer, void *data)
{
    struct rp_error err = {0};
    size_t front = buffer->front, end = front + buffer->bytes, all = end + GUARD;
    unsigned char *now = malloc(all);
    if (!now) exit(1);
    check_status(device->table->copy_out(device, now, buffer->block, all, &err), "copy_out", &err);
    bool good =
        memcmp(now, buffer->host, front) == 0 && memcmp(now + end, buffer->host + end, GUARD) == 0;
    if (data)
        memcpy(data, now + front, buffer->bytes);
    else
        good = good && memcmp(now + front, buffer->host + front, buffer->bytes) == 0;
    device->table->free(device, buffer->block);
    free(buffer->host);
    free(now);
    return good;
}

static void slice_tensor(struct rp_tensor *tensor, int64_t samples, int64_t begin, int64_t end)
{
    size_t bytes = rp_tensor_bytes(tensor) / (size_t)samples;
    if (tensor->n_dims == 0) return;
    if (tensor->data) tensor->data = (unsigned char *)tensor->data + bytes * (size_t)begin;
    tensor->dims[0] = tensor->dims[0] / samples * (end - begin);
}

/* Samples [begin, end) of all inputs and outputs but sums. */
static void slice_call(const struct op_case *c, struct rp_op_call *call, struct rp_pass *pass,
                       int64_t begin, int64_t end)
{
    const struct rp_op_info *info = rp_op_info(call->op);
    int64_t samples = c->pass.rows.n_samples;
    for (int i = 0; i < RP_OP_MAX_IN; i++)
        if (!(c->whole >> i & 1)) slice_tensor(&call->in[i], samples, begin, end);
    for (int i = 0; i < info->n_out - info->n_sums; i++)
        slice_tensor(&call->out[i], samples, begin, end);
    pass->rows.first_sample = begin;
    pass->rows.n_samples = end - begin;
    pass->position += (uint64_t)begin;
}

static void run_parts(struct rp_device *device, const struct op_case *c,
                      const struct rp_op_call *call)
{
    struct rp_error err = {0};
    int64_t samples = c->pass.rows.n_samples;
    for (int part = 0; part < c->parts; part++) {
        struct rp_op_call now = *call;
        struct rp_pass pass = c->pass;
        int64_t begin = samples * part / c->parts, end = samples * (part + 1) / c->parts;
        if (c->parts > 1 && begin == end) continue;
        if (c->parts > 1) slice_call(c, &now, &pass, begin, end);
        check_status(device->table->run(device, &now, &pass, &err), "run", &err);
    }
    check_status(device->table->sync(device, &err), "sync", &err);
}

int twin_of(const struct op_case *c, int i)
{
    const struct rp_op_info *info = rp_op_info(c->call.op);
    bool update = c->call.op == RP_OP_sgd || c->call.op == RP_OP_adam || c->call.op == RP_OP_lion ||
                  c->call.op == RP_OP_muon;
    if (c->call.op == RP_OP_attention_cached) return i > 0 ? i : -1;
    if (!info->in_place) return -1;
    if (i == 0) return 0;
    return update && i >= 2 && i - 1 < info->n_out - 1 ? i - 1 : -1;
}

bool run_case(struct rp_device *device, const struct op_case *c, const struct op_values *values,
              bool in_place, void *const got[])
{
    struct buffer in[RP_OP_MAX_IN] = {0}, out[RP_OP_MAX_OUT] = {0};
    const struct rp_op_info *info = rp_op_info(c->call.op);
    struct rp_op_call call = c->call;
    bool twin[RP_OP_MAX_OUT] = {0}, good = true;
    in_place = in_place || c->call.op == RP_OP_attention_cached; /* a cache is never a copy */
    call.update = &c->update;
    for (int i = 0; i < RP_OP_MAX_IN; i++) {
        if (!values->in[i]) continue;
        buffer_open(device, &in[i], values->in[i], rp_tensor_bytes(&call.in[i]));
        call.in[i].data = in[i].block + in[i].front;
        int o = in_place ? twin_of(c, i) : -1;
        if (o < 0 || !values->out[o]) continue;
        twin[o] = true;
        call.out[o].data = call.in[i].data;
    }
    for (int i = 0; i < info->n_out; i++) {
        if (!values->out[i] || twin[i]) continue;
        buffer_open(device, &out[i], values->out[i], rp_tensor_bytes(&call.out[i]));
        call.out[i].data = out[i].block + out[i].front;
    }
    for (int i = info->n_out; c->parts > 1 && i < info->n_out + info->n_sums; i++) {
        const struct rp_tensor *sum = &call.out[i - info->n_sums];
        if (!sum->data) continue;
        buffer_open(device, &out[i], values->out[i - info->n_sums], rp_tensor_bytes(sum));
        call.out[i] = *sum;
        call.out[i].data = out[i].block + out[i].front;
    }

    run_parts(device, c, &call);

    for (int i = 0; i < RP_OP_MAX_IN; i++) {
        int o = in_place ? twin_of(c, i) : -1;
        if (in[i].block)
            good = buffer_close(device, &in[i], o >= 0 && twin[o] ? got[o] : NULL) && good;
    }
    unsigned char *ignored = NULL;
    for (int i = 0; i < RP_OP_MAX_OUT; i++) {
        if (!out[i].block) continue;
        if (i >= info->n_out) ignored = malloc(out[i].bytes); /* an open chain */
        good = buffer_close(device, &out[i], i < info->n_out ? got[i] : ignored) && good;
        free(ignored);
        ignored = NULL;
    }
    return good;
}
