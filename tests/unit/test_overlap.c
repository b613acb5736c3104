/* test_overlap.c - gradients move to their owners while backward goes on: threads that stand for
 * ranks, each with its trainer, its exchanges made by a module that copies between their blocks: by
 * the thread beside each rank, or put on a second stream of its device. Whatever the buckets are,
 * the bits are those of one rank; not so when a bucket leaves too early. */
#include "base/mem.h"
#include "base/sys.h"
#include "comm/mover.h"
#include "env/env.h"
#include "test.h"
#include "train/train_int.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { MOST = 4, STEPS = 4, PERCEPTRON = 0, IMAGES };

static const char *const text[] = {
    "reprise: 1\nname: overlap\nseed: 5\n"
    "data:\n  train: {format: synthetic, task: digits, samples: 256}\n"
    "  transform: [{normalize: {mean: 0.1307, std: 0.3081}}]\n"
    "model: {kind: mlp, hidden: [40, 30, 20], activation: gelu}\n"
    "train:\n  for: 4 steps\n  batch: 64\n  shards: 8\n  clip_norm: 0.5\n  ema: {decay: 0.9}\n"
    "  optimizer: {kind: adamw, lr: 1.0e-2, weight_decay: 0.05}\n",
    "reprise: 1\nname: overlap\nseed: 6\n"
    "data:\n  train: {format: synthetic, task: digits, samples: 256}\n"
    "model:\n  kind: sequential\n  layers:\n    - conv2d: {out: 8, kernel: 3, stride: 2}\n"
    "    - batch_norm\n    - relu\n    - conv2d: {out: 20, kernel: 3, stride: 2}\n    - relu\n"
    "    - flatten\n    - linear: {out: 30}\n    - tanh\n    - linear: {out: 10}\n"
    "train:\n  for: 4 steps\n  batch: 64\n  shards: 8\n"
    "  optimizer: {kind: muon, lr: 0.01, adamw_lr: 1.0e-3, weight_decay: 0.05}\n"};

/* ---- the ranks' module ----------------------------------------------------------------------- */

/* Where the ranks of a run meet. */
struct hall {
    pthread_barrier_t barrier;
    const char *block[MOST];
    int n_ranks;
    atomic_int n_beside; /* calls that came from the thread for exchanges of rank 0 */
    atomic_int n_places; /* places in the work of rank 0 at which it exchanges, of all its steps */
};
struct door {
    struct hall *hall;
    int rank, n_calls;
    pthread_t main;
    int last_op; /* n_ops at the call before */
};
static _Thread_local int n_ops; /* that this rank's device has been asked for, but beside */

/* Every rank gives its block; now and then one comes late. */
static void meet(struct door *d, const void *block)
{
    d->n_calls++;
    if (d->rank == 0 && !pthread_equal(d->main, pthread_self())) d->hall->n_beside++;
    if (d->rank == 0 && d->last_op != n_ops) d->hall->n_places++;
    d->last_op = n_ops;
    if (d->n_calls % 3 == d->rank % 3) rp_sys_sleep(0.0005);
    d->hall->block[d->rank] = block;
    pthread_barrier_wait(&d->hall->barrier);
}

static bool all_to_all(void *world, const void *block, const uint64_t *border, void *out,
                       char why[RP_COMM_WHY_BYTES])
{
    (void)why;
    struct door *d = world;
    uint64_t begin = border[d->rank], own = border[d->rank + 1] - begin;
    meet(d, block);
    for (int r = 0; r < d->hall->n_ranks; r++)
        memcpy((char *)out + own * (uint64_t)r, d->hall->block[r] + begin, (size_t)own);
    pthread_barrier_wait(&d->hall->barrier);
    return true;
}

static bool all_gather(void *world, void *block, const uint64_t *border,
                       char why[RP_COMM_WHY_BYTES])
{
    (void)why;
    struct door *d = world;
    meet(d, block);
    for (int r = 0; r < d->hall->n_ranks; r++)
        if (r != d->rank)
            memcpy((char *)block + border[r], d->hall->block[r] + border[r],
                   (size_t)(border[r + 1] - border[r]));
    pthread_barrier_wait(&d->hall->barrier);
    return true;
}

static void close_world(void *world)
{
    (void)world;
}

static bool wait_for_bytes(void *world, char why[RP_COMM_WHY_BYTES])
{
    (void)world;
    (void)why;
    return true;
}

static const struct rp_comm_module module = {
    .close = close_world, .all_to_all = all_to_all, .all_gather = all_gather};
static const struct rp_comm_module device_module = {.device_memory = true,
                                                    .close = close_world,
                                                    .all_to_all = all_to_all,
                                                    .all_gather = all_gather,
                                                    .wait = wait_for_bytes};

/* ---- a device that takes its time ------------------------------------------------------------ */

