/* bench_gemm.c - the products of linear and its gradients beside OpenBLAS, in pairs in one run.
 *
 *     rp_bench_gemm          the table: 1 and 2 threads, medians of the pairs
 *     rp_bench_gemm peak     a line per number of threads: threads, GFLOP/s of a fma loop, GB/s of
 *                            reading an array that no cache holds
 *
 * OpenBLAS is opened by name when it is there; nothing is linked with it. Its workers look for work
 * for some 20 ms after a call and would take the processor from whoever comes next, so each pair
 * waits before our turn. Threads fall asleep meanwhile: each turn begins with calls that are not
 * counted, so that products are measured and not how a thread is woken. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "device.h"

enum {
    MAX_PAIRS = 64,
    MIN_PAIRS = 5,
    MAX_THREADS = 2,
    ROW_MAJOR = 101,
    PLAIN = 111,
    TRANSPOSED = 112
};
static const double SECONDS_PER_CASE = 1.2, SECONDS_PER_TURN = 0.02, SECONDS_OF_WAKING = 0.004,
                    SECONDS_OF_SPINNING = 0.03;
static const double WANTED_RATIO = 0.95;

typedef void (*sgemm)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                      const float *a, int lda, const float *b, int ldb, float beta, float *c,
                      int ldc);
struct peer {
    sgemm run;
    void (*set_threads)(int);
    char *(*core)(void);
};

/* x (rows, in), w (out, in), y (rows, out); the three forms make y, dx and dw of them. */
struct bench_case {
    const char *name;
    int rows, out, in, shards;
};
static const struct bench_case cases[] = {
    {"512^3", 512, 512, 512, 1},         {"1024^3", 1024, 1024, 1024, 1},
    {"2048^3", 2048, 2048, 2048, 1},     {"256x1536x384", 256, 1536, 384, 1},
    {"4096x768x768", 4096, 768, 768, 1}, {"mlp 128x512x784", 128, 512, 784, 1},
    {"mlp, 8 shards", 128, 512, 784, 8},
};

static const struct form {
    const char *name;
    enum rp_op op;
} forms[] = {
    {"x W^T", RP_OP_linear},
    {"dy W", RP_OP_linear_dx},
    {"dy^T x", RP_OP_linear_dw},
};

static bool open_peer(struct peer *peer)
{
    void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!library) return false;
    *(void **)&peer->run = dlsym(library, "cblas_sgemm");
    *(void **)&peer->set_threads = dlsym(library, "openblas_set_num_threads");
    *(void **)&peer->core = dlsym(library, "openblas_get_corename");
    return peer->run && peer->set_threads && peer->core;
}

static float *make_values(size_t n)
{
    uint32_t state = 12345;
    float *values = rp_mem_try(n * sizeof *values);
    if (!values) exit(RP_STATUS_MEMORY);
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(int32_t)state / 2147483648.0f;
    }
    return values;
}

/* ---- the two sides --------------------------------------------------------------------------- */

struct match {
    const struct bench_case *bench;
    const struct form *form;
    struct rp_device *device;
    const struct peer *peer;
    struct rp_op_call call;
    struct rp_pass pass;
    float *peer_out;
};

static struct rp_tensor matrix(int rows, int columns)
{
    struct rp_tensor tensor = {.n_dims = 2, .dims = {rows, columns}};
    tensor.data = make_values((size_t)rows * (size_t)columns);
    return tensor;
}

static void set_up(struct match *match)
{
    const struct bench_case *c = match->bench;
    bool dw = match->form->op == RP_OP_linear_dw, dx = match->form->op == RP_OP_linear_dx;
    match->call = (struct rp_op_call){.op = match->form->op};
    match->pass = (struct rp_pass){.rows = {.samples_per_shard = c->rows / c->shards,
                                            .n_shards = c->shards,
                                            .n_samples = c->rows}};
    match->call.in[0] = dw || dx ? matrix(c->rows, c->out) : matrix(c->rows, c->in);
    match->call.in[1] = dw ? matrix(c->rows, c->in) : matrix(c->out, c->in);
    int rows = dw ? c->out : c->rows, columns = dw || dx ? c->in : c->out;
    match->call.out[0] = matrix(rows, columns);
    match->peer_out = make_values((size_t)rows * (size_t)columns);
}

static void tear_down(struct match *match)
{
    rp_mem_free(match->call.in[0].data);
    rp_mem_free(match->call.in[1].data);
    rp_mem_free(match->call.out[0].data);
    rp_mem_free(match->peer_out);
}

static void run_ours(struct match *match)
{
    struct rp_error err = {0};
    enum rp_status status =
        match->device->table->run(match->device, &match->call, &match->pass, &err);
    if (status == RP_STATUS_OK) return;
    fprintf(stderr, "bench_gemm: %s\n", err.text);
    exit(status);
}

static void run_peer(struct match *match)
{
    const struct bench_case *c = match->bench;
    const float *a = match->call.in[0].data, *b = match->call.in[1].data;
    float *out = match->peer_out;
    switch (match->form->op) {
    case RP_OP_linear:
        match->peer->run(ROW_MAJOR, PLAIN, TRANSPOSED, c->rows, c->out, c->in, 1, a, c->in, b,
                         c->in, 0, out, c->out);
        break;
    case RP_OP_linear_dx:
        match->peer->run(ROW_MAJOR, PLAIN, PLAIN, c->rows, c->in, c->out, 1, a, c->out, b, c->in, 0,
                         out, c->in);
        break;
    default:
        match->peer->run(ROW_MAJOR, TRANSPOSED, PLAIN, c->out, c->in, c->rows, 1, a, c->out, b,
                         c->in, 0, out, c->in);
        break;
    }
}

/* ---- measuring ------------------------------------------------------------------------------- */

