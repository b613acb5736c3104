/* set.c - a data set in memory: its shape, and its arrays.
 */
#include "data/data_int.h"

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
    rp_mem_free(set->class_names);
    rp_mem_free(set->values);
    rp_mem_free(set->labels);
    rp_mem_free(set->f32);
    rp_mem_free(set->u8);
    *set = (struct rp_data_set){0};
}

uint64_t rp_data_set_bytes(const struct rp_data_set *set)
{
    uint64_t n = set->n > 0 ? (uint64_t)set->n : 0;
    uint64_t x = n * (uint64_t)set->row * (set->is_u8 ? 1 : sizeof(float));
    uint64_t y = n * (set->target == RP_TARGET_CLASSES ? sizeof(int32_t)
                                                       : (uint64_t)set->n_values * sizeof(float));
    return x + y;
}

enum rp_status rp_data_allocate(const struct rp_data_source *source, int index,
                                struct rp_data_set *set, struct rp_error *err)
{
    size_t n = (size_t)set->n;
    size_t width = set->is_u8 ? 1 : sizeof(float);
    void *x = rp_mem_try(n * (size_t)set->row * width);
    void *y = NULL;
    if (set->target == RP_TARGET_CLASSES && !set->labels)
        y = set->labels = rp_mem_try(n * sizeof(int32_t));
    else if (set->target == RP_TARGET_VALUES && !set->values)
        y = set->values = rp_mem_try(n * (size_t)set->n_values * sizeof(float));
    else
        y = x;
    if (set->is_u8)
        set->u8 = x;
    else
        set->f32 = x;
    if (x && y) return RP_STATUS_OK;
    if (index < 0)
        return rp_spec_fail(source->spec, source->dataset->at, RP_STATUS_MEMORY, err,
                            "%lld samples of %lld numbers do not fit into memory",
                            (long long)set->n, (long long)set->row);
    return rp_spec_fail(source->spec, source->dataset->files[index].at, RP_STATUS_MEMORY, err,
                        "%s: %lld samples of %lld numbers do not fit into memory",
                        source->dataset->files[index].path, (long long)set->n, (long long)set->row);
}

enum rp_status rp_data_fail(const struct rp_data_source *source, int index, struct rp_error *err,
                            const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const struct rp_spec_file *file = &source->dataset->files[index];
    return rp_spec_fail(source->spec, file->at, RP_STATUS_DATA, err, "%s: %s", file->path, text);
}
