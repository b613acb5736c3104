/* record.c - appending to metrics.jsonl and digests.jsonl, and checking recomputed steps against
 * the second. */
#include "record/record_int.h"

#include "base/log.h"
#include "base/number.h"
#include "base/sys.h"

#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <string.h>

/* Digest lines wait for company until there are this many bytes, or this long. */
enum { GROUP_BYTES = 1 << 16 };
static const double GROUP_SECONDS = 0.2;

/* One log: what is in the file, and what is on its way there. */
struct log {
    char *path;
    int fd;
    uint64_t length; /* of the file, all of it whole lines */
    struct rp_text waiting;
};

/* A line that an earlier process wrote behind the checkpoint. */
struct kept {
    struct rp_digest_line line;
    uint64_t end; /* offset in the file */
    char *tensors;
};

struct rp_record {
    struct log metrics, digests;
    struct kept *kept;
    size_t n_kept, next_kept;
    uint64_t position;      /* end of the digest line of the last step given */
    struct rp_sha256 chain; /* of that line */
    uint64_t last_step, checked;
    bool has_last;
    double flushed_at;
    pthread_mutex_t mutex;
};

/* ---- a log ----------------------------------------------------------------------------------- */

/* Cut to `bytes` and open for appending. */
static enum rp_status log_open(struct log *log, const char *run, const char *name, uint64_t bytes,
                               struct rp_error *err)
{
    struct rp_sys_stat stat;
    log->path = rp_sys_join(run, name);
    RP_TRY(rp_sys_open_append(log->path, &log->fd, err));
    RP_TRY(rp_sys_stat(log->path, &stat, err));
    if (stat.size < bytes)
        return rp_error_set(
            err, RP_STATUS_DATA,
            "%s has %" PRIu64 " bytes, but %" PRIu64
            " when the checkpoint was made; restore it, or start again with --fresh",
            log->path, stat.size, bytes);
    if (stat.size > bytes) RP_TRY(rp_sys_truncate(log->path, bytes, err));
    log->length = bytes;
    return RP_STATUS_OK;
}

static enum rp_status log_flush(struct log *log, struct rp_error *err)
{
    if (!log->waiting.length) return RP_STATUS_OK;
    enum rp_status status =
        rp_sys_write(log->fd, log->waiting.bytes, log->waiting.length, log->path, err);
    if (status == RP_STATUS_OK) {
        log->length += log->waiting.length;
        log->waiting.length = 0;
    } else {
        /* Half a line may be in the file: off with it, so that it ends in a whole one. */
        enum rp_status ignored = rp_sys_truncate(log->path, log->length, NULL);
        (void)ignored;
    }
    return status;
}

static void log_close(struct log *log)
{
    rp_sys_close(log->fd);
    rp_mem_free(log->path);
    rp_text_release(&log->waiting);
}

/* ---- opening: what stands behind the checkpoint ---------------------------------------------- */

/* The line that ends at `end` must carry the checkpoint's chain. */
static bool chain_fits(const char *bytes, uint64_t end, const struct rp_sha256 *chain,
                       uint64_t *step)
{
    struct rp_digest_line line;
    uint64_t start = end - 1;
    if (bytes[end - 1] != '\n') return false;
    while (start > 0 && bytes[start - 1] != '\n') start--;
    if (!rp_digest_line_parse(bytes + start, (size_t)(end - 1 - start), &line, NULL)) return false;
    *step = line.step;
    return rp_sha256_equal(&line.chain, chain);
}

/* Takes the whole, linked lines from `at` on; returns where they end. */
static uint64_t keep_lines(struct rp_record *record, const char *bytes, uint64_t at,
                           uint64_t length)
{
    struct rp_sha256 chain = record->chain;
    uint64_t step = record->last_step;
    bool has_step = record->has_last;
    size_t capacity = 0;
    for (;;) {
        const char *newline = memchr(bytes + at, '\n', (size_t)(length - at));
        struct kept kept = {0};
        if (!newline) break;
        size_t line_length = (size_t)(newline - (bytes + at));
        if (!rp_digest_line_parse(bytes + at, line_length, &kept.line, &kept.tensors)) break;
        struct rp_sha256 link =
            rp_record_link(&chain, kept.line.step, kept.line.loss_bits, kept.line.params);
        if (!rp_sha256_equal(&link, &kept.line.chain) || (has_step && kept.line.step != step + 1)) {
            rp_mem_free(kept.tensors);
            break;
        }
        at += line_length + 1;
        kept.end = at;
        if (record->n_kept == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            record->kept = rp_mem_grow(record->kept, capacity * sizeof *record->kept);
        }
        record->kept[record->n_kept++] = kept;
        chain = link;
        step = kept.line.step;
        has_step = true;
    }
    return at;
}

