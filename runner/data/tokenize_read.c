/* tokenize_read.c - which files are read, and in which pieces. */
#include "data/tokenize_int.h"

#include "data/folder.h"

#include "base/sys.h"

#include <string.h>

enum {
    CHUNK_BYTES = 1 << 20,
    WINDOW_BYTES = 1 << 14, /* at the end of a chunk: where a place to cut is looked for first */
    CHUNK_MOST = 1 << 30,
};

/* ---- inputs ---------------------------------------------------------------------------------- */

static void add_input(struct reader *reader, const char *path, uint64_t size, bool lines)
{
    size_t n = (size_t)reader->n_inputs;
    if ((n & (n - 1)) == 0)
        reader->input = rp_mem_grow(reader->input, (n ? 2 * n : 1) * sizeof *reader->input);
    reader->input[reader->n_inputs++] = (struct input){rp_mem_copy_text(path), size, lines};
    reader->total += size;
}

static enum rp_status add_folder(struct reader *reader, const char *folder, bool only_lines,
                                 struct rp_error *err)
{
    struct rp_folder found;
    struct rp_error why = {0};
    enum rp_status status = rp_folder_list(folder, only_lines ? ".jsonl" : NULL, &found, &why);
    if (status != RP_STATUS_OK)
        status = rp_error_set(err, status, "%s: %s", folder, why.text);
    else if (found.n == 0)
        status = rp_error_set(err, RP_STATUS_DATA, "%s: the folder holds no %s", folder,
                              only_lines ? ".jsonl file" : "file");
    for (int i = 0; i < found.n && status == RP_STATUS_OK; i++) {
        struct rp_sys_stat stat;
        char *path = rp_sys_join(folder, found.file[i]);
        status = rp_sys_stat(path, &stat, err);
        if (status == RP_STATUS_OK)
            add_input(reader, path, stat.size, rp_text_ends(path, ".jsonl"));
        rp_mem_free(path);
    }
    rp_folder_release(&found);
    return status;
}

static enum rp_status add_path(struct reader *reader, const char *path, bool all_lines,
                               struct rp_error *err)
{
    struct rp_sys_stat stat;
    RP_TRY(rp_sys_stat(path, &stat, err));
    if (!stat.exists) return rp_error_set(err, RP_STATUS_DATA, "%s: no such file or folder", path);
    if (stat.is_folder) return add_folder(reader, path, all_lines, err);
    add_input(reader, path, stat.size, all_lines || rp_text_ends(path, ".jsonl"));
    return RP_STATUS_OK;
}

enum rp_status reader_open(struct reader *reader, const struct rp_tokenize_options *options,
                           const struct rp_bpe *bpe, struct rp_error *err)
{
    *reader = (struct reader){.bpe = bpe, .fd = -1};
    for (int i = 0; i < options->n_inputs; i++)
        RP_TRY(add_path(reader, options->input[i], options->field != NULL, err));
    return RP_STATUS_OK;
}

void reader_release(struct reader *reader)
{
    for (int i = 0; i < reader->n_inputs; i++) rp_mem_free(reader->input[i].path);
    rp_mem_free(reader->input);
    rp_mem_free(reader->rest.at);
    rp_sys_close(reader->fd);
    *reader = (struct reader){.fd = -1};
}

/* ---- chunks ---------------------------------------------------------------------------------- */

/* Reads on until `rest` has `wanted` bytes or the file ends. */
static enum rp_status fill(struct reader *reader, size_t wanted, struct rp_error *err)
{
    struct bytes *rest = &reader->rest;
    size_t got = 0;
    if (reader->ended || rest->n >= wanted) return RP_STATUS_OK;
    if (rest->room < wanted) {
        rest->at = rp_mem_grow(rest->at, wanted);
        rest->room = wanted;
    }
    const char *path = reader->input[reader->next - 1].path;
    enum rp_status status = rp_sys_read(reader->fd, rest->at + rest->n, wanted - rest->n, &got,
                                        path, RP_STATUS_DATA, err);
    reader->ended = rest->n + got < wanted;
    rest->n += got;
    reader->done += got;
    return status;
}

