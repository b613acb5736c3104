/* tokenize.c - texts to files of tokens, by as many threads as are wanted. A thread takes the next
 * chunk, encodes it, and waits for its turn to write: at most a chunk a thread is in memory, the
 * order of the file is that of the text, and so is the order of errors. */
#include "data/tokenize_int.h"

#include "base/log.h"
#include "base/sys.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { THREADS_MOST = 256 };

struct tokenizer {
    const struct rp_tokenize_options *options;
    struct rp_tokenize_result *result;
    struct chunk_form form;
    struct reader reader; /* under `reading` */
    uint64_t taken;       /* chunks given out, under `reading` */
    struct writer writer; /* under `writing`, as is what follows */
    uint64_t turn;        /* the chunk to be written next */
    enum rp_status status;
    struct rp_error *err;
    bool told;          /* of bytes that text does not have */
    atomic_bool failed; /* no more chunks are given out */
    pthread_mutex_t reading, writing;
    pthread_cond_t turned;
};

/* ---- threads --------------------------------------------------------------------------------- */

static bool take_chunk(struct tokenizer *t, struct chunk *chunk, uint64_t *number, uint64_t *done)
{
    pthread_mutex_lock(&t->reading);
    bool stopped = rp_stop_asked(t->options->stop);
    bool taken = !stopped && !atomic_load(&t->failed) && reader_next(&t->reader, chunk);
    if (taken) *number = t->taken++;
    *done = t->reader.done;
    pthread_mutex_unlock(&t->reading);
    return taken;
}

static enum rp_status write_chunk(struct tokenizer *t, const struct chunk *chunk)
{
    struct rp_tokenize_result *result = t->result;
    if (chunk->status != RP_STATUS_OK)
        return rp_error_set(t->err, chunk->status, "%s", chunk->err->text);
    if (chunk->odd && !t->told)
        rp_log_warning("%s: not all of it is UTF-8 (or there are bytes of 0), and its bytes are "
                       "taken as they are: is it text? A data set of text is refused for it",
                       chunk->input->path);
    t->told |= chunk->odd;
    if (chunk->begins && chunk->tokens.n && result->tokens)
        RP_TRY(writer_add(&t->writer, &t->form.end_of_text, 1, t->err));
    result->documents += chunk->documents;
    result->n_empty += chunk->n_empty;
    result->text_bytes += chunk->text_bytes;
    return writer_add(&t->writer, chunk->tokens.id, chunk->tokens.n, t->err);
}

/* Every chunk has its turn, even when it is not written any more. */
static void write_in_turn(struct tokenizer *t, const struct chunk *chunk, uint64_t number)
{
    pthread_mutex_lock(&t->writing);
    while (t->turn != number) pthread_cond_wait(&t->turned, &t->writing);
    if (t->status == RP_STATUS_OK) t->status = write_chunk(t, chunk);
    if (t->status != RP_STATUS_OK) atomic_store(&t->failed, true);
    t->turn++;
    pthread_cond_broadcast(&t->turned);
    pthread_mutex_unlock(&t->writing);
}

static void run_worker(struct tokenizer *t, bool reports)
{
    struct chunk chunk = {.err = RP_NEW(struct rp_error)};
    uint64_t number, done;
    double last = rp_sys_clock();
    while (take_chunk(t, &chunk, &number, &done)) {
        chunk_encode(&t->form, &chunk);
        write_in_turn(t, &chunk, number);
        if (!reports || !t->options->progress || rp_sys_clock() - last < 0.1) continue;
        last = rp_sys_clock();
        t->options->progress(done, t->reader.total);
    }
    rp_tokens_release(&chunk.tokens);
    rp_mem_free(chunk.text.at);
    rp_mem_free(chunk.err);
}

static void *start_worker(void *argument)
{
    run_worker(argument, false);
    return NULL;
}

