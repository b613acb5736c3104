/* test_cuda_rules.cu - what a device refuses of the host, and the simulated one with it; and what
 * the device of kernels/cuda makes of refusals. */
#include "cuda/gpu.h"

#include <stdlib.h>
#include <vector>

#include "unit/test.h"

enum { N = 4096, BYTES = N * (int)sizeof(float), FORBIDDEN = 9 };

static __global__ void copy_one(const float *from, float *to)
{
    if (threadIdx.x == 0) to[0] = from[0];
}

struct things {
    cudaStream_t stream, other;
    cudaEvent_t event;
    float *device;
    std::vector<float> host;
};

static struct things make_things(void)
{
    struct things t = {};
    t.host.assign(N, 1.0f);
    CHECK_INT(cudaStreamCreateWithFlags(&t.stream, cudaStreamNonBlocking), cudaSuccess);
    CHECK_INT(cudaStreamCreateWithFlags(&t.other, cudaStreamNonBlocking), cudaSuccess);
    CHECK_INT(cudaEventCreateWithFlags(&t.event, cudaEventDisableTiming), cudaSuccess);
    CHECK_INT(cudaMalloc((void **)&t.device, BYTES), cudaSuccess);
    return t;
}

static void release_things(struct things *t)
{
    CHECK_INT(cudaFree(t->device), cudaSuccess);
    CHECK_INT(cudaEventDestroy(t->event), cudaSuccess);
    CHECK_INT(cudaStreamDestroy(t->other), cudaSuccess);
    CHECK_INT(cudaStreamDestroy(t->stream), cudaSuccess);
}

/* ---- while a stream is captured -------------------------------------------------------------- */

static int launch_copy(cudaStream_t stream, const float *from, float *to)
{
    return rp_sim::launch(stream, "copy_one", 1, 32, 0, copy_one, from, to);
}

/* Number `which` of what may not be done. */
static cudaError_t do_forbidden(struct things *t, int which)
{
    void *block = NULL;
    switch (which) {
    case 0:
        return cudaMalloc(&block, 16);
    case 1:
        return cudaFree(t->device);
    case 2:
        return cudaHostAlloc(&block, 16, cudaHostAllocDefault);
    case 3:
        return cudaHostRegister(t->host.data(), BYTES, cudaHostRegisterDefault);
    case 4:
        return cudaStreamSynchronize(t->other);
    case 5:
        return cudaStreamQuery(t->other);
    case 6:
        return cudaEventSynchronize(t->event);
    case 7:
        return cudaEventRecord(t->event, t->stream);
    default:
        return cudaStreamWaitEvent(t->stream, t->event, 0);
    }
}

static void check_captures(void)
{
    struct things t = make_things();
    cudaGraph_t graph = NULL;
    for (int which = 0; which < FORBIDDEN; which++) {
        CHECK_INT(cudaStreamBeginCapture(t.stream, cudaStreamCaptureModeRelaxed), cudaSuccess);
        CHECK_INT(do_forbidden(&t, which), cudaErrorStreamCaptureUnsupported);
        CHECK_INT(cudaStreamEndCapture(t.stream, &graph), cudaErrorStreamCaptureInvalidated);
        CHECK(graph == NULL);
    }
    /* Work on another stream is no harm, and what it waits for neither. */
    CHECK_INT(cudaStreamBeginCapture(t.stream, cudaStreamCaptureModeRelaxed), cudaSuccess);
    CHECK_INT(launch_copy(t.stream, t.device, t.device + 1), 0);
    CHECK_INT(launch_copy(t.other, t.device, t.device + 2), 0);
    CHECK_INT(cudaEventRecord(t.event, t.other), cudaSuccess);
    CHECK_INT(cudaStreamWaitEvent(t.other, t.event, 0), cudaSuccess);
    CHECK_INT(cudaStreamEndCapture(t.stream, &graph), cudaSuccess);
    CHECK_INT(cudaGraphDestroy(graph), cudaSuccess);
    release_things(&t);
}

/* ---- whose memory ---------------------------------------------------------------------------- */

