/* npy_header.c - the header of a .npy array: a magic string, a version, and a Python dictionary
 * with the keys descr, fortran_order and shape (format versions 1 to 3). */
#include "data/npy.h"

#include <string.h>

enum { PREFIX_BYTES = 8, HEADER_MOST = 1 << 16, TYPE_BYTES = 8 };

/* ---- bytes ----------------------------------------------------------------------------------- */

static enum rp_status read_bytes(struct npy_input *input, void *bytes, size_t n,
                                 struct rp_error *err)
{
    if (input->stream)
        return rp_data_stream_exact(input->stream, bytes, n, "the NumPy header", err);
    if ((size_t)(input->end - input->at) < n)
        return rp_data_fail(input->source, input->index, err, "%sends within the NumPy header",
                            input->name);
    memcpy(bytes, input->at, n);
    input->at += n;
    return RP_STATUS_OK;
}

/* ---- the dictionary -------------------------------------------------------------------------- */

struct header {
    char type[TYPE_BYTES]; /* "<f4"; empty: none, or no plain string */
    bool has_type, has_order, fortran, has_shape;
    int n_dims;
    int64_t dims[NPY_MAX_DIMS];
    bool too_many_dims;
};

static void skip_blanks(const char **at)
{
    while (**at == ' ' || **at == '\n' || **at == '\t') (*at)++;
}

static bool take(const char **at, const char *text)
{
    size_t n = strlen(text);
    skip_blanks(at);
    if (strncmp(*at, text, n) != 0) return false;
    *at += n;
    return true;
}

/* 'text' or "text" into a buffer; false when it is none, or does not fit. */
static bool take_string(const char **at, char *out, size_t room)
{
    skip_blanks(at);
    char quote = **at;
    if (quote != '\'' && quote != '"') return false;
    const char *end = strchr(*at + 1, quote);
    if (!end || (size_t)(end - *at - 1) >= room) return false;
    memcpy(out, *at + 1, (size_t)(end - *at - 1));
    out[end - *at - 1] = '\0';
    *at = end + 1;
    return true;
}

static bool take_shape(const char **at, struct header *header)
{
    if (!take(at, "(")) return false;
    while (!take(at, ")")) {
        int64_t value = 0;
        skip_blanks(at);
        if (**at < '0' || **at > '9') return false;
        for (; **at >= '0' && **at <= '9'; (*at)++)
            value = value > INT64_MAX / 10 - 1 ? INT64_MAX / 10 : value * 10 + (**at - '0');
        if (header->n_dims < NPY_MAX_DIMS)
            header->dims[header->n_dims++] = value;
        else
            header->too_many_dims = true;
        if (!take(at, ",") && *(skip_blanks(at), *at) != ')') return false;
    }
    return true;
}

static bool take_pair(const char **at, struct header *header)
{
    char key[16];
    if (!take_string(at, key, sizeof key) || !take(at, ":")) return false;
    if (strcmp(key, "descr") == 0)
        return header->has_type = take_string(at, header->type, TYPE_BYTES);
    if (strcmp(key, "shape") == 0) return header->has_shape = take_shape(at, header);
    if (strcmp(key, "fortran_order") != 0) return false;
    header->has_order = true;
    if (take(at, "False")) return true;
    return header->fortran = take(at, "True");
}

static bool parse_header(const char *text, struct header *header)
{
    if (!take(&text, "{")) return false;
    while (!take(&text, "}")) {
        if (!take_pair(&text, header)) return false;
        if (!take(&text, ",") && *(skip_blanks(&text), text) != '}') return false;
    }
    skip_blanks(&text);
    return *text == '\0' && header->has_type && header->has_order && header->has_shape;
}

/* ---- what it means --------------------------------------------------------------------------- */

static bool parse_type(const char *type, struct npy_array *array)
{
    static const char *const taken[] = {"u1", "i1", "i2", "i4", "i8", "f4", "f8"};
    if (type[0] != '<' && type[0] != '|' && type[0] != '=') return false;
    for (size_t i = 0; i < RP_COUNT(taken); i++) {
        if (strcmp(type + 1, taken[i]) != 0) continue;
        array->kind = type[1];
        array->width = type[2] - '0';
        return array->width == 1 || type[0] != '|';
    }
    return false;
}

