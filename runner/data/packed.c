/* packed.c - reading the file that `reprise pack` writes. Pixels are mapped, not copied: what the
 * system holds of them is its page cache. */
#include "data/packed.h"

#include "base/utf8.h"

#include <string.h>

enum { CHUNK = 1 << 16 };

static void put(uint8_t *at, uint64_t value, int n)
{
    for (int i = 0; i < n; i++) at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *at, int n)
{
    uint64_t value = 0;
    for (int i = n - 1; i >= 0; i--) value = value << 8 | at[i];
    return value;
}

void packed_header_write(const struct packed_header *header, uint8_t out[PACKED_HEADER_BYTES])
{
    memset(out, 0, PACKED_HEADER_BYTES);
    memcpy(out, PACKED_MAGIC, 8);
    put(out + 8, header->version, 4);
    put(out + 12, header->n_classes, 4);
    put(out + 16, header->n, 8);
    put(out + 24, header->height, 4);
    put(out + 28, header->width, 4);
    put(out + 32, header->channels, 4);
    put(out + 40, header->labels_at, 8);
    put(out + 48, header->pixels_at, 8);
    memcpy(out + 64, header->content.bytes, RP_SHA256_BYTES);
}

bool packed_header_read(const uint8_t bytes[PACKED_HEADER_BYTES], struct packed_header *header)
{
    *header = (struct packed_header){.version = (uint32_t)get(bytes + 8, 4),
                                     .n_classes = (uint32_t)get(bytes + 12, 4),
                                     .n = get(bytes + 16, 8),
                                     .height = (uint32_t)get(bytes + 24, 4),
                                     .width = (uint32_t)get(bytes + 28, 4),
                                     .channels = (uint32_t)get(bytes + 32, 4),
                                     .labels_at = get(bytes + 40, 8),
                                     .pixels_at = get(bytes + 48, 8)};
    memcpy(header->content.bytes, bytes + 64, RP_SHA256_BYTES);
    return memcmp(bytes, PACKED_MAGIC, 8) == 0;
}

static enum rp_status check_header(struct rp_data_source *source, const struct packed_header *h,
                                   struct rp_error *err)
{
    if (h->version != PACKED_VERSION)
        return rp_data_fail(source, 0, err,
                            "packed format version %u; this reprise reads version %d",
                            (unsigned)h->version, PACKED_VERSION);
    bool good =
        h->n >= 1 && h->n <= INT32_MAX && h->n_classes >= 1 &&
        h->n_classes <= RP_DATA_MAX_CLASSES && h->height >= 1 && h->width >= 1 &&
        h->height <= PACKED_SIDE_MOST && h->width <= PACKED_SIDE_MOST &&
        (h->channels == 1 || h->channels == 3) && h->labels_at >= PACKED_HEADER_BYTES &&
        h->labels_at - PACKED_HEADER_BYTES <= (uint64_t)h->n_classes * (4 + PACKED_NAME_MOST) + 8 &&
        h->pixels_at % PACKED_ALIGN == 0 && h->pixels_at >= h->labels_at + 4 * h->n &&
        h->pixels_at < h->labels_at + 4 * h->n + PACKED_ALIGN;
    if (good) return RP_STATUS_OK;
    return rp_data_fail(source, 0, err, "damaged: the numbers in its header do not fit together");
}

/* ---- behind the header: names, labels, pixels; all hashed when the file is ------------------- */

struct packed_reader {
    struct rp_data_source *source;
    struct rp_data_set *set;
    struct packed_header header;
    struct rp_data_stream *stream;
    struct rp_hasher *hasher; /* NULL: the file is known, or only described */
};

static enum rp_status take(struct packed_reader *r, void *bytes, size_t n, const char *what,
                           struct rp_error *err)
{
    RP_TRY(rp_data_stream_exact(r->stream, bytes, n, what, err));
    if (r->hasher) rp_hasher_add(r->hasher, bytes, n);
    return RP_STATUS_OK;
}

static enum rp_status read_names(struct packed_reader *r, struct rp_error *err)
{
    size_t n = (size_t)(r->header.labels_at - PACKED_HEADER_BYTES), at = 0;
    uint8_t *block = rp_mem_new(n + 1);
    enum rp_status status = take(r, block, n, "its class names", err);
    r->set->class_names = RP_NEW_ARRAY(char *, r->header.n_classes);
    for (uint32_t i = 0; status == RP_STATUS_OK && i < r->header.n_classes; i++) {
        size_t length = at + 4 <= n ? (size_t)get(block + at, 4) : SIZE_MAX;
        if (length > PACKED_NAME_MOST || at + 4 + length > n ||
            rp_utf8_length((char *)block + at + 4, length) != length)
            status = rp_data_fail(r->source, 0, err, "damaged: its class names do not fit");
        else
            r->set->class_names[i] = rp_mem_text("%.*s", (int)length, (char *)block + at + 4);
        at += 4 + length;
    }
    rp_mem_free(block);
    return status;
}

