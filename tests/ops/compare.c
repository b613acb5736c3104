/* compare.c - every path and several numbers of threads, bit for bit against the naive references.
 *
 * How work is cut between threads does not look at the numbers, and what is done with a number does
 * not look at the cut: plain numbers go to every number of threads, the others to one each. */
#include <inttypes.h>

#include "run.h"

enum { MAX_DEVICES = 16, MAX_PRINTED = 4, LEVELS = 3, CONTROL_LEVELS = 2 };

/* `threads_at[level]`: how many threads get the numbers of that level; 0: every device. An even
 * number, even on a GPU, is other addresses (run.c). */
struct devices {
    struct rp_device *device[MAX_DEVICES];
    int n, threads_at[LEVELS];
};

/* RP_LEVEL: numbers of this level alone, to every device. For sanitizers: what they look for is
 * found with the numbers of the last level, if with any. Neither there nor under RP_LEVELS, which
 * is for other orders of execution and the race detector, are there controls: this program has
 * them where it looks for wrong bits. */
static int only_level(void)
{
    return getenv("RP_LEVEL") ? atoi(getenv("RP_LEVEL")) : -1;
}

static void devices_open(struct devices *devices)
{
    static const int threads[] = {1, 2, 7};
    char paths[64];
    size_t n_threads = device_is_cpu() ? RP_COUNT(threads) : 2;
    if (only_level() < 0) {
        devices->threads_at[1] = threads[1];
        devices->threads_at[2] = threads[n_threads == 2 ? 0 : 2];
    }
    snprintf(paths, sizeof(paths), "%s", device_paths());
    for (char *path = strtok(paths, " "); path; path = strtok(NULL, " "))
        for (size_t i = 0; i < n_threads; i++)
            devices->device[devices->n++] = device_open(path, threads[i]);
}

/* The first element that differs, or -1. A NaN equals a NaN: payloads are not promised. */
static int64_t first_difference(const struct rp_tensor *tensor, const void *got, const void *want)
{
    size_t size = rp_dtype_bytes(tensor->dtype);
    int64_t n = rp_tensor_elements(tensor);
    const unsigned char *a = got, *b = want;
    for (int64_t i = 0; i < n; i++, a += size, b += size) {
        if (memcmp(a, b, size) == 0) continue;
        if (tensor->dtype == RP_DTYPE_F32) {
            float x, y;
            memcpy(&x, a, sizeof(x));
            memcpy(&y, b, sizeof(y));
            if (x != x && y != y) continue;
        }
        return i;
    }
    return -1;
}

static void print_element(const struct rp_tensor *tensor, const char *label, const void *data,
                          int64_t i)
{
    const unsigned char *at =
        (const unsigned char *)data + (size_t)i * rp_dtype_bytes(tensor->dtype);
    uint64_t bits = 0;
    memcpy(&bits, at, rp_dtype_bytes(tensor->dtype));
    printf("%s %" PRIx64, label, bits);
    if (tensor->dtype == RP_DTYPE_F32) {
        float x;
        memcpy(&x, at, sizeof(x));
        printf(" (%.9g)", (double)x);
    }
}

/* What one op has shown so far. */
struct verdict {
    int cases, failures;
    bool has_control, control_differed;
};

static bool same_outputs(const struct op_case *c, void *const got[], void *const want[],
                         const char *how, struct verdict *verdict)
{
    for (int i = 0; i < rp_op_info(c->call.op)->n_out; i++) {
        if (!want[i] || !got[i]) continue;
        int64_t at = first_difference(&c->call.out[i], got[i], want[i]);
        if (at < 0) continue;
        if (how && verdict->failures++ < MAX_PRINTED) {
            char text[256];
            case_text(c, text, sizeof(text));
            printf("%s, %s: output %d element %" PRId64 ":", text, how, i, at);
            print_element(&c->call.out[i], " got", got[i], at);
            print_element(&c->call.out[i], ", want", want[i], at);
            printf("\n");
        }
        return false;
    }
    return true;
}

