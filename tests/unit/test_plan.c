/* test_plan.c - passes, steps, events by hand; ranks; memory; errors with their line. */
#include "made_spec.h"

static struct rp_error err;

static struct rp_plan *make(struct made *m)
{
    struct rp_plan *plan = NULL;
    enum rp_status status = rp_plan_make(&m->spec, &m->data, 1, &plan, &err);
    if (status != RP_STATUS_OK) {
        printf("plan failed: %s\n", err.text);
        exit(1);
    }
    return plan;
}

static void small(struct made *m)
{
    made_init(m, 6, 6, 1);
    m->spec.model.kind = RP_MODEL_MLP;
    m->spec.model.hidden[0] = 8;
    m->spec.model.n_hidden = 1;
}

static void expect(struct made *m, const char *place, const char *words)
{
    struct rp_plan *plan = NULL;
    CHECK_INT(rp_plan_make(&m->spec, &m->data, 1, &plan, &err), RP_STATUS_USAGE);
    if (plan || !strstr(err.text, place) || !strstr(err.text, words)) {
        printf("want '%s' and '%s', got '%s'\n", place, words, err.text);
        test_failures++;
    }
    rp_error_clear(&err);
}

/* ---- passes ---------------------------------------------------------------------------------- */

static void test_passes(void)
{
    static const struct {
        int64_t batch, shards, micro, ranks;
        int64_t pass_samples;
        int n_passes, n_levels;
        bool partial;
    } cases[] = {
        {32, 8, 0, 1, 32, 1, 1, false},  /* all at once */
        {32, 8, 4, 1, 4, 8, 4, false},   /* a shard a pass: 8 nodes of the tree, 4 buffers */
        {32, 8, 8, 1, 8, 4, 3, false},   /* two shards */
        {32, 8, 12, 1, 8, 4, 3, false},  /* three shards fit, two make a node */
        {32, 8, 32, 1, 32, 1, 1, false}, /* exactly all */
        {32, 8, 64, 1, 32, 1, 1, false}, /* more than there are */
        {32, 8, 2, 1, 2, 16, 4, true},   /* half a shard */
        {32, 8, 1, 1, 1, 32, 4, true},
        {32, 1, 8, 1, 8, 4, 1, true}, /* one shard in four parts */
        {32, 1, 0, 1, 32, 1, 1, false},
        {32, 8, 0, 4, 8, 1, 1, false}, /* a rank holds two shards */
        {32, 8, 4, 4, 4, 2, 2, false},
        {32, 8, 2, 8, 2, 2, 1, true},
        {24, 8, 6, 1, 6, 4, 3, false}, /* shards of 3 */
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        struct made m;
        small(&m);
        m.spec.train.batch = cases[i].batch;
        m.spec.train.shards = cases[i].shards;
        m.spec.train.micro_batch = cases[i].micro;
        m.spec.resources.ranks = cases[i].ranks;
        struct rp_plan *plan = make(&m);
        CHECK_INT(plan->pass_samples, cases[i].pass_samples);
        CHECK_INT(plan->n_passes, cases[i].n_passes);
        CHECK_INT(plan->n_levels, cases[i].n_levels);
        CHECK_INT(plan->partial, cases[i].partial);
        CHECK_INT(plan->max_ranks, cases[i].shards);
        CHECK_INT(plan->model->train_samples, cases[i].pass_samples);
        /* The passes follow one another and cover the rank's samples; none crosses a shard but
         * whole. */
        uint64_t next = 0;
        for (int p = 0; p < plan->n_passes; p++) {
            struct rp_rows rows;
            uint64_t slot;
            rp_plan_pass(plan, p, &rows, &slot);
            CHECK_INT(slot, next);
            CHECK_INT(rows.n_samples, plan->pass_samples);
            CHECK_INT(rows.samples_per_shard, cases[i].batch / cases[i].shards);
            CHECK_INT(rows.first_shard * rows.samples_per_shard + rows.first_sample, next);
            CHECK_INT(rows.first_shard % rows.n_shards, 0);
            if (!plan->partial) CHECK_INT(rows.n_shards * rows.samples_per_shard, rows.n_samples);
            CHECK(!plan->partial || rows.n_shards == 1);
            CHECK(rows.first_sample + (plan->partial ? rows.n_samples : 0) <=
                  rows.samples_per_shard);
            next += (uint64_t)rows.n_samples;
        }
        CHECK_INT(next, cases[i].batch / cases[i].ranks);
        rp_plan_free(plan);
    }
}

