/* idx.c - IDX files, the format of MNIST: images (n, h, w [, c]) or rows (n, features) of bytes,
 * and one byte of label for each. Four bytes (0, 0, type 8 = unsigned byte, number of dimensions),
 * then each dimension as 32 bits, the highest byte first, then the values. Plain or gzip. */
#include "data/stream.h"

enum { IDX_MAX_DIMS = 4, IDX_TYPE_U8 = 8 };
enum { FILE_IMAGES, FILE_LABELS };

/* Reads the header; `least` and `most` dimensions are taken. */
static enum rp_status read_header(struct rp_data_source *source, int index,
                                  struct rp_data_stream *stream, int least, int most, int *n_dims,
                                  int64_t dims[IDX_MAX_DIMS], struct rp_error *err)
{
    unsigned char magic[4], bytes[4 * IDX_MAX_DIMS];
    uint64_t total = 1;
    RP_TRY(rp_data_stream_exact(stream, magic, sizeof magic, "the IDX header", err));
    if (magic[0] || magic[1] || magic[2] != IDX_TYPE_U8 || magic[3] < least || magic[3] > most)
        return rp_data_fail(source, index, err,
                            "expected an IDX file of unsigned bytes (first bytes 00 00 08 %02x%s), "
                            "found %02x %02x %02x %02x",
                            (unsigned)least, least < most ? " to 04" : "", magic[0], magic[1],
                            magic[2], magic[3]);
    *n_dims = magic[3];
    RP_TRY(rp_data_stream_exact(stream, bytes, 4 * (size_t)*n_dims, "the IDX header", err));
    for (int i = 0; i < *n_dims; i++) {
        const unsigned char *b = bytes + 4 * i;
        dims[i] = (int64_t)b[0] << 24 | (int64_t)b[1] << 16 | (int64_t)b[2] << 8 | (int64_t)b[3];
        if (dims[i] == 0 || dims[i] > INT32_MAX)
            return rp_data_fail(source, index, err, "dimension %d of its header is %lld", i + 1,
                                (long long)dims[i]);
        if (total > (UINT64_C(1) << 62) / (uint64_t)dims[i])
            return rp_data_fail(source, index, err, "its header promises more bytes than any file");
        total *= (uint64_t)dims[i];
    }
    return rp_data_stream_check_size(stream, 4 + 4 * (uint64_t)*n_dims + total, err);
}

static enum rp_status read_labels(struct rp_data_source *source, struct rp_data_set *set,
                                  struct rp_error *err)
{
    struct rp_data_stream *stream = NULL;
    unsigned char chunk[4096];
    int n_dims;
    int64_t dims[IDX_MAX_DIMS];
    RP_TRY(rp_data_stream_open(source, FILE_LABELS, "labels", true, &stream, err));
    enum rp_status status;
    RP_TRY_GOTO(status, read_header(source, FILE_LABELS, stream, 1, 1, &n_dims, dims, err), out);
    if (dims[0] != set->n) {
        status = rp_data_fail(source, FILE_LABELS, err, "%lld labels, but %s has %lld images",
                              (long long)dims[0], source->dataset->files[FILE_IMAGES].path,
                              (long long)set->n);
        goto out;
    }
    RP_TRY_GOTO(status, rp_data_allocate_y(source, FILE_LABELS, set, err), out);
    set->n_classes = 0;
    for (int64_t i = 0; i < set->n; i += (int64_t)sizeof chunk) {
        int64_t n = set->n - i < (int64_t)sizeof chunk ? set->n - i : (int64_t)sizeof chunk;
        RP_TRY_GOTO(status, rp_data_stream_exact(stream, chunk, (size_t)n, "the labels", err), out);
        for (int64_t j = 0; j < n; j++) {
            set->labels[i + j] = chunk[j];
            if (chunk[j] >= set->n_classes) set->n_classes = chunk[j] + 1;
        }
    }
out:
    return rp_data_stream_end(stream, status, true, err);
}

static enum rp_status read_images(struct rp_data_source *source, struct rp_data_set *set,
                                  struct rp_error *err)
{
    struct rp_data_stream *stream = NULL;
    int n_dims;
    int64_t dims[IDX_MAX_DIMS];
    RP_TRY(rp_data_stream_open(source, FILE_IMAGES, "images", true, &stream, err));
    enum rp_status status;
    RP_TRY_GOTO(status,
                read_header(source, FILE_IMAGES, stream, 2, IDX_MAX_DIMS, &n_dims, dims, err), out);
    set->n = dims[0];
    set->is_u8 = true;
    set->target = RP_TARGET_CLASSES;
    if (n_dims == 2)
        rp_data_set_shape(set, 1, dims[1], 1, 1);
    else
        rp_data_set_shape(set, 3, dims[1], dims[2], n_dims == 4 ? dims[3] : 1);
    if (source->describe) goto out;
    RP_TRY_GOTO(status, rp_data_allocate_x(source, FILE_IMAGES, set, err), out);
    status = rp_data_stream_exact(stream, set->u8, (size_t)(set->n * set->row), "the images", err);
out:
    return rp_data_stream_end(stream, status, !source->describe, err);
}

enum rp_status rp_data_read_idx(struct rp_data_source *source, struct rp_data_set *set,
                                struct rp_error *err)
{
    RP_TRY(read_images(source, set, err));
    return source->without_targets ? RP_STATUS_OK : read_labels(source, set, err);
}
