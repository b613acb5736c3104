/* perf.c - time of one call per op on sizes of real models, beside the floor of rp_op_cost. */
#include <time.h>

#include "run.h"

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Memory that stays between calls: guards and copies would cost more than the op. */
static void *device_memory(struct rp_device *device, const void *from, size_t bytes)
{
    struct rp_error err = {0};
    void *block = NULL;
    check_status(device->table->alloc(device, bytes, &block, &err), "alloc", &err);
    check_status(device->table->copy_in(device, block, from, bytes, &err), "copy_in", &err);
    return block;
}

/* The median of at least 5 calls, in seconds. */
static double time_call(struct rp_device *device, const struct op_case *c,
                        const struct rp_op_call *call)
{
    enum { MAX = 101 };
    double took[MAX], begin = seconds();
    struct rp_error err = {0};
    int n = 0;
    for (; n < 5 || (n < MAX && seconds() - begin < 0.2); n++) {
        double start = seconds();
        check_status(device->table->run(device, call, &c->pass, &err), "run", &err);
        check_status(device->table->sync(device, &err), "sync", &err);
        took[n] = seconds() - start;
    }
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && took[j] < took[j - 1]; j--) {
            double swap = took[j];
            took[j] = took[j - 1];
            took[j - 1] = swap;
        }
    return took[n / 2];
}

static void time_case(const struct op_case *item, const char *path, int threads)
{
    struct op_case c = *item;
    struct rp_error err = {0};
    struct op_values values;
    struct rp_device *device = device_open(path, threads);
    check_status(rp_op_shape(&c.call, &err), "shape", &err);
    values_make(&c, 1, 0, &values);
    struct rp_op_call call = c.call;
    call.update = &c.update;
    for (int i = 0; i < RP_OP_MAX_IN; i++)
        if (values.in[i])
            call.in[i].data = device_memory(device, values.in[i], rp_tensor_bytes(&call.in[i]));
    for (int i = 0; i < RP_OP_MAX_IN; i++) /* in place, as in training */
        if (values.in[i] && twin_of(&c, i) >= 0) call.out[twin_of(&c, i)].data = call.in[i].data;
    for (int i = 0; i < RP_OP_MAX_OUT; i++)
        if (values.out[i] && !call.out[i].data)
            call.out[i].data = device_memory(device, values.out[i], rp_tensor_bytes(&call.out[i]));

    double flops, bytes, time = time_call(device, &c, &call);
    char text[256];
    rp_op_cost(&call, &flops, &bytes);
    case_text(&c, text, sizeof(text));
    printf("%9.1f us %8.2f GFLOP/s %7.2f GB/s  %s, %s, %d thread%s\n", time * 1e6,
           flops / time * 1e-9, bytes / time * 1e-9, text, path, threads, threads == 1 ? "" : "s");

    for (int i = 0; i < RP_OP_MAX_IN; i++)
        if (twin_of(&c, i) < 0) device->table->free(device, call.in[i].data);
    for (int i = 0; i < RP_OP_MAX_OUT; i++) device->table->free(device, call.out[i].data);
    values_free(&values);
    device_close(device);
}

int mode_perf(const struct op_cases *cases, const char *filter)
{
    char paths[64];
    if (!device_is_cpu()) return mode_perf_gpu(cases, filter);
    snprintf(paths, sizeof(paths), "%s", device_paths());
    const char *path = strtok(paths, " ");
    for (int i = 0; i < cases->n; i++) {
        const struct op_case *c = &cases->item[i];
        if (!c->large || c->for_gpu || c->unwanted || !case_matches(c, filter)) continue;
        time_case(c, path, 1);
        time_case(c, path, 2);
    }
    return 0;
}
