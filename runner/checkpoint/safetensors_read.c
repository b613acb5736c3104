/* safetensors_read.c - a whole file into memory: checkpoints, and what others give us as such. */
#include "checkpoint/checkpoint_int.h"

#include <string.h>

enum { PIECE = 4 << 20 };

/* The whole file into one block, hashed on the way. */
static enum rp_status read_block(const struct rp_st_header *header, enum rp_status damaged,
                                 const struct rp_stop *stop, struct rp_st_file *file,
                                 struct rp_error *err)
{
    struct rp_hasher *hasher = rp_hasher_new();
    enum rp_status status = RP_STATUS_OK;
    file->bytes = header->size;
    file->block = rp_mem_try((size_t)file->bytes);
    if (!file->block)
        status = rp_error_set(err, RP_STATUS_MEMORY, "no memory for the %llu bytes of %s",
                              (unsigned long long)file->bytes, header->path);
    for (uint64_t at = 0; at < file->bytes && status == RP_STATUS_OK; at += PIECE) {
        size_t length = file->bytes - at < PIECE ? (size_t)(file->bytes - at) : PIECE;
        status = rp_stop_look(stop, header->path, err);
        if (status == RP_STATUS_OK)
            status = rp_st_read_exactly(header, damaged, at, (char *)file->block + at, length, err);
        if (status == RP_STATUS_OK) rp_hasher_add(hasher, (char *)file->block + at, length);
    }
    if (status == RP_STATUS_OK) file->file_hash = rp_hasher_finish(hasher);
    rp_hasher_free(hasher);
    return status;
}

/* A header need not be padded by every writer; floats on odd addresses would be undefined in C. */
static uint64_t align_data(struct rp_st_file *file, uint64_t start)
{
    if (start % 4 == 0) return start;
    uint64_t aligned = start & ~(uint64_t)3;
    memmove((char *)file->block + aligned, (char *)file->block + start,
            (size_t)(file->bytes - start));
    return aligned;
}

static enum rp_status check_dtypes(const struct rp_st_header *header, enum rp_status damaged,
                                   struct rp_error *err)
{
    for (int i = 0; i < header->n; i++)
        if (strcmp(header->row[i].dtype, "F32") != 0)
            return rp_error_set(err, damaged,
                                "%s: tensor %s is %s; only F32 is read: convert the file",
                                header->path, header->row[i].name, header->row[i].dtype);
    return RP_STATUS_OK;
}

enum rp_status rp_st_read_until(const char *path, enum rp_status damaged,
                                const struct rp_stop *stop, struct rp_st_file *file,
                                struct rp_error *err)
{
    struct rp_st_header header;
    *file = (struct rp_st_file){0};
    RP_TRY(rp_st_header_open(path, damaged, &header, err));
    enum rp_status status = check_dtypes(&header, damaged, err);
    if (status == RP_STATUS_OK) status = read_block(&header, damaged, stop, file, err);
    if (status == RP_STATUS_OK) {
        uint64_t start = align_data(file, header.data_at);
        file->tensor = RP_NEW_ARRAY(struct rp_st_tensor, header.n + 1);
        file->n = header.n;
        for (int i = 0; i < header.n; i++) {
            const struct rp_st_row *row = &header.row[i];
            struct rp_st_tensor *tensor = &file->tensor[i];
            memcpy(tensor->name, row->name, sizeof tensor->name);
            tensor->shape.dtype = RP_DTYPE_F32;
            tensor->shape.n_dims = row->n_dims;
            memcpy(tensor->shape.dims, row->dims, sizeof row->dims);
            tensor->shape.data = (char *)file->block + start + row->begin;
        }
    }
    rp_st_header_close(&header);
    if (status != RP_STATUS_OK) rp_st_release(file);
    return status;
}

enum rp_status rp_st_read(const char *path, enum rp_status damaged, struct rp_st_file *file,
                          struct rp_error *err)
{
    return rp_st_read_until(path, damaged, NULL, file, err);
}

const struct rp_st_tensor *rp_st_find(const struct rp_st_file *file, const char *name)
{
    for (int i = 0; i < file->n; i++)
        if (strcmp(file->tensor[i].name, name) == 0) return &file->tensor[i];
    return NULL;
}

void rp_st_release(struct rp_st_file *file)
{
    for (int i = 0; i < file->n_shards; i++) rp_st_release(&file->shard[i]);
    rp_mem_free(file->shard);
    rp_mem_free(file->tensor);
    rp_mem_free(file->block);
    *file = (struct rp_st_file){0};
}