static void test_bad_passes(void)
{
    struct made m;
    small(&m);
    m.spec.train.micro_batch = 3;
    expect(&m, ":7:1",
           "micro_batch is 3, and must divide batch/shards or be a multiple of it; that is 4");
    m.spec.train.micro_batch = 6;
    expect(&m, ":7:1", "micro_batch is 6");
    small(&m);
    m.spec.train.shards = 6;
    expect(&m, ":6:1", "shards is 6");
    m.spec.train.shards = 64;
    expect(&m, ":6:1", "shards is 64");
    small(&m);
    m.spec.resources.ranks = 3;
    expect(&m, "", "the next lower number is 2");
    m.spec.resources.ranks = 16;
    expect(&m, "", "the next lower number is 8");
    made_resnet(&m, 20, false, 32, 10);
    m.spec.train.micro_batch = 2;
    expect(&m, ":7:1",
           "with batch norm, micro_batch must be a multiple of batch/shards, which is 4");
    m.spec.train.micro_batch = 4; /* control */
    rp_plan_free(make(&m));
}

/* ---- steps and events ------------------------------------------------------------------------ */

static struct rp_span span(double value, enum rp_unit unit)
{
    return (struct rp_span){.value = value, .unit = unit, .at = {8, 1}};
}

static uint64_t steps_for(int64_t n, int64_t batch, double value, enum rp_unit unit)
{
    struct made m;
    small(&m);
    m.data.n_train = n;
    m.spec.train.batch = batch;
    m.spec.train.shards = 1;
    m.spec.train.duration = span(value, unit);
    struct rp_plan *plan = make(&m);
    uint64_t steps = plan->n_steps;
    rp_plan_free(plan);
    return steps;
}

static void test_steps(void)
{
    CHECK_INT(steps_for(1000, 32, 1, RP_UNIT_EPOCHS), 32);  /* 31.25 */
    CHECK_INT(steps_for(1000, 32, 2, RP_UNIT_EPOCHS), 63);  /* 62.5: not 2 * 32 */
    CHECK_INT(steps_for(1000, 32, 4, RP_UNIT_EPOCHS), 125); /* 125 exactly */
    CHECK_INT(steps_for(1000, 32, 7, RP_UNIT_STEPS), 7);
    CHECK_INT(steps_for(1000, 32, 64, RP_UNIT_SAMPLES), 2);
    CHECK_INT(steps_for(1000, 32, 65, RP_UNIT_SAMPLES), 3);
    CHECK_INT(steps_for(3, 32, 1, RP_UNIT_EPOCHS), 1); /* a batch spans epochs */
    CHECK_INT(steps_for(3, 32, 11, RP_UNIT_EPOCHS), 2);
    struct made m;
    small(&m);
    m.spec.train.duration = span(0, RP_UNIT_STEPS);
    expect(&m, ":8:1", "no step");
    m.spec.train.duration = span(10, RP_UNIT_TOKENS);
    expect(&m, ":8:1", "tokens");
    m.data.n_train = 4096;
    m.spec.train.duration = span(0x1p52, RP_UNIT_EPOCHS);
    expect(&m, ":8:1", "2^63");
}

static void test_schedule(void)
{
    struct made m;
    small(&m);
    m.spec.train.duration = span(1000, RP_UNIT_STEPS);
    m.spec.train.schedule.warmup = span(3, RP_UNIT_PERCENT);
    m.spec.train.schedule.every = span(1, RP_UNIT_EPOCHS);
    m.spec.train.schedule.decay = span(0.15, RP_UNIT_PERCENT);
    struct rp_plan *plan = make(&m);
    CHECK_INT(plan->schedule.total, 1000);
    CHECK_INT(plan->schedule.warmup, 30);
    CHECK_INT(plan->schedule.every, 32);
    CHECK_INT(plan->schedule.decay, 2); /* 1.5 steps are completed by the second */
    struct rp_span percent = span(0.1, RP_UNIT_PERCENT);
    for (int i = 1; i <= 1000; i++) { /* i tenths of a percent of 1000 steps are i steps */
        percent.value = i / 10.0;
        CHECK_INT(rp_plan_steps(plan, &percent), i);
    }
    struct rp_span seconds = span(600, RP_UNIT_SECONDS);
    CHECK_INT(rp_plan_steps(plan, &seconds), 0);
    rp_plan_free(plan);
}

