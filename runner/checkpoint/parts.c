/* parts.c - a checkpoint that several ranks read together: each what it keeps, and between them
 * every byte.
 *
 * A file is read whole by every rank that wants all of it, and by its judge: the rank that wants
 * most of it, so that least is read that nobody wants there. They compare it with the hash that
 * state.json gives. A rank that reads parts of a file hashes these, and the judge hashes the same
 * bytes as they go by: when the ranks have compared both (rp_checkpoint_proofs_agree), what each
 * has kept is known to be of files that verified. */
#include "checkpoint/checkpoint_int.h"

#include "base/sys.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 4 << 20 };

/* One file on its way in. */
struct reading {
    const struct rp_checkpoint_reader *reader;
    enum rp_checkpoint_kind kind;
    struct rp_st_header header;
    const struct rp_checkpoint_file *known;
    int judge;
    struct rp_st_tensor *tensor;     /* (header.n) in the order of their bytes, no data */
    uint64_t *begin;                 /* (header.n) where each begins in the file */
    struct rp_checkpoint_part *part; /* (header.n, n_ranks) */
    bool *whole;                     /* (n_ranks) reads all of it */
    unsigned char *piece;
    struct rp_hasher **read, **seen; /* (n_ranks) of the proof */
    uint64_t *load;  /* (n_ranks) bytes that each has to read, of the files so far */
    uint64_t *bytes; /* read so far, of all files */
};

