/* safetensors_write.c - eight bytes of header length, a JSON header, the tensors one after another.
 */
#include "checkpoint/checkpoint.h"

#include "base/sys.h"

#include <string.h>

enum { BLOCK = 1 << 20, ALIGN = 64 };

static enum rp_status build_header(const char *path, const struct rp_st_tensor *tensors, int n,
                                   const char *const *metadata, struct rp_text *header,
                                   struct rp_error *err)
{
    uint64_t offset = 0;
    const char *comma = "";
    rp_text_add(header, "{");
    if (metadata && metadata[0]) {
        rp_text_add(header, "\"__metadata__\":{");
        for (int i = 0; metadata[i]; i += 2) {
            rp_text_add(header, "%s", i ? "," : "");
            rp_text_add_json(header, metadata[i]);
            rp_text_add(header, ":");
            rp_text_add_json(header, metadata[i + 1]);
        }
        rp_text_add(header, "}");
        comma = ",";
    }
    for (int i = 0; i < n; i++) {
        const struct rp_tensor *shape = &tensors[i].shape;
        if (shape->dtype != RP_DTYPE_F32)
            return rp_error_set(err, RP_STATUS_INTERNAL, "%s: tensor %s is not F32",
                                path ? path : "a hash", tensors[i].name);
        uint64_t bytes = rp_tensor_bytes(shape);
        rp_text_add(header, "%s", comma);
        rp_text_add_json(header, tensors[i].name);
        rp_text_add(header, ":{\"dtype\":\"F32\",\"shape\":[");
        for (int d = 0; d < shape->n_dims; d++)
            rp_text_add(header, "%s%lld", d ? "," : "", (long long)shape->dims[d]);
        rp_text_add(header, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)offset,
                    (unsigned long long)(offset + bytes));
        offset += bytes;
        comma = ",";
    }
    rp_text_add(header, "}");
    /* The format asks for spaces up to a multiple of 8; a multiple of 64 with the length in front
     * puts the first tensor on a cache line when a reader maps the file. */
    while ((header->length + 8) % ALIGN) rp_text_add_bytes(header, " ", 1);
    return RP_STATUS_OK;
}

/* Bytes on their way to a file: hashed, gathered into blocks, written when a block is full. */
struct stream {
    int fd;
    const char *path;
    unsigned char *block;
    size_t used;
    struct rp_hasher *file;
};

static enum rp_status stream_flush(struct stream *stream, struct rp_error *err)
{
    rp_hasher_add(stream->file, stream->block, stream->used);
    if (stream->path)
        RP_TRY(rp_sys_write(stream->fd, stream->block, stream->used, stream->path, err));
    stream->used = 0;
    return RP_STATUS_OK;
}

static enum rp_status stream_put(struct stream *stream, const void *bytes, size_t length,
                                 struct rp_hasher *also, struct rp_error *err)
{
    const unsigned char *at = bytes;
    while (length) {
        size_t part = BLOCK - stream->used < length ? BLOCK - stream->used : length;
        if (also) rp_hasher_add(also, at, part);
        memcpy(stream->block + stream->used, at, part);
        stream->used += part;
        at += part;
        length -= part;
        if (stream->used == BLOCK) RP_TRY(stream_flush(stream, err));
    }
    return RP_STATUS_OK;
}

static enum rp_status put_tensor(struct stream *stream, const struct rp_st_tensor *tensor,
                                 const struct rp_st_source *source, struct rp_sha256 *hash,
                                 struct rp_error *err)
{
    const void *bytes = source ? source->take(source->context, tensor) : tensor->shape.data;
    struct rp_hasher *hasher = hash ? rp_hasher_new() : NULL;
    enum rp_status status = stream_put(stream, bytes, rp_tensor_bytes(&tensor->shape), hasher, err);
    if (hash && status == RP_STATUS_OK) *hash = rp_hasher_finish(hasher);
    rp_hasher_free(hasher);
    return status;
}

enum rp_status rp_st_write(const char *path, const struct rp_st_tensor *tensors, int n,
                           const struct rp_st_source *source, const char *const *metadata,
                           struct rp_sha256 *tensor_hash, struct rp_sha256 *file_hash,
                           struct rp_error *err)
{
    struct rp_text header = {0};
    struct stream stream = {.fd = -1, .path = path};
    unsigned char length[8];
    enum rp_status status = RP_STATUS_OK;

    RP_TRY_GOTO(status, build_header(path, tensors, n, metadata, &header, err), out);
    stream.block = rp_mem_try(BLOCK);
    if (!stream.block) {
        status = rp_error_set(err, RP_STATUS_MEMORY, "no memory for a block to write tensors with");
        goto out;
    }
    stream.file = rp_hasher_new();
    if (path) RP_TRY_GOTO(status, rp_sys_create(path, &stream.fd, err), out);
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header.length >> (8 * i));
    RP_TRY_GOTO(status, stream_put(&stream, length, sizeof length, NULL, err), out);
    RP_TRY_GOTO(status, stream_put(&stream, header.bytes, header.length, NULL, err), out);
    for (int i = 0; i < n; i++)
        RP_TRY_GOTO(
            status,
            put_tensor(&stream, &tensors[i], source, tensor_hash ? &tensor_hash[i] : NULL, err),
            out);
    if (source) source->take(source->context, NULL);
    RP_TRY_GOTO(status, stream_flush(&stream, err), out);
    if (path) RP_TRY_GOTO(status, rp_sys_sync(stream.fd, path, err), out);
    if (file_hash) *file_hash = rp_hasher_finish(stream.file);
out:
    rp_sys_close(stream.fd);
    rp_hasher_free(stream.file);
    rp_mem_free(stream.block);
    rp_text_release(&header);
    return status;
}
