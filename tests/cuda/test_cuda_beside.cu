/* test_cuda_beside.cu - work beside the rest, on the simulated device: gradients that leave while a
 * step goes on. What comes of it, and what would if one stream did not wait for the other. */
#include "cuda/gpu.h"

#include <stdlib.h>
#include <vector>

#include "unit/test.h"

enum { N = 5000, BUCKETS = 3, STEPS = 6 };
enum fault { NONE, NO_BEGIN, NO_END, EARLY };

/* A step: for each bucket "backward" makes a gradient of the weight, and what stands for its
 * exchange makes the sum of it; then an "update" adds the sum to the weight. */
struct job {
    struct rp_device *device;
    float *weight[BUCKETS], *gradient[BUCKETS], *sum[BUCKETS];
};

static struct rp_op_call add_call(float *a, float *b, float *out)
{
    struct rp_op_call call = {};
    float *data[3] = {a, b, out};
    struct rp_tensor *tensor[3] = {&call.in[0], &call.in[1], &call.out[0]};
    call.op = RP_OP_add;
    for (int i = 0; i < 3; i++) {
        tensor[i]->data = data[i];
        tensor[i]->n_dims = 1;
        tensor[i]->dims[0] = N;
    }
    return call;
}

static void add(struct job *job, float *a, float *b, float *out)
{
    struct rp_error err = {};
    struct rp_op_call call = add_call(a, b, out);
    struct rp_pass pass = {};
    CHECK_OK(job->device->table->run(job->device, &call, &pass, &err), &err);
}

static void exchange(struct job *job, int i, enum fault fault)
{
    struct rp_error err = {};
    struct rp_op_call call = add_call(job->gradient[i], job->gradient[i], job->sum[i]);
    void *stream = NULL;
    if (fault != NO_BEGIN)
        CHECK_OK(job->device->table->beside_begin(job->device, &stream, &err), &err);
    CHECK_OK(job->device->table->beside_run(job->device, &call, &err), &err);
}

/* `looks`: the host waits for the second stream first of all, as a rank does; else what is late is
 * done when the first needs it. */
static void step(struct job *job, enum fault fault, bool looks)
{
    struct rp_error err = {};
    const struct rp_device_table *table = job->device->table;
    CHECK_OK(table->step_begin(job->device, &err), &err);
    for (int i = 0; i < BUCKETS; i++) {
        if (fault == EARLY) exchange(job, i, fault);
        add(job, job->weight[i], job->weight[i], job->gradient[i]);
        if (fault != EARLY) exchange(job, i, fault);
    }
    if (fault != NO_END) CHECK_OK(table->beside_end(job->device, &err), &err);
    while (looks && table->beside_state(job->device) == 0) {
    }
    for (int i = 0; i < BUCKETS; i++) add(job, job->weight[i], job->sum[i], job->weight[i]);
    CHECK_OK(table->step_end(job->device, &err), &err);
}

static struct job open_job(uint64_t seed)
{
    struct rp_error err = {};
    struct rp_device_config config = {};
    struct job job = {};
    char text[32];
    std::vector<float> first(N);
    snprintf(text, sizeof text, "%d", (int)seed);
    setenv("RP_SIM_SEED", text, 1);
    CHECK_OK(rp_cuda_table.open(&config, &job.device, &err), &err);
    const struct rp_device_table *table = job.device->table;
    for (int i = 0; i < BUCKETS; i++) {
        float **block[] = {&job.weight[i], &job.gradient[i], &job.sum[i]};
        for (int j = 0; j < 3; j++)
            CHECK_OK(table->alloc(job.device, N * sizeof(float), (void **)block[j], &err), &err);
        for (int k = 0; k < N; k++) first[k] = (float)(k % 100 + 1) * (float)(i + 1);
        CHECK_OK(table->copy_in(job.device, job.weight[i], first.data(), N * sizeof(float), &err),
                 &err);
    }
    return job;
}

/* How many weights are not those after `steps` steps, each of which makes them five times as large.
 */
static int wrong(struct job *job, int steps)
{
    struct rp_error err = {};
    std::vector<float> got(N);
    float factor = 1;
    int count = 0;
    for (int i = 0; i < steps; i++) factor *= 5;
    for (int i = 0; i < BUCKETS; i++) {
        CHECK_OK(job->device->table->copy_out(job->device, got.data(), job->weight[i],
                                              N * sizeof(float), &err),
                 &err);
        for (int k = 0; k < N; k++)
            count += got[k] != (float)(k % 100 + 1) * (float)(i + 1) * factor;
    }
    return count;
}

static void close_job(struct job *job)
{
    const struct rp_device_table *table = job->device->table;
    for (int i = 0; i < BUCKETS; i++) {
        table->free(job->device, job->weight[i]);
        table->free(job->device, job->gradient[i]);
        table->free(job->device, job->sum[i]);
    }
    table->close(job->device);
}

/* The first step runs call by call, the second is captured in pieces, the others replay these. */
static int wrong_after(uint64_t seed, enum fault fault, bool looks)
{
    struct job job = open_job(seed);
    int count = 0;
    for (int i = 0; i < STEPS; i++) {
        step(&job, fault, looks);
        if (i % 2 == 1) count += wrong(&job, i + 1);
    }
    close_job(&job);
    return count;
}

/* The device works beside what it was asked for later, and its state tells when it is done. */
static void check_state(void)
{
    struct rp_error err = {};
    struct job job = open_job(0);
    CHECK_INT(job.device->table->beside_state(job.device), 1);
    step(&job, NONE, false);
    while (job.device->table->beside_state(job.device) == 0) {
    }
    CHECK_INT(job.device->table->beside_state(job.device), 1);
    CHECK_OK(job.device->table->sync(job.device, &err), &err);
    CHECK_INT(wrong(&job, 1), 0);
    close_job(&job);
}

/* Scratch and live values belong to the first stream. */
static void check_refused(void)
{
    struct rp_error err = {};
    struct job job = open_job(1);
    struct rp_op_call call = add_call(job.weight[0], job.weight[0], job.sum[0]);
    struct rp_update update = {};
    call.update = &update;
    CHECK_STATUS(job.device->table->beside_run(job.device, &call, &err), RP_STATUS_INTERNAL, &err);
    close_job(&job);
}

int main(void)
{
    for (uint64_t seed = 0; seed < 24; seed++)
        CHECK_INT(wrong_after(seed / 2, NONE, seed % 2 == 1), 0);
    CHECK(wrong_after(0, NO_BEGIN, true) > 0); /* controls: everything as late as it may be */
    CHECK(wrong_after(0, NO_END, false) > 0);
    CHECK(wrong_after(0, EARLY, true) > 0); /* a bucket that leaves before it is complete */
    CHECK(wrong_after(1, EARLY, true) > 0);
    CHECK_INT(wrong_after(1, NO_END, false), 0); /* at once, which hides that one */
    check_state();
    check_refused();
    return test_result();
}
