/* save_ranks.c - a checkpoint that several ranks write: each its files, of which rank 0 is told;
 * rank 0 alone commits. */
#include "train/train_int.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

/* What a rank says when its files are on disk, or are not. The hashes of its tensors follow. */
struct said {
    int32_t status;
    int32_t n;
    struct rp_checkpoint_file model, optimizer;
    char text[1024]; /* why not */
};

static void name_key(uint64_t step, int rank, char key[64])
{
    snprintf(key, 64, "shard %d of step %llu", rank, (unsigned long long)step);
}

static enum rp_status post(struct rp_comm *comm, const struct rp_checkpoint_content *content,
                           enum rp_status status, const struct rp_checkpoint_shard *shard,
                           struct rp_error *err)
{
    char key[64];
    int n = status == RP_STATUS_OK ? content->n_model + content->n_optimizer : 0;
    size_t hashes = (size_t)n * sizeof *shard->tensor;
    struct said *said = rp_mem_new(sizeof *said + hashes);
    said->status = (int32_t)status;
    said->n = n;
    said->model = shard->model;
    said->optimizer = shard->optimizer;
    if (status != RP_STATUS_OK) snprintf(said->text, sizeof said->text, "%.1000s", err->text);
    if (n > 0) memcpy(said + 1, shard->tensor, hashes);
    name_key(content->state.step, comm->rank, key);
    struct rp_error ignored = {0};
    enum rp_status posted = rp_comm_post(comm, key, said, sizeof *said + hashes,
                                         status == RP_STATUS_OK ? err : &ignored);
    rp_mem_free(said);
    return status == RP_STATUS_OK ? posted : status;
}

/* How many tensors rank `r` writes. */
static int count(const struct rp_checkpoint_content *content, int r)
{
    int n = 0;
    for (int i = 0; i < content->n_all_model; i++) n += content->all_model[i].shard == r;
    for (int i = 0; i < content->n_all_optimizer; i++) n += content->all_optimizer[i].shard == r;
    return n;
}

static enum rp_status take(struct rp_comm *comm, const struct rp_checkpoint_content *content, int r,
                           struct rp_checkpoint_shard *shard, struct rp_error *err)
{
    char key[64], who[300];
    void *bytes = NULL;
    size_t length = 0, hashes = (size_t)count(content, r) * sizeof *shard->tensor;
    name_key(content->state.step, r, key);
    rp_comm_rank_text(comm, r, who);
    RP_TRY(rp_comm_take(comm, r, key, &bytes, &length, err));
    const struct said *said = bytes;
    enum rp_status status = RP_STATUS_OK;
    if (length >= sizeof *said && said->status != RP_STATUS_OK)
        status = rp_error_set(err, (enum rp_status)said->status, "%s: %.1000s", who, said->text);
    else if (length != sizeof *said + hashes)
        status =
            rp_error_set(err, RP_STATUS_INTERNAL, "%s has written other tensors than its own", who);
    if (status == RP_STATUS_OK) {
        shard->model = said->model;
        shard->optimizer = said->optimizer;
        shard->tensor = rp_mem_new(hashes + 1);
        memcpy(shard->tensor, said + 1, hashes);
    }
    rp_mem_free(bytes);
    return status;
}

enum rp_status rp_save_shard(struct rp_comm *comm, const char *run,
                             const struct rp_checkpoint_content *content, enum rp_status status,
                             struct rp_sha256 *tensors_hash, struct rp_error *err)
{
    struct rp_checkpoint_shard *shards = RP_NEW_ARRAY(struct rp_checkpoint_shard, comm->n_ranks);
    if (status == RP_STATUS_OK) status = rp_checkpoint_write_shard(run, content, shards, err);
    if (comm->rank != 0) {
        status = post(comm, content, status, shards, err);
    } else {
        for (int r = 1; r < comm->n_ranks && status == RP_STATUS_OK; r++)
            status = take(comm, content, r, &shards[r], err);
        if (status == RP_STATUS_OK)
            status = rp_checkpoint_commit(run, content, shards, tensors_hash, err);
        if (status != RP_STATUS_OK) rp_checkpoint_abandon(run, content->state.step);
    }
    for (int r = 0; r < comm->n_ranks; r++) rp_mem_free(shards[r].tensor);
    rp_mem_free(shards);
    return status;
}