/* Where the first chunk of `rest` ends; 0: more has to be read. */
static size_t find_end(const struct reader *reader, bool lines)
{
    const struct bytes *rest = &reader->rest;
    if (reader->ended) return rest->n;
    if (lines) {
        const char *last = memrchr(rest->at, '\n', rest->n);
        return last ? (size_t)(last - rest->at) + 1 : 0;
    }
    size_t end = rest->n, next;
    for (size_t window = WINDOW_BYTES; end == rest->n; window *= 2) {
        size_t from = rest->n > window ? rest->n - window : 0;
        end = rp_bpe_cut(reader->bpe, rest->at, rest->n, from, true);
        if (from == 0) break;
    }
    if (end == rest->n) return 0;
    /* The last of them: were it the first, a long stretch without one would be looked through again
     * for each that stands before it. */
    while ((next = rp_bpe_cut(reader->bpe, rest->at, rest->n, end, true)) < rest->n) end = next;
    return end;
}

/* The first `end` bytes of `rest` become the chunk's; what is left moves to the chunk's old memory,
 * which the reader keeps. */
static void give(struct reader *reader, struct chunk *chunk, size_t end)
{
    struct bytes *rest = &reader->rest, *text = &chunk->text;
    struct bytes old = *text;
    *text = (struct bytes){rest->at, end, rest->room};
    size_t left = rest->n - end;
    if (old.room < left) {
        old.at = rp_mem_grow(old.at, left);
        old.room = left;
    }
    if (left) memcpy(old.at, text->at + end, left);
    *rest = (struct bytes){old.at, left, old.room};
}

static enum rp_status read_chunk(struct reader *reader, struct chunk *chunk, struct rp_error *err)
{
    const struct input *input = &reader->input[reader->next - 1];
    size_t end = 0;
    for (size_t wanted = CHUNK_BYTES; end == 0; wanted *= 2) {
        if (wanted > CHUNK_MOST)
            return rp_error_set(err, RP_STATUS_DATA, "%s: %s of more than %d bytes", input->path,
                                input->lines ? "a line" : "a word", CHUNK_MOST / 2);
        RP_TRY(fill(reader, wanted, err));
        if (reader->ended && reader->rest.n == 0) break;
        end = find_end(reader, input->lines);
    }
    give(reader, chunk, end);
    chunk->input = input;
    chunk->line = reader->line;
    chunk->begins = reader->begins || input->lines;
    for (const char *at = chunk->text.at, *stop = at + end;
         input->lines && (at = memchr(at, '\n', (size_t)(stop - at))) != NULL; at++)
        reader->line++;
    return RP_STATUS_OK;
}

/* The next input is open, or there is none any more. */
static enum rp_status open_next(struct reader *reader, struct rp_error *err)
{
    const struct input *input = &reader->input[reader->next++];
    reader->begins = true;
    reader->ended = false;
    reader->line = 1;
    reader->rest.n = 0;
    return rp_sys_open_read(input->path, RP_STATUS_DATA, &reader->fd, err);
}

bool reader_next(struct reader *reader, struct chunk *chunk)
{
    chunk->status = RP_STATUS_OK;
    if (reader->fd < 0 && reader->next == reader->n_inputs) return false;
    if (reader->fd < 0) chunk->status = open_next(reader, chunk->err);
    if (chunk->status == RP_STATUS_OK) chunk->status = read_chunk(reader, chunk, chunk->err);
    reader->begins = false;
    if (chunk->status == RP_STATUS_OK && !(reader->ended && reader->rest.n == 0)) return true;
    rp_sys_close(reader->fd);
    reader->fd = -1;
    return true;
}
