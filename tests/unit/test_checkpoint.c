/* Checkpoints: exact, committed or absent, never loaded when damaged. */
#include "test.h"

#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "run_folder.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_WEIGHTS = 1000 };

/* A little state whose every value depends on the step. */
struct sample {
    float weight[N_WEIGHTS], bias[4], moment[N_WEIGHTS];
    struct rp_st_tensor model[2], optimizer[1];
    struct rp_checkpoint_content content;
};

static void put_tensor(struct rp_st_tensor *tensor, const char *name, float *data, int64_t n)
{
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    tensor->shape =
        (struct rp_tensor){.data = data, .dtype = RP_DTYPE_F32, .n_dims = 1, .dims = {n}};
}

static void make_sample(struct sample *s, uint64_t step)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < N_WEIGHTS; i++) {
        s->weight[i] = (float)((double)step + i / 3.0);
        s->moment[i] = (float)((double)step * 1e-30 * i);
    }
    for (int i = 0; i < 4; i++) s->bias[i] = (float)i;
    put_tensor(&s->model[0], "weight", s->weight, N_WEIGHTS);
    put_tensor(&s->model[1], "bias", s->bias, 4);
    put_tensor(&s->optimizer[0], "weight.m", s->moment, N_WEIGHTS);
    s->content = (struct rp_checkpoint_content){
        .model = s->model, .n_model = 2, .optimizer = s->optimizer, .n_optimizer = 1};
    s->content.state = (struct rp_checkpoint_state){.step = step,
                                                    .t = step - 1,
                                                    .beta1_power = pow(0.9, (double)step),
                                                    .beta2_power = 0.1,
                                                    .chain = rp_sha256_of(&step, sizeof step),
                                                    .params_digest = 0xfedcba9876543210u + step,
                                                    .metrics_bytes = 123,
                                                    .digests_bytes = 456,
                                                    .has_best = true,
                                                    .best_value = 1.0 / 3,
                                                    .best_step = 7,
                                                    .bad_evals = 2,
                                                    .seconds = 12.5};
}

static struct rp_sha256 save(const char *run, uint64_t step)
{
    struct sample s;
    struct rp_error err = {0};
    struct rp_sha256 hash = {{0}};
    make_sample(&s, step);
    CHECK_OK(rp_checkpoint_save(run, &s.content, &hash, &err), &err);
    return hash;
}

/* The step that loading gives, 0 when there is none, or minus the status. */
static long long load(const char *run, uint64_t step)
{
    struct rp_error err = {0};
    struct rp_checkpoint checkpoint;
    bool found = false;
    enum rp_status status = rp_checkpoint_load(run, step, &found, &checkpoint, &err);
    if (status != RP_STATUS_OK) return -(long long)status;
    if (!found) return 0;
    struct sample s;
    make_sample(&s, checkpoint.state.step);
    const struct rp_st_tensor *weight = rp_st_find(&checkpoint.model, "weight");
    const struct rp_st_tensor *moment = rp_st_find(&checkpoint.optimizer, "weight.m");
    CHECK(weight && memcmp(weight->shape.data, s.weight, sizeof s.weight) == 0);
    CHECK(moment && memcmp(moment->shape.data, s.moment, sizeof s.moment) == 0);
    long long result = (long long)checkpoint.state.step;
    rp_checkpoint_release(&checkpoint);
    return result;
}

static void test_round_trip(void)
{
    char *run = new_folder();
    struct rp_error err = {0};
    struct rp_checkpoint checkpoint;
    struct sample s;
    bool found = true;
    CHECK_INT(load(run, UINT64_MAX), 0);
    struct rp_sha256 hash = save(run, 500);
    CHECK(there(run, "checkpoints/step-00000500/COMMITTED"));
    CHECK_OK(rp_checkpoint_load(run, UINT64_MAX, &found, &checkpoint, &err), &err);
    make_sample(&s, 500);
    const struct rp_checkpoint_state *a = &checkpoint.state, *b = &s.content.state;
    CHECK(found);
    CHECK_INT(a->step, b->step);
    CHECK_INT(a->t, b->t);
    CHECK(memcmp(&a->beta1_power, &b->beta1_power, sizeof(double)) == 0);
    CHECK(memcmp(&a->best_value, &b->best_value, sizeof(double)) == 0);
    CHECK(rp_sha256_equal(&a->chain, &b->chain));
    CHECK_HEX(a->params_digest, b->params_digest);
    CHECK_INT(a->metrics_bytes, 123);
    CHECK_INT(a->digests_bytes, 456);
    CHECK_INT(a->best_step, 7);
    CHECK_INT(a->bad_evals, 2);
    CHECK(a->has_best && !a->has_watched);
    CHECK(rp_sha256_equal(&checkpoint.tensors_hash, &hash));
    struct rp_sha256 read = {{0}}, other = save(run, 501);
    CHECK_OK(rp_checkpoint_read_tensors_hash(run, 500, &read, &err), &err);
    CHECK(rp_sha256_equal(&read, &hash));
    CHECK(!rp_sha256_equal(&hash, &other)); /* control: another state, another hash */
    rp_checkpoint_release(&checkpoint);
    remove_folder(run);
}