/* So that the exchanges have time to be made while a step computes. */
static enum rp_status run_slowly(struct rp_device *device, const struct rp_op_call *call,
                                 const struct rp_pass *pass, struct rp_error *err)
{
    enum rp_status status = rp_device_cpu.run(device, call, pass, err);
    n_ops++;
    rp_sys_sleep(0.001);
    return status;
}

/* A second stream on which all is done at once. */
static enum rp_status begin_beside(struct rp_device *device, void **stream, struct rp_error *err)
{
    (void)device;
    (void)err;
    *stream = NULL;
    return RP_STATUS_OK;
}

static enum rp_status run_beside(struct rp_device *device, const struct rp_op_call *call,
                                 struct rp_error *err)
{
    struct rp_pass pass = {0};
    return rp_device_cpu.run(device, call, &pass, err);
}

static enum rp_status end_beside(struct rp_device *device, struct rp_error *err)
{
    (void)device;
    (void)err;
    return RP_STATUS_OK;
}

static int state_beside(struct rp_device *device)
{
    (void)device;
    return 1;
}

static enum rp_status open_device(const struct rp_device_table *slow, struct rp_device **device,
                                  struct rp_error *err)
{
    struct rp_device_config config = {.threads = 2, .poison = true};
    RP_TRY(rp_device_cpu.open(&config, device, err));
    (*device)->table = slow;
    return RP_STATUS_OK;
}

/* ---- a rank ---------------------------------------------------------------------------------- */

struct rank {
    struct hall *hall;
    const struct rp_spec *spec;
    const struct rp_data *data;
    int rank, n_ranks;
    bool early; /* a planted fault: buckets leave when the step has hardly begun */
    bool on_device, one_after_another;
    int n_exchanges, n_calls; /* calls: that its thread makes in a step */
    enum rp_status status;
    struct rp_error err;
    struct rp_step_result result[STEPS];
};

static enum rp_status run_steps(struct rank *r, struct rp_plan *plan, struct rp_device *device,
                                const struct rp_comm *comm)
{
    struct rp_trainer *t = NULL;
    struct rp_weights_origin origin;
    for (int j = 0; r->early && j < plan->owners.n_exchanges; j++)
        plan->owners.exchange[j].after = 0;
    r->n_exchanges = plan->owners.n_exchanges;
    r->n_calls = r->n_ranks > 1 ? r->n_exchanges + plan->owners.n_buckets + 2 : 0;
    RP_TRY(rp_trainer_open(r->spec, plan, r->data, device, comm, &t, &r->err));
    enum rp_status status = rp_weights_begin(t, "", 0, &origin, &r->err);
    for (int step = 0; step < STEPS && status == RP_STATUS_OK; step++)
        status = rp_step(t, (uint64_t)step, &r->result[step], &r->err);
    rp_trainer_close(t);
    return status;
}

static void open_comm(struct rank *r, struct rp_device *device, struct door *door,
                      const struct rp_plan *plan, struct rp_comm *comm)
{
    *comm = (struct rp_comm){.rank = r->rank, .n_ranks = r->n_ranks};
    if (r->n_ranks == 1) return;
    comm->mover = RP_NEW(struct rp_comm_mover);
    comm->mover->module = r->on_device ? &device_module : &module;
    comm->mover->one_after_another = r->one_after_another;
    comm->mover->device = device;
    comm->mover->world = door;
    CHECK_OK(rp_comm_reserve(comm, plan->owners.incoming, &r->err), &r->err);
}

static void *be_rank(void *arg)
{
    struct rank *r = arg;
    struct rp_device_table slow = rp_device_cpu;
    struct rp_device *device = NULL;
    struct rp_plan *plan = NULL;
    struct rp_comm comm;
    struct door door = {.hall = r->hall, .rank = r->rank, .main = pthread_self()};
    slow.run = run_slowly;
    if (r->on_device) {
        slow.beside_begin = begin_beside;
        slow.beside_run = run_beside;
        slow.beside_end = end_beside;
        slow.beside_state = state_beside;
    }
    CHECK_OK(open_device(&slow, &device, &r->err), &r->err);
    CHECK_OK(rp_plan_make_for(r->spec, rp_data_shape(r->data), 2, r->n_ranks, &rp_device_cpu, &plan,
                              &r->err),
             &r->err);
    open_comm(r, device, &door, plan, &comm);
    r->status = run_steps(r, plan, device, &comm);
    rp_comm_close(&comm, RP_STATUS_OK, "");
    rp_plan_free(plan);
    device->table->close(device);
    return NULL;
}

/* ---- a run ----------------------------------------------------------------------------------- */

struct run {
    int n_ranks;
    const char *bucket_bytes;
    int micro_batch;
    bool early, on_device, one_after_another;
};
struct made {
    uint64_t params[STEPS];
    float loss[STEPS];
    double norm[STEPS];
};

