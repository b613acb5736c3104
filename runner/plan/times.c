/* times.c - kernel times of a job on 1, 2, 4, ... ranks, kept in a JSON file, so that what a node
 * has measured can be planned with elsewhere. */
#include "plan/scale.h"

#include "base/sys.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { MOST_BYTES = 1 << 20 };

static enum rp_status refuse(const char *path, const char *why, struct rp_error *err)
{
    return rp_error_set(err, RP_STATUS_USAGE,
                        "%s is no table of times: %s; `reprise plan SPEC --ranks N --network "
                        "BANDWIDTH,LATENCY --save-times FILE` writes one",
                        path, why);
}

static bool read_time(json_t *json, struct rp_plan_time *time)
{
    time->agree_seconds = -1;
    return json_unpack(json, "{s:i, s:i, s:i, s:F, s:F, s:F}", "ranks", &time->ranks, "beside",
                       &time->beside, "threads", &time->threads, "compute_seconds",
                       &time->compute_seconds, "update_seconds", &time->update_seconds,
                       "add_seconds", &time->add_seconds) == 0 &&
           json_unpack(json, "{s?F, s?F, s?F, s?F}", "agree_seconds", &time->agree_seconds,
                       "step_seconds", &time->step_seconds, "reduce_seconds", &time->reduce_seconds,
                       "gather_seconds", &time->gather_seconds) == 0 &&
           time->ranks > 0 && time->beside > 0 && time->compute_seconds > 0 &&
           time->update_seconds >= 0 && time->add_seconds >= 0;
}

static enum rp_status read_all(const char *path, json_t *root, struct rp_plan_times *times,
                               struct rp_error *err)
{
    int version = 0;
    const char *where = "";
    json_int_t batch = 0, shards = 0, parameters = 0;
    json_t *rows = NULL;
    if (json_unpack(root, "{s:i, s:s, s:I, s:I, s:I, s:o}", "reprise_times", &version, "where",
                    &where, "batch", &batch, "shards", &shards, "parameters", &parameters, "times",
                    &rows) != 0)
        return refuse(path, "a key is missing or of another type", err);
    if (version != 1) return refuse(path, "reprise_times is not 1", err);
    *times = (struct rp_plan_times){.batch = batch, .shards = shards, .parameters = parameters};
    snprintf(times->where, sizeof times->where, "%s", where);
    if (!json_is_array(rows) || json_array_size(rows) > RP_PLAN_TIMES)
        return refuse(path, "`times` is no list of at most 13 rows", err);
    for (; times->n < (int)json_array_size(rows); times->n++)
        if (!read_time(json_array_get(rows, (size_t)times->n), &times->time[times->n]))
            return refuse(path, "a row lacks a number, or one is not above zero", err);
    return RP_STATUS_OK;
}

enum rp_status rp_plan_times_read(const char *path, struct rp_plan_times *times,
                                  struct rp_error *err)
{
    char *bytes = NULL;
    size_t length = 0;
    json_error_t why;
    RP_TRY(rp_sys_read_file(path, MOST_BYTES, RP_STATUS_USAGE, &bytes, &length, err));
    json_t *root = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &why);
    enum rp_status status =
        root ? read_all(path, root, times, err) : refuse(path, "it is not JSON", err);
    json_decref(root);
    rp_mem_free(bytes);
    return status;
}

enum rp_status rp_plan_times_write(const char *path, const struct rp_plan_times *times,
                                   struct rp_error *err)
{
    json_t *rows = json_array();
    for (int i = 0; i < times->n; i++) {
        const struct rp_plan_time *time = &times->time[i];
        json_t *row = json_pack("{s:i, s:i, s:i, s:f, s:f, s:f}", "ranks", time->ranks, "beside",
                                time->beside, "threads", time->threads, "compute_seconds",
                                time->compute_seconds, "update_seconds", time->update_seconds,
                                "add_seconds", time->add_seconds);
        if (time->agree_seconds >= 0)
            json_object_set_new(row, "agree_seconds", json_real(time->agree_seconds));
        if (time->step_seconds > 0)
            json_object_update_new(row,
                                   json_pack("{s:f, s:f, s:f}", "step_seconds", time->step_seconds,
                                             "reduce_seconds", time->reduce_seconds,
                                             "gather_seconds", time->gather_seconds));
        json_array_append_new(rows, row);
    }
    json_t *root =
        json_pack("{s:i, s:s, s:I, s:I, s:I, s:o}", "reprise_times", 1, "where", times->where,
                  "batch", (json_int_t)times->batch, "shards", (json_int_t)times->shards,
                  "parameters", (json_int_t)times->parameters, "times", rows);
    char *text = json_dumps(root, JSON_INDENT(1));
    struct rp_text whole = {0};
    rp_text_add(&whole, "%s\n", text);
    enum rp_status status = rp_sys_write_file(path, rp_text_get(&whole), whole.length, err);
    rp_text_release(&whole);
    rp_mem_free(text);
    json_decref(root);
    return status;
}

enum rp_status rp_plan_times_find(const struct rp_plan_times *times, const char *path,
                                  const struct rp_plan *plan, const struct rp_plan_network *network,
                                  const struct rp_plan_time **time, struct rp_error *err)
{
    int per_node = network->per_node, beside = plan->ranks < per_node ? plan->ranks : per_node;
    *time = NULL;
    if (times->batch != plan->batch || times->shards != plan->shards ||
        times->parameters != plan->model->parameter_elements)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s is of another job: batch %lld in %lld shards, %lld parameters; "
                            "this one has batch %lld in %lld shards, %lld parameters. Measure "
                            "anew: without --times",
                            path, (long long)times->batch, (long long)times->shards,
                            (long long)times->parameters, (long long)plan->batch,
                            (long long)plan->shards, (long long)plan->model->parameter_elements);
    for (int i = 0; i < times->n && !*time; i++)
        if (times->time[i].ranks == plan->ranks && times->time[i].beside == beside)
            *time = &times->time[i];
    if (*time && network->local && plan->ranks > 1 && (*time)->step_seconds <= 0)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s has no steps of ranks connected on one machine: measure them with "
                            "--network local --save-times",
                            path);
    if (*time) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "%s has no times of %d rank%s with %d on a node: measure them with --ranks "
                        "%d --per-node %d --save-times",
                        path, plan->ranks, plan->ranks == 1 ? "" : "s", beside, plan->ranks,
                        per_node);
}
