/* test_checkpoint_shards.c - a checkpoint that two ranks write is the one that a single rank
 * writes: the same tensors in the same order with the same hashes; and nothing of it counts too
 * early. */
#include "test.h"

#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "run_folder.h"

enum { N = 1000, STEP = 7 };

static struct rp_error err;
static float values[4][N];
static const char *const names[] = {"a", "b", "a.m", "b.m"}; /* model, then optimizer */
static const struct rp_checkpoint_entry entries[] = {
    {"a", N * 4, 1}, {"b", N * 4, 0}, {"a.m", N * 4, 1}, {"b.m", N * 4, 0}};

static void put(struct rp_st_tensor *tensor, int i)
{
    snprintf(tensor->name, sizeof tensor->name, "%s", names[i]);
    tensor->shape =
        (struct rp_tensor){.data = values[i], .dtype = RP_DTYPE_F32, .n_dims = 1, .dims = {N}};
    for (int k = 0; k < N; k++) values[i][k] = (float)(i * N + k) / 3;
}

/* What rank `r` of two writes. */
static struct rp_checkpoint_content content_of(int r, struct rp_st_tensor tensor[2])
{
    put(&tensor[0], r == 0 ? 1 : 0);
    put(&tensor[1], r == 0 ? 3 : 2);
    return (struct rp_checkpoint_content){.state = {.step = STEP},
                                          .model = tensor,
                                          .n_model = 1,
                                          .optimizer = tensor + 1,
                                          .n_optimizer = 1,
                                          .shard = r,
                                          .n_shards = 2,
                                          .all_model = entries,
                                          .n_all_model = 2,
                                          .all_optimizer = entries + 2,
                                          .n_all_optimizer = 2};
}

static struct rp_sha256 save_single(const char *run)
{
    struct rp_st_tensor tensor[4];
    struct rp_sha256 hash = {{0}};
    for (int i = 0; i < 4; i++) put(&tensor[i], i);
    struct rp_checkpoint_content content = {.state = {.step = STEP},
                                            .model = tensor,
                                            .n_model = 2,
                                            .optimizer = tensor + 2,
                                            .n_optimizer = 2};
    CHECK_OK(rp_checkpoint_save(run, &content, &hash, &err), &err);
    return hash;
}

/* Without `commit` all files are there but the last step is not taken. */
static struct rp_sha256 save_shards(const char *run, bool commit)
{
    struct rp_st_tensor tensor[2][2];
    struct rp_checkpoint_content content[2];
    struct rp_checkpoint_shard shard[2] = {0};
    struct rp_sha256 hash = {{0}};
    CHECK_OK(rp_checkpoint_begin(run, STEP, &err), &err);
    for (int r = 1; r >= 0; r--) {
        content[r] = content_of(r, tensor[r]);
        CHECK_OK(rp_checkpoint_write_shard(run, &content[r], &shard[r], &err), &err);
    }
    if (commit) CHECK_OK(rp_checkpoint_commit(run, &content[0], shard, &hash, &err), &err);
    for (int r = 0; r < 2; r++) rp_mem_free(shard[r].tensor);
    return hash;
}

static struct rp_sha256 hash_kind(const char *run, enum rp_checkpoint_kind kind)
{
    struct rp_sha256 hash = {{0}};
    char *folder = rp_mem_text("%s/checkpoints/step-%08d", run, STEP);
    CHECK_OK(rp_checkpoint_hash_kind(folder, kind, NULL, &hash, &err), &err);
    rp_mem_free(folder);
    return hash;
}

static void test_the_same(void)
{
    char *single = new_folder(), *shards = new_folder();
    struct rp_checkpoint a, b;
    bool found = false;
    struct rp_sha256 one = save_single(single), two = save_shards(shards, true);
    CHECK(rp_sha256_equal(&one, &two));
    CHECK_OK(rp_checkpoint_load(single, STEP, &found, &a, &err), &err);
    CHECK_OK(rp_checkpoint_load(shards, STEP, &found, &b, &err), &err);
    CHECK(found && rp_sha256_equal(&a.tensors_hash, &b.tensors_hash));
    CHECK_INT(b.model.n, 2);
    CHECK_INT(b.optimizer.n, 2);
    for (int i = 0; i < 2; i++) {
        CHECK_TEXT(a.model.tensor[i].name, b.model.tensor[i].name);
        CHECK(memcmp(b.model.tensor[i].shape.data, values[i], sizeof values[i]) == 0);
        CHECK(memcmp(b.optimizer.tensor[i].shape.data, values[2 + i], sizeof values[i]) == 0);
    }
    rp_checkpoint_release(&a);
    rp_checkpoint_release(&b);
    /* The hash that enters a spec's digest is that of the one file, whoever wrote it. */
    for (int kind = 0; kind < 2; kind++) {
        one = hash_kind(single, (enum rp_checkpoint_kind)kind);
        two = hash_kind(shards, (enum rp_checkpoint_kind)kind);
        CHECK(rp_sha256_equal(&one, &two));
    }
    two = hash_kind(shards, RP_CHECKPOINT_OF_MODEL); /* control: the kinds differ */
    CHECK(!rp_sha256_equal(&one, &two));
    remove_folder(single);
    remove_folder(shards);
}

static void test_too_early(void)
{
    char *run = new_folder();
    struct rp_checkpoint checkpoint;
    bool found = true;
    uint64_t *steps = NULL;
    int n = 1;
    save_shards(run, false);
    CHECK_OK(rp_checkpoint_list(run, &steps, &n, &err), &err);
    CHECK_INT(n, 0);
    CHECK_OK(rp_checkpoint_load(run, UINT64_MAX, &found, &checkpoint, &err), &err);
    CHECK(!found);
    rp_mem_free(steps);
    save_shards(run, true); /* what a killed save left is no hindrance */
    CHECK_OK(rp_checkpoint_load(run, UINT64_MAX, &found, &checkpoint, &err), &err);
    CHECK(found);
    rp_checkpoint_release(&checkpoint);
    remove_folder(run);
}

static void test_damage(void)
{
    static const char *const files[] = {"model-00001-of-00002.safetensors",
                                        "optimizer-00002-of-00002.safetensors",
                                        "model.safetensors.index.json", "state.json"};
    for (size_t i = 0; i < RP_COUNT(files); i++) {
        char *run = new_folder();
        char *name = rp_mem_text("checkpoints/step-%08d/%s", STEP, files[i]);
        struct rp_checkpoint checkpoint;
        bool found = false;
        save_shards(run, true);
        flip_bit(run, name, 60);
        CHECK_STATUS(rp_checkpoint_load(run, STEP, &found, &checkpoint, &err),
                     RP_STATUS_NO_CHECKPOINT, &err);
        rp_mem_free(name);
        remove_folder(run);
    }
}

int main(void)
{
    rp_log_configure(&(struct rp_log_style){.quiet = true});
    test_the_same();
    test_too_early();
    test_damage();
    return test_result();
}
