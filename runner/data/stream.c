/* stream.c - reading an input file: from the disk through SHA-256, and through zlib where it is
 * gzip. */
#include "data/stream.h"
#include "base/sys.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { BUFFER_BYTES = 1 << 16, GZIP_WINDOW = 15 + 16 };
/* Deflate never packs more than 1032 bytes into one (zlib's technical notes). */
enum { DEFLATE_MOST = 1032 };

struct rp_data_stream {
    struct rp_data_source *source;
    int index;
    char *key, *path; /* "data.train.images"; absolute */
    int fd;
    struct rp_sys_stat stat;  /* taken before the first byte was read */
    struct rp_hasher *hasher; /* NULL: the hash is known, or not wanted */
    struct rp_sha256 sha256;
    uint64_t n_raw, n_given; /* bytes read from the disk; bytes handed out */
    bool gzip, member_ended, at_end;
    z_stream zlib;
    size_t at, have; /* what is left of the buffer */
    unsigned char buffer[BUFFER_BYTES];
};

/* ---- from the disk --------------------------------------------------------------------------- */

static enum rp_status refill(struct rp_data_stream *stream, struct rp_error *err)
{
    RP_TRY(rp_sys_read(stream->fd, stream->buffer, BUFFER_BYTES, &stream->have, stream->path,
                       RP_STATUS_DATA, err));
    stream->at = 0;
    stream->n_raw += stream->have;
    stream->at_end = stream->have < BUFFER_BYTES;
    if (stream->hasher) rp_hasher_add(stream->hasher, stream->buffer, stream->have);
    const struct rp_data_options *options = stream->source->options;
    if (options) RP_TRY(rp_stop_look(options->stop, stream->path, err));
    if (options && options->progress && stream->stat.size > 0)
        options->progress(stream->key, (double)stream->n_raw / (double)stream->stat.size);
    return RP_STATUS_OK;
}

static const struct rp_data_known *find_known(const struct rp_data_stream *stream)
{
    const struct rp_data_options *options = stream->source->options;
    for (int i = 0; !options->rehash && i < options->n_known; i++) {
        const struct rp_data_known *known = &options->known[i];
        if (strcmp(known->path, stream->path) == 0 && known->size == stream->stat.size &&
            known->inode == stream->stat.inode && known->mtime_ns == stream->stat.mtime_ns)
            return known;
    }
    return NULL;
}

static enum rp_status open_file(struct rp_data_stream *stream, struct rp_error *err)
{
    struct rp_data_source *source = stream->source;
    const struct rp_spec_file *file = rp_data_source_file(source, stream->index);
    char *relative = rp_spec_path(source->spec, file->path);
    stream->path = rp_sys_absolute(relative);
    rp_mem_free(relative);
    RP_TRY(rp_sys_stat(stream->path, &stream->stat, err));
    if (!stream->stat.exists)
        return rp_spec_fail(source->spec, file->at, RP_STATUS_DATA, err, "there is no file %s (%s)",
                            stream->path,
                            file->path[0] == '/' ? "with --data DIR it is looked for by its name "
                                                   "in DIR too"
                                                 : "paths start at the folder of the spec, or at "
                                                   "--data DIR");
    if (!stream->stat.is_file)
        return rp_spec_fail(source->spec, file->at, RP_STATUS_DATA, err,
                            "%s is not a regular file: a folder, a pipe or a device cannot be a "
                            "data file",
                            stream->path);
    RP_TRY(rp_sys_open_read(stream->path, RP_STATUS_DATA, &stream->fd, err));
    if (source->describe) return RP_STATUS_OK;
    const struct rp_data_known *known = find_known(stream);
    if (known)
        stream->sha256 = known->sha256;
    else
        stream->hasher = rp_hasher_new();
    return RP_STATUS_OK;
}

static void free_stream(struct rp_data_stream *stream)
{
    if (stream->gzip) inflateEnd(&stream->zlib);
    rp_hasher_free(stream->hasher);
    rp_sys_close(stream->fd);
    rp_mem_free(stream->path);
    rp_mem_free(stream->key);
    rp_mem_free(stream);
}

enum rp_status rp_data_stream_open(struct rp_data_source *source, int index, const char *part,
                                   bool gzip, struct rp_data_stream **out, struct rp_error *err)
{
    enum rp_status status;
    struct rp_data_stream *stream = RP_NEW(struct rp_data_stream);
    stream->source = source;
    stream->index = index;
    stream->fd = -1;
    stream->key = rp_mem_text("%s.%s", source->key, part);
    RP_TRY_GOTO(status, open_file(stream, err), fail);
    RP_TRY_GOTO(status, refill(stream, err), fail);
    if (gzip && stream->have >= 2 && stream->buffer[0] == 0x1f && stream->buffer[1] == 0x8b)
        stream->gzip = inflateInit2(&stream->zlib, GZIP_WINDOW) == Z_OK;
    *out = stream;
    return RP_STATUS_OK;
fail:
    free_stream(stream);
    return status;
}

