/* verify.c - `reprise verify RUN`: every hash in a run folder, computed again. Writes nothing. */
#include "cli/cli.h"

#include "base/json_text.h"
#include "base/sys.h"
#include "base/utf8.h"
#include "checkpoint/checkpoint.h"
#include "record/record.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What has been looked at, and a line for each thing that is wrong. */
struct findings {
    const char *run;
    json_t *root; /* of the manifest; not owned */
    struct rp_digests digests;
    uint64_t *steps; /* of the checkpoints */
    int n_steps, n_good_checkpoints, n_bad_checkpoints, n_bad;
    struct rp_text report;
};

static void blame(struct findings *f, const char *format, ...) RP_PRINTF(2, 3);
static void blame(struct findings *f, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    rp_text_add(&f->report, "%s\n", line);
    f->n_bad++;
}

/* ---- digests.jsonl: every link --------------------------------------------------------------- */

static void check_chain(struct findings *f)
{
    struct rp_sha256 chain = {{0}};
    for (int64_t i = 0; i < f->digests.n; i++) {
        const struct rp_digest_line *line = &f->digests.line[i];
        if (line->step != (uint64_t)i + 1) {
            blame(f,
                  "%s/digests.jsonl:%" PRId64 ": step %" PRIu64 " where step %" PRId64 " belongs",
                  f->run, i + 1, line->step, i + 1);
            return;
        }
        chain = rp_record_link(&chain, line->step, line->loss_bits, line->params);
        if (!rp_sha256_equal(&chain, &line->chain)) {
            blame(f,
                  "%s/digests.jsonl:%" PRId64
                  ": the chain does not follow from the lines up to step %" PRIu64,
                  f->run, i + 1, line->step);
            return;
        }
    }
}

/* Sum of a line's digests of single tensors. */
static uint64_t sum_of_tensors(const char *text)
{
    json_t *root = json_loads(text, 0, NULL), *value;
    uint64_t sum = 0, digest;
    const char *name;
    json_object_foreach(root, name, value)
    {
        if (rp_hex64_parse(json_string_value(value), &digest)) sum += digest;
    }
    json_decref(root);
    return sum;
}

/* `params` is the sum over all tensors; what a line leaves out is frozen, so the same on every
 * line. */
