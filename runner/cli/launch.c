/* launch.c - `reprise launch SPEC --on TARGET`: job files, and with --submit their submission. */
#include "launch/launch.h"

#include "base/json_text.h"
#include "base/log.h"
#include "base/sys.h"
#include "cli/grace.h"
#include "cli/sweep.h"
#include "env/env.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct request {
    const struct rp_cli_args *args;
    const struct rp_launcher *launcher;
    struct rp_sweep sweep;
    struct rp_launch_member *members;
    int n_members, n_given; /* --set given for all */
    struct rp_spec *spec;   /* of the first member */
    struct rp_site *site;
    char *folder, *data, *program, *time;
};

/* ---- the members: one, or the grid of --sweep ------------------------------------------------ */

static enum rp_status make_member(struct request *r, int m, struct rp_error *err)
{
    const char *const *given = rp_cli_list(r->args, "--set");
    const char **set = RP_NEW_ARRAY(const char *, r->n_given + r->sweep.n_keys + 1);
    struct rp_spec_options options = {.data_folder = rp_cli_text(r->args, "--data"), .set = set};
    struct rp_spec *spec = NULL;
    r->members[m].set = set;
    for (int i = 0; i < r->n_given; i++) set[i] = given[i];
    for (int k = 0; k < r->sweep.n_keys; k++)
        set[r->n_given + k] =
            rp_mem_text("%s=%s", r->sweep.key[k].key, rp_sweep_value(&r->sweep, m, k));
    RP_TRY(rp_spec_load(r->args->word[0], &options, &spec, err));
    char *run = rp_train_folder(spec);
    r->members[m].run = rp_sys_absolute(run);
    rp_mem_free(run);
    if (m == 0)
        r->spec = spec;
    else
        rp_spec_free(spec);
    for (int i = 0; i < m; i++)
        if (strcmp(r->members[i].run, r->members[m].run) == 0)
            return rp_error_set(err, RP_STATUS_USAGE,
                                "members %d and %d of the sweep are the same experiment, %s: what "
                                "differs changes no bit, so there is nothing to sweep",
                                i + 1, m + 1, r->members[m].run);
    return RP_STATUS_OK;
}

static enum rp_status make_members(struct request *r, struct rp_error *err)
{
    const char *const *sweep = rp_cli_list(r->args, "--sweep");
    const char *const *given = rp_cli_list(r->args, "--set");
    while (given && given[r->n_given]) r->n_given++;
    r->n_members = 1;
    if (sweep) {
        RP_TRY(rp_sweep_parse(sweep, &r->sweep, err));
        r->n_members = r->sweep.n_members;
    }
    r->members = RP_NEW_ARRAY(struct rp_launch_member, r->n_members);
    for (int m = 0; m < r->n_members; m++) RP_TRY(make_member(r, m, err));
    return RP_STATUS_OK;
}

static void release(struct request *r)
{
    for (int m = 0; r->members && m < r->n_members; m++) {
        for (int k = 0; r->members[m].set && k < r->sweep.n_keys; k++)
            rp_mem_free((char *)r->members[m].set[r->n_given + k]);
        rp_mem_free((void *)r->members[m].set);
        rp_mem_free((char *)r->members[m].run);
    }
    rp_mem_free(r->members);
    rp_sweep_release(&r->sweep);
    rp_spec_free(r->spec);
    rp_site_free(r->site);
    rp_mem_free(r->folder);
    rp_mem_free(r->data);
    rp_mem_free(r->time);
    rp_mem_free(r->program);
}

/* ---- the rest of the job --------------------------------------------------------------------- */

/* What the first member's run has measured here, if it has, else a reckoning; where the data cannot
 * be looked at from here, a guess. */
