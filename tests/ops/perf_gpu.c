/* perf_gpu.c - bandwidth of each op on a GPU, beside what a plain copy reaches there. A GPU is fed
 * ahead, so that the time of many calls between two waits is its own time. */
#include <time.h>

#include "run.h"

enum { PATTERN = 1 << 20 /* elements that are made; the rest of a tensor repeats them */ };

/* What an op should reach: of a copy's bandwidth, or else of the fma rate, which is 1.5 times the
 * time of its products at four fifths of that rate. */
static const double WANTED_BYTES = 0.85, WANTED_FLOPS = 0.8 / 1.5;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void *allocate(struct rp_device *device, const struct rp_tensor *tensor)
{
    struct rp_error err = {0};
    void *block = NULL;
    check_status(device->table->alloc(device, rp_tensor_bytes(tensor), &block, &err), "alloc",
                 &err);
    return block;
}

/* Memory of input i, with the contents of the case. */
static void *make_input(struct rp_device *device, const struct op_case *c, int i)
{
    struct op_case part = *c;
    struct rp_tensor *tensor = &part.call.in[i];
    struct rp_error err = {0};
    size_t bytes = rp_tensor_bytes(tensor), size = rp_dtype_bytes(tensor->dtype);
    unsigned char *block = allocate(device, tensor);
    if (c->fill[i] != FILL_TAPS && rp_tensor_elements(tensor) > PATTERN)
        *tensor = (struct rp_tensor){.dtype = tensor->dtype, .n_dims = 1, .dims = {PATTERN}};
    size_t made = (size_t)rp_tensor_elements(tensor) * size;
    unsigned char *pattern = malloc(made);
    if (!pattern) exit(1);
    values_fill_input(&part, i, pattern, 100 + (uint64_t)i, 0);
    for (size_t at = 0; at < bytes; at += made) {
        size_t count = bytes - at < made ? bytes - at : made;
        check_status(device->table->copy_in(device, block + at, pattern, count, &err), "copy_in",
                     &err);
    }
    free(pattern);
    return block;
}

/* Seconds of `calls` calls. */
static double time_calls(struct rp_device *device, const struct op_case *c,
                         const struct rp_op_call *call, int calls)
{
    struct rp_error err = {0};
    double start = seconds();
    for (int i = 0; i < calls; i++)
        check_status(device->table->run(device, call, &c->pass, &err), "run", &err);
    check_status(device->table->sync(device, &err), "sync", &err);
    return seconds() - start;
}

/* The best of five windows of about 20 ms, per call. */
static double time_call(struct rp_device *device, const struct op_case *c,
                        const struct rp_op_call *call)
{
    time_calls(device, c, call, 1); /* loads the kernel */
    double one = time_calls(device, c, call, 1), best = 1e9;
    int calls = one > 0.02 ? 1 : (int)(0.02 / one) + 1;
    if (calls > 1000) calls = 1000;
    for (int i = 0; i < 5; i++) {
        double took = time_calls(device, c, call, calls) / calls;
        best = took < best ? took : best;
    }
    return best;
}