static double seconds_of(void (*run)(struct match *), struct match *match, int repeats)
{
    double start = rp_sys_clock();
    do run(match);
    while (rp_sys_clock() - start < SECONDS_OF_WAKING);
    start = rp_sys_clock();
    for (int i = 0; i < repeats; i++) run(match);
    return (rp_sys_clock() - start) / repeats;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, compare_doubles);
    return values[n / 2];
}

static void measure(struct match *match, int threads, double peak)
{
    double ours[MAX_PAIRS], theirs[MAX_PAIRS], ratio[MAX_PAIRS];
    const struct bench_case *c = match->bench;
    double gflop = 2e-9 * c->rows * c->out * c->in;
    run_ours(match);
    int repeats = (int)(SECONDS_PER_TURN / seconds_of(run_ours, match, 1)) + 1, n = 0;
    if (match->peer) run_peer(match);
    for (double start = rp_sys_clock();
         n < MIN_PAIRS || (n < MAX_PAIRS && rp_sys_clock() - start < SECONDS_PER_CASE); n++) {
        if (threads > 1 && match->peer) rp_sys_sleep(SECONDS_OF_SPINNING);
        ours[n] = seconds_of(run_ours, match, repeats);
        theirs[n] = match->peer ? seconds_of(run_peer, match, repeats) : 0;
        ratio[n] = theirs[n] / ours[n];
    }
    double rate = gflop / median(ours, n);
    printf("%-16s %-7s %7d %9.1f %5.0f %%", c->name, match->form->name, threads, rate,
           100 * rate / peak);
    if (match->peer) {
        double middle = median(ratio, n);
        printf(" %9.1f %7.2f%s", gflop / median(theirs, n), middle,
               c->shards == 1 && middle < WANTED_RATIO ? "  below" : "");
    }
    printf("\n");
    fflush(stdout);
}

static struct rp_device *open_device(int threads)
{
    struct rp_error err = {0};
    struct rp_device_config config = {.threads = threads};
    struct rp_device *device;
    enum rp_status status = rp_device_cpu.open(&config, &device, &err);
    if (status == RP_STATUS_OK) return device;
    fprintf(stderr, "bench_gemm: %s\n", err.text);
    exit(status);
}

/* ---- reading: the floor of what goes through all weights for each token ---------------------- */

enum { READ_BYTES = 1 << 28, READ_TIMES = 5 };

struct reading {
    const uint64_t *words;
    size_t n;
    uint64_t sum;
};

static void *read_words(void *arg)
{
    struct reading *reading = arg;
    uint64_t sum[8] = {0};
    for (size_t i = 0; i + 8 <= reading->n; i += 8)
        for (int j = 0; j < 8; j++) sum[j] += reading->words[i + (size_t)j];
    for (int j = 0; j < 8; j++) reading->sum += sum[j];
    return NULL;
}

/* Bytes a second, the best of a few times. */
static double read_rate(int threads)
{
    pthread_t thread[MAX_THREADS];
    struct reading part[MAX_THREADS];
    uint64_t *words = (uint64_t *)make_values(READ_BYTES / sizeof(float));
    double best = 1e9;
    for (int t = 0; t < READ_TIMES; t++) {
        double began = rp_sys_clock();
        for (int i = 0; i < threads; i++) {
            size_t n = READ_BYTES / sizeof *words / (size_t)threads;
            part[i] = (struct reading){.words = words + (size_t)i * n, .n = n};
            if (pthread_create(&thread[i], NULL, read_words, &part[i]) != 0)
                exit(RP_STATUS_INTERNAL);
        }
        for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
        double seconds = rp_sys_clock() - began;
        if (seconds < best) best = seconds;
    }
    rp_mem_free(words);
    return READ_BYTES / best;
}

static double peak_of(struct rp_device *device)
{
    double flops, bytes;
    device->table->peak(device, rp_sys_clock, &flops, &bytes);
    return flops * 1e-9;
}

static void measure_all(int threads, const struct peer *peer, const char *only)
{
    struct rp_device *device = open_device(threads);
    double peak = peak_of(device);
    if (peer) peer->set_threads(threads);
    for (size_t c = 0; c < RP_COUNT(cases); c++) {
        for (size_t f = 0; f < RP_COUNT(forms); f++) {
            struct match match = {
                .bench = &cases[c], .form = &forms[f], .device = device, .peer = peer};
            if (cases[c].shards > 1 && forms[f].op != RP_OP_linear_dw) continue;
            if (only && !strstr(cases[c].name, only)) continue;
            set_up(&match);
            measure(&match, threads, peak);
            tear_down(&match);
        }
    }
    rp_device_cpu.close(device);
}

int main(int argc, char **argv)
{
    int cpus = rp_sys_cpus(), most = cpus < MAX_THREADS ? cpus : MAX_THREADS;
    if (argc > 1 && strcmp(argv[1], "peak") == 0) {
        for (int threads = 1; threads <= most; threads++) {
            struct rp_device *device = open_device(threads);
            printf("%d %.1f %.1f\n", threads, peak_of(device), read_rate(threads) / 1e9);
            rp_device_cpu.close(device);
        }
        return 0;
    }
    struct peer peer;
    bool there = open_peer(&peer);
    printf("sgemm, GFLOP/s, %s%s\n",
           there ? "beside OpenBLAS for core " : "OpenBLAS is not installed",
           there ? peer.core() : "");
    printf("%-16s %-7s %7s %9s %7s%s\n", "rows x out x in", "form", "threads", "reprise", "of peak",
           there ? "  OpenBLAS   ratio" : "");
    for (int threads = 1; threads <= most; threads++)
        measure_all(threads, there ? &peer : NULL, argc > 1 ? argv[1] : NULL);
    return 0;
}
