/* read.c - reading the two logs again. */
#include "record/record_int.h"

#include "base/number.h"
#include "base/sys.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

enum { TAIL_BYTES = 1 << 20, FEW_BYTES = 1 << 14 };

/* Reads a log that may be missing. Caller frees. */
static enum rp_status read_log(const char *path, char **bytes, size_t *length, struct rp_error *err)
{
    struct rp_sys_stat stat;
    *bytes = NULL;
    *length = 0;
    RP_TRY(rp_sys_stat(path, &stat, err));
    if (!stat.exists) return RP_STATUS_OK;
    return rp_sys_read_file(path, RP_RECORD_MAX_LOG, RP_STATUS_DATA, bytes, length, err);
}

/* The next line that ends in a newline; a torn last one is not returned. */
static const char *next_line(const char *bytes, size_t length, size_t *at, size_t *line_length)
{
    const char *line = bytes + *at;
    const char *newline = bytes ? memchr(line, '\n', length - *at) : NULL;
    if (!newline) return NULL;
    *line_length = (size_t)(newline - line);
    *at += *line_length + 1;
    return line;
}

/* The last `most` bytes of a log, from the beginning of a line on. Caller frees. */
static enum rp_status read_tail(const char *path, uint64_t most, char **bytes, size_t *length,
                                struct rp_error *err)
{
    struct rp_sys_stat stat;
    int fd = -1;
    size_t got = 0, skip = 0;
    *bytes = NULL;
    *length = 0;
    RP_TRY(rp_sys_stat(path, &stat, err));
    if (!stat.exists) return RP_STATUS_OK;
    RP_TRY(rp_sys_open_read(path, RP_STATUS_DATA, &fd, err));
    uint64_t start = stat.size > most ? stat.size - most : 0;
    char *block = rp_mem_new((size_t)(stat.size - start) + 1);
    enum rp_status status = rp_sys_read_at(fd, start, block, (size_t)(stat.size - start), &got,
                                           path, RP_STATUS_DATA, err);
    rp_sys_close(fd);
    if (status == RP_STATUS_OK && start > 0) {
        const char *newline = memchr(block, '\n', got);
        skip = newline ? (size_t)(newline - block) + 1 : got;
    }
    memmove(block, block + skip, got - skip);
    *bytes = block;
    *length = got - skip;
    return status;
}

/* ---- digests --------------------------------------------------------------------------------- */

enum rp_status rp_digests_read(const char *path, struct rp_digests *digests, struct rp_error *err)
{
    char *bytes = NULL;
    size_t length = 0, at = 0, line_length = 0;
    int64_t capacity = 0;
    const char *text;
    *digests = (struct rp_digests){0};
    enum rp_status status = read_log(path, &bytes, &length, err);
    while (status == RP_STATUS_OK && (text = next_line(bytes, length, &at, &line_length)) != NULL) {
        if (digests->n == capacity) {
            capacity = capacity ? 2 * capacity : 256;
            digests->line = rp_mem_grow(digests->line, (size_t)capacity * sizeof *digests->line);
            digests->tensors =
                rp_mem_grow(digests->tensors, (size_t)capacity * sizeof *digests->tensors);
        }
        if (rp_digest_line_parse(text, line_length, &digests->line[digests->n],
                                 &digests->tensors[digests->n]))
            digests->n++;
        else
            status = rp_error_set(err, RP_STATUS_DATA, "%s:%" PRId64 ": no line of digests", path,
                                  digests->n + 1);
    }
    rp_mem_free(bytes);
    if (status != RP_STATUS_OK) rp_digests_release(digests);
    return status;
}

static enum rp_status last_in_tail(const char *path, uint64_t most, bool *found,
                                   struct rp_digest_line *line, struct rp_error *err)
{
    char *bytes = NULL;
    size_t length = 0;
    *found = false;
    enum rp_status status = read_tail(path, most, &bytes, &length, err);
    size_t end = length;
    while (end > 0 && bytes[end - 1] != '\n') end--;
    if (status == RP_STATUS_OK && end > 0) {
        size_t start = end - 1;
        while (start > 0 && bytes[start - 1] != '\n') start--;
        *found = rp_digest_line_parse(bytes + start, end - 1 - start, line, NULL);
        if (!*found)
            status =
                rp_error_set(err, RP_STATUS_DATA, "%s: the last line is no line of digests", path);
    }
    rp_mem_free(bytes);
    return status;
}

enum rp_status rp_digests_last(const char *path, bool *found, struct rp_digest_line *line,
                               struct rp_error *err)
{
    enum rp_status status = last_in_tail(path, FEW_BYTES, found, line, err);
    /* Lines of logged steps hold a digest for each tensor, and may be long. */
    if (status == RP_STATUS_OK && !*found)
        status = last_in_tail(path, TAIL_BYTES, found, line, err);
    return status;
}