static void check_memory(void)
{
    static float of_program[1];
    struct things t = make_things();
    float *host = t.host.data();
    const cudaMemcpyKind in = cudaMemcpyHostToDevice, out = cudaMemcpyDeviceToHost;
    CHECK_INT(cudaMemcpyAsync(t.device, host, BYTES, in, t.stream), cudaSuccess);
    CHECK_INT(cudaMemcpyAsync(host, t.device, BYTES, out, t.stream), cudaSuccess);
    CHECK_INT(cudaMemcpyAsync(t.device, host, BYTES, out, t.stream), cudaErrorInvalidValue);
    CHECK_INT(cudaMemcpyAsync(host, t.device, BYTES, in, t.stream), cudaErrorInvalidValue);
    CHECK_INT(cudaMemcpyAsync(t.device + 1, host, BYTES, in, t.stream), cudaErrorInvalidValue);
    CHECK_INT(cudaMemsetAsync(t.device, 0, BYTES, t.stream), cudaSuccess);
    CHECK_INT(cudaMemsetAsync(t.device, 0, BYTES + 1, t.stream), cudaErrorInvalidValue);
    CHECK_INT(launch_copy(t.stream, t.device, t.device + 1), 0);
    CHECK_INT(launch_copy(t.stream, of_program, t.device), cudaErrorLaunchFailure);
    CHECK(rp_sim::last_error() != NULL);
    release_things(&t);
}

static void check_devices(void)
{
    setenv("RP_SIM_DEVICES", "2", 1);
    CHECK_INT(cudaSetDevice(0), cudaSuccess);
    struct things t = make_things();
    float *there = NULL;
    CHECK_INT(cudaSetDevice(1), cudaSuccess);
    CHECK_INT(cudaMalloc((void **)&there, BYTES), cudaSuccess);
    CHECK_INT(launch_copy(t.stream, t.device, t.device + 1), cudaErrorInvalidResourceHandle);
    CHECK_INT(cudaSetDevice(0), cudaSuccess);
    CHECK_INT(launch_copy(t.stream, t.device, t.device + 1), 0);
    CHECK_INT(launch_copy(t.stream, there, t.device), cudaErrorLaunchFailure);
    CHECK(rp_sim::last_error() != NULL);
    CHECK_INT(cudaFree(there), cudaSuccess);
    release_things(&t);
    unsetenv("RP_SIM_DEVICES");
}

/* ---- the device of kernels/cuda -------------------------------------------------------------- */

static struct rp_device *open_device(void)
{
    struct rp_error err = {};
    struct rp_device_config config = {};
    struct rp_device *device = NULL;
    CHECK_OK(rp_cuda_table.open(&config, &device, &err), &err);
    return device;
}

/* Sums of `rows` rows of ones, of which more need more scratch. */
static void sum_ones(struct rp_device *device, float *x, float *sum, int64_t rows)
{
    struct rp_error err = {};
    struct rp_op_call call = {};
    struct rp_pass pass = {};
    call.op = RP_OP_sum_rows;
    call.in[0].data = x, call.in[0].n_dims = 2;
    call.in[0].dims[0] = rows, call.in[0].dims[1] = 4;
    call.out[0].data = sum, call.out[0].n_dims = 1, call.out[0].dims[0] = 4;
    pass.rows.samples_per_shard = pass.rows.n_samples = rows, pass.rows.n_shards = 1;
    CHECK_OK(device->table->run(device, &call, &pass, &err), &err);
}

static void check_sum(struct rp_device *device, const float *sum, int64_t rows)
{
    struct rp_error err = {};
    float got[4];
    CHECK_OK(device->table->copy_out(device, got, sum, sizeof got, &err), &err);
    for (int i = 0; i < 4; i++) CHECK(got[i] == (float)rows);
}