/* Values at the edge of what JSON can say. */
static void test_exact_state(void)
{
    static const double doubles[] = {0.0, -0.0,  5e-324,   1.7976931348623157e308,
                                     0.1, -1e-5, HUGE_VAL, -HUGE_VAL};
    static const uint64_t whole[] = {
        0, 1, (1ull << 53) + 1, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX};
    char *run = new_folder();
    struct rp_error err = {0};
    for (size_t i = 0; i < RP_COUNT(doubles); i++) {
        struct sample s;
        struct rp_checkpoint_state state;
        make_sample(&s, 3);
        s.content.state.best_value = s.content.state.beta1_power = doubles[i];
        s.content.state.best_step = s.content.state.digests_bytes = whole[i % RP_COUNT(whole)];
        CHECK_OK(rp_checkpoint_save(run, &s.content, NULL, &err), &err);
        CHECK_OK(rp_checkpoint_read_state(run, 3, &state, &err), &err);
        CHECK(memcmp(&state.best_value, &doubles[i], sizeof(double)) == 0);
        CHECK(memcmp(&state.beta1_power, &doubles[i], sizeof(double)) == 0);
        CHECK_HEX(state.best_step, whole[i % RP_COUNT(whole)]);
        CHECK_HEX(state.digests_bytes, whole[i % RP_COUNT(whole)]);
    }
    struct sample s;
    struct rp_checkpoint_state state;
    make_sample(&s, 3);
    s.content.state.best_value = (double)NAN;
    CHECK_OK(rp_checkpoint_save(run, &s.content, NULL, &err), &err);
    CHECK_OK(rp_checkpoint_read_state(run, 3, &state, &err), &err);
    CHECK(isnan(state.best_value));
    remove_folder(run);
}

/* Each way to damage the newest: it is skipped, the one before is loaded. */
static void test_damage(void)
{
    static const char *const files[] = {"model.safetensors", "optimizer.safetensors", "state.json",
                                        "COMMITTED"};
    for (int way = 0; way < 4; way++) {
        for (size_t i = 0; i < RP_COUNT(files); i++) {
            char *run = new_folder();
            struct rp_text report = {0};
            struct rp_error err = {0};
            int n_bad = -1, n_good = -1;
            save(run, 100);
            save(run, 200);
            char *name = rp_mem_text("checkpoints/step-00000200/%s", files[i]);
            char *path = rp_sys_join(run, name);
            size_t length = 0;
            rp_mem_free(get_file(run, name, &length));
            CHECK_INT(load(run, UINT64_MAX), 200);
            CHECK_OK(rp_checkpoint_verify(run, &report, &n_good, &n_bad, &err), &err);
            CHECK_INT(n_bad, 0);
            if (way == 0) flip_bit(run, name, length / 2);
            if (way == 1) CHECK_OK(rp_sys_truncate(path, length / 2, &err), &err);
            if (way == 2) CHECK_OK(rp_sys_remove(path, &err), &err);
            if (way == 3) CHECK_OK(rp_sys_truncate(path, 0, &err), &err);
            CHECK_INT(load(run, UINT64_MAX), 100);
            CHECK_INT(load(run, 200), -RP_STATUS_NO_CHECKPOINT);
            CHECK_INT(load(run, 100), 100);
            CHECK_OK(rp_checkpoint_verify(run, &report, &n_good, &n_bad, &err), &err);
            CHECK_INT(n_bad, 1);
            CHECK_INT(n_good, 1);
            CHECK(strstr(rp_text_get(&report), "step-00000200"));
            rp_text_release(&report);
            rp_mem_free(path);
            rp_mem_free(name);
            remove_folder(run);
        }
    }
}

