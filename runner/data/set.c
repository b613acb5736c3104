/* set.c - a data set in memory: its shape, and its arrays.
 */
#include "data/tokens.h"

#include "base/sys.h"

#include <stdarg.h>
#include <stdio.h>

void rp_data_set_shape(struct rp_data_set *set, int n_dims, int64_t h, int64_t w, int64_t c)
{
    set->n_dims = n_dims;
    set->dims[0] = h;
    set->dims[1] = n_dims == 3 ? w : 1;
    set->dims[2] = n_dims == 3 ? c : 1;
    set->row = set->dims[0] * set->dims[1] * set->dims[2];
}

void rp_data_set_release(struct rp_data_set *set)
{
    for (int64_t i = 0; set->class_names && i < set->n_classes; i++)
        rp_mem_free(set->class_names[i]);
    for (int64_t i = 0; set->columns && i < set->row; i++) rp_mem_free(set->columns[i]);
    rp_mem_free(set->columns);
    rp_mem_free(set->class_names);
    rp_mem_free(set->values);
    rp_mem_free(set->labels);
    rp_mem_free(set->f32);
    if (!set->map) rp_mem_free(set->u8);
    rp_sys_unmap(set->map, set->map_bytes);
    tokens_free(set->tokens);
    *set = (struct rp_data_set){0};
}

/* `n` x `width` bytes, or MEMORY with the sentence. index -1: the data set has no file. */
static enum rp_status allocate(const struct rp_data_source *source, int index, int64_t n,
                               int64_t width, const char *what, void **block, struct rp_error *err)
{
    if ((uint64_t)width <= SIZE_MAX / 2 / (uint64_t)n) *block = rp_mem_try((size_t)(n * width));
    if (*block) return RP_STATUS_OK;
    const struct rp_spec_dataset *dataset = source->dataset;
    return rp_spec_fail(
        source->spec, index < 0 ? dataset->at : dataset->files[index].at, RP_STATUS_MEMORY, err,
        "%s: the %s of %lld samples, %lld bytes each, do not fit into memory; take a machine with "
        "more, or less data",
        index < 0 ? source->key : dataset->files[index].path, what, (long long)n, (long long)width);
}

enum rp_status rp_data_allocate_x(const struct rp_data_source *source, int index,
                                  struct rp_data_set *set, struct rp_error *err)
{
    void *block = NULL;
    int64_t width = set->is_u8 ? set->row : set->row * (int64_t)sizeof(float);
    RP_TRY(allocate(source, index, set->n, width, "inputs", &block, err));
    if (set->is_u8)
        set->u8 = block;
    else
        set->f32 = block;
    return RP_STATUS_OK;
}

enum rp_status rp_data_allocate_y(const struct rp_data_source *source, int index,
                                  struct rp_data_set *set, struct rp_error *err)
{
    void *block = NULL;
    bool classes = set->target == RP_TARGET_CLASSES;
    int64_t width = classes ? (int64_t)sizeof(int32_t) : set->n_values * (int64_t)sizeof(float);
    RP_TRY(allocate(source, index, set->n, width, "targets", &block, err));
    if (classes)
        set->labels = block;
    else
        set->values = block;
    return RP_STATUS_OK;
}

enum rp_status rp_data_fail(const struct rp_data_source *source, int index, struct rp_error *err,
                            const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const struct rp_spec_file *file = rp_data_source_file(source, index);
    return rp_spec_fail(source->spec, file->at, RP_STATUS_DATA, err, "%s: %s", file->path, text);
}