/* A step asks for more scratch than the one before, while it is captured or replayed. */
static void check_scratch_moves(void)
{
    static const int64_t rows_of_step[] = {4, 64, 8, 8, 512, 16, 16, 16};
    struct rp_device *device = open_device();
    struct rp_error err = {};
    std::vector<float> ones(4 * 512, 1.0f);
    float *x = NULL, *sum[3] = {};
    CHECK_OK(device->table->alloc(device, 4 * 512 * sizeof(float), (void **)&x, &err), &err);
    CHECK_OK(device->table->copy_in(device, x, ones.data(), 4 * 512 * sizeof(float), &err), &err);
    for (int i = 0; i < 3; i++)
        CHECK_OK(device->table->alloc(device, 16, (void **)&sum[i], &err), &err);
    for (size_t step = 0; step < RP_COUNT(rows_of_step); step++) {
        CHECK_OK(device->table->step_begin(device, &err), &err);
        sum_ones(device, x, sum[0], 4);
        sum_ones(device, x, sum[1], rows_of_step[step]);
        sum_ones(device, x, sum[2], 2);
        CHECK_OK(device->table->step_end(device, &err), &err);
        check_sum(device, sum[0], 4);
        check_sum(device, sum[1], rows_of_step[step]);
        check_sum(device, sum[2], 2);
    }
    for (int i = 0; i < 3; i++) device->table->free(device, sum[i]);
    device->table->free(device, x);
    device->table->close(device);
}

static void drop(struct rp_device *device, float *x, float *y, float p)
{
    struct rp_error err = {};
    struct rp_op_call call = {};
    struct rp_pass pass = {};
    call.op = RP_OP_dropout;
    call.in[0].data = x, call.in[0].n_dims = 2;
    call.in[0].dims[0] = 1, call.in[0].dims[1] = N;
    call.out[0] = call.in[0], call.out[0].data = y;
    call.params.dropout.p = p;
    pass.rows.samples_per_shard = pass.rows.n_samples = pass.rows.n_shards = 1;
    CHECK_OK(device->table->step_begin(device, &err), &err);
    CHECK_OK(device->table->run(device, &call, &pass, &err), &err);
    CHECK_OK(device->table->step_end(device, &err), &err);
}

/* Another job, whose blocks lie where those of the one before did, is not taken for it. */
static void check_blocks_come_back(void)
{
    struct rp_device *device = open_device();
    struct rp_error err = {};
    std::vector<float> ones(N, 1.0f), got(N);
    float *x = NULL, *y = NULL;
    CHECK_OK(device->table->alloc(device, BYTES, (void **)&x, &err), &err);
    CHECK_OK(device->table->copy_in(device, x, ones.data(), BYTES, &err), &err);
    for (int job = 0; job < 2; job++) {
        int doubled = 0;
        CHECK_OK(device->table->alloc(device, BYTES, (void **)&y, &err), &err);
        for (int step = 0; step < 3; step++) drop(device, x, y, job == 0 ? 0.0f : 0.5f);
        CHECK_OK(device->table->copy_out(device, got.data(), y, BYTES, &err), &err);
        for (int i = 0; i < N; i++) doubled += got[i] == 2.0f;
        CHECK(job == 0 ? doubled == 0 : doubled > N / 4);
        device->table->free(device, y);
    }
    device->table->free(device, x);
    device->table->close(device);
}

/* Memory that was refused is no fault of what is asked for next. */
static void check_refusal_is_forgotten(void)
{
    setenv("RP_SIM_MEMORY", "100000000", 1);
    struct rp_device *device = open_device();
    struct rp_error err = {};
    void *large = NULL, *small = NULL;
    CHECK_STATUS(device->table->alloc(device, (size_t)1 << 30, &large, &err), RP_STATUS_MEMORY,
                 &err);
    device->config.poison = true; /* filled by a kernel */
    CHECK_OK(device->table->alloc(device, 64, &small, &err), &err);
    device->table->free(device, small);
    device->table->close(device);
    unsetenv("RP_SIM_MEMORY");
}