uint64_t rp_data_stream_size(const struct rp_data_stream *stream)
{
    return stream->stat.size;
}

bool rp_data_stream_hashes(const struct rp_data_stream *stream)
{
    return stream->hasher != NULL;
}

enum rp_status rp_data_stream_map(const struct rp_data_stream *stream, void **map, uint64_t *bytes,
                                  struct rp_error *err)
{
    RP_TRY(rp_sys_map(stream->fd, stream->stat.size, stream->path, map, err));
    *bytes = stream->stat.size;
    return RP_STATUS_OK;
}

/* ---- handing out bytes ----------------------------------------------------------------------- */

static enum rp_status read_plain(struct rp_data_stream *stream, unsigned char *bytes, size_t want,
                                 size_t *got, struct rp_error *err)
{
    *got = 0;
    while (*got < want) {
        if (stream->at == stream->have) {
            if (stream->at_end) break;
            RP_TRY(refill(stream, err));
            continue;
        }
        size_t n = stream->have - stream->at;
        if (n > want - *got) n = want - *got;
        memcpy(bytes + *got, stream->buffer + stream->at, n);
        stream->at += n;
        *got += n;
    }
    return RP_STATUS_OK;
}

/* One call of inflate on what the buffer holds. */
static enum rp_status inflate_once(struct rp_data_stream *stream, unsigned char *bytes, size_t want,
                                   size_t *got, struct rp_error *err)
{
    z_stream *zlib = &stream->zlib;
    if (stream->member_ended) {
        /* gzip files may be several in one. */
        inflateReset(zlib);
        stream->member_ended = false;
    }
    zlib->next_in = stream->buffer + stream->at;
    zlib->avail_in = (uInt)(stream->have - stream->at);
    zlib->next_out = bytes + *got;
    size_t room = want - *got > 1u << 30 ? 1u << 30 : want - *got;
    zlib->avail_out = (uInt)room;
    int code = inflate(zlib, Z_NO_FLUSH);
    stream->at = stream->have - zlib->avail_in;
    *got += room - zlib->avail_out;
    if (code == Z_STREAM_END) stream->member_ended = true;
    if (code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR) return RP_STATUS_OK;
    if (code == Z_MEM_ERROR)
        return rp_error_set(err, RP_STATUS_MEMORY, "%s: no memory to decompress; free some",
                            stream->path);
    return rp_data_fail(stream->source, stream->index, err,
                        "damaged gzip data near byte %llu (%s): fetch the file again",
                        (unsigned long long)(stream->n_raw - stream->have + stream->at),
                        zlib->msg ? zlib->msg : "unknown");
}

static enum rp_status read_gzip(struct rp_data_stream *stream, unsigned char *bytes, size_t want,
                                size_t *got, struct rp_error *err)
{
    *got = 0;
    while (*got < want) {
        if (stream->at == stream->have && !stream->at_end) {
            RP_TRY(refill(stream, err));
        } else if (stream->at == stream->have && stream->member_ended) {
            break;
        } else if (stream->at == stream->have && stream->zlib.avail_out != 0) {
            return rp_data_fail(stream->source, stream->index, err,
                                "the gzip data ends early, after %llu bytes: fetch the file again",
                                (unsigned long long)stream->n_raw);
        } else {
            RP_TRY(inflate_once(stream, bytes, want, got, err));
        }
    }
    return RP_STATUS_OK;
}

enum rp_status rp_data_stream_read(struct rp_data_stream *stream, void *bytes, size_t want,
                                   size_t *got, struct rp_error *err)
{
    RP_TRY(stream->gzip ? read_gzip(stream, bytes, want, got, err)
                        : read_plain(stream, bytes, want, got, err));
    stream->n_given += *got;
    return RP_STATUS_OK;
}

enum rp_status rp_data_stream_exact(struct rp_data_stream *stream, void *bytes, size_t want,
                                    const char *what, struct rp_error *err)
{
    size_t got;
    RP_TRY(rp_data_stream_read(stream, bytes, want, &got, err));
    if (got == want) return RP_STATUS_OK;
    return rp_data_fail(
        stream->source, stream->index, err, "ends within %s: expected %llu bytes%s, found %llu",
        what, (unsigned long long)(stream->n_given - got + want),
        stream->gzip ? " after decompression" : "", (unsigned long long)stream->n_given);
}