static enum rp_status read_digests(struct rp_record *record, const char *path,
                                   uint64_t digests_bytes, uint64_t *good_bytes,
                                   struct rp_error *err)
{
    struct rp_sys_stat stat;
    char *bytes = NULL;
    size_t length = 0;
    enum rp_status status = RP_STATUS_OK;
    *good_bytes = digests_bytes;
    RP_TRY(rp_sys_stat(path, &stat, err));
    if (!stat.exists || stat.size < digests_bytes)
        return RP_STATUS_OK; /* log_open says what is wrong */
    RP_TRY(rp_sys_read_file(path, RP_RECORD_MAX_LOG, RP_STATUS_DATA, &bytes, &length, err));
    if (digests_bytes) {
        record->has_last = true;
        if (!chain_fits(bytes, digests_bytes, &record->chain, &record->last_step))
            status = rp_error_set(
                err, RP_STATUS_DATA,
                "%s: the line at byte %" PRIu64
                " has not the chain of the checkpoint; restore it, or start again with "
                "--fresh",
                path, digests_bytes);
    }
    if (status == RP_STATUS_OK) {
        *good_bytes = keep_lines(record, bytes, digests_bytes, length);
        if (*good_bytes < length && memchr(bytes + *good_bytes, '\n', length - *good_bytes))
            rp_log_warning("%s: damaged from byte %" PRIu64 " on, behind the checkpoint: cut there",
                           path, *good_bytes);
    }
    rp_mem_free(bytes);
    return status;
}

enum rp_status rp_record_open(const char *run, uint64_t metrics_bytes, uint64_t digests_bytes,
                              const struct rp_sha256 *chain, struct rp_record **result,
                              struct rp_error *err)
{
    struct rp_record *record = RP_NEW(struct rp_record);
    char *digests = rp_sys_join(run, "digests.jsonl");
    uint64_t good_bytes = 0;
    enum rp_status status = RP_STATUS_OK;
    pthread_mutex_init(&record->mutex, NULL);
    record->metrics.fd = record->digests.fd = -1;
    if (chain) record->chain = *chain;
    record->position = digests_bytes;
    RP_TRY_GOTO(status, read_digests(record, digests, digests_bytes, &good_bytes, err), out);
    RP_TRY_GOTO(status, log_open(&record->metrics, run, "metrics.jsonl", metrics_bytes, err), out);
    RP_TRY_GOTO(status, log_open(&record->digests, run, "digests.jsonl", good_bytes, err), out);
    status = rp_sys_sync_folder(
        run, err); /* new logs: their names are on disk before a checkpoint counts on them */
out:
    rp_mem_free(digests);
    if (status == RP_STATUS_OK)
        *result = record;
    else
        rp_record_close(record);
    return status;
}

static void drop_kept(struct rp_record *record)
{
    for (size_t i = 0; i < record->n_kept; i++) rp_mem_free(record->kept[i].tensors);
    rp_mem_free(record->kept);
    record->kept = NULL;
    record->n_kept = record->next_kept = 0;
}