/* In place, an update that is not applied leaves what was there. */
static void keep_inputs(const struct op_case *c, const struct op_values *values, void *const want[])
{
    const struct rp_op_info *info = rp_op_info(c->call.op);
    for (int i = 0; i < info->n_out - 1; i++) {
        int from = i == 0 ? 0 : i + 1;
        if (want[i] && values->in[from])
            memcpy(want[i], values->in[from], rp_tensor_bytes(&c->call.out[i]));
    }
}

static bool has_control_input(const struct op_case *c)
{
    for (int i = 0; i < RP_OP_MAX_IN; i++)
        if (c->fill[i] == FILL_CONTROL && c->call.in[i].n_dims > 0) return true;
    return false;
}

static void compare_devices(const struct op_case *c, const struct devices *devices, int level,
                            const struct op_values *values, void *const want[],
                            struct verdict *verdict)
{
    bool may_alias = rp_op_info(c->call.op)->in_place;
    for (int d = 0; d < devices->n; d++) {
        const struct rp_device *device = devices->device[d];
        int threads = devices->threads_at[level];
        struct op_values got;
        char how[64];
        if (threads != 0 && threads != device->config.threads) continue;
        values_make(c, 1, 0, &got);
        for (int i = 0; i < rp_op_info(c->call.op)->n_out; i++)
            if (!values->out[i]) free(got.out[i]), got.out[i] = NULL;
        for (int in_place = 0; in_place <= may_alias; in_place++) {
            snprintf(how, sizeof(how), "%s, %d threads, data %d%s", device->config.path,
                     device->config.threads, level, in_place ? ", in place" : "");
            if (in_place && has_control_input(c) && !c->control.apply) keep_inputs(c, values, want);
            if (!run_case(devices->device[d], c, values, in_place != 0, got.out) &&
                verdict->failures++ < MAX_PRINTED) {
                char text[256];
                case_text(c, text, sizeof(text));
                printf("%s, %s: wrote outside its outputs\n", text, how);
            }
            same_outputs(c, got.out, want, how, verdict);
        }
        values_free(&got);
        if (may_alias && has_control_input(c) && !c->control.apply)
            for (int i = 0; i < rp_op_info(c->call.op)->n_out - 1; i++)
                if (want[i]) memset(want[i], 0xff, rp_tensor_bytes(&c->call.out[i]));
    }
}

/* Two ranks, each with half of the shards: their nodes added are the node of all (DESIGN 1.2). Only
 * for the ops whose every input is per sample and every output a sum. */
static void compare_halves(const struct op_case *c, struct rp_device *device,
                           const struct op_values *values, void *const want[],
                           struct verdict *verdict)
{
    const struct rp_op_info *info = rp_op_info(c->call.op);
    struct op_values half[2], sum;
    if (c->pass.rows.n_shards < 2 || info->n_sums == 0 || info->n_sums != info->n_out) return;
    values_make(c, 1, 0, &sum);
    for (int h = 0; h < 2; h++) {
        struct op_case part = *c;
        struct op_values of_part = {.n_out = values->n_out};
        part.pass.rows.n_shards /= 2;
        part.pass.rows.n_samples /= 2;
        part.pass.rows.first_shard = h * part.pass.rows.n_shards;
        for (int i = 0; i < RP_OP_MAX_IN; i++) {
            if (!values->in[i]) continue;
            part.call.in[i].dims[0] /= 2;
            size_t bytes = rp_tensor_bytes(&part.call.in[i]);
            of_part.in[i] = (unsigned char *)values->in[i] + (size_t)h * bytes;
        }
        for (int i = 0; i < values->n_out; i++) of_part.out[i] = values->out[i];
        values_make(c, 1, 0, &half[h]);
        run_case(device, &part, &of_part, false, half[h].out);
    }
    for (int i = 0; i < values->n_out; i++) {
        float *to = sum.out[i];
        if (!values->out[i]) {
            free(to);
            sum.out[i] = NULL;
            continue;
        }
        for (int64_t k = 0; k < rp_tensor_elements(&c->call.out[i]); k++)
            to[k] = ((float *)half[0].out[i])[k] + ((float *)half[1].out[i])[k];
    }
    same_outputs(c, sum.out, want, "two halves of the shards", verdict);
    for (int h = 0; h < 2; h++) values_free(&half[h]);
    values_free(&sum);
}

