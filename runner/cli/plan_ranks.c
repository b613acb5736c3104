/* plan_ranks.c - `reprise plan SPEC --ranks N --network BANDWIDTH,LATENCY`: what a step will take
 * on 1, 2, 4, ... N ranks, from times measured here or read from a table. */
#include "cli/plan_int.h"

#include "comm/comm.h"
#include "env/env.h"
#include "train/train.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the options say. */
struct ask {
    int ranks, most; /* asked for; that can share the shards */
    struct rp_plan_network network;
    const char *times, *save_times;
};

struct row {
    struct rp_plan_step step;
    int threads;
    int64_t passes, pass_samples;
    uint64_t memory, device_memory;
    double units; /* samples, or tokens of text, of a step */
};

/* ---- options --------------------------------------------------------------------------------- */

static const char *const of_ranks[] = {"--network", "--per-node", "--node-network", "--times",
                                       "--save-times"};

enum rp_status rp_cli_plan_ranks_check(const struct rp_cli_args *args, struct rp_error *err)
{
    for (size_t i = 0; i < RP_COUNT(of_ranks); i++)
        if (rp_cli_has(args, of_ranks[i]) && !rp_cli_has(args, "--ranks"))
            return rp_error_set(err, RP_STATUS_USAGE, "%s is for `plan SPEC --ranks N`",
                                of_ranks[i]);
    return RP_STATUS_OK;
}

static enum rp_status parse_power(const char *option, const char *text, int *value,
                                  struct rp_error *err)
{
    char *end = NULL;
    long long n = strtoll(text, &end, 10);
    if (end != text && *end == '\0' && n >= 1 && n <= RP_PLAN_MOST_RANKS && (n & (n - 1)) == 0) {
        *value = (int)n;
        return RP_STATUS_OK;
    }
    return rp_error_set(err, RP_STATUS_USAGE,
                        "%s is '%s', and must be a power of two from 1 to %d, as ranks share a "
                        "batch in powers of two of its shards",
                        option, text, RP_PLAN_MOST_RANKS);
}

/* All ranks on this machine. */
static enum rp_status parse_local(const struct rp_cli_args *args, struct ask *ask,
                                  struct rp_error *err)
{
    static const char *const others[] = {"--per-node", "--node-network"};
    for (size_t i = 0; i < RP_COUNT(others); i++)
        if (rp_cli_has(args, others[i]))
            return rp_error_set(err, RP_STATUS_USAGE,
                                "--network local is this machine alone: it goes without %s",
                                others[i]);
    ask->network.local = true;
    ask->network.per_node = ask->most;
    return RP_STATUS_OK;
}