static int by_begin(const void *a, const void *b)
{
    const struct rp_st_row *x = *(const struct rp_st_row *const *)a,
                           *y = *(const struct rp_st_row *const *)b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* The tensors of the file, and what every rank wants of each. */
static enum rp_status list_tensors(struct reading *f, struct rp_error *err)
{
    int n = f->header.n, ranks = f->reader->n_ranks;
    const struct rp_st_row **row = RP_NEW_ARRAY(const struct rp_st_row *, n + 1);
    for (int i = 0; i < n; i++) row[i] = &f->header.row[i];
    qsort(row, (size_t)n, sizeof *row, by_begin);
    f->tensor = RP_NEW_ARRAY(struct rp_st_tensor, n + 1);
    f->begin = RP_NEW_ARRAY(uint64_t, n + 1);
    f->part = RP_NEW_ARRAY(struct rp_checkpoint_part, (size_t)n * (size_t)ranks + 1);
    f->whole = RP_NEW_ARRAY(bool, ranks);
    for (int r = 0; r < ranks; r++) f->whole[r] = true;
    enum rp_status status = RP_STATUS_OK;
    for (int i = 0; i < n && status == RP_STATUS_OK; i++) {
        struct rp_st_tensor *tensor = &f->tensor[i];
        if (strcmp(row[i]->dtype, "F32") != 0)
            status = rp_error_set(err, RP_STATUS_DATA, "%s: tensor %s is %s, not F32",
                                  f->header.path, row[i]->name, row[i]->dtype);
        memcpy(tensor->name, row[i]->name, sizeof tensor->name);
        tensor->shape.dtype = RP_DTYPE_F32;
        tensor->shape.n_dims = row[i]->n_dims;
        memcpy(tensor->shape.dims, row[i]->dims, sizeof row[i]->dims);
        f->begin[i] = f->header.data_at + row[i]->begin;
        for (int r = 0; r < ranks; r++) {
            struct rp_checkpoint_part *part = &f->part[i * ranks + r];
            *part = f->reader->want(f->reader->context, r, f->kind, tensor);
            f->whole[r] &= part->n == rp_tensor_elements(&tensor->shape);
        }
    }
    rp_mem_free(row);
    return status;
}

/* The same on every rank, for all see the header. Of several that want as much, who has least to
 * read so far. */
static void pick_judge(struct reading *f)
{
    int ranks = f->reader->n_ranks;
    uint64_t *wanted = RP_NEW_ARRAY(uint64_t, ranks);
    f->judge = 0;
    for (int r = 0; r < ranks; r++) {
        for (int i = 0; i < f->header.n; i++)
            wanted[r] += (uint64_t)f->part[i * ranks + r].n * sizeof(float);
        bool more = wanted[r] > wanted[f->judge];
        if (more || (wanted[r] == wanted[f->judge] && f->load[r] < f->load[f->judge])) f->judge = r;
    }
    f->whole[f->judge] = true;
    for (int r = 0; r < ranks; r++)
        f->load[r] += f->whole[r] ? f->header.size : f->header.data_at + wanted[r];
    rp_mem_free(wanted);
}

static enum rp_status read_piece(struct reading *f, uint64_t at, size_t length,
                                 struct rp_error *err)
{
    RP_TRY(rp_stop_look(f->reader->stop, f->header.path, err));
    RP_TRY(rp_st_read_exactly(&f->header, RP_STATUS_DATA, at, f->piece, length, err));
    *f->bytes += length;
    return RP_STATUS_OK;
}

/* Bytes `at` to `end` of the file that lie in the part of tensor i that rank r wants; false: none.
 */
static bool cut(const struct reading *f, int i, int r, uint64_t *at, uint64_t *end)
{
    const struct rp_checkpoint_part *part = &f->part[i * f->reader->n_ranks + r];
    uint64_t begin = f->begin[i] + (uint64_t)part->first * sizeof(float);
    uint64_t last = begin + (uint64_t)part->n * sizeof(float);
    if (begin > *at) *at = begin;
    if (last < *end) *end = last;
    return *at < *end;
}

/* What lies in the piece from `at` to `end` goes to whoever wants it: here, or into a proof. */
static enum rp_status hand_out(struct reading *f, int i, uint64_t at, uint64_t end,
                               struct rp_error *err)
{
    int own = f->reader->rank;
    for (int r = 0; r < f->reader->n_ranks; r++) {
        uint64_t from = at, to = end;
        bool proves = r != own && own == f->judge && !f->whole[r];
        if ((r != own && !proves) || !cut(f, i, r, &from, &to)) continue;
        const unsigned char *bytes = f->piece + (from - at);
        if (proves)
            rp_hasher_add(f->seen[r], bytes, (size_t)(to - from));
        else
            RP_TRY(f->reader->take(f->reader->context, f->kind, &f->tensor[i],
                                   (int64_t)((from - f->begin[i]) / sizeof(float)),
                                   (int64_t)((to - from) / sizeof(float)),
                                   (const float *)(const void *)bytes, err));
    }
    return RP_STATUS_OK;
}

/* The bytes before the tensors are in the file's hash and in every proof. */
static enum rp_status read_header(struct reading *f, struct rp_hasher *hasher, struct rp_error *err)
{
    int own = f->reader->rank;
    for (uint64_t at = 0; at < f->header.data_at; at += PIECE) {
        uint64_t left = f->header.data_at - at;
        size_t length = left < PIECE ? (size_t)left : PIECE;
        RP_TRY(read_piece(f, at, length, err));
        if (hasher) rp_hasher_add(hasher, f->piece, length);
        if (!hasher) rp_hasher_add(f->read[f->judge], f->piece, length);
        for (int r = 0; r < f->reader->n_ranks && own == f->judge; r++)
            if (!f->whole[r]) rp_hasher_add(f->seen[r], f->piece, length);
    }
    return RP_STATUS_OK;
}

static enum rp_status read_whole(struct reading *f, struct rp_error *err)
{
    struct rp_hasher *hasher = rp_hasher_new();
    enum rp_status status = read_header(f, hasher, err);
    for (int i = 0; i < f->header.n && status == RP_STATUS_OK; i++) {
        uint64_t end = f->begin[i] + rp_tensor_bytes(&f->tensor[i].shape);
        for (uint64_t at = f->begin[i]; at < end && status == RP_STATUS_OK; at += PIECE) {
            size_t length = end - at < PIECE ? (size_t)(end - at) : PIECE;
            status = read_piece(f, at, length, err);
            if (status == RP_STATUS_OK) rp_hasher_add(hasher, f->piece, length);
            if (status == RP_STATUS_OK) status = hand_out(f, i, at, at + length, err);
        }
    }
    struct rp_sha256 hash = {{0}};
    if (status == RP_STATUS_OK) hash = rp_hasher_finish(hasher);
    if (status == RP_STATUS_OK && !rp_sha256_equal(&hash, &f->known->hash))
        status =
            rp_error_set(err, RP_STATUS_DATA,
                         "%s has not the hash that " RP_CHECKPOINT_STATE " gives", f->header.path);
    rp_hasher_free(hasher);
    return status;
}

static enum rp_status read_parts(struct reading *f, struct rp_error *err)
{
    RP_TRY(read_header(f, NULL, err));
    for (int i = 0; i < f->header.n; i++) {
        uint64_t at = 0, end = UINT64_MAX;
        if (!cut(f, i, f->reader->rank, &at, &end)) continue;
        for (; at < end; at += PIECE) {
            size_t length = end - at < PIECE ? (size_t)(end - at) : PIECE;
            RP_TRY(read_piece(f, at, length, err));
            rp_hasher_add(f->read[f->judge], f->piece, length);
            RP_TRY(hand_out(f, i, at, at + length, err));
        }
    }
    return RP_STATUS_OK;
}

/* Of the tensors that state.json lists in order so many lie in this shard. */
static enum rp_status check_order(const struct reading *f,
                                  const struct rp_checkpoint_hashes *hashes, int shard,
                                  struct rp_error *err)
{
    const struct rp_checkpoint_files *files = &hashes->kind[f->kind];
    int n = 0;
    for (int i = 0; i < files->n_tensors; i++) n += files->shard_of[i] == shard;
    if (hashes->n_shards == 1 || n == f->header.n) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_DATA,
                        "%s holds other tensors than `order` in " RP_CHECKPOINT_STATE " says",
                        f->header.path);
}

