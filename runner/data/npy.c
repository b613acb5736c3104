/* npy.c - the values of NumPy arrays as samples and targets. */
#include "data/npy.h"

#include <math.h>
#include <string.h>

enum { CHUNK_ELEMENTS = 4096, ELEMENT_MOST = 8 };
enum { FILE_X, FILE_Y };

/* ---- elements -------------------------------------------------------------------------------- */

static enum rp_status read_chunk(struct npy_input *input, void *bytes, size_t n,
                                 struct rp_error *err)
{
    if (input->stream) return rp_data_stream_exact(input->stream, bytes, n, "the array", err);
    memcpy(bytes, input->at, n);
    input->at += n;
    return RP_STATUS_OK;
}

static uint64_t little_endian(const unsigned char *bytes, int width)
{
    uint64_t value = 0;
    for (int i = width - 1; i >= 0; i--) value = value << 8 | bytes[i];
    return value;
}

static int64_t whole_at(const struct npy_array *array, const unsigned char *bytes)
{
    uint64_t value = little_endian(bytes, array->width);
    int shift = 64 - 8 * array->width;
    if (array->kind == 'u') return (int64_t)value;
    return (int64_t)(value << shift) >> shift;
}

static float float_at(const struct npy_array *array, const unsigned char *bytes)
{
    uint64_t value = little_endian(bytes, array->width);
    uint32_t low = (uint32_t)value;
    float single;
    double wide;
    if (array->kind != 'f') return (float)whole_at(array, bytes);
    memcpy(&single, &low, sizeof single);
    memcpy(&wide, &value, sizeof wide);
    return array->width == 4 ? single : (float)wide;
}

/* All elements as f32; each must be finite. */
static enum rp_status read_floats(struct npy_input *input, const struct npy_array *array,
                                  float *out, struct rp_error *err)
{
    unsigned char chunk[CHUNK_ELEMENTS * ELEMENT_MOST];
    int64_t row = array->n_elements / array->dims[0];
    for (int64_t first = 0; first < array->n_elements; first += CHUNK_ELEMENTS) {
        int64_t left = array->n_elements - first;
        int64_t n = left < CHUNK_ELEMENTS ? left : CHUNK_ELEMENTS;
        RP_TRY(read_chunk(input, chunk, (size_t)(n * array->width), err));
        for (int64_t i = 0; i < n; i++) {
            out[first + i] = float_at(array, chunk + i * array->width);
            if (!isfinite(out[first + i]))
                return rp_data_fail(input->source, input->index, err,
                                    "%ssample %lld, element %lld (from 0) is not a finite number "
                                    "in binary32",
                                    input->name, (long long)((first + i) / row),
                                    (long long)((first + i) % row));
        }
    }
    return RP_STATUS_OK;
}

static enum rp_status read_classes(struct npy_input *input, const struct npy_array *array,
                                   struct rp_data_set *set, struct rp_error *err)
{
    unsigned char chunk[CHUNK_ELEMENTS * ELEMENT_MOST];
    for (int64_t first = 0; first < set->n; first += CHUNK_ELEMENTS) {
        int64_t n = set->n - first < CHUNK_ELEMENTS ? set->n - first : CHUNK_ELEMENTS;
        RP_TRY(read_chunk(input, chunk, (size_t)(n * array->width), err));
        for (int64_t i = 0; i < n; i++) {
            int64_t label = whole_at(array, chunk + i * array->width);
            if (label < 0 || label >= RP_DATA_MAX_CLASSES)
                return rp_data_fail(input->source, input->index, err,
                                    "%slabel %lld of sample %lld (from 0): expected 0 to %d",
                                    input->name, (long long)label, (long long)(first + i),
                                    RP_DATA_MAX_CLASSES - 1);
            set->labels[first + i] = (int32_t)label;
            if (label >= set->n_classes) set->n_classes = label + 1;
        }
    }
    return RP_STATUS_OK;
}

/* ---- x and y --------------------------------------------------------------------------------- */

enum rp_status npy_read_x(struct npy_input *input, struct rp_data_set *set, struct rp_error *err)
{
    struct npy_array array = {0};
    RP_TRY(npy_read_header(input, &array, err));
    set->n = array.dims[0];
    set->is_u8 = array.kind == 'u';
    if (array.n_dims <= 2)
        rp_data_set_shape(set, 1, array.n_dims == 2 ? array.dims[1] : 1, 1, 1);
    else
        rp_data_set_shape(set, 3, array.dims[1], array.dims[2],
                          array.n_dims == 4 ? array.dims[3] : 1);
    if (input->source->describe) return RP_STATUS_OK;
    RP_TRY(rp_data_allocate_x(input->source, input->index, set, err));
    if (set->is_u8) return read_chunk(input, set->u8, (size_t)array.n_elements, err);
    return read_floats(input, &array, set->f32, err);
}

enum rp_status npy_read_y(struct npy_input *input, struct rp_data_set *set, struct rp_error *err)
{
    struct npy_array array = {0};
    bool classes = set->target == RP_TARGET_CLASSES;
    RP_TRY(npy_read_header(input, &array, err));
    if (array.dims[0] != set->n)
        return rp_data_fail(input->source, input->index, err,
                            "%s%lld targets, but x has %lld samples", input->name,
                            (long long)array.dims[0], (long long)set->n);
    set->n_values = array.n_elements / set->n;
    if (array.n_dims > 2 || (classes && set->n_values != 1))
        return rp_data_fail(input->source, input->index, err,
                            "%sexpected targets of shape (%lld)%s, found %d dimensions",
                            input->name, (long long)set->n,
                            classes ? " for `target: classes`" : " or (samples, values)",
                            array.n_dims);
    if (classes && array.kind == 'f')
        return rp_data_fail(input->source, input->index, err,
                            "%sexpected whole numbers as classes, found floating point; write "
                            "`target: values` to fit them",
                            input->name);
    RP_TRY(rp_data_allocate_y(input->source, input->index, set, err));
    if (!classes) return read_floats(input, &array, set->values, err);
    set->n_values = 0;
    return read_classes(input, &array, set, err);
}

enum rp_status rp_data_read_npy(struct rp_data_source *source, struct rp_data_set *set,
                                struct rp_error *err)
{
    struct npy_input x = {.source = source, .index = FILE_X, .name = ""};
    struct npy_input y = {.source = source, .index = FILE_Y, .name = ""};
    RP_TRY(rp_data_stream_open(source, FILE_X, "x", false, &x.stream, err));
    enum rp_status status = npy_read_x(&x, set, err);
    RP_TRY(rp_data_stream_end(x.stream, status, !source->describe, err));
    if (source->without_targets) return RP_STATUS_OK;
    RP_TRY(rp_data_stream_open(source, FILE_Y, "y", false, &y.stream, err));
    status = npy_read_y(&y, set, err);
    return rp_data_stream_end(y.stream, status, true, err);
}
