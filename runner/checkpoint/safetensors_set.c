/* safetensors_set.c - the weights of a folder: one file, or shards and the index that lists them.
 */
#include "checkpoint/checkpoint_int.h"

#include "base/sys.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define ONE_FILE "model.safetensors"
#define INDEX    "model.safetensors.index.json"

enum { MAX_INDEX = 100 * 1000 * 1000, MAX_SHARDS = 4096, PIECE = 1 << 20 };

/* ---- which files ----------------------------------------------------------------------------- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct files that the index names, sorted; the texts belong to `map`. */
static const char **names_of_shards(const json_t *map, int *n)
{
    const char **names = RP_NEW_ARRAY(const char *, json_object_size(map) + 1), *name;
    size_t all = 0, kept = 0;
    json_t *file;
    json_object_foreach((json_t *)map, name, file) names[all++] = json_string_value(file);
    qsort(names, all, sizeof *names, compare_names);
    for (size_t i = 0; i < all; i++)
        if (kept == 0 || strcmp(names[kept - 1], names[i]) != 0) names[kept++] = names[i];
    *n = kept > MAX_SHARDS ? MAX_SHARDS + 1 : (int)kept;
    return names;
}

static enum rp_status check_index(const char *path, const json_t *map, enum rp_status damaged,
                                  struct rp_error *err)
{
    const char *name;
    json_t *file;
    if (!json_is_object(map) || json_object_size(map) == 0)
        return rp_error_set(err, damaged, "%s: has no weight_map of tensors and files", path);
    json_object_foreach((json_t *)map, name, file)
    {
        const char *shard = json_string_value(file);
        if (!shard || !shard[0] || strchr(shard, '/') || shard[0] == '.')
            return rp_error_set(err, damaged, "%s: tensor %s: no name of a file beside the index",
                                path, name);
    }
    return RP_STATUS_OK;
}

static enum rp_status open_file(struct rp_st_set *set, const char *folder, const char *name,
                                enum rp_status damaged, struct rp_error *err)
{
    char *path = rp_sys_join(folder, name);
    struct rp_sys_stat stat;
    enum rp_status status = rp_sys_stat(path, &stat, err);
    if (status == RP_STATUS_OK && !stat.exists)
        status = rp_error_set(err, damaged,
                              "%s is missing, and " INDEX " names it: copy it there again", path);
    if (status == RP_STATUS_OK)
        status = rp_st_header_open(path, damaged, &set->file[set->n_files], err);
    if (status == RP_STATUS_OK) set->n_files++;
    rp_mem_free(path);
    return status;
}

/* The index and its shards agree: every tensor lies in the file that it names. */
static enum rp_status check_shards(const struct rp_st_set *set, const char *path, const json_t *map,
                                   const char *const *shards, enum rp_status damaged,
                                   struct rp_error *err)
{
    const char *name;
    json_t *file;
    json_object_foreach((json_t *)map, name, file)
    {
        const struct rp_st_entry *entry = rp_st_set_find(set, name);
        const char *shard = json_string_value(file);
        if (!entry || strcmp(shards[entry->file], shard) != 0)
            return rp_error_set(err, damaged, "%s: tensor %s is not in %s", path, name, shard);
    }
    return RP_STATUS_OK;
}

static enum rp_status fill_entries(struct rp_st_set *set, enum rp_status damaged,
                                   struct rp_error *err);

static enum rp_status open_shards(const char *folder, const char *path, enum rp_status damaged,
                                  struct rp_st_set *set, struct rp_error *err)
{
    char *text = NULL;
    const char **shards = NULL;
    size_t length = 0;
    int n = 0;
    json_error_t why;
    json_t *root = NULL;
    enum rp_status status = RP_STATUS_OK;
    RP_TRY_GOTO(status, rp_sys_read_file(path, MAX_INDEX, damaged, &text, &length, err), out);
    root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
    if (!root) {
        status = rp_error_set(err, damaged, "%s: no JSON: %s", path, why.text);
        goto out;
    }
    const json_t *map = json_object_get(root, "weight_map");
    RP_TRY_GOTO(status, check_index(path, map, damaged, err), out);
    shards = names_of_shards(map, &n);
    if (n > MAX_SHARDS) {
        status = rp_error_set(err, damaged, "%s: more than %d files", path, MAX_SHARDS);
        goto out;
    }
    set->file = RP_NEW_ARRAY(struct rp_st_header, n);
    for (int i = 0; i < n; i++)
        RP_TRY_GOTO(status, open_file(set, folder, shards[i], damaged, err), out);
    RP_TRY_GOTO(status, fill_entries(set, damaged, err), out);
    status = check_shards(set, path, map, shards, damaged, err);
out:
    json_decref(root);
    rp_mem_free(shards);
    rp_mem_free(text);
    return status;
}