static void test_all_damaged(void)
{
    char *run = new_folder();
    save(run, 1);
    save(run, 2);
    flip_bit(run, "checkpoints/step-00000001/model.safetensors", 700);
    flip_bit(run, "checkpoints/step-00000002/optimizer.safetensors", 700);
    CHECK_INT(load(run, UINT64_MAX), -RP_STATUS_NO_CHECKPOINT);
    CHECK_INT(load(run, 3), 0);
    remove_folder(run);
}

/* A checkpoint renamed to another step is not what it says. */
static void test_renamed(void)
{
    char *run = new_folder();
    struct rp_error err = {0};
    save(run, 1);
    save(run, 2);
    char *from = rp_sys_join(run, "checkpoints/step-00000001"),
         *to = rp_sys_join(run, "checkpoints/step-00000009");
    CHECK_OK(rp_sys_rename(from, to, &err), &err);
    CHECK_INT(load(run, UINT64_MAX), 2);
    rp_mem_free(to);
    rp_mem_free(from);
    remove_folder(run);
}

/* The same step again, after the first was found damaged. */
static void test_same_step_again(void)
{
    char *run = new_folder();
    save(run, 5);
    flip_bit(run, "checkpoints/step-00000005/model.safetensors", 1000);
    CHECK_INT(load(run, UINT64_MAX), -RP_STATUS_NO_CHECKPOINT);
    save(run, 5);
    CHECK_INT(load(run, UINT64_MAX), 5);
    save(run, 5);
    CHECK_INT(load(run, UINT64_MAX), 5);
    CHECK(!there(run, "checkpoints/removing-step-00000005"));
    CHECK(!there(run, "checkpoints/saving-step-00000005"));
    remove_folder(run);
}

static enum rp_status refuse(void *context, struct rp_error *err)
{
    CHECK(there(context,
                "checkpoints/saving-step-00000008/COMMITTED")); /* asked when all is written */
    return rp_error_set(err, RP_STATUS_BUSY, "no longer the newest");
}

static void test_before_commit(void)
{
    char *run = new_folder();
    struct sample s;
    struct rp_error err = {0};
    save(run, 4);
    make_sample(&s, 8);
    s.content.before_commit = refuse;
    s.content.context = run;
    CHECK_STATUS(rp_checkpoint_save(run, &s.content, NULL, &err), RP_STATUS_BUSY, &err);
    CHECK_INT(load(run, UINT64_MAX), 4);
    CHECK(!there(run, "checkpoints/saving-step-00000008"));
    CHECK(!there(run, "checkpoints/step-00000008"));
    remove_folder(run);
}

static void check_steps(const char *run, const char *want)
{
    struct rp_error err = {0};
    struct rp_text text = {0};
    uint64_t *steps = NULL;
    int n = 0;
    CHECK_OK(rp_checkpoint_list(run, &steps, &n, &err), &err);
    for (int i = 0; i < n; i++)
        rp_text_add(&text, "%s%llu", i ? " " : "", (unsigned long long)steps[i]);
    CHECK_TEXT(rp_text_get(&text), want);
    rp_text_release(&text);
    rp_mem_free(steps);
}

static void test_prune(void)
{
    char *run = new_folder();
    struct rp_error err = {0};
    check_steps(run, "");
    CHECK_OK(rp_checkpoint_prune(run, 2, 0, false, 0, &err),
             &err); /* nothing there: nothing to do */
    for (uint64_t step = 10; step <= 100; step += 10) save(run, step);
    check_steps(run, "10 20 30 40 50 60 70 80 90 100");
    CHECK_OK(rp_checkpoint_prune(run, -1, 0, false, 0, &err), &err);
    check_steps(run, "10 20 30 40 50 60 70 80 90 100");
    CHECK_OK(rp_checkpoint_prune(run, 3, 40, true, 20, &err), &err);
    check_steps(run, "20 40 80 90 100");
    CHECK_OK(rp_checkpoint_prune(run, 2, 0, true, 20, &err), &err);
    check_steps(run, "20 90 100");
    CHECK_OK(rp_checkpoint_prune(run, 0, 0, false, 0, &err), &err); /* the newest always stays */
    check_steps(run, "100");
    /* Leftovers go, foreign files stay. */
    char *leftover = rp_sys_join(run, "checkpoints/saving-step-00000200");
    CHECK_OK(rp_sys_make_folder(leftover, &err), &err);
    put_text(run, "checkpoints/saving-step-00000200/model.safetensors", "half");
    put_text(run, "checkpoints/notes.txt", "mine");
    CHECK_OK(rp_checkpoint_prune(run, 2, 0, false, 0, &err), &err);
    CHECK(!there(run, "checkpoints/saving-step-00000200"));
    CHECK(there(run, "checkpoints/notes.txt"));
    check_steps(run, "100");
    rp_mem_free(leftover);
    remove_folder(run);
}