static struct rp_spec *load(int which, int micro_batch)
{
    struct rp_spec *spec = NULL;
    struct rp_error err = {0};
    CHECK_OK(rp_spec_parse("overlap.yaml", text[which], strlen(text[which]),
                           &(struct rp_spec_options){0}, &spec, &err),
             &err);
    spec->train.micro_batch = micro_batch;
    return spec;
}

/* Exchanges of a step, each of which was made by the thread beside it; on a device: places in the
 * work of all steps at which exchanges are made. */
static int run(int which, struct run how, struct made *made)
{
    struct rank rank[MOST] = {{0}};
    pthread_t thread[MOST];
    struct hall hall = {.n_ranks = how.n_ranks};
    struct rp_spec *spec = load(which, how.micro_batch);
    struct rp_data *data = NULL;
    struct rp_error err = {0};
    CHECK_OK(rp_data_open(spec, &(struct rp_data_options){0}, &data, &err), &err);
    rp_sys_set_env("REPRISE_BUCKET_BYTES", how.bucket_bytes);
    pthread_barrier_init(&hall.barrier, NULL, (unsigned)how.n_ranks);
    for (int r = 0; r < how.n_ranks; r++) {
        rank[r] = (struct rank){.hall = &hall,
                                .spec = spec,
                                .data = data,
                                .rank = r,
                                .n_ranks = how.n_ranks,
                                .early = how.early,
                                .on_device = how.on_device,
                                .one_after_another = how.one_after_another};
        CHECK_INT(pthread_create(&thread[r], NULL, be_rank, &rank[r]), 0);
    }
    memset(made, 0, sizeof *made);
    for (int r = 0; r < how.n_ranks; r++) {
        pthread_join(thread[r], NULL);
        CHECK_STATUS(rank[r].status, RP_STATUS_OK, &rank[r].err);
        for (int i = 0; i < STEPS; i++) {
            made->params[i] += rank[r].result[i].params;
            made->loss[i] = rank[r].result[i].loss;
            made->norm[i] = rank[r].result[i].norm;
        }
    }
    bool by_thread = !how.on_device && !how.one_after_another;
    CHECK_INT(hall.n_beside, by_thread ? STEPS * rank[0].n_calls : 0);
    pthread_barrier_destroy(&hall.barrier);
    rp_data_free(data);
    rp_spec_free(spec);
    return how.on_device ? hall.n_places : rank[0].n_exchanges;
}

static bool equal(const struct made *a, const struct made *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static void test_bits(int which)
{
    static const struct run ways[] = {
        {.n_ranks = 2, .bucket_bytes = ""},
        {.n_ranks = 2, .bucket_bytes = "1"},
        {.n_ranks = 4, .bucket_bytes = "4000"},
        {.n_ranks = 4, .bucket_bytes = "1", .micro_batch = 8},
        {.n_ranks = 2, .bucket_bytes = "3000", .micro_batch = 8},
    };
    struct made want, got;
    CHECK_INT(run(which, (struct run){.n_ranks = 1, .bucket_bytes = "1"}, &want), 0);
    for (size_t i = 0; i < RP_COUNT(ways); i++) {
        int n = run(which, ways[i], &got);
        CHECK(equal(&got, &want));
        CHECK(ways[i].bucket_bytes[0] == '\0' ? n <= 2 : n >= 2);
    }
}

/* On a device exchanges begin in the midst of backward and of the updates, unless that is unwanted.
 */
static void test_on_a_device(int which)
{
    struct made want, got;
    struct run how = {.n_ranks = 2, .bucket_bytes = "1", .on_device = true};
    run(which, (struct run){.n_ranks = 1, .bucket_bytes = ""}, &want);
    int beside = run(which, how, &got);
    CHECK(equal(&got, &want));
    how.micro_batch = 8;
    CHECK(run(which, how, &got) >= beside);
    CHECK(equal(&got, &want));
    how.one_after_another = true;
    int after = run(which, how, &got);
    CHECK(equal(&got, &want));
    CHECK_INT(after, 3 * STEPS); /* after backward, for the norm, after the updates */
    CHECK(beside >= after + 6 * STEPS);
    how = (struct run){.n_ranks = 2, .bucket_bytes = "1", .one_after_another = true};
    run(which, how, &got);
    CHECK(equal(&got, &want));
}

#if !defined(__SANITIZE_THREAD__) /* which sees the planted fault for what it is: a race */
static void test_control_too_early(int which)
{
    struct made want, got;
    struct run early = {.n_ranks = 2, .bucket_bytes = "5000", .early = true};
    run(which, (struct run){.n_ranks = 1, .bucket_bytes = ""}, &want);
    run(which, early, &got);
    CHECK(!equal(&got, &want));
    early.on_device = true;
    run(which, early, &got);
    CHECK(!equal(&got, &want));
}
#endif

int main(void)
{
    for (int which = PERCEPTRON; which <= IMAGES; which++) {
        test_bits(which);
        test_on_a_device(which);
#if !defined(__SANITIZE_THREAD__)
        test_control_too_early(which);
#endif
    }
    return test_result();
}