/* ---- all tensors of all files, by name ------------------------------------------------------- */

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct rp_st_entry *)a)->name, ((const struct rp_st_entry *)b)->name);
}

static enum rp_status fill_entries(struct rp_st_set *set, enum rp_status damaged,
                                   struct rp_error *err)
{
    int n = 0;
    for (int f = 0; f < set->n_files; f++) n += set->file[f].n;
    set->entry = RP_NEW_ARRAY(struct rp_st_entry, n + 1);
    for (int f = 0; f < set->n_files; f++) {
        for (int i = 0; i < set->file[f].n; i++) {
            const struct rp_st_row *row = &set->file[f].row[i];
            struct rp_st_entry *entry = &set->entry[set->n++];
            *entry = (struct rp_st_entry){
                .dtype = row->dtype, .n_dims = row->n_dims, .file = f, .row = (uint64_t)i};
            memcpy(entry->name, row->name, sizeof entry->name);
            memcpy(entry->dims, row->dims, sizeof entry->dims);
        }
    }
    qsort(set->entry, (size_t)n, sizeof *set->entry, compare_entries);
    for (int i = 1; i < n; i++)
        if (strcmp(set->entry[i - 1].name, set->entry[i].name) == 0)
            return rp_error_set(err, damaged, "%s and %s both hold a tensor %s",
                                set->file[set->entry[i - 1].file].path,
                                set->file[set->entry[i].file].path, set->entry[i].name);
    return RP_STATUS_OK;
}

