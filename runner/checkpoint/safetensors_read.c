/* safetensors_read.c - reading files that anybody may have made: nothing is believed before it is
 * checked, and no memory is taken on a header's word alone. */
#include "checkpoint/checkpoint.h"

#include "base/sys.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* What the reference reader allows for a header. */
enum { MAX_HEADER = 100 * 1000 * 1000, PIECE = 4 << 20 };

struct extent {
    uint64_t begin, end;
    int tensor;
};

struct reader {
    const char *path;
    enum rp_status status; /* of a damaged file */
    int fd;
    uint64_t size;         /* of the file */
    uint64_t header_bytes; /* JSON only */
    struct rp_error *err;
};

#define DAMAGED(reader, ...) rp_error_set((reader)->err, (reader)->status, __VA_ARGS__)

static enum rp_status read_exactly(struct reader *r, uint64_t offset, void *bytes, size_t length)
{
    size_t got = 0;
    RP_TRY(rp_sys_read_at(r->fd, offset, bytes, length, &got, r->path, r->status, r->err));
    if (got != length) return DAMAGED(r, "%s: ends before its header says", r->path);
    return RP_STATUS_OK;
}

static enum rp_status read_header(struct reader *r, json_t **root)
{
    unsigned char length[8];
    char *text = NULL;
    json_error_t why;
    if (r->size < 8)
        return DAMAGED(r, "%s: %llu bytes are no safetensors file", r->path,
                       (unsigned long long)r->size);
    RP_TRY(read_exactly(r, 0, length, sizeof length));
    for (int i = 0; i < 8; i++) r->header_bytes |= (uint64_t)length[i] << (8 * i);
    if (r->header_bytes > MAX_HEADER || r->header_bytes > r->size - 8)
        return DAMAGED(r, "%s: no safetensors file: its header would be %llu bytes", r->path,
                       (unsigned long long)r->header_bytes);
    text = rp_mem_new((size_t)r->header_bytes + 1);
    enum rp_status status = read_exactly(r, 8, text, (size_t)r->header_bytes);
    if (status == RP_STATUS_OK) {
        *root = json_loadb(text, (size_t)r->header_bytes, JSON_REJECT_DUPLICATES, &why);
        if (!*root || !json_is_object(*root))
            status = DAMAGED(r, "%s: header is not a JSON object: %s", r->path,
                             *root ? "another type" : why.text);
    }
    rp_mem_free(text);
    return status;
}

static bool get_size(const json_t *value, uint64_t *size)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *size = (uint64_t)json_integer_value(value);
    return true;
}

/* Dimensions, with a product that cannot overflow: no tensor is larger than its file. */
static enum rp_status read_shape(struct reader *r, const json_t *shape, struct rp_st_tensor *tensor,
                                 uint64_t *bytes)
{
    uint64_t elements = 1, limit = r->size / 4;
    if (!json_is_array(shape) || json_array_size(shape) > RP_MAX_DIMS)
        return DAMAGED(r, "%s: tensor %s: shape is not a list of up to %d sizes", r->path,
                       tensor->name, RP_MAX_DIMS);
    tensor->shape.n_dims = (int)json_array_size(shape);
    for (int d = 0; d < tensor->shape.n_dims; d++) {
        uint64_t size = 0;
        if (!get_size(json_array_get(shape, (size_t)d), &size))
            return DAMAGED(r, "%s: tensor %s: shape holds what is no size", r->path, tensor->name);
        tensor->shape.dims[d] = (int64_t)size;
        if (size && elements > limit / size)
            return DAMAGED(r, "%s: tensor %s is larger than the file", r->path, tensor->name);
        elements *= size;
    }
    *bytes = elements * 4;
    return RP_STATUS_OK;
}

static enum rp_status read_row(struct reader *r, const char *name, const json_t *row,
                               struct rp_st_tensor *tensor, struct extent *extent)
{
    uint64_t bytes = 0;
    if (strlen(name) >= sizeof tensor->name)
        return DAMAGED(r, "%s: a tensor's name is longer than %zu bytes: %.40s...", r->path,
                       sizeof tensor->name - 1, name);
    memcpy(tensor->name, name, strlen(name) + 1);
    const char *dtype = json_string_value(json_object_get(row, "dtype"));
    const json_t *offsets = json_object_get(row, "data_offsets");
    if (!dtype || !json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !get_size(json_array_get(offsets, 0), &extent->begin) ||
        !get_size(json_array_get(offsets, 1), &extent->end))
        return DAMAGED(r, "%s: tensor %s: dtype, shape or data_offsets missing", r->path, name);
    if (strcmp(dtype, "F32") != 0)
        return DAMAGED(r, "%s: tensor %s is %.20s; only F32 is read: convert the file", r->path,
                       name, dtype);
    tensor->shape.dtype = RP_DTYPE_F32;
    RP_TRY(read_shape(r, json_object_get(row, "shape"), tensor, &bytes));
    if (extent->begin > extent->end || extent->end - extent->begin != bytes)
        return DAMAGED(r, "%s: tensor %s: data_offsets do not fit its shape", r->path, name);
    return RP_STATUS_OK;
}