/* Which of steps 1..n an event falls on, as text: "3 6 9 ". */
static const char *due(const struct rp_plan *plan, struct rp_span a, struct rp_span b, uint64_t n)
{
    static char text[512];
    struct rp_spans spans = {.item = {a, b}, .n = b.unit == RP_UNIT_NONE ? 1 : 2};
    int at = 0;
    text[0] = '\0';
    for (uint64_t step = 0; step <= n; step++)
        if (rp_plan_due(plan, &spans, step))
            at += snprintf(text + at, sizeof text - (size_t)at, "%d ", (int)step);
    return text;
}

static void test_due(void)
{
    struct rp_span none = {.unit = RP_UNIT_NONE};
    struct made m;
    small(&m);
    m.data.n_train = 100;
    m.spec.train.duration = span(20, RP_UNIT_STEPS);
    struct rp_plan *plan = make(&m);
    CHECK_TEXT(due(plan, span(6, RP_UNIT_STEPS), none, 20), "6 12 18 ");
    /* Batches of 32 of 100: epochs end after 3.125, 6.25, 9.375, 12.5, 15.625, 18.75 steps. */
    CHECK_TEXT(due(plan, span(1, RP_UNIT_EPOCHS), none, 20), "4 7 10 13 16 19 ");
    CHECK_TEXT(due(plan, span(2, RP_UNIT_EPOCHS), none, 20), "7 13 19 ");
    CHECK_TEXT(due(plan, span(96, RP_UNIT_SAMPLES), none, 20), "3 6 9 12 15 18 ");
    CHECK_TEXT(due(plan, span(97, RP_UNIT_SAMPLES), none, 20), "4 7 10 13 16 19 ");
    CHECK_TEXT(due(plan, span(25, RP_UNIT_PERCENT), none, 20), "5 10 15 20 ");
    CHECK_TEXT(due(plan, span(30, RP_UNIT_PERCENT), none, 20), "6 12 18 ");
    CHECK_TEXT(due(plan, span(10, RP_UNIT_SECONDS), none, 20), "");
    CHECK_TEXT(due(plan, span(10, RP_UNIT_STEPS), span(2, RP_UNIT_EPOCHS), 20), "7 10 13 19 20 ");
    CHECK_TEXT(due(plan, span(16, RP_UNIT_SAMPLES), none, 3),
               "1 2 3 "); /* several in a step: once */
    /* The step that ends training by epochs is the one that the event of that many epochs falls on.
     */
    rp_plan_free(plan);
    for (int epochs = 1; epochs < 40; epochs++) {
        m.spec.train.duration = span(epochs, RP_UNIT_EPOCHS);
        plan = make(&m);
        struct rp_spans spans = {.item = {span(epochs, RP_UNIT_EPOCHS)}, .n = 1};
        CHECK(rp_plan_due(plan, &spans, plan->n_steps));
        CHECK(!rp_plan_due(plan, &spans, plan->n_steps - 1));
        rp_plan_free(plan);
    }
}

/* ---- memory ---------------------------------------------------------------------------------- */

static uint64_t row(const struct rp_plan *plan, const char *what)
{
    for (int i = 0; i < plan->n_memory; i++)
        if (strcmp(plan->memory[i].what, what) == 0) return plan->memory[i].bytes;
    return 0;
}