/* ---- full storage ---------------------------------------------------------------------------- */

/* Writes past the limit fail with EFBIG once the signal is ignored: every length of a short write.
 */
static void test_short_writes(void)
{
    char *run = new_folder();
    struct sample s;
    struct rlimit before, limit;
    int failed = 0, saved = 0;
    save(run, 1);
    make_sample(&s, 2);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    for (rlim_t bytes = 0; bytes <= 6000; bytes += 150) {
        struct rp_error err = {0};
        limit = (struct rlimit){bytes, before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &limit);
        enum rp_status status = rp_checkpoint_save(run, &s.content, NULL, &err);
        setrlimit(RLIMIT_FSIZE, &before);
        if (status == RP_STATUS_OK) {
            saved++;
            continue;
        }
        failed++;
        CHECK_INT(status, RP_STATUS_STORAGE);
        CHECK(strstr(err.text, "checkpoints/saving-step-00000002/") &&
              strstr(err.text, "free space"));
        CHECK(!there(run, "checkpoints/saving-step-00000002"));
        CHECK_INT(load(run, UINT64_MAX), saved ? 2 : 1);
    }
    CHECK(failed > 10);
    CHECK(saved > 10); /* control: with room it is saved */
    CHECK_INT(load(run, UINT64_MAX), 2);
    remove_folder(run);
}

/* ---- killed while saving --------------------------------------------------------------------- */

/* A child saves steps 1, 2, 3, ... until it is killed: whatever it left, the newest committed
 * loads, and no checkpoint is damaged. */
static void test_kill(void)
{
    uint64_t seen = 0;
    for (int round = 0; round < 10; round++) {
        char *run = new_folder();
        struct rp_text report = {0};
        struct rp_error err = {0};
        int n_bad = -1, n_good = -1;
        pid_t child = fork();
        if (child == 0) {
            struct sample s;
            for (uint64_t step = 1;; step++) {
                make_sample(&s, step);
                if (rp_checkpoint_save(run, &s.content, NULL, &err) != RP_STATUS_OK) _exit(1);
                if (rp_checkpoint_prune(run, 2, 0, false, 0, &err) != RP_STATUS_OK) _exit(1);
            }
        }
        rp_sys_sleep(0.01 + 0.05 * round);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        CHECK_OK(rp_checkpoint_verify(run, &report, &n_good, &n_bad, &err), &err);
        CHECK_INT(n_bad, 0);
        long long loaded = load(run, UINT64_MAX);
        CHECK(loaded >= 0);
        if (loaded > (long long)seen) seen = (uint64_t)loaded;
        /* The next process clears up and goes on. */
        save(run, (uint64_t)loaded + 1);
        CHECK_OK(rp_checkpoint_prune(run, 1, 0, false, 0, &err), &err);
        char **names = NULL, *root = rp_sys_join(run, "checkpoints");
        CHECK_OK(rp_sys_list(root, &names, &err), &err);
        CHECK(names[0] && !names[1]);
        rp_sys_free_names(names);
        rp_mem_free(root);
        rp_text_release(&report);
        remove_folder(run);
    }
    CHECK(seen >= 1); /* control: the child did save */
}

int main(void)
{
    rp_log_configure(&(struct rp_log_style){.quiet = true});
    test_round_trip();
    test_exact_state();
    test_damage();
    test_all_damaged();
    test_renamed();
    test_same_step_again();
    test_before_commit();
    test_prune();
    test_short_writes();
    test_kill();
    return test_result();
}