/* True if it reached what is wanted; `*took` seconds, `*did` operations. */
static bool time_case(struct rp_device *device, const struct op_case *item, double copy_bytes,
                      double fma_flops, double *took, double *did)
{
    struct op_case c = *item;
    struct rp_error err = {0};
    check_status(rp_op_shape(&c.call, &err), "shape", &err);
    struct rp_op_call call = c.call;
    bool owned[RP_OP_MAX_OUT] = {0};
    call.update = &c.update;
    for (int i = 0; i < RP_OP_MAX_IN; i++) {
        if (call.in[i].n_dims == 0) continue;
        call.in[i].data = make_input(device, &c, i);
        if (twin_of(&c, i) >= 0) call.out[twin_of(&c, i)].data = call.in[i].data;
    }
    for (int i = 0; i < RP_OP_MAX_OUT; i++) {
        owned[i] = call.out[i].n_dims > 0 && !call.out[i].data;
        if (owned[i]) call.out[i].data = allocate(device, &call.out[i]);
    }
    size_t scratch = device->table->scratch_bytes(&device->config, &call);
    check_status(device->table->reserve(device, scratch, &err), "reserve", &err);

    double flops, bytes, time = time_call(device, &c, &call);
    char text[256];
    rp_op_cost(&call, &flops, &bytes);
    case_text(&c, text, sizeof(text));
    *took = time, *did = flops;
    double of_copy = bytes / time / copy_bytes, of_fma = flops / time / fma_flops;
    bool reached = of_copy >= WANTED_BYTES || of_fma >= WANTED_FLOPS;
    printf("%9.1f us %8.1f GB/s %5.2f of copy %8.2f TFLOP/s %5.2f of fma %s %s\n", time * 1e6,
           bytes / time * 1e-9, of_copy, flops / time * 1e-12, of_fma, reached ? " " : "<", text);

    for (int i = 0; i < RP_OP_MAX_OUT; i++)
        if (owned[i]) device->table->free(device, call.out[i].data);
    for (int i = 0; i < RP_OP_MAX_IN; i++)
        if (call.in[i].data) device->table->free(device, call.in[i].data);
    return reached;
}

/* Of all cases: the rate of products, and attention without dropout in both directions. */
struct known {
    double product_rate, attention[2], pairs, depth;
};

static void note(struct known *known, const struct op_case *c, double took, double did)
{
    enum rp_op op = c->call.op;
    if (op == RP_OP_linear && did / took > known->product_rate) known->product_rate = did / took;
    if ((op != RP_OP_attention && op != RP_OP_attention_dx) || c->call.params.attention.p > 0)
        return;
    known->attention[op == RP_OP_attention_dx] = took;
    known->depth = c->call.params.attention.head_dim;
    if (op == RP_OP_attention) known->pairs = did / (4 * known->depth + 30); /* rp_op_cost's */
}

/* Nothing that grows with the square of the tokens is kept: forward makes the scores twice, for the
 * maxima and for the weights; the gradient of q makes scores, their gradients and its sum, those of
 * k and v make both again and two sums. */
static void print_attention(const struct known *known)
{
    static const int products = 3 + 3 + 4, fewest = 2 + 5;
    double both = known->attention[0] + known->attention[1];
    double one = 2 * known->depth * known->pairs / known->product_rate;
    if (known->attention[0] <= 0 || known->attention[1] <= 0 || known->product_rate <= 0) return;
    printf("attention forward and backward: %.1f us, %.2f times its %d products at the %.1f "
           "TFLOP/s of linear (%.2f times %d, were each made once), wanted 1.50\n",
           both * 1e6, both / (products * one), products, known->product_rate * 1e-12,
           both / (fewest * one), fewest);
}

int mode_perf_gpu(const struct op_cases *cases, const char *filter)
{
    char text[256];
    double flops = 0, bytes = 0;
    struct rp_device *device = device_open(device_paths(), 1);
    device->table->describe(device, text);
    device->table->peak(device, seconds, &flops, &bytes);
    printf("%s: copy %.1f GB/s read and written, fma %.2f TFLOP/s\n", text, bytes * 1e-9,
           flops * 1e-12);
    int timed = 0, reached = 0;
    struct known known = {0};
    for (int i = 0; i < cases->n; i++) {
        const struct op_case *c = &cases->item[i];
        if (!c->for_gpu || c->unwanted || !case_matches(c, filter)) continue;
        double took, did;
        reached += time_case(device, c, bytes, flops, &took, &did);
        note(&known, c, took, did);
        timed++;
    }
    print_attention(&known);
    printf("%d of %d reach %.2f of copy or %.2f of fma; those that do not are marked <\n", reached,
           timed, WANTED_BYTES, WANTED_FLOPS);
    device_close(device);
    return 0;
}