const struct rp_st_entry *rp_st_set_find(const struct rp_st_set *set, const char *name)
{
    int low = 0, high = set->n;
    while (low < high) {
        int middle = low + (high - low) / 2, order = strcmp(set->entry[middle].name, name);
        if (order == 0) return &set->entry[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

int64_t rp_st_entry_elements(const struct rp_st_entry *entry)
{
    int64_t n = 1;
    for (int d = 0; d < entry->n_dims; d++) n *= entry->dims[d];
    return n;
}

/* ---- opening --------------------------------------------------------------------------------- */

static enum rp_status no_weights(const char *folder, enum rp_status damaged, struct rp_error *err)
{
    struct rp_sys_stat stat;
    char *pickled = rp_sys_join(folder, "pytorch_model.bin");
    enum rp_status status = rp_sys_stat(pickled, &stat, err);
    if (status == RP_STATUS_OK)
        status = rp_error_set(
            err, damaged, "%s holds neither " ONE_FILE " nor " INDEX "%s", folder,
            stat.exists ? "; pytorch_model.bin is a Python program's memory and not read here: "
                          "save the model again with safe_serialization=True"
                        : "");
    rp_mem_free(pickled);
    return status;
}

enum rp_status rp_st_set_open(const char *folder, enum rp_status damaged, struct rp_st_set *set,
                              struct rp_error *err)
{
    char *one = rp_sys_join(folder, ONE_FILE), *index = rp_sys_join(folder, INDEX);
    struct rp_sys_stat of_one, of_index;
    enum rp_status status = RP_STATUS_OK;
    *set = (struct rp_st_set){0};
    RP_TRY_GOTO(status, rp_sys_stat(one, &of_one, err), out);
    RP_TRY_GOTO(status, rp_sys_stat(index, &of_index, err), out);
    if (of_one.exists) {
        set->file = RP_NEW(struct rp_st_header);
        RP_TRY_GOTO(status, rp_st_header_open(one, damaged, set->file, err), out);
        set->n_files = 1;
        status = fill_entries(set, damaged, err);
    } else {
        status = of_index.exists ? open_shards(folder, index, damaged, set, err)
                                 : no_weights(folder, damaged, err);
    }
out:
    if (status != RP_STATUS_OK) rp_st_set_close(set);
    rp_mem_free(index);
    rp_mem_free(one);
    return status;
}

void rp_st_set_close(struct rp_st_set *set)
{
    for (int i = 0; i < set->n_files; i++) rp_st_header_close(&set->file[i]);
    rp_mem_free(set->file);
    rp_mem_free(set->entry);
    *set = (struct rp_st_set){0};
}

/* ---- values ---------------------------------------------------------------------------------- */

static float of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Every binary16 is a binary32; the payload of a NaN moves to the left. */
static float of_half(uint32_t half)
{
    uint32_t sign = (half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 0x3ff;
    if (exponent == 31) return of_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent > 0) return of_bits(sign | (exponent + 112) << 23 | fraction << 13);
    float small = (float)fraction * 0x1p-24f;
    return sign ? -small : small;
}

static void convert(const unsigned char *bytes, int64_t n, char dtype, float *values)
{
    for (int64_t i = 0; i < n; i++) {
        if (dtype == 'F') {
            const unsigned char *b = bytes + 4 * i;
            values[i] =
                of_bits(b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24);
        } else {
            uint32_t word = bytes[2 * i] | (uint32_t)bytes[2 * i + 1] << 8;
            values[i] = dtype == 'B' ? of_bits(word << 16) : of_half(word);
        }
    }
}

enum rp_status rp_st_set_read(const struct rp_st_set *set, const struct rp_st_entry *entry,
                              enum rp_status damaged, float *values, struct rp_error *err)
{
    const struct rp_st_header *file = &set->file[entry->file];
    const struct rp_st_row *row = &file->row[entry->row];
    char dtype = strcmp(row->dtype, "F32") == 0    ? 'F'
                 : strcmp(row->dtype, "F16") == 0  ? 'H'
                 : strcmp(row->dtype, "BF16") == 0 ? 'B'
                                                   : 0;
    if (!dtype)
        return rp_error_set(err, damaged, "%s: tensor %s is %s; F32, F16 and BF16 are read",
                            file->path, row->name, row->dtype);
    unsigned char *bytes = RP_NEW_ARRAY(unsigned char, PIECE);
    int element = dtype == 'F' ? 4 : 2;
    enum rp_status status = RP_STATUS_OK;
    for (uint64_t at = row->begin; at < row->end && status == RP_STATUS_OK; at += PIECE) {
        size_t length = row->end - at < PIECE ? (size_t)(row->end - at) : PIECE;
        status = rp_st_read_exactly(file, damaged, file->data_at + at, bytes, length, err);
        if (status == RP_STATUS_OK)
            convert(bytes, (int64_t)length / element, dtype,
                    values + (at - row->begin) / (uint64_t)element);
    }
    rp_mem_free(bytes);
    return status;
}

uint64_t rp_st_set_bytes(const struct rp_st_set *set)
{
    uint64_t bytes = 0;
    for (int i = 0; i < set->n_files; i++) bytes += set->file[i].size;
    return bytes;
}

/* `held` (NULL: none) gets all of the file. */
static enum rp_status hash_file(const struct rp_st_header *file, const struct rp_stop *stop,
                                unsigned char *held, struct rp_hasher *hasher, struct rp_error *err)
{
    unsigned char *piece = held ? NULL : RP_NEW_ARRAY(unsigned char, PIECE);
    enum rp_status status = RP_STATUS_OK;
    for (uint64_t at = 0; at < file->size && status == RP_STATUS_OK; at += PIECE) {
        size_t length = file->size - at < PIECE ? (size_t)(file->size - at) : PIECE;
        unsigned char *bytes = held ? held + at : piece;
        RP_TRY_GOTO(status, rp_stop_look(stop, file->path, err), out);
        RP_TRY_GOTO(status, rp_st_read_exactly(file, RP_STATUS_DATA, at, bytes, length, err), out);
        rp_hasher_add(hasher, bytes, length);
    }
out:
    rp_mem_free(piece);
    return status;
}

enum rp_status rp_st_set_hash(struct rp_st_set *set, bool hold, const struct rp_stop *stop,
                              struct rp_sha256 *hash, struct rp_error *err)
{
    struct rp_hasher *hasher = rp_hasher_new();
    enum rp_status status = RP_STATUS_OK;
    for (int i = 0; i < set->n_files && status == RP_STATUS_OK; i++) {
        struct rp_st_header *file = &set->file[i];
        unsigned char *held = hold && !file->held ? rp_mem_try((size_t)file->size) : NULL;
        status = hash_file(file, stop, held, hasher, err);
        if (status == RP_STATUS_OK && held)
            file->held = held;
        else
            rp_mem_free(held);
    }
    if (status == RP_STATUS_OK) *hash = rp_hasher_finish(hasher);
    rp_hasher_free(hasher);
    return status;
}