void rp_digests_release(struct rp_digests *digests)
{
    for (int64_t i = 0; i < digests->n; i++) rp_mem_free(digests->tensors[i]);
    rp_mem_free(digests->tensors);
    rp_mem_free(digests->line);
    *digests = (struct rp_digests){0};
}

/* ---- metrics --------------------------------------------------------------------------------- */

static struct rp_series *series_of(struct rp_metrics *metrics, const char *split, const char *name)
{
    for (int i = 0; i < metrics->n; i++)
        if (strcmp(metrics->series[i].split, split) == 0 &&
            strcmp(metrics->series[i].name, name) == 0)
            return &metrics->series[i];
    metrics->series =
        rp_mem_grow(metrics->series, (size_t)(metrics->n + 1) * sizeof *metrics->series);
    struct rp_series *series = &metrics->series[metrics->n++];
    *series = (struct rp_series){.split = rp_mem_copy_text(split), .name = rp_mem_copy_text(name)};
    return series;
}

static void add_point(struct rp_series *series, uint64_t step, double value)
{
    /* Capacity is the next power of two, so it needs no field. */
    if ((series->n & (series->n - 1)) == 0) {
        size_t capacity = series->n ? 2 * (size_t)series->n : 1;
        series->step = rp_mem_grow(series->step, capacity * sizeof *series->step);
        series->value = rp_mem_grow(series->value, capacity * sizeof *series->value);
    }
    series->step[series->n] = step;
    series->value[series->n++] = value;
}

static bool value_of(const json_t *value, double *number)
{
    if (json_is_string(value)) return rp_number_parse(json_string_value(value), number);
    *number = json_number_value(value);
    return json_is_number(value);
}

static bool add_line(struct rp_metrics *metrics, const char *text, size_t length)
{
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
    const json_t *step = json_object_get(root, "step");
    const char *split = json_string_value(json_object_get(root, "split"));
    json_t *values = json_object_get(root, "metrics"), *value;
    bool good = json_is_integer(step) && split && json_is_object(values);
    const char *name;
    json_object_foreach(values, name, value)
    {
        double number;
        good = good && value_of(value, &number);
        if (good)
            add_point(series_of(metrics, split, name), (uint64_t)json_integer_value(step), number);
    }
    json_decref(root);
    return good;
}

static enum rp_status add_lines(struct rp_metrics *metrics, const char *path, const char *bytes,
                                size_t length, struct rp_error *err)
{
    size_t at = 0, line_length = 0;
    const char *text;
    for (uint64_t n = 1; (text = next_line(bytes, length, &at, &line_length)) != NULL; n++)
        if (!add_line(metrics, text, line_length))
            return rp_error_set(err, RP_STATUS_DATA, "%s:%" PRIu64 ": no line of metrics", path, n);
    return RP_STATUS_OK;
}

enum rp_status rp_metrics_read(const char *path, struct rp_metrics *metrics, struct rp_error *err)
{
    char *bytes = NULL;
    size_t length = 0;
    *metrics = (struct rp_metrics){0};
    enum rp_status status = read_log(path, &bytes, &length, err);
    if (status == RP_STATUS_OK) status = add_lines(metrics, path, bytes, length, err);
    rp_mem_free(bytes);
    if (status != RP_STATUS_OK) rp_metrics_release(metrics);
    return status;
}

enum rp_status rp_metrics_read_newest(const char *path, uint64_t most, struct rp_metrics *metrics,
                                      struct rp_error *err)
{
    char *bytes = NULL;
    size_t length = 0;
    *metrics = (struct rp_metrics){0};
    enum rp_status status = read_tail(path, most, &bytes, &length, err);
    if (status == RP_STATUS_OK) status = add_lines(metrics, path, bytes, length, err);
    rp_mem_free(bytes);
    if (status != RP_STATUS_OK) rp_metrics_release(metrics);
    return status;
}

const struct rp_series *rp_metrics_find(const struct rp_metrics *metrics,
                                        const char *split_and_name)
{
    const char *slash = strchr(split_and_name, '/');
    if (!slash) return NULL;
    size_t split = (size_t)(slash - split_and_name);
    for (int i = 0; i < metrics->n; i++) {
        const struct rp_series *series = &metrics->series[i];
        if (strlen(series->split) == split && strncmp(series->split, split_and_name, split) == 0 &&
            strcmp(series->name, slash + 1) == 0)
            return series;
    }
    return NULL;
}

void rp_metrics_release(struct rp_metrics *metrics)
{
    for (int i = 0; i < metrics->n; i++) {
        rp_mem_free(metrics->series[i].split);
        rp_mem_free(metrics->series[i].name);
        rp_mem_free(metrics->series[i].step);
        rp_mem_free(metrics->series[i].value);
    }
    rp_mem_free(metrics->series);
    *metrics = (struct rp_metrics){0};
}
