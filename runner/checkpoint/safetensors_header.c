/* safetensors_header.c - the header of a file that anybody may have made: nothing is believed
 * before it is checked, and no memory is taken on its word alone. */
#include "checkpoint/checkpoint_int.h"

#include "base/sys.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* What the reference reader allows for a header. */
enum { MAX_HEADER = 100 * 1000 * 1000 };

/* Every dtype that the format knows, with its bytes. */
static const struct {
    const char *name;
    int bytes;
} dtypes[] = {
    {"F32", 4},  {"F16", 2}, {"BF16", 2},    {"F64", 8},     {"I64", 8}, {"I32", 4},
    {"I16", 2},  {"I8", 1},  {"U8", 1},      {"U16", 2},     {"U32", 4}, {"U64", 8},
    {"BOOL", 1}, {"C64", 8}, {"F8_E4M3", 1}, {"F8_E5M2", 1},
};

struct reader {
    const char *path;
    enum rp_status status; /* of a damaged file */
    struct rp_st_header *header;
    uint64_t json_bytes;
    struct rp_error *err;
};

#define DAMAGED(reader, ...) rp_error_set((reader)->err, (reader)->status, __VA_ARGS__)

enum rp_status rp_st_read_exactly(const struct rp_st_header *header, enum rp_status damaged,
                                  uint64_t offset, void *bytes, size_t length, struct rp_error *err)
{
    size_t got = 0;
    if (header->held) {
        memcpy(bytes, header->held + offset, length);
        return RP_STATUS_OK;
    }
    RP_TRY(rp_sys_read_at(header->fd, offset, bytes, length, &got, header->path, damaged, err));
    if (got != length)
        return rp_error_set(err, damaged, "%s: ends before its header says", header->path);
    return RP_STATUS_OK;
}