enum rp_status rp_record_forget(struct rp_record *record, struct rp_error *err)
{
    pthread_mutex_lock(&record->mutex);
    enum rp_status status = rp_sys_truncate(record->digests.path, record->position, err);
    if (status == RP_STATUS_OK) {
        record->digests.length = record->position;
        drop_kept(record);
    }
    pthread_mutex_unlock(&record->mutex);
    return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

static enum rp_status flush(struct rp_record *record, struct rp_error *err)
{
    RP_TRY(log_flush(&record->metrics, err));
    RP_TRY(log_flush(&record->digests, err));
    record->flushed_at = rp_sys_clock();
    return RP_STATUS_OK;
}

enum rp_status rp_record_metrics(struct rp_record *record, uint64_t step, const char *split,
                                 const struct rp_metric *metrics, int n, struct rp_error *err)
{
    char number[RP_NUMBER_BYTES];
    pthread_mutex_lock(&record->mutex);
    struct rp_text *text = &record->metrics.waiting;
    rp_text_add(text, "{\"step\": %" PRIu64 ", \"split\": ", step);
    rp_text_add_json(text, split);
    rp_number_text(rp_sys_wall(), number);
    rp_text_add(text, ", \"time\": %s, \"metrics\": {", number);
    for (int i = 0; i < n; i++) {
        rp_text_add(text, "%s", i ? ", " : "");
        rp_text_add_json(text, metrics[i].name);
        rp_number_text(metrics[i].value, number);
        const char *quote = strpbrk(number, "NI") ? "\"" : "";
        rp_text_add(text, ": %s%s%s", quote, number, quote);
    }
    rp_text_add(text, "}}\n");
    enum rp_status status = flush(record, err);
    pthread_mutex_unlock(&record->mutex);
    return status;
}

static void name_first_tensor(const struct kept *kept, const struct rp_digest_tensor *tensors,
                              int n, char text[256])
{
    text[0] = '\0';
    if (!kept->tensors || !n) return;
    json_t *root = json_loads(kept->tensors, 0, NULL);
    for (int i = 0; i < n && !text[0]; i++) {
        char digest[RP_HEX64];
        const char *recorded = json_string_value(json_object_get(root, tensors[i].name));
        rp_hex64(tensors[i].digest, digest);
        if (recorded && strcmp(recorded, digest) != 0)
            snprintf(text, 256, "; first tensor that differs: %.100s (%s, on record %s)",
                     tensors[i].name, digest, recorded);
    }
    json_decref(root);
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static enum rp_status compare_with_kept(const struct rp_record *record,
                                        const struct rp_digest_line *line,
                                        const struct rp_digest_tensor *tensors, int n,
                                        struct rp_error *err)
{
    const struct kept *kept = &record->kept[record->next_kept];
    const struct rp_digest_line *was = &kept->line;
    char tensor[256];
    if (was->loss_bits == line->loss_bits && was->params == line->params) return RP_STATUS_OK;
    name_first_tensor(kept, tensors, n, tensor);
    return rp_error_set(err, RP_STATUS_DIFFERENT,
                        "step %" PRIu64 " computed again differs from the record: loss %08" PRIx32
                        " (%.9g), on record %08" PRIx32 " (%.9g); params %016" PRIx64
                        ", on record %016" PRIx64 "%s",
                        line->step, line->loss_bits, (double)float_of(line->loss_bits),
                        was->loss_bits, (double)float_of(was->loss_bits), line->params, was->params,
                        tensor);
}

static enum rp_status append_digest(struct rp_record *record, const struct rp_digest_line *line,
                                    const struct rp_digest_tensor *tensors, int n_tensors,
                                    struct rp_error *err)
{
    struct log *log = &record->digests;
    rp_digest_line_add(&log->waiting, line, tensors, n_tensors);
    record->position = log->length + log->waiting.length;
    if (log->waiting.length < GROUP_BYTES && rp_sys_clock() - record->flushed_at < GROUP_SECONDS)
        return RP_STATUS_OK;
    return flush(record, err);
}

enum rp_status rp_record_digest(struct rp_record *record, struct rp_digest_line *line,
                                const struct rp_digest_tensor *tensors, int n_tensors,
                                struct rp_error *err)
{
    enum rp_status status = RP_STATUS_OK;
    pthread_mutex_lock(&record->mutex);
    line->chain = rp_record_link(&record->chain, line->step, line->loss_bits, line->params);
    if (record->has_last && line->step != record->last_step + 1) {
        status = rp_error_set(err, RP_STATUS_INTERNAL, "%s: step %" PRIu64 " after step %" PRIu64,
                              record->digests.path, line->step, record->last_step);
    } else if (record->next_kept < record->n_kept) {
        status = compare_with_kept(record, line, tensors, n_tensors, err);
        if (status == RP_STATUS_OK) {
            record->position = record->kept[record->next_kept++].end;
            record->checked++;
        }
    } else {
        status = append_digest(record, line, tensors, n_tensors, err);
    }
    if (status == RP_STATUS_OK) {
        record->chain = line->chain;
        record->last_step = line->step;
        record->has_last = true;
    }
    pthread_mutex_unlock(&record->mutex);
    return status;
}

enum rp_status rp_record_mark(struct rp_record *record, uint64_t *metrics_bytes,
                              uint64_t *digests_bytes, struct rp_error *err)
{
    pthread_mutex_lock(&record->mutex);
    enum rp_status status = flush(record, err);
    *metrics_bytes = record->metrics.length;
    *digests_bytes = record->position;
    pthread_mutex_unlock(&record->mutex);
    return status;
}

enum rp_status rp_record_sync(struct rp_record *record, uint64_t *metrics_bytes,
                              uint64_t *digests_bytes, struct rp_error *err)
{
    uint64_t metrics, digests;
    RP_TRY(rp_record_mark(record, &metrics, &digests, err));
    /* Outside the mutex: steps go on writing lines while the disk works. */
    RP_TRY(rp_sys_sync(record->metrics.fd, record->metrics.path, err));
    RP_TRY(rp_sys_sync(record->digests.fd, record->digests.path, err));
    if (metrics_bytes) *metrics_bytes = metrics;
    if (digests_bytes) *digests_bytes = digests;
    return RP_STATUS_OK;
}

void rp_record_counts(struct rp_record *record, uint64_t *checked, uint64_t *left)
{
    pthread_mutex_lock(&record->mutex);
    *checked = record->checked;
    *left = record->n_kept - record->next_kept;
    pthread_mutex_unlock(&record->mutex);
}

void rp_record_close(struct rp_record *record)
{
    if (!record) return;
    enum rp_status ignored = record->digests.fd >= 0 ? flush(record, NULL) : RP_STATUS_OK;
    (void)ignored;
    drop_kept(record);
    log_close(&record->metrics);
    log_close(&record->digests);
    pthread_mutex_destroy(&record->mutex);
    rp_mem_free(record);
}