static enum rp_status parse(const struct rp_cli_args *args, const struct rp_spec *spec,
                            struct ask *ask, struct rp_error *err)
{
    const char *network = rp_cli_text(args, "--network"), *text;
    *ask = (struct ask){.network.per_node = 1,
                        .times = rp_cli_text(args, "--times"),
                        .save_times = rp_cli_text(args, "--save-times")};
    RP_TRY(parse_power("--ranks", rp_cli_text(args, "--ranks"), &ask->ranks, err));
    if (!network)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--ranks needs the network between nodes: --network "
                            "BANDWIDTH,LATENCY, like 400Gb/s,5us; or --network local");
    if (ask->times && ask->save_times)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--times reads a table and --save-times writes one: give one of them");
    ask->most = ask->ranks < spec->train.shards ? ask->ranks : (int)spec->train.shards;
    if (strcmp(network, "local") == 0) return parse_local(args, ask, err);
    RP_TRY(rp_plan_parse_link("--network", network, &ask->network.between, err));
    ask->network.within = ask->network.between;
    if ((text = rp_cli_text(args, "--node-network")))
        RP_TRY(rp_plan_parse_link("--node-network", text, &ask->network.within, err));
    if ((text = rp_cli_text(args, "--per-node")))
        RP_TRY(parse_power("--per-node", text, &ask->network.per_node, err));
    return RP_STATUS_OK;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static enum rp_status make_row(const struct rp_spec *spec, const struct rp_data_shape *data,
                               const struct ask *ask, const struct rp_plan_times *times, int ranks,
                               struct row *row, struct rp_error *err)
{
    const struct rp_plan_time *time = NULL;
    const struct rp_device_table *device = rp_env_planned_device(spec);
    struct rp_plan *plan = NULL;
    int threads = 1;
    for (int i = 0; i < times->n; i++)
        if (times->time[i].ranks == ranks) threads = times->time[i].threads;
    RP_TRY(rp_plan_make_for(spec, data, threads, ranks, device, &plan, err));
    if (ask->network.local || ranks <= ask->network.per_node) rp_plan_share_host(plan, spec);
    enum rp_status status = rp_plan_times_find(times, ask->times ? ask->times : "what was measured",
                                               plan, &ask->network, &time, err);
    if (status == RP_STATUS_OK) {
        *row = (struct row){.threads = threads,
                            .passes = plan->n_passes,
                            .pass_samples = plan->pass_samples,
                            .memory = plan->memory_bytes,
                            .device_memory = plan->device_bytes,
                            .units = (double)(plan->batch * plan->model->rows_per_sample)};
        rp_plan_predict(plan, time, &ask->network, &row->step);
    }
    rp_plan_free(plan);
    return status;
}

/* ---- for people ------------------------------------------------------------------------------ */

static void print_notes(const struct rp_spec *spec, const struct ask *ask)
{
    if (ask->most < ask->ranks)
        printf("%d%s ranks cannot share %lld shards: raise train.shards (other bits) to use more\n",
               2 * ask->most, 2 * ask->most < ask->ranks ? " and more" : "",
               (long long)spec->train.shards);
    if (ask->most > RP_COMM_MAX_RANKS)
        printf("this build runs at most %d ranks\n", RP_COMM_MAX_RANKS);
}

static void print_rows(const struct rp_spec *spec, const struct rp_data_shape *data,
                       const struct ask *ask, const struct rp_plan_times *times,
                       const struct row *row, int n)
{
    const struct rp_plan_link *x = &ask->network.between, *w = &ask->network.within;
    printf("a step of %lld samples in %lld shards, %lld parameters; times of %s\n",
           (long long)times->batch, (long long)times->shards, (long long)times->parameters,
           times->where);
    if (ask->network.local)
        printf("network: this machine, its ranks connected and measured");
    else
        printf("network: %.4g GB/s, %.4g us between nodes of %d rank%s", 1e-9 * x->bytes_per_second,
               1e6 * x->seconds, ask->network.per_node, ask->network.per_node == 1 ? "" : "s");
    if (ask->network.per_node > 1 && !ask->network.local)
        printf("; %.4g GB/s, %.4g us within", 1e-9 * w->bytes_per_second, 1e6 * w->seconds);
    printf("\nmilliseconds; exposed is what of the exchange nothing hides\n\n");
    printf("%5s %5s %7s %10s %9s %9s %9s %10s %11s %8s %10s\n", "ranks", "nodes", "threads",
           "compute", "update", "exchange", "exposed", "step",
           data->target == RP_TARGET_TOKENS ? "tokens/s" : "samples/s", "speed-up", "MiB a rank");
    for (int i = 0; i < n; i++) {
        const struct rp_plan_step *s = &row[i].step;
        uint64_t memory = row[i].device_memory ? row[i].device_memory : row[i].memory;
        printf("%5d %5d %7d %10.3f %9.3f %9.3f %9.3f %10.3f %11.0f %8.2f %10.1f\n", s->ranks,
               s->nodes, row[i].threads, 1e3 * s->compute, 1e3 * s->update, 1e3 * s->exchange,
               1e3 * s->exposed, 1e3 * s->step, row[i].units / s->step, row[0].step.step / s->step,
               (double)memory / 1048576.0);
    }
    print_notes(spec, ask);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static json_t *link_json(const struct ask *ask, const struct rp_plan_link *link)
{
    if (ask->network.local) return json_string("local");
    return json_pack("{s:f, s:f}", "bytes_per_second", link->bytes_per_second, "latency_seconds",
                     link->seconds);
}

static json_t *row_json(const struct row *row, const struct row *one)
{
    const struct rp_plan_step *s = &row->step;
    json_t *json =
        json_pack("{s:i, s:i, s:i, s:I, s:I, s:I, s:I}", "ranks", s->ranks, "nodes", s->nodes,
                  "threads", row->threads, "passes", (json_int_t)row->passes, "pass_samples",
                  (json_int_t)row->pass_samples, "memory_bytes", (json_int_t)row->memory,
                  "device_memory_bytes", (json_int_t)row->device_memory);
    json_object_update_new(
        json, json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "compute_seconds",
                        s->compute, "update_seconds", s->update, "scatter_seconds", s->scatter,
                        "join_seconds", s->join, "gather_seconds", s->gather, "agree_seconds",
                        s->agree, "exchange_seconds", s->exchange, "exposed_seconds", s->exposed,
                        "step_seconds", s->step, "speed_up", one->step.step / s->step));
    return json;
}