static enum rp_status understand(struct npy_input *input, const struct header *header,
                                 struct npy_array *array, struct rp_error *err)
{
    struct rp_data_source *source = input->source;
    int64_t most = INT64_MAX / 8;
    if (!parse_type(header->type, array))
        return rp_data_fail(source, input->index, err,
                            "%selements are of type '%s'; expected little-endian u1, i1, i2, i4, "
                            "i8, f4 or f8 (in NumPy: .astype('<f4'))",
                            input->name, header->type);
    if (header->fortran && header->n_dims > 1)
        return rp_data_fail(source, input->index, err,
                            "%sthe array lies in Fortran order; save numpy.ascontiguousarray(...) "
                            "of it",
                            input->name);
    if (header->too_many_dims || header->n_dims == 0)
        return rp_data_fail(source, input->index, err, "%sexpected 1 to %d dimensions, found %s",
                            input->name, NPY_MAX_DIMS, header->n_dims ? "more" : "none");
    array->n_dims = header->n_dims;
    array->n_elements = 1;
    for (int i = 0; i < header->n_dims; i++) {
        array->dims[i] = header->dims[i];
        if (array->dims[i] == 0 || array->dims[i] > INT32_MAX ||
            array->n_elements > most / array->dims[i])
            return rp_data_fail(source, input->index, err, "%sdimension %d of its shape is %lld",
                                input->name, i + 1, (long long)array->dims[i]);
        array->n_elements *= array->dims[i];
    }
    return RP_STATUS_OK;
}

static enum rp_status check_size(struct npy_input *input, uint64_t header_bytes,
                                 const struct npy_array *array, struct rp_error *err)
{
    uint64_t data = (uint64_t)array->n_elements * (uint64_t)array->width;
    if (input->stream) return rp_data_stream_check_size(input->stream, header_bytes + data, err);
    if ((uint64_t)(input->end - input->at) == data) return RP_STATUS_OK;
    return rp_data_fail(input->source, input->index, err,
                        "%sits header promises %llu bytes of data, found %llu", input->name,
                        (unsigned long long)data, (unsigned long long)(input->end - input->at));
}

enum rp_status npy_read_header(struct npy_input *input, struct npy_array *array,
                               struct rp_error *err)
{
    unsigned char prefix[PREFIX_BYTES], size[4] = {0};
    struct header header = {0};
    enum rp_status status;
    RP_TRY(read_bytes(input, prefix, PREFIX_BYTES, err));
    if (memcmp(prefix, "\x93NUMPY", 6) != 0 || prefix[6] < 1 || prefix[6] > 3)
        return rp_data_fail(input->source, input->index, err,
                            "%sexpected a NumPy array (.npy, format version 1 to 3), found bytes "
                            "%02x %02x %02x %02x, version %d",
                            input->name, prefix[0], prefix[1], prefix[2], prefix[3], prefix[6]);
    size_t size_bytes = prefix[6] == 1 ? 2 : 4;
    RP_TRY(read_bytes(input, size, size_bytes, err));
    size_t length =
        (size_t)size[0] | (size_t)size[1] << 8 | (size_t)size[2] << 16 | (size_t)size[3] << 24;
    if (length > HEADER_MOST)
        return rp_data_fail(input->source, input->index, err, "%sits header has %llu bytes",
                            input->name, (unsigned long long)length);
    char *text = rp_mem_new(length + 1);
    RP_TRY_GOTO(status, read_bytes(input, text, length, err), out);
    if (!parse_header(text, &header)) {
        status = rp_data_fail(input->source, input->index, err,
                              "%scannot read its NumPy header: %.200s", input->name, text);
        goto out;
    }
    RP_TRY_GOTO(status, understand(input, &header, array, err), out);
    status = check_size(input, PREFIX_BYTES + size_bytes + length, array, err);
out:
    rp_mem_free(text);
    return status;
}