/* What is no fault of the GPU's is not called one, and says what to do. */
static void check_ways_out(void)
{
    static const struct {
        const char *refused;
        enum rp_status status;
        const char *words;
    } cases[] = {
        {"cudaSetDevice:46", RP_STATUS_ENVIRONMENT, "CUDA_VISIBLE_DEVICES"},
        {"cudaSetDevice:802", RP_STATUS_ENVIRONMENT, "nvidia-fabricmanager"},
        {"cudaSetDevice:2", RP_STATUS_MEMORY, "out of memory"},
        {"cudaFuncGetAttributes:209", RP_STATUS_ENVIRONMENT, "RP_CUDA_ARCHS"},
        {"cudaFuncGetAttributes:222", RP_STATUS_ENVIRONMENT, "update the driver"},
        {"cudaFuncGetAttributes:719", RP_STATUS_HARDWARE, "the GPU or its driver failed"},
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        struct rp_error err = {};
        struct rp_device_config config = {};
        struct rp_device *device = NULL;
        setenv("RP_SIM_REFUSE", cases[i].refused, 1);
        CHECK_INT(rp_cuda_table.open(&config, &device, &err), cases[i].status);
        CHECK(strstr(err.text, cases[i].words) != NULL && device == NULL);
    }
    unsetenv("RP_SIM_REFUSE");
}

static char warned[256];
static int warnings;

static void take_warning(const char *text)
{
    snprintf(warned, sizeof warned, "%s", text);
    warnings++;
}

/* Steps are done all the same where no graph is to be had, and that is said once. */
static void check_no_graph(void)
{
    struct rp_device *device = open_device();
    struct rp_error err = {};
    std::vector<float> ones(4 * 64, 1.0f);
    float *x = NULL, *sum = NULL;
    CHECK_OK(device->table->alloc(device, 4 * 64 * sizeof(float), (void **)&x, &err), &err);
    CHECK_OK(device->table->alloc(device, 16, (void **)&sum, &err), &err);
    CHECK_OK(device->table->copy_in(device, x, ones.data(), 4 * 64 * sizeof(float), &err), &err);
    rp_cuda_warn = take_warning;
    for (int graphs = 1; graphs >= 0; graphs--) {
        if (!graphs) {
            rp_cuda_graph_forget((struct rp_cuda *)device);
            setenv("RP_SIM_REFUSE", "cudaGraphInstantiate:2", 1);
        }
        for (int64_t step = 1; step <= 5; step++) {
            CHECK_OK(device->table->step_begin(device, &err), &err);
            sum_ones(device, x, sum, 8);
            CHECK_OK(device->table->zero(device, sum, 16, &err), &err);
            sum_ones(device, x, sum, graphs ? 16 : 32);
            CHECK_OK(device->table->step_end(device, &err), &err);
            check_sum(device, sum, graphs ? 16 : 32);
        }
        CHECK_INT(warnings, !graphs);
    }
    CHECK(strstr(warned, "no graph") != NULL && strstr(warned, "out of memory") != NULL);
    unsetenv("RP_SIM_REFUSE");
    rp_cuda_warn = NULL;
    device->table->free(device, sum);
    device->table->free(device, x);
    device->table->close(device);
}

/* Copies of several blocks of the ring, of which none may be pinned. */
static void check_nothing_pinned(void)
{
    const size_t n = (size_t)6 << 20;
    setenv("RP_SIM_PINNED", "0", 1);
    struct rp_device *device = open_device();
    struct rp_error err = {};
    std::vector<float> in(n), out(n, -1.0f);
    for (size_t i = 0; i < n; i++) in[i] = (float)i;
    void *block = NULL;
    CHECK_OK(device->table->alloc(device, n * sizeof(float), &block, &err), &err);
    CHECK_OK(device->table->copy_in(device, block, in.data(), n * sizeof(float), &err), &err);
    CHECK_OK(device->table->copy_out(device, out.data(), block, n * sizeof(float), &err), &err);
    CHECK(in == out);
    device->table->free(device, block);
    device->table->close(device);
    unsetenv("RP_SIM_PINNED");
}

int main(void)
{
    setenv("RP_SIM_SEED", "1", 1);
    CHECK_INT(cudaSetDevice(0), cudaSuccess);
    check_captures();
    check_memory();
    check_devices();
    check_scratch_moves();
    check_blocks_come_back();
    check_refusal_is_forgotten();
    check_ways_out();
    check_no_graph();
    check_nothing_pinned();
    return test_result();
}
