/* test_optim.c - schedules, host scalars and states of the optimizers, against libm and by hand. */
#include <math.h>

#include "optim/optim.h"
#include "test.h"

static struct rp_spec spec; /* large and zeroed: only train.optimizer and train.schedule are read */

static void set_schedule(enum rp_schedule kind, double final_ratio)
{
    memset(&spec.train, 0, sizeof(spec.train));
    spec.train.optimizer.lr = 0.1;
    spec.train.schedule.kind = kind;
    spec.train.schedule.final_ratio = final_ratio;
}

static void check_near(const char *what, double got, double want)
{
    double bound = 4e-16 * (fabs(want) + 0.1);
    if (fabs(got - want) > bound) {
        printf("%s is %.17g, want %.17g\n", what, got, want);
        test_failures++;
    }
}

static void test_warmup(void)
{
    struct rp_optim_schedule s = {.total = 100, .warmup = 10};
    set_schedule(RP_SCHEDULE_CONSTANT, 0);
    check_near("first step", rp_optim_lr(&spec, &s, 0), 0.01);
    check_near("last warm-up step", rp_optim_lr(&spec, &s, 9), 0.1);
    CHECK(rp_optim_lr(&spec, &s, 10) == 0.1);
    CHECK(rp_optim_lr(&spec, &s, 99) == 0.1);
    /* Every schedule starts at the full rate when the warm-up is over. */
    for (int kind = RP_SCHEDULE_CONSTANT; kind <= RP_SCHEDULE_WSD; kind++) {
        set_schedule((enum rp_schedule)kind, 0.1);
        s.every = 30, s.decay = 20, spec.train.schedule.gamma = 0.5;
        check_near("after warm-up", rp_optim_lr(&spec, &s, 10), 0.1);
        check_near("in warm-up", rp_optim_lr(&spec, &s, 4), 0.05);
    }
}

static void test_linear_and_cosine(void)
{
    struct rp_optim_schedule s = {.total = 1000, .warmup = 100};
    for (uint64_t step = 100; step < 1000; step += 7) {
        double x = (double)(step - 100) / 900;
        set_schedule(RP_SCHEDULE_LINEAR, 0.2);
        check_near("linear", rp_optim_lr(&spec, &s, step), 0.1 * (1 - 0.8 * x));
        set_schedule(RP_SCHEDULE_COSINE, 0.2);
        check_near("cosine", rp_optim_lr(&spec, &s, step),
                   0.1 * (0.2 + 0.8 * 0.5 * (1 + cos(M_PI * x))));
    }
    /* Past the end: training longer than the schedule stays at the end. */
    set_schedule(RP_SCHEDULE_COSINE, 0.2);
    check_near("past the end", rp_optim_lr(&spec, &s, 5000), 0.02);
    set_schedule(RP_SCHEDULE_LINEAR, 0);
    check_near("past the end", rp_optim_lr(&spec, &s, 1000), 0);
}

static void test_step_and_wsd(void)
{
    struct rp_optim_schedule s = {.total = 100, .warmup = 10, .every = 30, .decay = 20};
    set_schedule(RP_SCHEDULE_STEP, 0);
    spec.train.schedule.gamma = 0.1;
    check_near("step 39", rp_optim_lr(&spec, &s, 39), 0.1);
    check_near("step 40", rp_optim_lr(&spec, &s, 40), 0.01);
    check_near("step 99", rp_optim_lr(&spec, &s, 99), 0.001);
    s.every = 1, s.total = UINT64_MAX;
    CHECK(rp_optim_lr(&spec, &s, UINT64_MAX - 1) == 0); /* and at once */
    s.every = 30, s.total = 100;
    set_schedule(RP_SCHEDULE_WSD, 0.5);
    check_near("stable", rp_optim_lr(&spec, &s, 80), 0.1);
    check_near("half way down", rp_optim_lr(&spec, &s, 90), 0.075);
    check_near("at the end", rp_optim_lr(&spec, &s, 100), 0.05);
    s.decay = 500; /* longer than the run: it starts at step 0 */
    CHECK(rp_optim_lr(&spec, &s, 50) < 0.1);
}

static void test_scalars(void)
{
    struct rp_optim_schedule s = {.total = 100};
    struct rp_optim_state state = {0};
    struct rp_update update;
    struct rp_optim_kind plain = {0}, decays = {.decays = true};
    set_schedule(RP_SCHEDULE_CONSTANT, 0);
    spec.train.optimizer.kind = RP_OPTIMIZER_ADAMW;
    spec.train.optimizer.beta1 = 0.9;
    spec.train.optimizer.beta2 = 0.999;
    spec.train.optimizer.weight_decay = 0.01;
    for (int t = 1; t <= 50; t++) {
        rp_optim_advance(&spec, &state);
        rp_optim_update(&spec, &s, 0, &state, decays, &update);
        CHECK_INT(state.t, t);
        CHECK_INT(update.first, t == 1);
        double want1 = 1 / (1 - pow(0.9, t)), want2 = 1 / (1 - pow(0.999, t));
        /* The running products are within t roundings of pow, far below half an ulp of fp32. */
        CHECK(fabs(update.one_over_c1 - want1) <= 0x1p-24 * 1.001 * want1);
        CHECK(fabs(update.one_over_c2 - want2) <= 0x1p-24 * 1.001 * want2);
    }
    CHECK(update.lr == 0.1f);
    CHECK(update.lr_decay == (float)(0.1 * 0.01));
    CHECK(update.one_minus_beta2 == (float)(1.0 - 0.999));
    CHECK(update.one_minus_beta2 !=
          1.0f - 0.999f); /* control: rounding once is not rounding twice */
    rp_optim_update(&spec, &s, 0, &state, plain, &update);
    CHECK(update.lr_decay == 0);
}