static void add_json(const struct rp_spec *spec, const struct ask *ask,
                     const struct rp_plan_times *times, const struct row *row, int n, json_t *json)
{
    json_t *rows = json_array(), *not_possible = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(rows, row_json(&row[i], &row[0]));
    for (int ranks = 2 * ask->most; ranks <= ask->ranks; ranks *= 2)
        json_array_append_new(not_possible, json_integer(ranks));
    json_object_update_new(
        json, json_pack("{s:s, s:I, s:I, s:I, s:s, s:o, s:o, s:i, s:i, s:o, s:o}", "name",
                        spec->name, "batch", (json_int_t)times->batch, "shards",
                        (json_int_t)times->shards, "parameters", (json_int_t)times->parameters,
                        "times_of", times->where, "network", link_json(ask, &ask->network.between),
                        "node_network", link_json(ask, &ask->network.within), "per_node",
                        ask->network.per_node, "most_ranks_of_build", RP_COMM_MAX_RANKS, "scaling",
                        rows, "not_possible", not_possible));
}

/* With the step of the most ranks. */
static enum rp_status show_stop(const struct rp_cli_args *args, const struct rp_spec *spec,
                                const struct rp_data_shape *data, const struct row *row,
                                json_t *result, struct rp_error *err)
{
    struct rp_plan *plan = NULL;
    RP_TRY(rp_plan_make_for(spec, data, row->threads, row->step.ranks, rp_env_planned_device(spec),
                            &plan, err));
    enum rp_status status = rp_cli_plan_stop(args, spec, plan, row->step.step, result, err);
    rp_plan_free(plan);
    return status;
}

enum rp_status rp_cli_plan_ranks(const struct rp_cli_args *args, const struct rp_spec *spec,
                                 const struct rp_data_shape *data, json_t *result,
                                 struct rp_error *err)
{
    struct ask ask;
    struct rp_plan_times times;
    struct row row[RP_PLAN_TIMES];
    int n = 0;
    RP_TRY(parse(args, spec, &ask, err));
    if (ask.times)
        RP_TRY(rp_plan_times_read(ask.times, &times, err));
    else
        RP_TRY(rp_train_measure(spec, ask.most, &ask.network, &times, err));
    if (ask.save_times) RP_TRY(rp_plan_times_write(ask.save_times, &times, err));
    for (int ranks = 1; ranks <= ask.most; ranks *= 2)
        RP_TRY(make_row(spec, data, &ask, &times, ranks, &row[n++], err));
    if (args->json)
        add_json(spec, &ask, &times, row, n, result);
    else
        print_rows(spec, data, &ask, &times, row, n);
    return show_stop(args, spec, data, &row[n - 1], result, err);
}
