/* tokenize_write.c - tokens to files with the header of llm.c, which appear whole or not at all. */
#include "data/tokenize_int.h"

#include "base/sys.h"

#include <string.h>

enum {
    HEADER_BYTES = 1024,
    MAGIC_16 = 20240520,
    VERSION_16 = 1,
    MAGIC_32 = 20240801,
    VERSION_32 = 7,
    BLOCK_TOKENS = 1 << 14,
};

/* ---- names ----------------------------------------------------------------------------------- */

char *writer_path(const struct rp_tokenize_options *options, int64_t i)
{
    const char *out = options->out, *slash = strrchr(out, '/');
    const char *name = slash ? slash + 1 : out, *dot = strrchr(name, '.');
    if (options->shard_tokens == 0) return rp_mem_copy_text(out);
    int stem = dot && dot > name ? (int)(dot - out) : (int)strlen(out);
    return rp_mem_text("%.*s_%06lld%s", stem, out, (long long)i, out + stem);
}

static char *temp_path(const char *path)
{
    return rp_mem_text("%s.tmp.%d", path, rp_sys_pid());
}

enum rp_status writer_open(struct writer *writer, const struct rp_tokenize_options *options,
                           struct rp_tokenize_result *result, struct rp_error *err)
{
    struct rp_sys_stat stat;
    char *path = writer_path(options, 0);
    *writer = (struct writer){
        .options = options, .result = result, .width = result->token_bytes, .fd = -1};
    writer->folder = rp_sys_folder_of(options->out);
    enum rp_status status = rp_sys_stat(path, &stat, err);
    if (status == RP_STATUS_OK && stat.exists && !stat.is_file)
        status = rp_error_set(err, RP_STATUS_USAGE, "--out %s is there and is no file", path);
    else if (status == RP_STATUS_OK && stat.exists && !options->force)
        status = rp_error_set(err, RP_STATUS_USAGE,
                              "%s is there already: another --out, or --force to replace it", path);
    rp_mem_free(path);
    return status;
}

/* ---- one file -------------------------------------------------------------------------------- */

static void put32(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) at[i] = (unsigned char)(value >> 8 * i);
}

static struct rp_tokenize_file *last_file(const struct writer *writer)
{
    return &writer->result->file[writer->result->n_files - 1];
}

static enum rp_status begin_file(struct writer *writer, struct rp_error *err)
{
    static const unsigned char empty[HEADER_BYTES];
    struct rp_tokenize_result *result = writer->result;
    result->file = rp_mem_grow(result->file, ((size_t)result->n_files + 1) * sizeof *result->file);
    result->file[result->n_files] =
        (struct rp_tokenize_file){.path = writer_path(writer->options, result->n_files)};
    result->n_files++;
    rp_mem_free(writer->temp);
    writer->temp = temp_path(last_file(writer)->path);
    RP_TRY(rp_sys_create(writer->temp, &writer->fd, err));
    return rp_sys_write(writer->fd, empty, sizeof empty, writer->temp, err);
}

/* The header is known at last; the file's hash too. */
static enum rp_status end_file(struct writer *writer, struct rp_error *err)
{
    struct rp_tokenize_file *file = last_file(writer);
    unsigned char header[12];
    put32(header, writer->width == 2 ? MAGIC_16 : MAGIC_32);
    put32(header + 4, writer->width == 2 ? VERSION_16 : VERSION_32);
    put32(header + 8, (uint32_t)file->tokens);
    RP_TRY(rp_sys_write_at(writer->fd, 0, header, sizeof header, writer->temp, err));
    RP_TRY(rp_sys_sync(writer->fd, writer->temp, err));
    rp_sys_close(writer->fd);
    writer->fd = -1;
    return rp_sha256_of_file(writer->temp, &file->sha256, NULL, err);
}

static enum rp_status write_block(struct writer *writer, const int32_t *id, int64_t n,
                                  struct rp_error *err)
{
    unsigned char block[BLOCK_TOKENS * 4];
    size_t width = (size_t)writer->width;
    for (int64_t i = 0; i < n; i++)
        for (size_t k = 0; k < width; k++)
            block[(size_t)i * width + k] = (unsigned char)((uint32_t)id[i] >> 8 * k);
    return rp_sys_write(writer->fd, block, (size_t)n * width, writer->temp, err);
}

enum rp_status writer_add(struct writer *writer, const int32_t *id, int64_t n, struct rp_error *err)
{
    int64_t shard = writer->options->shard_tokens, most = shard ? shard : INT32_MAX;
    while (n > 0) {
        if (writer->fd < 0) RP_TRY(begin_file(writer, err));
        struct rp_tokenize_file *file = last_file(writer);
        int64_t part = n < BLOCK_TOKENS ? n : BLOCK_TOKENS;
        if (part > most - file->tokens) part = most - file->tokens;
        if (part == 0)
            return rp_error_set(err, RP_STATUS_USAGE,
                                "more than %d tokens, the most that one file can hold: cut them "
                                "into several with --shard-tokens 100M",
                                INT32_MAX);
        RP_TRY(write_block(writer, id, part, err));
        file->tokens += part;
        writer->result->tokens += part;
        id += part;
        n -= part;
        if (shard && file->tokens == shard) RP_TRY(end_file(writer, err));
    }
    return RP_STATUS_OK;
}

/* ---- all files ------------------------------------------------------------------------------- */

/* Files of an earlier, longer output would be read with these. */
static enum rp_status remove_later(const struct writer *writer, struct rp_error *err)
{
    struct rp_sys_stat stat = {.exists = writer->options->shard_tokens > 0};
    for (int64_t i = writer->result->n_files; stat.exists; i++) {
        char *path = writer_path(writer->options, i);
        enum rp_status status = rp_sys_stat(path, &stat, err);
        if (status == RP_STATUS_OK && stat.exists) status = rp_sys_remove(path, err);
        rp_mem_free(path);
        RP_TRY(status);
    }
    return RP_STATUS_OK;
}

enum rp_status writer_commit(struct writer *writer, struct rp_error *err)
{
    if (writer->fd >= 0) RP_TRY(end_file(writer, err));
    for (int i = 0; i < writer->result->n_files; i++) {
        char *temp = temp_path(writer->result->file[i].path);
        enum rp_status status = rp_sys_rename(temp, writer->result->file[i].path, err);
        rp_mem_free(temp);
        RP_TRY(status);
    }
    RP_TRY(remove_later(writer, err));
    return rp_sys_sync_folder(writer->folder, err);
}

void writer_release(struct writer *writer)
{
    rp_sys_close(writer->fd);
    for (int i = 0; writer->result && i < writer->result->n_files; i++) {
        char *temp = temp_path(writer->result->file[i].path);
        if (rp_sys_remove(temp, NULL) != RP_STATUS_OK) writer->fd = -1; /* nothing can be done */
        rp_mem_free(temp);
    }
    rp_mem_free(writer->temp);
    rp_mem_free(writer->folder);
    *writer = (struct writer){.fd = -1};
}
