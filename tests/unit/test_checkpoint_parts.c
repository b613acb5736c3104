/* test_checkpoint_parts.c - a checkpoint read by several ranks: each gets what it wants, between
 * them they read every byte, and one who reads other bytes than the judge of the file is found. */
#include "test.h"

#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "run_folder.h"

enum { N = 3000, STEP = 7, RANKS = 3, TENSORS = 2, AT = 20000 /* of the last third */ };

static struct rp_error err;
static float values[2 * TENSORS][N]; /* model, then optimizer */
static const char *const names[] = {"a", "b", "a.m", "b.m"};

static void save(const char *run)
{
    struct rp_st_tensor tensor[2 * TENSORS];
    for (int i = 0; i < 2 * TENSORS; i++) {
        snprintf(tensor[i].name, sizeof tensor[i].name, "%s", names[i]);
        tensor[i].shape =
            (struct rp_tensor){.data = values[i], .dtype = RP_DTYPE_F32, .n_dims = 1, .dims = {N}};
        for (int k = 0; k < N; k++) values[i][k] = (float)(i * N + k) / 3;
    }
    struct rp_checkpoint_content content = {.state = {.step = STEP, .t = 5},
                                            .model = tensor,
                                            .n_model = TENSORS,
                                            .optimizer = tensor + TENSORS,
                                            .n_optimizer = TENSORS};
    CHECK_OK(rp_checkpoint_save(run, &content, NULL, &err), &err);
}

static int64_t more_for = -1; /* the rank that wants all of `a.m`, too */

struct got {
    float value[2 * TENSORS][N];
    bool here[2 * TENSORS][N];
    bool stops;
};

static int number_of(const char *name)
{
    int i = 0;
    while (strcmp(names[i], name) != 0) i++;
    return i;
}

/* The whole model; of the optimizer a third each, cut across both tensors. */
static struct rp_checkpoint_part want(void *context, int rank, enum rp_checkpoint_kind kind,
                                      const struct rp_st_tensor *tensor)
{
    (void)context;
    if (kind == RP_CHECKPOINT_OF_MODEL || (rank == more_for && strcmp(tensor->name, "a.m") == 0))
        return (struct rp_checkpoint_part){0, N};
    int64_t base = strcmp(tensor->name, "b.m") == 0 ? N : 0;
    int64_t first = rank * 2 * N / RANKS - base, end = first + 2 * N / RANKS;
    if (first < 0) first = 0;
    if (end > N) end = N;
    return (struct rp_checkpoint_part){first, end > first ? end - first : 0};
}

static enum rp_status take(void *context, enum rp_checkpoint_kind kind,
                           const struct rp_st_tensor *tensor, int64_t first, int64_t n,
                           const float *from, struct rp_error *error)
{
    struct got *got = context;
    int i = number_of(tensor->name);
    (void)kind;
    (void)error;
    for (int64_t k = 0; k < n; k++) {
        CHECK(!got->here[i][first + k]);
        got->value[i][first + k] = from[k];
        got->here[i][first + k] = true;
    }
    return RP_STATUS_OK;
}

static bool asked(void *context)
{
    return ((struct got *)context)->stops;
}

static enum rp_status read_as(const char *run, int rank, struct got *got,
                              struct rp_checkpoint_reading *reading)
{
    const struct rp_stop stop = {asked, got};
    struct rp_checkpoint_reader reader = {rank, RANKS, want, take, got, &stop};
    bool stops = got->stops;
    memset(got, 0, sizeof *got);
    got->stops = stops;
    return rp_checkpoint_read(run, STEP, &reader, reading, &err);
}

static void check_values(int rank, const struct got *got)
{
    for (int i = 0; i < 2 * TENSORS; i++) {
        enum rp_checkpoint_kind kind =
            i < TENSORS ? RP_CHECKPOINT_OF_MODEL : RP_CHECKPOINT_OF_OPTIMIZER;
        struct rp_st_tensor tensor = {.shape = {.n_dims = 1, .dims = {N}}};
        snprintf(tensor.name, sizeof tensor.name, "%s", names[i]);
        struct rp_checkpoint_part part = want(NULL, rank, kind, &tensor);
        for (int k = 0; k < N; k++) {
            bool wanted = k >= part.first && k < part.first + part.n;
            CHECK(got->here[i][k] == wanted);
            CHECK(!wanted || memcmp(&got->value[i][k], &values[i][k], sizeof(float)) == 0);
        }
    }
}

static bool agree(const struct rp_checkpoint_reading reading[RANKS], int *reader)
{
    const struct rp_checkpoint_proof *proof[RANKS];
    int judge;
    for (int r = 0; r < RANKS; r++) proof[r] = &reading[r].proof;
    return rp_checkpoint_proofs_agree(proof, RANKS, &judge, reader);
}

static void test_parts(void)
{
    char *run = new_folder();
    static struct got got;
    static struct rp_checkpoint_reading reading[RANKS], again;
    int reader = -1;
    save(run);
    for (int r = 0; r < RANKS; r++) {
        CHECK_OK(read_as(run, r, &got, &reading[r]), &err);
        check_values(r, &got);
        CHECK_INT(reading[r].state.t, 5);
    }
    CHECK(agree(reading, &reader));
    /* Rank 0 judges both files; the others read the model and a third. */
    CHECK(reading[0].bytes >= 4 * N * sizeof(float));
    for (int r = 1; r < RANKS; r++) CHECK(reading[r].bytes < reading[0].bytes - N * sizeof(float));
    /* A bit of what rank 2 reads, after the judge has been there: nobody but the proofs can tell.
     */
    char *name = rp_mem_text("checkpoints/step-%08d/optimizer.safetensors", STEP);
    flip_bit(run, name, AT);
    CHECK_OK(read_as(run, 2, &got, &again), &err);
    reading[2] = again;
    CHECK(!agree(reading, &reader));
    CHECK_INT(reader, 2);
    /* ... and the judge, should it come later. */
    CHECK_STATUS(read_as(run, 0, &got, &again), RP_STATUS_DATA, &err);
    /* Control: what rank 1 reads is as it was. */
    flip_bit(run, name, AT);
    CHECK_OK(read_as(run, 2, &got, &reading[2]), &err);
    CHECK(agree(reading, &reader));
    rp_mem_free(name);
    remove_folder(run);
}

/* The judge is who wants most, so that least is read: whoever that is, others read what they want
 * alone. */
static void test_judge(void)
{
    char *run = new_folder();
    static struct got got;
    static struct rp_checkpoint_reading reading[RANKS];
    int reader = -1;
    save(run);
    for (more_for = 0; more_for < RANKS; more_for++) {
        for (int r = 0; r < RANKS; r++) {
            CHECK_OK(read_as(run, r, &got, &reading[r]), &err);
            check_values(r, &got);
        }
        CHECK(agree(reading, &reader));
        for (int r = 0; r < RANKS; r++)
            CHECK_INT(reading[r].bytes > 4 * N * sizeof(float), r == more_for);
    }
    more_for = -1;
    remove_folder(run);
}

static void test_stop(void)
{
    char *run = new_folder();
    static struct got got;
    static struct rp_checkpoint_reading reading;
    save(run);
    got.stops = true;
    CHECK_STATUS(read_as(run, 1, &got, &reading), RP_STATUS_STOPPED, &err);
    got.stops = false;
    CHECK_OK(read_as(run, 1, &got, &reading), &err);
    remove_folder(run);
}

int main(void)
{
    rp_log_configure(&(struct rp_log_style){.quiet = true});
    test_parts();
    test_judge();
    test_stop();
    return test_result();
}