static void reckon_stop(const struct request *r, struct rp_launch *job)
{
    struct rp_data_shape data;
    struct rp_plan *plan = NULL;
    struct rp_error missing = {0}, ignored = {0};
    struct rp_cli_stop stop;
    enum rp_status described = rp_data_describe(job->spec, false, &data, &missing);
    /* The paths in pods are others. */
    if (described == RP_STATUS_DATA && strcmp(r->launcher->name, "kubernetes") != 0)
        rp_log_warning("a job that finds no more than is to be seen from here ends with 4: %s",
                       missing.text);
    if (described != RP_STATUS_OK ||
        rp_plan_make(job->spec, &data, 1, &plan, &ignored) != RP_STATUS_OK)
        plan = NULL;
    rp_cli_stop_expect(r->members[0].run, plan, 0, &stop);
    rp_cli_stop_apply(&stop, job);
    rp_plan_free(plan);
}

static enum rp_status parse_nodes(const struct rp_cli_args *args, int *nodes, struct rp_error *err)
{
    const char *text = rp_cli_text(args, "--nodes");
    char *end = NULL;
    *nodes = 0;
    if (!text) return RP_STATUS_OK;
    long number = strtol(text, &end, 10);
    if (*text && !*end && number >= 1 && number <= 4096) {
        *nodes = (int)number;
        return RP_STATUS_OK;
    }
    return rp_error_set(err, RP_STATUS_USAGE, "--nodes %s: expected a whole number from 1 to 4096",
                        text);
}

/* --estimate: what `run --try` says one rank of the first member takes on this machine, half as
 * much again and ten minutes for another: the job's own ranks are not for a login node. Slurm takes
 * the less of it and the site's limit: a run that needs longer is requeued. What it takes to stop
 * is measured with it. */
static enum rp_status estimate(struct request *r, struct rp_launch *job, struct rp_error *err)
{
    struct rp_try_result result = {0};
    struct rp_train_options options = {.set = r->members[0].set, .alone = true};
    rp_train_catch_signals();
    RP_TRY(rp_train_try(r->spec, &options, &result, err));
    int64_t minutes = (int64_t)(result.total_seconds * 1.5 / 60) + 10;
    rp_log_info("the run takes about %.3g min on this machine; the time limit is %" PRId64 " min",
                result.total_seconds / 60, minutes);
    r->time = rp_mem_text("%" PRId64 ":%02d:00", minutes / 60, (int)(minutes % 60));
    rp_cli_stop_apply(&(struct rp_cli_stop){.allowance = rp_cli_stop_allowance(result.stop_seconds),
                                            .measured = true},
                      job);
    rp_log_info("from a request to stop to the end it took %.3g s; %d s are asked for",
                result.stop_seconds, job->stop_seconds);
    return RP_STATUS_OK;
}

/* Beside the runs, named after the first. */
static char *choose_folder(const struct request *r)
{
    const char *out = rp_cli_text(r->args, "--out");
    if (out) return rp_sys_absolute(out);
    char *name =
        rp_mem_text("launch/%s-%s", strrchr(r->members[0].run, '/') + 1, r->launcher->name);
    char *folder = rp_sys_absolute(name);
    rp_mem_free(name);
    return folder;
}

static void show(const struct request *r, const struct rp_launch_files *files, json_t *json)
{
    json_t *paths = json_array(), *runs = json_array(), *command = json_array();
    struct rp_text line = {0};
    for (int i = 0; i < files->n; i++) {
        json_array_append_new(paths, rp_json_text(files->path[i]));
        if (!r->args->json) rp_cli_print("wrote  %s\n", files->path[i]);
    }
    for (int m = 0; m < r->n_members; m++)
        json_array_append_new(runs, rp_json_text(r->members[m].run));
    for (int i = 0; files->submit[i]; i++) {
        json_array_append_new(command, rp_json_text(files->submit[i]));
        rp_text_add(&line, i ? " " : "");
        rp_launch_add_word(&line, files->submit[i]);
    }
    if (!r->args->json && !rp_cli_has(r->args, "--submit"))
        printf("submit %s\n", rp_text_get(&line));
    json_object_set_new(json, "files", paths);
    json_object_set_new(json, "runs", runs);
    json_object_set_new(json, "submit", command);
    rp_text_release(&line);
}

