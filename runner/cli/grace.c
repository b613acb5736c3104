/* grace.c - how long a run takes to stop: as its own folder has measured it, or reckoned; and what
 * a site leaves it. One reckoning for `plan`, which shows it, and `launch`, which asks for it. */
#include "cli/grace.h"

#include "record/record.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LEAST_ASKED = 120, MOST_ASKED = 3600, SLOW_BYTES_PER_SECOND = 25 << 20 };
/* A step and the look of an evaluation at requests, where nobody has measured them. */
static const double WORK_SECONDS = 60;
/* An evaluation looks about so often (train/evaluate_ranks.c). */
static const double ROUND_SECONDS = 1;

static int in_thirties(int seconds)
{
    return (seconds + 29) / 30 * 30;
}

int rp_cli_stop_allowance(double seconds)
{
    double allowance = ceil(2 * seconds + 5);
    return allowance < MOST_ASKED ? (int)allowance : MOST_ASKED;
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* The newest start that came so far as to measure a step and a save. */
static bool read_run(const char *run, struct rp_cli_stop *stop)
{
    struct rp_manifest manifest = {0};
    struct rp_error ignored = {0};
    bool found = false;
    if (rp_manifest_read(run, &found, &manifest, &ignored) != RP_STATUS_OK) found = false;
    const json_t *segments = found ? json_object_get(manifest.root, "segments") : NULL;
    for (size_t i = json_array_size(segments); i-- > 0 && !stop->measured;) {
        const json_t *segment = json_array_get(segments, i);
        const json_t *longest = json_object_get(segment, "longest");
        double step = number(longest, "step_seconds"), save = number(longest, "save_seconds");
        if (step <= 0 || save <= 0) continue;
        stop->measured = true;
        stop->work = step + number(longest, "evaluation_seconds");
        stop->save = save;
        stop->segment = (int)i;
        /* What a stop did take counts, should it be more. */
        double took = number(segment, "stop_seconds");
        if (took > stop->work + stop->save) stop->save = took - stop->work;
    }
    if (found) rp_manifest_release(&manifest);
    return stop->measured;
}

void rp_cli_stop_expect(const char *run, const struct rp_plan *plan, double step_seconds,
                        struct rp_cli_stop *stop)
{
    *stop = (struct rp_cli_stop){.work = WORK_SECONDS};
    snprintf(stop->run, sizeof stop->run, "%s", run ? run : "");
    bool measured = run && read_run(run, stop);
    if (!measured && plan) stop->save = (double)(plan->checkpoint_bytes / SLOW_BYTES_PER_SECOND);
    if (step_seconds > 0) {
        stop->measured = false;
        stop->stepped = true;
        stop->work = 2 * step_seconds + ROUND_SECONDS;
    }
    double sum = stop->work + stop->save;
    stop->allowance = stop->measured || stop->stepped ? rp_cli_stop_allowance(sum)
                      : sum < MOST_ASKED              ? (int)sum
                                                      : MOST_ASKED;
}

void rp_cli_stop_apply(const struct rp_cli_stop *stop, struct rp_launch *job)
{
    job->save_seconds = stop->allowance;
    job->stop_seconds = stop->allowance < LEAST_ASKED ? LEAST_ASKED : in_thirties(stop->allowance);
    job->measured = stop->measured;
}

/* ---- for `plan` ------------------------------------------------------------------------------ */

static void add_source(const struct rp_cli_stop *stop, struct rp_text *text)
{
    if (stop->measured)
        rp_text_add(text, "measured in %s, segment %d", stop->run, stop->segment);
    else
        rp_text_add(text, "an estimate: %s, and a save to a disk of %d MB/s; a run measures it",
                    stop->stepped ? "two steps as predicted and a second"
                                  : "a minute for what is under way",
                    SLOW_BYTES_PER_SECOND >> 20);
}

static json_t *stop_json(const struct rp_cli_stop *stop)
{
    struct rp_text source = {0};
    add_source(stop, &source);
    json_t *json = json_pack("{s:f, s:f, s:i, s:b, s:s, s:[]}", "work_seconds", stop->work,
                             "save_seconds", stop->save, "allowance_seconds", stop->allowance,
                             "measured", stop->measured, "source", rp_text_get(&source), "graces");
    rp_text_release(&source);
    return json;
}

static void print_stop(const struct rp_cli_stop *stop)
{
    struct rp_text source = {0};
    add_source(stop, &source);
    printf("stop        %.3g s from a request until all is saved (step and evaluation %.3g, save "
           "%.3g): %s; leave it %d s\n",
           stop->work + stop->save, stop->work, stop->save, rp_text_get(&source), stop->allowance);
    rp_text_release(&source);
}

void rp_cli_stop_show(const struct rp_cli_stop *stop, const struct rp_spec *spec,
                      const struct rp_site *site, json_t *json)
{
    static const char *const targets[] = {"slurm", "kubernetes"};
    json_t *found = json ? stop_json(stop) : NULL;
    json_t *graces = json_object_get(found, "graces");
    struct rp_launch job = {.spec = spec, .site = site};
    rp_cli_stop_apply(stop, &job);
    if (!json) print_stop(stop);
    for (size_t i = 0; i < RP_COUNT(targets); i++) {
        struct rp_launch_grace grace[RP_LAUNCH_MAX_GRACES];
        int n = rp_launch_graces(rp_launcher_find(targets[i]), &job, grace);
        for (int k = 0; k < n; k++) {
            bool enough = rp_launch_check_grace(&job, &grace[k]);
            if (json)
                json_array_append_new(graces, json_pack("{s:s, s:s, s:i, s:b}", "target",
                                                        targets[i], "who", grace[k].who, "seconds",
                                                        (int)grace[k].seconds, "enough", enough));
            else
                printf("grace       %ld s on %s, by %s: %s\n", grace[k].seconds, targets[i],
                       grace[k].who, enough ? "enough" : "too short");
        }
    }
    if (json) json_object_set_new(json, "stop", found);
}