static enum rp_status read_labels(struct packed_reader *r, struct rp_error *err)
{
    uint8_t chunk[CHUNK];
    int64_t n = r->set->n, in_chunk = CHUNK / 4;
    RP_TRY(rp_data_allocate_y(r->source, 0, r->set, err));
    for (int64_t first = 0; first < n; first += in_chunk) {
        int64_t count = n - first < in_chunk ? n - first : in_chunk;
        RP_TRY(take(r, chunk, (size_t)(4 * count), "its labels", err));
        for (int64_t i = 0; i < count; i++) {
            uint64_t label = get(chunk + 4 * i, 4);
            if (label >= r->header.n_classes)
                return rp_data_fail(r->source, 0, err, "damaged: label %llu of %u classes",
                                    (unsigned long long)label, (unsigned)r->header.n_classes);
            r->set->labels[first + i] = (int32_t)label;
        }
    }
    return RP_STATUS_OK;
}

/* The pixels once through the hash, so that a damaged file is found before it is trained on. */
static enum rp_status check_content(struct packed_reader *r, struct rp_error *err)
{
    uint8_t chunk[CHUNK];
    size_t got = CHUNK;
    while (got == CHUNK) {
        RP_TRY(rp_data_stream_read(r->stream, chunk, CHUNK, &got, err));
        rp_hasher_add(r->hasher, chunk, got);
    }
    struct rp_sha256 content = rp_hasher_finish(r->hasher);
    if (rp_sha256_equal(&content, &r->header.content)) return RP_STATUS_OK;
    return rp_data_fail(r->source, 0, err,
                        "damaged: its content has another SHA-256 than its header says; pack the "
                        "images again");
}

/* Numbers of the classes of this file become those of data.train, by name. */
static enum rp_status renumber(struct packed_reader *r, struct rp_error *err)
{
    const struct rp_data_source *source = r->source;
    int32_t *number = RP_NEW_ARRAY(int32_t, r->header.n_classes);
    enum rp_status status = RP_STATUS_OK;
    for (uint32_t i = 0; status == RP_STATUS_OK && i < r->header.n_classes; i++) {
        number[i] = -1;
        for (int64_t j = 0; j < source->n_class_names && number[i] < 0; j++)
            if (strcmp(source->class_names[j], r->set->class_names[i]) == 0) number[i] = (int32_t)j;
        if (number[i] < 0)
            status = rp_data_fail(source, 0, err, "its class `%s` does not occur in data.train",
                                  r->set->class_names[i]);
    }
    for (int64_t i = 0; status == RP_STATUS_OK && r->set->labels && i < r->set->n; i++)
        r->set->labels[i] = number[r->set->labels[i]];
    rp_mem_free(number);
    for (uint32_t i = 0; i < r->header.n_classes; i++) rp_mem_free(r->set->class_names[i]);
    rp_mem_free(r->set->class_names);
    r->set->class_names = NULL;
    r->set->n_classes = source->n_class_names;
    return status;
}

static enum rp_status read_header(struct packed_reader *r, struct rp_error *err)
{
    uint8_t bytes[PACKED_HEADER_BYTES];
    struct rp_data_set *set = r->set;
    RP_TRY(rp_data_stream_exact(r->stream, bytes, sizeof bytes, "the header", err));
    if (!packed_header_read(bytes, &r->header))
        return rp_data_fail(r->source, 0, err,
                            "no file of `reprise pack`: its first bytes are not %s", PACKED_MAGIC);
    RP_TRY(check_header(r->source, &r->header, err));
    if (r->hasher) rp_hasher_add(r->hasher, bytes, PACKED_HASHED_BYTES);
    set->n = (int64_t)r->header.n;
    set->is_u8 = true;
    set->target = RP_TARGET_CLASSES;
    set->n_classes = r->header.n_classes;
    rp_data_set_shape(set, 3, r->header.height, r->header.width, r->header.channels);
    return rp_data_stream_check_size(
        r->stream, r->header.pixels_at + (uint64_t)set->n * (uint64_t)set->row, err);
}

static enum rp_status read_all(struct packed_reader *r, struct rp_error *err)
{
    RP_TRY(read_header(r, err));
    RP_TRY(read_names(r, err));
    bool targets = !r->source->without_targets;
    if (!r->source->describe) {
        if (targets) RP_TRY(read_labels(r, err));
        RP_TRY(rp_data_stream_map(r->stream, &r->set->map, &r->set->map_bytes, err));
        r->set->u8 = (uint8_t *)r->set->map + r->header.pixels_at;
        if (r->hasher) RP_TRY(check_content(r, err));
    }
    return r->source->class_names && targets ? renumber(r, err) : RP_STATUS_OK;
}

enum rp_status rp_data_read_packed(struct rp_data_source *source, struct rp_data_set *set,
                                   struct rp_error *err)
{
    struct packed_reader r = {.source = source, .set = set};
    RP_TRY(rp_data_stream_open(source, 0, "file", false, &r.stream, err));
    if (rp_data_stream_hashes(r.stream)) r.hasher = rp_hasher_new();
    enum rp_status status = read_all(&r, err);
    rp_hasher_free(r.hasher);
    return rp_data_stream_end(r.stream, status, false, err);
}