static enum rp_status read_json(struct reader *r, json_t **root)
{
    unsigned char length[8];
    char *text = NULL;
    json_error_t why;
    uint64_t size = r->header->size;
    if (size < 8)
        return DAMAGED(r, "%s: %llu bytes are no safetensors file", r->path,
                       (unsigned long long)size);
    RP_TRY(rp_st_read_exactly(r->header, r->status, 0, length, sizeof length, r->err));
    for (int i = 0; i < 8; i++) r->json_bytes |= (uint64_t)length[i] << (8 * i);
    if (r->json_bytes > MAX_HEADER || r->json_bytes > size - 8)
        return DAMAGED(r, "%s: no safetensors file: its header would be %llu bytes", r->path,
                       (unsigned long long)r->json_bytes);
    text = rp_mem_new((size_t)r->json_bytes + 1);
    enum rp_status status =
        rp_st_read_exactly(r->header, r->status, 8, text, (size_t)r->json_bytes, r->err);
    if (status == RP_STATUS_OK) {
        *root = json_loadb(text, (size_t)r->json_bytes, JSON_REJECT_DUPLICATES, &why);
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
static enum rp_status read_shape(struct reader *r, const json_t *shape, struct rp_st_row *row,
                                 int element, uint64_t *bytes)
{
    uint64_t elements = 1, limit = r->header->size / (uint64_t)element;
    if (!json_is_array(shape) || json_array_size(shape) > RP_MAX_DIMS)
        return DAMAGED(r, "%s: tensor %s: shape is not a list of up to %d sizes", r->path,
                       row->name, RP_MAX_DIMS);
    row->n_dims = (int)json_array_size(shape);
    for (int d = 0; d < row->n_dims; d++) {
        uint64_t size = 0;
        if (!get_size(json_array_get(shape, (size_t)d), &size))
            return DAMAGED(r, "%s: tensor %s: shape holds what is no size", r->path, row->name);
        row->dims[d] = (int64_t)size;
        if (size && elements > limit / size)
            return DAMAGED(r, "%s: tensor %s is larger than the file", r->path, row->name);
        elements *= size;
    }
    *bytes = elements * (uint64_t)element;
    return RP_STATUS_OK;
}

/* Bytes of an element; 0: no such dtype. */
static int bytes_of(const char *dtype)
{
    for (size_t i = 0; i < RP_COUNT(dtypes); i++)
        if (strcmp(dtypes[i].name, dtype) == 0) return dtypes[i].bytes;
    return 0;
}

static enum rp_status read_row(struct reader *r, const char *name, const json_t *json,
                               struct rp_st_row *row)
{
    uint64_t bytes = 0;
    if (strlen(name) >= sizeof row->name)
        return DAMAGED(r, "%s: a tensor's name is longer than %zu bytes: %.40s...", r->path,
                       sizeof row->name - 1, name);
    memcpy(row->name, name, strlen(name) + 1);
    const char *dtype = json_string_value(json_object_get(json, "dtype"));
    const json_t *offsets = json_object_get(json, "data_offsets");
    if (!dtype || !json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !get_size(json_array_get(offsets, 0), &row->begin) ||
        !get_size(json_array_get(offsets, 1), &row->end))
        return DAMAGED(r, "%s: tensor %s: dtype, shape or data_offsets missing", r->path, name);
    int element = bytes_of(dtype);
    if (element == 0)
        return DAMAGED(r, "%s: tensor %s: dtype %.20s is unknown", r->path, name, dtype);
    memcpy(row->dtype, dtype, strlen(dtype) + 1);
    RP_TRY(read_shape(r, json_object_get(json, "shape"), row, element, &bytes));
    if (row->begin > row->end || row->end - row->begin != bytes)
        return DAMAGED(r, "%s: tensor %s: data_offsets do not fit its shape", r->path, name);
    return RP_STATUS_OK;
}

static int by_begin(const void *a, const void *b)
{
    const struct rp_st_row *x = *(const struct rp_st_row *const *)a,
                           *y = *(const struct rp_st_row *const *)b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end); /* empty ones first */
}

/* The tensors must cover all of what follows the header, each byte once. */
static enum rp_status check_cover(struct reader *r, const struct rp_st_row **order)
{
    const struct rp_st_header *header = r->header;
    uint64_t at = 0, end = header->size - 8 - r->json_bytes;
    for (int i = 0; i < header->n; i++) order[i] = &header->row[i];
    qsort(order, (size_t)header->n, sizeof *order, by_begin);
    for (int i = 0; i < header->n; i++) {
        if (order[i]->begin != at)
            return DAMAGED(r, "%s: tensor %s starts at byte %llu, expected %llu", r->path,
                           order[i]->name, (unsigned long long)order[i]->begin,
                           (unsigned long long)at);
        at = order[i]->end;
        if (at > end)
            return DAMAGED(r, "%s: tensor %s ends behind the end of the file", r->path,
                           order[i]->name);
    }
    if (at != end)
        return DAMAGED(r, "%s: %llu bytes behind the last tensor", r->path,
                       (unsigned long long)(end - at));
    return RP_STATUS_OK;
}

static enum rp_status read_rows(struct reader *r, json_t *root)
{
    struct rp_st_header *header = r->header;
    size_t n = json_object_size(root);
    const char *name;
    json_t *json;
    header->row = RP_NEW_ARRAY(struct rp_st_row, n + 1);
    json_object_foreach(root, name, json)
    {
        if (strcmp(name, "__metadata__") == 0) continue;
        RP_TRY(read_row(r, name, json, &header->row[header->n]));
        header->n++;
    }
    const struct rp_st_row **order = RP_NEW_ARRAY(const struct rp_st_row *, n + 1);
    enum rp_status status = check_cover(r, order);
    rp_mem_free(order);
    return status;
}

enum rp_status rp_st_header_open(const char *path, enum rp_status damaged,
                                 struct rp_st_header *header, struct rp_error *err)
{
    struct reader r = {.path = path, .status = damaged, .header = header, .err = err};
    struct rp_sys_stat stat;
    json_t *root = NULL;
    enum rp_status status = RP_STATUS_OK;

    *header = (struct rp_st_header){.path = rp_mem_copy_text(path), .fd = -1};
    RP_TRY_GOTO(status, rp_sys_open_read(path, damaged, &header->fd, err), out);
    RP_TRY_GOTO(status, rp_sys_stat(path, &stat, err), out);
    header->size = stat.size;
    RP_TRY_GOTO(status, read_json(&r, &root), out);
    header->data_at = 8 + r.json_bytes;
    status = read_rows(&r, root);
out:
    json_decref(root);
    if (status != RP_STATUS_OK) rp_st_header_close(header);
    return status;
}

void rp_st_header_close(struct rp_st_header *header)
{
    if (header->path) rp_sys_close(header->fd);
    rp_mem_free(header->row);
    rp_mem_free(header->held);
    rp_mem_free(header->path);
    *header = (struct rp_st_header){.fd = -1};
}