static int by_begin(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end); /* empty ones first */
}

/* The tensors must cover all of what follows the header, each byte once. */
static enum rp_status check_cover(struct reader *r, const struct rp_st_file *file,
                                  struct extent *extents)
{
    uint64_t at = 0, end = r->size - 8 - r->header_bytes;
    qsort(extents, (size_t)file->n, sizeof *extents, by_begin);
    for (int i = 0; i < file->n; i++) {
        if (extents[i].begin != at)
            return DAMAGED(r, "%s: tensor %s starts at byte %llu, expected %llu", r->path,
                           file->tensor[extents[i].tensor].name,
                           (unsigned long long)extents[i].begin, (unsigned long long)at);
        at = extents[i].end;
        if (at > end)
            return DAMAGED(r, "%s: tensor %s ends behind the end of the file", r->path,
                           file->tensor[extents[i].tensor].name);
    }
    if (at != end)
        return DAMAGED(r, "%s: %llu bytes behind the last tensor", r->path,
                       (unsigned long long)(end - at));
    return RP_STATUS_OK;
}

static enum rp_status read_rows(struct reader *r, json_t *root, struct rp_st_file *file,
                                struct extent **extents)
{
    size_t n = json_object_size(root);
    const char *name;
    json_t *row;
    file->tensor = RP_NEW_ARRAY(struct rp_st_tensor, n + 1);
    *extents = RP_NEW_ARRAY(struct extent, n + 1);
    json_object_foreach(root, name, row)
    {
        if (strcmp(name, "__metadata__") == 0) continue;
        RP_TRY(read_row(r, name, row, &file->tensor[file->n], &(*extents)[file->n]));
        (*extents)[file->n].tensor = file->n;
        file->n++;
    }
    return check_cover(r, file, *extents);
}

/* The whole file into one block, hashed on the way. */
static enum rp_status read_block(struct reader *r, struct rp_st_file *file)
{
    struct rp_hasher *hasher = rp_hasher_new();
    enum rp_status status = RP_STATUS_OK;
    file->block = rp_mem_try((size_t)r->size);
    if (!file->block)
        status = rp_error_set(r->err, RP_STATUS_MEMORY, "no memory for the %llu bytes of %s",
                              (unsigned long long)r->size, r->path);
    for (uint64_t at = 0; at < r->size && status == RP_STATUS_OK; at += PIECE) {
        size_t length = r->size - at < PIECE ? (size_t)(r->size - at) : PIECE;
        status = read_exactly(r, at, (char *)file->block + at, length);
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

enum rp_status rp_st_read(const char *path, enum rp_status damaged, struct rp_st_file *file,
                          struct rp_error *err)
{
    struct reader r = {.path = path, .status = damaged, .fd = -1, .err = err};
    struct rp_sys_stat stat;
    struct extent *extents = NULL;
    json_t *root = NULL;
    enum rp_status status = RP_STATUS_OK;

    *file = (struct rp_st_file){0};
    RP_TRY_GOTO(status, rp_sys_open_read(path, damaged, &r.fd, err), out);
    RP_TRY_GOTO(status, rp_sys_stat(path, &stat, err), out);
    r.size = file->bytes = stat.size;
    RP_TRY_GOTO(status, read_header(&r, &root), out);
    RP_TRY_GOTO(status, read_rows(&r, root, file, &extents), out);
    RP_TRY_GOTO(status, read_block(&r, file), out);
    uint64_t start = align_data(file, 8 + r.header_bytes);
    for (int i = 0; i < file->n; i++)
        file->tensor[extents[i].tensor].shape.data = (char *)file->block + start + extents[i].begin;
out:
    json_decref(root);
    rp_mem_free(extents);
    rp_sys_close(r.fd);
    if (status != RP_STATUS_OK) rp_st_release(file);
    return status;
}

const struct rp_st_tensor *rp_st_find(const struct rp_st_file *file, const char *name)
{
    for (int i = 0; i < file->n; i++)
        if (strcmp(file->tensor[i].name, name) == 0) return &file->tensor[i];
    return NULL;
}

void rp_st_release(struct rp_st_file *file)
{
    rp_mem_free(file->tensor);
    rp_mem_free(file->block);
    *file = (struct rp_st_file){0};
}