static void test_tables(void)
{
    const char *names[2];
    struct rp_optim_params params;
    struct rp_optim_kind plain = {0}, decays = {.decays = true};
    struct rp_tensor shape = {.n_dims = 2, .dims = {12, 3}};
    set_schedule(RP_SCHEDULE_CONSTANT, 0);
    spec.train.optimizer.weight_decay = 0.5;
    spec.train.optimizer.kind = RP_OPTIMIZER_SGD;
    CHECK_INT(rp_optim_states(&spec, plain, names), 0);
    CHECK_INT(rp_optim_op(&spec, plain), RP_OP_sgd);
    spec.train.optimizer.momentum = 0.9;
    CHECK_INT(rp_optim_states(&spec, plain, names), 1);
    CHECK_TEXT(names[0], "momentum");
    spec.train.optimizer.kind = RP_OPTIMIZER_LION;
    CHECK_INT(rp_optim_states(&spec, plain, names), 1);
    CHECK_INT(rp_optim_op(&spec, plain), RP_OP_lion);
    spec.train.optimizer.kind = RP_OPTIMIZER_ADAM;
    CHECK_INT(rp_optim_states(&spec, plain, names), 2);
    CHECK_TEXT(names[1], "v");
    rp_optim_params(&spec, decays, &shape, 7, &params);
    CHECK_INT(rp_optim_op(&spec, plain), RP_OP_adam);
    CHECK(!params.decoupled && params.weight_decay == 0.5f && params.tensor_number == 7);
    spec.train.optimizer.kind = RP_OPTIMIZER_ADAMW;
    rp_optim_params(&spec, plain, &shape, 7, &params);
    CHECK_INT(rp_optim_op(&spec, plain), RP_OP_adam);
    CHECK(params.decoupled && params.weight_decay == 0);
}

/* Matrices by muon, the rest by adamw, each with its own rate and betas. */
static void test_muon(void)
{
    const char *names[2];
    struct rp_optim_schedule s = {.total = 100};
    struct rp_optim_state state = {0};
    struct rp_optim_params params;
    struct rp_update update;
    struct rp_optim_kind rest = {.decays = true}, matrix = {.by_muon = true, .decays = true};
    struct rp_tensor tall = {.n_dims = 2, .dims = {12, 3}};
    struct rp_tensor filters = {.n_dims = 4, .dims = {6, 5, 5, 4}};
    set_schedule(RP_SCHEDULE_CONSTANT, 0);
    spec.train.optimizer.kind = RP_OPTIMIZER_MUON;
    spec.train.optimizer.momentum = 0.95;
    spec.train.optimizer.beta1 = 0.9;
    spec.train.optimizer.adamw_lr = 0.003;
    spec.train.optimizer.weight_decay = 0.5;
    CHECK_INT(rp_optim_states(&spec, matrix, names), 1);
    CHECK_TEXT(names[0], "momentum");
    CHECK_INT(rp_optim_states(&spec, rest, names), 2);
    CHECK_INT(rp_optim_op(&spec, matrix), RP_OP_muon);
    CHECK_INT(rp_optim_op(&spec, rest), RP_OP_adam);
    rp_optim_advance(&spec, &state);
    rp_optim_update(&spec, &s, 0, &state, matrix, &update);
    CHECK(update.lr == 0.1f && update.beta1 == 0.95f && update.lr_decay == (float)(0.1 * 0.5));
    CHECK(update.one_minus_beta1 == (float)(1 - 0.95));
    rp_optim_update(&spec, &s, 0, &state, rest, &update);
    CHECK(update.lr == 0.003f && update.beta1 == 0.9f && update.lr_decay == (float)(0.003 * 0.5));
    rp_optim_params(&spec, rest, &tall, 0, &params);
    CHECK(params.decoupled && params.scale == 1);
    rp_optim_params(&spec, matrix, &tall, 0, &params);
    CHECK(!params.decoupled && params.scale == 2); /* sqrt(12 / 3) */
    rp_optim_params(&spec, matrix, &filters, 0, &params);
    CHECK(params.scale == 1); /* 6 rows, 100 columns */
    spec.train.optimizer.scale = RP_MUON_RMS;
    rp_optim_params(&spec, matrix, &filters, 0, &params);
    CHECK(params.scale == 2 && params.n_parts == 0); /* 0.2 sqrt(100) */

    /* Three matrices in one of 12 rows and 3 columns. */
    const int64_t end[] = {8, 9, 12};
    spec.train.optimizer.scale = RP_MUON_SPECTRAL;
    rp_optim_params(&spec, matrix, &tall, 0, &params);
    rp_optim_set_parts(&spec, &tall, 0, end, &params);
    CHECK(params.scale == 2 && params.n_parts == 0);
    rp_optim_set_parts(&spec, &tall, 3, end, &params);
    CHECK(params.scale == 1 && params.n_parts == 3 && params.part[1].end == 9);
    CHECK(params.part[0].scale == (float)sqrt(8 / 3.0) && params.part[1].scale == 1 &&
          params.part[2].scale == 1);
}

int main(void)
{
    test_warmup();
    test_linear_and_cosine();
    test_step_and_wsd();
    test_scalars();
    test_tables();
    test_muon();
    return test_result();
}
