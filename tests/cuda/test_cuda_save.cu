/* test_cuda_save.cu - copies of the state beside the steps, on the simulated device: what a save
 * holds, and what it would hold if an update did not wait for it. */
#include "cuda/gpu.h"

#include <stdlib.h>
#include <vector>

#include "unit/test.h"

enum { N = 5000, TENSORS = 3, STEPS = 6 };

/* Tensors that an update doubles, and a product of the forward that reads them. */
struct job {
    struct rp_device *device;
    float *state[TENSORS], *forward;
    std::vector<float> host[TENSORS]; /* what a save writes */
};

static struct rp_tensor view(float *data)
{
    struct rp_tensor t = {};
    t.data = data;
    t.n_dims = 1;
    t.dims[0] = N;
    return t;
}

static void run_add(struct job *job, float *a, float *b, float *out)
{
    struct rp_error err = {};
    struct rp_op_call call = {};
    struct rp_pass pass = {};
    call.op = RP_OP_add;
    call.in[0] = view(a), call.in[1] = view(b), call.out[0] = view(out);
    CHECK_OK(job->device->table->run(job->device, &call, &pass, &err), &err);
}

static struct job open_job(uint64_t seed, bool pins)
{
    struct rp_error err = {};
    struct rp_device_config config = {};
    struct job job = {};
    char text[32];
    snprintf(text, sizeof text, "%d", (int)seed);
    setenv("RP_SIM_SEED", text, 1);
    CHECK_OK(rp_cuda_table.open(&config, &job.device, &err), &err);
    const struct rp_device_table *table = job.device->table;
    std::vector<float> first(N);
    CHECK_OK(table->alloc(job.device, N * sizeof(float), (void **)&job.forward, &err), &err);
    for (int i = 0; i < TENSORS; i++) {
        for (int k = 0; k < N; k++) first[k] = (float)(k + 1) * (float)(i + 1);
        job.host[i].assign(N, -1.0f);
        CHECK_OK(table->alloc(job.device, N * sizeof(float), (void **)&job.state[i], &err), &err);
        CHECK_OK(table->copy_in(job.device, job.state[i], first.data(), N * sizeof(float), &err),
                 &err);
        if (pins) table->pin(job.device, job.host[i].data(), N * sizeof(float));
    }
    return job;
}

static void close_job(struct job *job)
{
    for (int i = 0; i < TENSORS; i++) job->device->table->unpin(job->device, job->host[i].data());
    for (int i = 0; i < TENSORS; i++) job->device->table->free(job->device, job->state[i]);
    job->device->table->free(job->device, job->forward);
    job->device->table->close(job->device);
}

static void start(struct job *job)
{
    struct rp_error err = {};
    struct rp_device_copy copies[TENSORS];
    for (int i = 0; i < TENSORS; i++) {
        copies[i].host = job->host[i].data();
        copies[i].from = job->state[i];
        copies[i].bytes = N * sizeof(float);
    }
    CHECK_OK(job->device->table->save_start(job->device, copies, TENSORS, &err), &err);
}

static void step(struct job *job, bool fence)
{
    struct rp_error err = {};
    const struct rp_device_table *table = job->device->table;
    CHECK_OK(table->step_begin(job->device, &err), &err);
    run_add(job, job->state[0], job->state[1], job->forward);
    if (fence) CHECK_OK(table->save_fence(job->device, &err), &err);
    for (int i = 0; i < TENSORS; i++) run_add(job, job->state[i], job->state[i], job->state[i]);
    CHECK_OK(table->step_end(job->device, &err), &err);
    CHECK_OK(table->sync(job->device, &err), &err);
}

/* How many numbers of the save are not those after `steps` steps. */
static int wrong(const struct job *job, int steps)
{
    int count = 0;
    for (int i = 0; i < TENSORS; i++)
        for (int k = 0; k < N; k++)
            count += job->host[i][k] != (float)(k + 1) * (float)(i + 1) * (float)(1 << steps);
    return count;
}

/* Saves after every other step; the next one runs before anybody waits. The third is captured, the
 * fifth a replay. */
static int wrong_after(uint64_t seed, bool fence)
{
    struct rp_error err = {};
    struct job job = open_job(seed, true);
    int count = 0;
    for (int done = 0; done < STEPS; done += 2) {
        step(&job, fence);
        start(&job);
        step(&job, fence);
        CHECK_OK(job.device->table->save_wait(job.device, &err), &err);
        count += wrong(&job, done + 1);
        CHECK_OK(job.device->table->save_wait(job.device, &err), &err); /* once more is no harm */
    }
    close_job(&job);
    return count;
}

/* Memory that cannot be pinned: the copy is there when save_start returns. */
static void check_unpinned(void)
{
    struct rp_error err = {};
    struct job job = open_job(0, false);
    step(&job, true);
    start(&job);
    CHECK_INT(wrong(&job, 1), 0);
    step(&job, true);
    CHECK_OK(job.device->table->save_wait(job.device, &err), &err);
    CHECK_INT(wrong(&job, 1), 0);
    close_job(&job);
}

/* A save that nobody waits for: its memory is the caller's own again when it is unpinned. */
static void check_forgotten(void)
{
    struct job job = open_job(0, true);
    start(&job);
    job.device->table->unpin(job.device, job.host[0].data());
    CHECK_INT(wrong(&job, 0), 0);
    close_job(&job);
}

int main(void)
{
    for (uint64_t seed = 0; seed < 12; seed++) CHECK_INT(wrong_after(seed, true), 0);
    CHECK(wrong_after(0, false) > 0);    /* the control: everything as late as it may be */
    CHECK_INT(wrong_after(1, false), 0); /* and at once, which would hide it */
    check_unpinned();
    check_forgotten();
    return test_result();
}