static void check_tensor_digests(struct findings *f)
{
    uint64_t frozen = 0;
    bool known = false;
    for (int64_t i = 0; i < f->digests.n; i++) {
        if (!f->digests.tensors[i]) continue;
        uint64_t rest = f->digests.line[i].params - sum_of_tensors(f->digests.tensors[i]);
        if (known && rest != frozen)
            blame(f, "%s/digests.jsonl:%" PRId64 ": digests of the tensors do not add up to params",
                  f->run, i + 1);
        if (!known) frozen = rest;
        known = true;
    }
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

/* The checkpoint's own word on the log must be what the log says. */
static void check_against_log(struct findings *f, uint64_t step, struct rp_error *ignored)
{
    struct rp_checkpoint_state state;
    if (rp_checkpoint_read_state(f->run, step, &state, ignored) != RP_STATUS_OK)
        return; /* reported already */
    if (step == 0) return;
    if (step > (uint64_t)f->digests.n) {
        blame(f,
              "%s/digests.jsonl ends at step %" PRId64 ", before the checkpoint of step %" PRIu64,
              f->run, f->digests.n, step);
        return;
    }
    const struct rp_digest_line *line = &f->digests.line[step - 1];
    if (!rp_sha256_equal(&line->chain, &state.chain) || line->params != state.params_digest)
        blame(f,
              "%s/checkpoints/step-%08" PRIu64
              ": chain or params are not those of digests.jsonl at that step",
              f->run, step);
}

static enum rp_status check_checkpoints(struct findings *f, struct rp_error *err)
{
    RP_TRY(rp_checkpoint_list(f->run, &f->steps, &f->n_steps, err));
    RP_TRY(rp_checkpoint_verify(f->run, &f->report, &f->n_good_checkpoints, &f->n_bad_checkpoints,
                                err));
    f->n_bad += f->n_bad_checkpoints;
    return RP_STATUS_OK;
}

/* ---- the manifest's final digest ------------------------------------------------------------- */

static void check_final(struct findings *f)
{
    const char *said =
        json_string_value(json_object_get(json_object_get(f->root, "digests"), "final"));
    struct rp_error ignored = {0};
    struct rp_sha256 tensors, final;
    char hex[RP_SHA256_HEX];
    if (!said || !f->digests.n) {
        if (said)
            blame(f, "%s/manifest.json has a final digest, but digests.jsonl is empty", f->run);
        return;
    }
    const struct rp_digest_line *last = &f->digests.line[f->digests.n - 1];
    if (rp_checkpoint_read_tensors_hash(f->run, last->step, &tensors, &ignored) != RP_STATUS_OK) {
        blame(f,
              "%s: no usable checkpoint of the last step, %" PRIu64
              ": the final digest cannot be checked",
              f->run, last->step);
        return;
    }
    final = rp_record_final(&last->chain, &tensors);
    rp_sha256_hex(&final, hex);
    if (strcmp(hex, said) != 0)
        blame(f, "%s/manifest.json says final digest %s; chain and checkpoint give %s", f->run,
              said, hex);
}

/* ---- the command ----------------------------------------------------------------------------- */

/* `*readable` false when the log is damaged, which is blamed on it here. */
static enum rp_status read_log(struct findings *f, bool *readable, struct rp_error *err)
{
    char *path = rp_sys_join(f->run, "digests.jsonl");
    struct rp_error why = {0};
    enum rp_status status = rp_digests_read(path, &f->digests, &why);
    *readable = status == RP_STATUS_OK;
    if (status == RP_STATUS_DATA) {
        blame(f, "%s", why.text);
        status = RP_STATUS_OK;
    } else if (status != RP_STATUS_OK) {
        status = rp_error_set(err, status, "%s", why.text);
    }
    rp_mem_free(path);
    return status;
}

static enum rp_status check_all(struct findings *f, struct rp_error *err)
{
    bool readable = false;
    /* Checkpoints before the log: of a run that goes on, the log then reaches at least as far as
     * they do. */
    RP_TRY(check_checkpoints(f, err));
    RP_TRY(read_log(f, &readable, err));
    if (!readable) return RP_STATUS_OK;
    check_chain(f);
    check_tensor_digests(f);
    for (int i = 0; i < f->n_steps; i++) {
        struct rp_error ignored = {0};
        check_against_log(f, f->steps[i], &ignored);
    }
    check_final(f);
    return RP_STATUS_OK;
}

static void print_good(const struct findings *f, const char *final)
{
    char *run = rp_utf8_shown(f->run, false), *shown = rp_utf8_shown(final ? final : "", false);
    printf("%s: %" PRId64 " steps, %d checkpoint%s: every hash is right\n", run, f->digests.n,
           f->n_good_checkpoints, f->n_good_checkpoints == 1 ? "" : "s");
    if (final) printf("final digest %s\n", shown);
    rp_mem_free(shown);
    rp_mem_free(run);
}

/* 8 when checkpoints are damaged and no whole one is left, 7 for any other finding. */
static enum rp_status conclude(const struct findings *f, json_t *result, bool json,
                               struct rp_error *err)
{
    const char *final =
        json_string_value(json_object_get(json_object_get(f->root, "digests"), "final"));
    json_object_set_new(result, "run", rp_json_text(f->run));
    json_object_set_new(result, "steps", json_integer(f->digests.n));
    json_object_set_new(result, "checkpoints", json_integer(f->n_good_checkpoints));
    json_object_set_new(result, "problems", json_integer(f->n_bad));
    json_object_set_new(result, "final", final ? json_string(final) : json_null());
    if (!f->n_bad && !json) print_good(f, final);
    if (!f->n_bad) return RP_STATUS_OK;
    bool none_left = f->n_bad_checkpoints && !f->n_good_checkpoints;
    return rp_error_set(
        err, none_left ? RP_STATUS_NO_CHECKPOINT : RP_STATUS_DIFFERENT,
        "%s: %d thing%s wrong:\n%.*s%s", f->run, f->n_bad, f->n_bad == 1 ? "" : "s",
        (int)f->report.length - 1, f->report.bytes, /* without the last newline */
        none_left ? "\nno whole checkpoint is left: restore the folder, or `reprise run --fresh`"
                  : "");
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    struct findings f = {0};
    struct rp_manifest manifest = {.segment = -1};
    char *path = NULL;
    bool found = false;
    enum rp_status status = RP_STATUS_OK;
    RP_TRY_GOTO(status, rp_run_find(args->n_words ? args->word[0] : NULL, &path, err), out);
    RP_TRY_GOTO(status, rp_manifest_read(path, &found, &manifest, err), out);
    f.run = path;
    f.root = manifest.root;
    RP_TRY_GOTO(status, check_all(&f, err), out);
    status = conclude(&f, result, args->json, err);
out:
    rp_text_release(&f.report);
    rp_mem_free(f.steps);
    rp_digests_release(&f.digests);
    rp_manifest_release(&manifest);
    rp_mem_free(path);
    return status;
}

static const struct rp_cli_option options[] = {{NULL, RP_CLI_FLAG, NULL, NULL}};

const struct rp_command rp_command_verify = {
    .name = "verify",
    .usage = "[RUN]",
    .summary = "computes every hash in a run folder again",
    .min_words = 0,
    .max_words = 1,
    .options = options,
    .run = run,
};