static bool is_nan_at_end(const struct rp_tensor *tensor, const void *data)
{
    float x;
    if (tensor->dtype != RP_DTYPE_F32) return false;
    memcpy(&x, (const float *)data + rp_tensor_elements(tensor) - 1, sizeof(x));
    return x != x;
}

/* The comparison itself must see one bit, and the wrong reference must not pass for the right one.
 */
static void check_controls(const struct op_case *c, const struct op_values *values,
                           reference_fn reference, struct verdict *verdict)
{
    struct op_values wrong;
    values_make(c, 1, 0, &wrong);
    if (reference(c, values->in, wrong.out, true)) {
        verdict->has_control = true;
        if (!same_outputs(c, wrong.out, values->out, NULL, verdict))
            verdict->control_differed = true;
    }
    size_t bytes = rp_tensor_bytes(&c->call.out[0]), last = bytes - 1;
    memcpy(wrong.out[0], values->out[0], bytes);
    ((unsigned char *)wrong.out[0])[last] ^= 0x80; /* the sign, and no NaN becomes another number */
    bool seen = first_difference(&c->call.out[0], wrong.out[0], values->out[0]) >= 0;
    if (!seen && !is_nan_at_end(&c->call.out[0], values->out[0]) &&
        verdict->failures++ < MAX_PRINTED)
        printf("%s: a flipped bit went unseen\n", rp_op_info(c->call.op)->name);
    values_free(&wrong);
}

static void compare_case(const struct op_case *item, const struct devices *devices,
                         reference_fn reference, struct verdict *verdict)
{
    struct op_case c = *item;
    struct rp_error err = {0};
    int levels = getenv("RP_LEVELS") ? atoi(getenv("RP_LEVELS")) : LEVELS;
    bool controls = levels == LEVELS && only_level() < 0;
    check_status(rp_op_shape(&c.call, &err), "shape", &err);
    for (int level = 0; level < levels; level++) {
        if (only_level() >= 0 && level != only_level()) continue;
        struct op_values start, want;
        values_make(&c, 7 + (uint64_t)level, level, &start); /* outputs: poison */
        c.unwanted = 0;                                      /* the reference writes all of them */
        values_make(&c, 7 + (uint64_t)level, level, &want);
        reference(&c, want.in, want.out, false);
        if (controls && level < CONTROL_LEVELS) check_controls(&c, &want, reference, verdict);
        compare_devices(&c, devices, level, &start, want.out, verdict);
        compare_halves(&c, devices->device[devices->n > 1], &start, want.out, verdict);
        values_free(&start);
        values_free(&want);
        c.unwanted = item->unwanted;
    }
    verdict->cases++;
}

static const reference_fn references[RP_OP_COUNT] = {
#define RP_OP(name, ...) [RP_OP_##name] = reference_##name,
#include "ops.def"
#undef RP_OP
};

int mode_compare(const struct op_cases *cases, const char *filter)
{
    struct verdict verdict[RP_OP_COUNT] = {0};
    struct devices devices = {0};
    int failed = 0;
    bool quick = getenv("RP_LEVELS") && atoi(getenv("RP_LEVELS")) == 1;
    devices_open(&devices);
    for (int i = 0; i < cases->n; i++) {
        enum rp_op op = cases->item[i].call.op;
        if (cases->item[i].slow && quick) continue;
        if (case_matches(&cases->item[i], filter) && !cases->item[i].large)
            compare_case(&cases->item[i], &devices, references[op], &verdict[op]);
    }
    for (int op = 0; op < RP_OP_COUNT; op++) {
        const struct verdict *v = &verdict[op];
        bool blind = v->has_control && !v->control_differed;
        if (v->cases == 0) continue;
        if (blind) printf("%s: the wrong reference was never told apart\n", rp_op_info(op)->name);
        printf("%-18s %3d cases %s%s\n", rp_op_info(op)->name, v->cases,
               v->failures || blind ? "FAILED" : "equal bits",
               v->has_control ? "" : ", no wrong reference");
        failed += v->failures || blind;
    }
    for (int d = 0; d < devices.n; d++) device_close(devices.device[d]);
    return failed != 0;
}