static enum rp_status launch(struct request *r, json_t *json, struct rp_error *err)
{
    struct rp_launch_files files = {0};
    struct rp_launch job = {.time = rp_cli_text(r->args, "--time")};
    enum rp_status status;
    RP_TRY(parse_nodes(r->args, &job.nodes, err));
    RP_TRY(make_members(r, err));
    RP_TRY(rp_site_load(rp_cli_text(r->args, "--site"), &r->site, err));
    r->folder = choose_folder(r);
    r->data = rp_sys_absolute(r->spec->folder);
    r->program = rp_sys_self();
    job.spec = r->spec;
    job.site = r->site;
    job.folder = r->folder;
    job.data = r->data;
    job.program = r->program;
    job.member = r->members;
    job.n_members = r->n_members;
    reckon_stop(r, &job);
    if (rp_cli_has(r->args, "--estimate")) RP_TRY(estimate(r, &job, err));
    job.estimate = r->time;
    status = rp_launch_write(r->launcher, &job, &files, err);
    if (status == RP_STATUS_OK) {
        show(r, &files, json);
        fflush(stdout);
        if (rp_cli_has(r->args, "--submit")) status = rp_launch_submit(&files, err);
    }
    rp_launch_files_release(&files);
    return status;
}

static enum rp_status show_example(const struct rp_cli_args *args, json_t *json,
                                   struct rp_error *err)
{
    struct rp_text text = {0};
    enum rp_status status = rp_site_example(rp_cli_text(args, "--site-example"), &text, err);
    if (status == RP_STATUS_OK && args->json)
        json_object_set_new(json, "site", json_string(rp_text_get(&text)));
    else if (status == RP_STATUS_OK)
        fputs(rp_text_get(&text), stdout);
    rp_text_release(&text);
    return status;
}

static enum rp_status run(const struct rp_cli_args *args, json_t *json, struct rp_error *err)
{
    struct request r = {.args = args};
    const char *on = rp_cli_text(args, "--on");
    if (rp_cli_has(args, "--site-example")) return show_example(args, json, err);
    if (args->n_words != 1 || !on)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "launch: usage: reprise launch SPEC --on local|slurm|kubernetes");
    r.launcher = rp_launcher_find(on);
    if (!r.launcher)
        return rp_error_set(err, RP_STATUS_USAGE, "--on %s: it is local, slurm or kubernetes", on);
    enum rp_status status = launch(&r, json, err);
    release(&r);
    return status;
}

static const struct rp_cli_option options[] = {
    {"--on", RP_CLI_TEXT, "TARGET", "local, slurm or kubernetes"},
    {"--out", RP_CLI_TEXT, "DIR", "where the files go (default: launch/<run>-<target>)"},
    {"--site", RP_CLI_TEXT, "FILE",
     "facts of the cluster (default: $REPRISE_SITE, ~/.config/reprise/site.yaml, "
     "/etc/reprise/site.yaml)"},
    {"--site-example", RP_CLI_TEXT, "TARGET",
     "print a commented site file for slurm or kubernetes"},
    {"--submit", RP_CLI_FLAG, NULL, "submit what was written"},
    {"--nodes", RP_CLI_TEXT, "N", "on so many nodes (default: as few as the ranks need)"},
    {"--time", RP_CLI_TEXT, "TIME", "time limit in Slurm's form, in place of the site's"},
    {"--estimate", RP_CLI_FLAG, NULL,
     "try the first steps here: measures what it takes to stop; on Slurm, lowers the time limit "
     "to what the run will take"},
    {"--sweep", RP_CLI_LIST, "KEY=A,B|1..5", "a job for every combination: on Slurm, a job array"},
    {"--set", RP_CLI_LIST, "KEY=VALUE", "change a key of the spec; recorded"},
    {"--data", RP_CLI_TEXT, "DIR", "where relative data paths start"},
    {NULL, RP_CLI_FLAG, NULL, NULL},
};

const struct rp_command rp_command_launch = {
    .name = "launch",
    .usage = "SPEC --on TARGET",
    .summary = "writes job files for this machine, Slurm or Kubernetes; --submit submits them",
    .min_words = 0,
    .max_words = 1,
    .options = options,
    .run = run};
