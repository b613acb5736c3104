/* cifar.c - the binary CIFAR files: records of one label byte (CIFAR-10) or two (CIFAR-100: coarse,
 * then fine, which is the one taken) and 3072 bytes of a 32 x 32 image, channel by channel. */
#include "data/stream.h"

#include <stdio.h>

enum { SIDE = 32, CHANNELS = 3, PIXELS = SIDE * SIDE, RECORD_MOST = 2 + CHANNELS * PIXELS };

/* Counts the records of one file from its size. */
static enum rp_status count_records(struct rp_data_source *source, int index, int64_t record,
                                    struct rp_data_stream *stream, int64_t *n, struct rp_error *err)
{
    uint64_t size = rp_data_stream_size(stream);
    *n = (int64_t)(size / (uint64_t)record);
    if (size > 0 && size % (uint64_t)record == 0 && *n <= INT32_MAX) return RP_STATUS_OK;
    int classes = source->dataset->cifar_classes, other = classes == 10 ? 100 : 10;
    int64_t other_record = classes == 10 ? record + 1 : record - 1;
    char advice[80] = "";
    if (size > 0 && size % (uint64_t)other_record == 0)
        snprintf(advice, sizeof advice, "; for CIFAR-%d write `classes: %d`", other, other);
    return rp_data_fail(source, index, err,
                        "expected records of %lld bytes (CIFAR-%d, binary version), found %llu "
                        "bytes in all, which is no whole number of them%s",
                        (long long)record, classes, (unsigned long long)size, advice);
}

static enum rp_status keep_record(struct rp_data_source *source, int index, struct rp_data_set *set,
                                  int64_t sample, int64_t in_file, const unsigned char *record,
                                  int label_bytes, struct rp_error *err)
{
    int label = record[label_bytes - 1];
    uint8_t *out = set->u8 + sample * set->row;
    if (label >= set->n_classes)
        return rp_data_fail(source, index, err, "record %lld has label %d, expected 0 to %lld",
                            (long long)in_file, label, (long long)set->n_classes - 1);
    set->labels[sample] = label;
    for (int c = 0; c < CHANNELS; c++)
        for (int i = 0; i < PIXELS; i++)
            out[i * CHANNELS + c] = record[label_bytes + c * PIXELS + i];
    return RP_STATUS_OK;
}

/* Reads file `index` into the samples from `first` on. */
static enum rp_status read_file(struct rp_data_source *source, int index, struct rp_data_set *set,
                                int64_t first, int64_t n, int label_bytes, struct rp_error *err)
{
    struct rp_data_stream *stream = NULL;
    unsigned char record[RECORD_MOST];
    size_t bytes = (size_t)(label_bytes + CHANNELS * PIXELS);
    char part[32];
    snprintf(part, sizeof part, "files[%d]", index);
    RP_TRY(rp_data_stream_open(source, index, part, false, &stream, err));
    enum rp_status status = RP_STATUS_OK;
    for (int64_t i = 0; i < n; i++) {
        RP_TRY_GOTO(status, rp_data_stream_exact(stream, record, bytes, "a record", err), out);
        RP_TRY_GOTO(status, keep_record(source, index, set, first + i, i, record, label_bytes, err),
                    out);
    }
out:
    return rp_data_stream_end(stream, status, true, err);
}

enum rp_status rp_data_read_cifar(struct rp_data_source *source, struct rp_data_set *set,
                                  struct rp_error *err)
{
    const struct rp_spec_dataset *dataset = source->dataset;
    int label_bytes = dataset->cifar_classes == 100 ? 2 : 1;
    int64_t counts[RP_SPEC_MAX_FILES];
    struct rp_data_source only_count = *source;
    only_count.describe = true;
    set->is_u8 = true;
    set->target = RP_TARGET_CLASSES;
    set->n_classes = dataset->cifar_classes;
    rp_data_set_shape(set, 3, SIDE, SIDE, CHANNELS);
    for (int i = 0; i < dataset->n_files; i++) {
        struct rp_data_stream *stream = NULL;
        RP_TRY(rp_data_stream_open(&only_count, i, "files", false, &stream, err));
        enum rp_status status =
            count_records(source, i, label_bytes + CHANNELS * PIXELS, stream, &counts[i], err);
        RP_TRY(rp_data_stream_end(stream, status, false, err));
        set->n += counts[i];
    }
    if (set->n > INT32_MAX)
        return rp_data_fail(source, 0, err, "%lld samples in all, more than can be numbered",
                            (long long)set->n);
    if (source->describe) return RP_STATUS_OK;
    RP_TRY(rp_data_allocate_x(source, 0, set, err));
    RP_TRY(rp_data_allocate_y(source, 0, set, err));
    for (int64_t i = 0, first = 0; i < dataset->n_files; first += counts[i++])
        RP_TRY(read_file(source, (int)i, set, first, counts[i], label_bytes, err));
    return RP_STATUS_OK;
}