enum rp_status rp_data_stream_check_size(struct rp_data_stream *stream, uint64_t total,
                                         struct rp_error *err)
{
    uint64_t size = stream->stat.size;
    if (!stream->gzip && total != size)
        return rp_data_fail(stream->source, stream->index, err,
                            "its header promises %llu bytes in all, but the file has %llu",
                            (unsigned long long)total, (unsigned long long)size);
    if (stream->gzip && total / DEFLATE_MOST > size)
        return rp_data_fail(stream->source, stream->index, err,
                            "its header promises %llu bytes, more than %llu compressed bytes can "
                            "hold",
                            (unsigned long long)total, (unsigned long long)size);
    return RP_STATUS_OK;
}

/* ---- the end --------------------------------------------------------------------------------- */

static enum rp_status check_nothing_follows(struct rp_data_stream *stream, struct rp_error *err)
{
    unsigned char more[256];
    size_t got;
    uint64_t wanted = stream->n_given;
    RP_TRY(rp_data_stream_read(stream, more, sizeof more, &got, err));
    if (got == 0) return RP_STATUS_OK;
    return rp_data_fail(stream->source, stream->index, err, "expected %llu bytes%s, found more",
                        (unsigned long long)wanted, stream->gzip ? " after decompression" : "");
}

static enum rp_status check_hash(struct rp_data_stream *stream, enum rp_status status,
                                 struct rp_error *err)
{
    struct rp_data_source *source = stream->source;
    const struct rp_spec_file *file = rp_data_source_file(source, stream->index);
    if (!file->has_sha256 || rp_sha256_equal(&file->sha256, &stream->sha256)) return status;
    char want[RP_SHA256_HEX], got[RP_SHA256_HEX];
    rp_sha256_hex(&file->sha256, want);
    rp_sha256_hex(&stream->sha256, got);
    if (err) rp_error_clear(err);
    return rp_data_fail(
        source, stream->index, err,
        "its SHA-256 is not the one in the spec: expected %s, found %s; restore the file", want,
        got);
}

static void record_file(struct rp_data_stream *stream)
{
    struct rp_data_source *source = stream->source;
    source->files =
        rp_mem_grow(source->files, (size_t)(source->n_files + 1) * sizeof *source->files);
    source->files[source->n_files++] = (struct rp_data_file){.key = stream->key,
                                                             .path = stream->path,
                                                             .size = stream->stat.size,
                                                             .inode = stream->stat.inode,
                                                             .mtime_ns = stream->stat.mtime_ns,
                                                             .sha256 = stream->sha256};
    stream->key = NULL;
    stream->path = NULL;
}

enum rp_status rp_data_stream_end(struct rp_data_stream *stream, enum rp_status status, bool whole,
                                  struct rp_error *err)
{
    if (!stream) return status;
    if (status == RP_STATUS_OK && whole) status = check_nothing_follows(stream, err);
    if ((status == RP_STATUS_OK || status == RP_STATUS_DATA) && !stream->source->describe) {
        enum rp_status drained = RP_STATUS_OK;
        while (stream->hasher && !stream->at_end && drained == RP_STATUS_OK)
            drained = refill(stream, status == RP_STATUS_OK ? err : NULL);
        if (stream->hasher) stream->sha256 = rp_hasher_finish(stream->hasher);
        if (drained == RP_STATUS_OK)
            status = check_hash(stream, status, err);
        else if (status == RP_STATUS_OK)
            status = drained;
    }
    if (status == RP_STATUS_OK && !stream->source->describe) record_file(stream);
    free_stream(stream);
    return status;
}

enum rp_status rp_data_read_whole(struct rp_data_source *source, int index, const char *part,
                                  char **bytes, size_t *length, struct rp_error *err)
{
    struct rp_data_stream *stream = NULL;
    RP_TRY(rp_data_stream_open(source, index, part, false, &stream, err));
    enum rp_status status = RP_STATUS_OK;
    size_t size = (size_t)rp_data_stream_size(stream);
    char *block = rp_mem_try(size + 1);
    if (!block)
        status = rp_error_set(
            err, RP_STATUS_MEMORY,
            "%s: %llu bytes do not fit into memory; take a machine with more, or less data",
            stream->path, (unsigned long long)size);
    else
        status = rp_data_stream_exact(stream, block, size, "its text", err);
    status = rp_data_stream_end(stream, status, true, err);
    if (status != RP_STATUS_OK) {
        rp_mem_free(block);
        return status;
    }
    block[size] = '\0';
    *bytes = block;
    *length = size;
    return RP_STATUS_OK;
}