static void test_memory(void)
{
    struct made m;
    small(&m);
    struct rp_plan *plan = make(&m);
    /* (8, 36), (8), (10, 8), (10): each rounded up to 256 bytes. */
    uint64_t parameters = 1280 + 256 + 512 + 256;
    CHECK_INT(row(plan, "parameters"), parameters);
    CHECK_INT(plan->owners.sum_bytes, parameters + 256); /* and the loss */
    CHECK_INT(row(plan, "gradients"), parameters + 256);
    CHECK_INT(row(plan, "optimizer state"), parameters);
    CHECK_INT(row(plan, "data set"), 1100 * (36 + 4 + 4));
    CHECK_INT(row(plan, "gradients, tree over passes"), 0);
    uint64_t all = 0;
    for (int i = 0; i < plan->n_memory; i++) all += plan->memory[i].bytes;
    CHECK_INT(plan->memory_bytes, all);
    /* 2 flops an element and output: forward, dw and one dx. */
    double products = 2.0 * 32 * (2 * 36 * 8 + 3 * 8 * 10);
    CHECK(plan->flops_per_step > products && plan->flops_per_step < 1.5 * products);
    uint64_t activations = row(plan, "activations");
    double flops = plan->flops_per_step;
    CHECK(plan->checkpoint_bytes > 2 * 4 * 386 && plan->checkpoint_bytes < 2 * 4 * 386 + 4096);
    CHECK_OK(rp_plan_check_memory(plan, &err), &err);
    rp_plan_free(plan);

    m.spec.train.micro_batch = 4;
    plan = make(&m);
    CHECK_INT(row(plan, "gradients, tree over passes"), 3 * (parameters + 256));
    CHECK(row(plan, "activations") < activations);
    CHECK(plan->flops_per_step > 0.9 * flops && plan->flops_per_step < 1.3 * flops);
    rp_plan_free(plan);
    m.spec.train.micro_batch = 2;
    plan = make(&m);
    CHECK_INT(row(plan, "gradients, open chains"), parameters + 256);
    rp_plan_free(plan);

    m.spec.model.hidden[0] = (int64_t)1 << 34; /* more than any machine has */
    plan = make(&m);
    CHECK_INT(rp_plan_check_memory(plan, &err), RP_STATUS_MEMORY);
    CHECK(strstr(err.text, "optimizer state") != NULL);
    rp_error_clear(&err);
    rp_plan_free(plan);
}

/* What a GPU's driver and NCCL take is counted, and not twice: what is free when the device is open
 * no longer has the context. */
static void test_device_memory(void)
{
    static const char context[] = "context of the driver, at most";
    static const char code[] = "code, local memory, at most", nccl[] = "NCCL's buffers, at most";
    const uint64_t mebi = (uint64_t)1 << 20;
    struct rp_device_table gpu = rp_device_cpu; /* another table is another device's */
    struct made m;
    uint64_t buffers[5] = {0};
    int at = 0;
    small(&m);
    struct rp_plan *plan = make(&m);
    CHECK_INT(row(plan, context) + row(plan, code) + row(plan, nccl), 0);
    rp_plan_free(plan);
    for (int ranks = 1; ranks <= 16; ranks *= 2) {
        uint64_t all = 0, on_gpu;
        m.spec.train.shards = 16;
        CHECK_OK(rp_plan_make_for(&m.spec, &m.data, 1, ranks, &gpu, &plan, &err), &err);
        for (int i = 0; i < plan->n_memory; i++)
            if (plan->memory[i].on_device) all += plan->memory[i].bytes;
        CHECK_INT(plan->device_bytes, all);
        CHECK_INT(row(plan, context) + row(plan, code), 1024 * mebi);
        buffers[at++] = row(plan, nccl);
        on_gpu = all - row(plan, context);
        CHECK_OK(rp_plan_check_device_memory(plan, on_gpu, &err), &err);
        CHECK_INT(rp_plan_check_device_memory(plan, on_gpu - 1, &err), RP_STATUS_MEMORY);
        CHECK(strstr(err.text, context) != NULL);
        rp_error_clear(&err);
        rp_plan_free(plan);
    }
    CHECK_INT(buffers[0], 0); /* one rank has nobody to talk to */
    CHECK(buffers[1] > 512 * mebi && buffers[2] > buffers[1]);
    CHECK(buffers[3] > 3 * 1024 * mebi); /* 3.3 GB were seen among 8 */
    CHECK_INT(buffers[4], buffers[3]);   /* a host has no more of them */
}

static void test_eval_samples(void)
{
    struct made m;
    made_resnet(&m, 20, false, 32, 10);
    struct rp_plan *plan = make(&m);
    CHECK(plan->eval_samples >= plan->pass_samples && plan->eval_samples <= m.data.n_valid);
    CHECK(plan->eval_place.bytes <= plan->train_place.bytes + 65536);
    rp_plan_free(plan);
    small(&m);
    m.spec.train.batch = 4096;
    m.data.n_valid = 100000;
    plan = make(&m);
    CHECK_INT(plan->eval_samples, RP_PLAN_EVAL_SAMPLES);
    rp_plan_free(plan);
    m.data.n_valid = 0;
    plan = make(&m);
    CHECK(plan->eval_samples >= 1);
    rp_plan_free(plan);
}

int main(void)
{
    test_passes();
    test_bad_passes();
    test_steps();
    test_schedule();
    test_due();
    test_memory();
    test_device_memory();
    test_eval_samples();
    return test_result();
}