static enum rp_status read_file(struct reading *f, const char *folder,
                                const struct rp_checkpoint_hashes *hashes, int shard,
                                struct rp_error *err)
{
    char name[RP_CHECKPOINT_NAME_BYTES];
    rp_checkpoint_file_name(f->kind, shard, hashes->n_shards, name);
    char *path = rp_sys_join(folder, name);
    f->known = &hashes->kind[f->kind].shard[shard];
    enum rp_status status = rp_st_header_open(path, RP_STATUS_DATA, &f->header, err);
    rp_mem_free(path);
    RP_TRY(status);
    if (f->header.size != f->known->bytes)
        status =
            rp_error_set(err, RP_STATUS_DATA,
                         "%s has not the size that " RP_CHECKPOINT_STATE " gives", f->header.path);
    if (status == RP_STATUS_OK) status = check_order(f, hashes, shard, err);
    if (status == RP_STATUS_OK) status = list_tensors(f, err);
    if (status == RP_STATUS_OK) pick_judge(f);
    if (status == RP_STATUS_OK)
        status = f->whole[f->reader->rank] ? read_whole(f, err) : read_parts(f, err);
    rp_st_header_close(&f->header);
    rp_mem_free(f->whole);
    rp_mem_free(f->part);
    rp_mem_free(f->begin);
    rp_mem_free(f->tensor);
    return status;
}

/* Model, then optimizer, shard by shard: in this order every proof is made. */
static enum rp_status read_files(const struct rp_checkpoint_reader *reader, const char *folder,
                                 const struct rp_checkpoint_hashes *hashes,
                                 struct rp_checkpoint_reading *result, struct rp_error *err)
{
    struct rp_hasher *read[RP_CHECKPOINT_MAX_SHARDS], *seen[RP_CHECKPOINT_MAX_SHARDS];
    struct reading f = {.reader = reader, .read = read, .seen = seen, .bytes = &result->bytes};
    enum rp_status status = RP_STATUS_OK;
    f.piece = rp_mem_new(PIECE);
    f.load = RP_NEW_ARRAY(uint64_t, reader->n_ranks);
    for (int r = 0; r < reader->n_ranks; r++) {
        read[r] = rp_hasher_new();
        seen[r] = rp_hasher_new();
    }
    for (int kind = 0; kind < 2; kind++) {
        f.kind = (enum rp_checkpoint_kind)kind;
        for (int k = 0; k < hashes->n_shards && status == RP_STATUS_OK; k++)
            status = read_file(&f, folder, hashes, k, err);
    }
    for (int r = 0; r < reader->n_ranks; r++) {
        result->proof.read[r] = rp_hasher_finish(read[r]);
        result->proof.seen[r] = rp_hasher_finish(seen[r]);
        rp_hasher_free(read[r]);
        rp_hasher_free(seen[r]);
    }
    rp_mem_free(f.load);
    rp_mem_free(f.piece);
    return status;
}

enum rp_status rp_checkpoint_read(const char *run, uint64_t step,
                                  const struct rp_checkpoint_reader *reader,
                                  struct rp_checkpoint_reading *result, struct rp_error *err)
{
    struct rp_checkpoint_hashes hashes;
    char *folder = rp_checkpoint_folder(run, step);
    *result = (struct rp_checkpoint_reading){0};
    enum rp_status status = rp_checkpoint_open_state(folder, &result->state, &hashes, err);
    if (status == RP_STATUS_OK && result->state.step != step)
        status =
            rp_error_set(err, RP_STATUS_DATA, "%s holds step %" PRIu64, folder, result->state.step);
    if (status == RP_STATUS_OK) result->tensors_hash = hashes.tensors;
    if (status == RP_STATUS_OK && hashes.n_shards > 1 && reader->rank == 0)
        status = rp_checkpoint_check_index(folder, &hashes.index, err);
    if (status == RP_STATUS_OK) status = read_files(reader, folder, &hashes, result, err);
    rp_checkpoint_hashes_release(&hashes);
    rp_mem_free(folder);
    return status;
}

bool rp_checkpoint_proofs_agree(const struct rp_checkpoint_proof *const *proof, int n_ranks,
                                int *judge, int *reader)
{
    for (int j = 0; j < n_ranks; j++)
        for (int r = 0; r < n_ranks; r++) {
            *judge = j;
            *reader = r;
            if (!rp_sha256_equal(&proof[j]->seen[r], &proof[r]->read[j])) return false;
        }
    return true;
}