static enum rp_status run_workers(struct tokenizer *t)
{
    pthread_t thread[THREADS_MOST];
    int n = 0, wanted = t->options->threads < THREADS_MOST ? t->options->threads : THREADS_MOST;
    while (n + 1 < wanted && pthread_create(&thread[n], NULL, start_worker, t) == 0) n++;
    run_worker(t, true);
    for (int i = 0; i < n; i++) pthread_join(thread[i], NULL);
    if (t->status == RP_STATUS_OK && rp_stop_asked(t->options->stop))
        return rp_error_set(t->err, RP_STATUS_STOPPED, "stopped by a signal; nothing was written");
    return t->status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Several documents need something between them. */
static enum rp_status choose_end(struct tokenizer *t, struct rp_error *err)
{
    const char *name = t->options->end_of_text;
    const struct rp_bpe *bpe = t->form.bpe;
    bool several = t->reader.n_inputs > 1 || t->reader.input[0].lines;
    t->form.end_of_text = name ? rp_bpe_find(bpe, name, strlen(name)) : rp_bpe_end_of_text(bpe);
    if (t->form.end_of_text >= 0) return RP_STATUS_OK;
    if (name)
        return rp_error_set(err, RP_STATUS_USAGE, "--end-of-text %s: %s has no such token", name,
                            t->options->tokenizer);
    if (!several) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_DATA,
                        "%s has none of <|endoftext|>, <|end_of_text|> and </s> to stand between "
                        "documents: name its token with --end-of-text",
                        t->options->tokenizer);
}

static enum rp_status check_input(const struct tokenizer *t, const struct rp_sys_stat *out,
                                  const char *path, struct rp_error *err)
{
    struct rp_sys_stat in;
    for (int i = 0; i < t->reader.n_inputs; i++) {
        RP_TRY(rp_sys_stat(t->reader.input[i].path, &in, err));
        if (in.inode == out->inode && in.device == out->device)
            return rp_error_set(err, RP_STATUS_USAGE,
                                "%s is an input, and --out would replace it: write elsewhere",
                                path);
    }
    return RP_STATUS_OK;
}

/* An earlier output must not become part of the text. */
static enum rp_status check_inputs(const struct tokenizer *t, struct rp_error *err)
{
    struct rp_sys_stat out = {.exists = true};
    for (int64_t i = 0; out.exists; i++) {
        char *path = writer_path(t->options, i);
        enum rp_status status = rp_sys_stat(path, &out, err);
        if (status == RP_STATUS_OK && out.exists) status = check_input(t, &out, path, err);
        rp_mem_free(path);
        RP_TRY(status);
        if (t->options->shard_tokens == 0) break;
    }
    return RP_STATUS_OK;
}

static enum rp_status tokenize(struct tokenizer *t, struct rp_bpe **bpe, struct rp_error *err)
{
    struct rp_tokenize_result *result = t->result;
    RP_TRY(rp_bpe_open(t->options->tokenizer, bpe, err));
    t->form = (struct chunk_form){*bpe, -1, t->options->field ? t->options->field : "text"};
    result->vocabulary = rp_bpe_size(*bpe);
    result->token_bytes = result->vocabulary > 1 << 16 ? 4 : 2;
    RP_TRY(reader_open(&t->reader, t->options, *bpe, err));
    result->n_inputs = t->reader.n_inputs;
    RP_TRY(choose_end(t, err));
    RP_TRY(check_inputs(t, err));
    RP_TRY(writer_open(&t->writer, t->options, result, err));
    RP_TRY(run_workers(t));
    if (result->tokens == 0)
        return rp_error_set(err, RP_STATUS_DATA, "%s: there is no text in it",
                            t->options->input[0]);
    return writer_commit(&t->writer, err);
}

enum rp_status rp_data_tokenize(const struct rp_tokenize_options *options,
                                struct rp_tokenize_result *result, struct rp_error *err)
{
    struct tokenizer *t = RP_NEW(struct tokenizer);
    struct rp_bpe *bpe = NULL;
    *result = (struct rp_tokenize_result){0};
    t->options = options;
    t->result = result;
    t->err = err;
    t->reader.fd = t->writer.fd = -1;
    pthread_mutex_init(&t->reading, NULL);
    pthread_mutex_init(&t->writing, NULL);
    pthread_cond_init(&t->turned, NULL);
    enum rp_status status = tokenize(t, &bpe, err);
    pthread_cond_destroy(&t->turned);
    pthread_mutex_destroy(&t->writing);
    pthread_mutex_destroy(&t->reading);
    writer_release(&t->writer);
    reader_release(&t->reader);
    rp_bpe_free(bpe);
    rp_mem_free(t);
    return status;
}

void rp_tokenize_result_release(struct rp_tokenize_result *result)
{
    for (int i = 0; i < result->n_files; i++) rp_mem_free(result->file[i].path);
    rp_mem_free(result->file);
    *result = (struct rp_tokenize_result){0};
}
