/* against.c - what `run --against` and `rerun` compare with: a final digest, a file of digests, or
 * a run. */
#include "cli/against.h"

#include "base/json_text.h"
#include "base/sys.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static bool is_final_digest(const char *what)
{
    return strlen(what) == RP_SHA256_HEX - 1 &&
           strspn(what, "0123456789abcdef") == RP_SHA256_HEX - 1;
}

static enum rp_status open_file(const char *path, struct rp_cli_against *against,
                                struct rp_error *err)
{
    RP_TRY(rp_digests_read(path, &against->digests, err));
    if (against->digests.n > 0) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_DATA, "%s holds no line of digests to compare with", path);
}

enum rp_status rp_cli_against_open_run(const char *run, struct rp_cli_against *against,
                                       struct rp_error *err)
{
    struct rp_manifest manifest = {.segment = -1};
    bool found = false;
    *against = (struct rp_cli_against){.what = run, .run = rp_mem_copy_text(run)};
    RP_TRY(rp_manifest_read(run, &found, &manifest, err));
    const char *final =
        found
            ? json_string_value(json_object_get(json_object_get(manifest.root, "digests"), "final"))
            : NULL;
    snprintf(against->final, sizeof against->final, "%s", final ? final : "");
    rp_manifest_release(&manifest);
    char *path = rp_sys_join(run, "digests.jsonl");
    enum rp_status status = rp_digests_read(path, &against->digests, err);
    rp_mem_free(path);
    return status;
}

enum rp_status rp_cli_against_open(const char *what, struct rp_cli_against *against,
                                   struct rp_error *err)
{
    struct rp_sys_stat stat = {0};
    char *run = NULL;
    *against = (struct rp_cli_against){.what = what};
    if (is_final_digest(what)) {
        memcpy(against->final, what, sizeof against->final);
        return RP_STATUS_OK;
    }
    RP_TRY(rp_sys_stat(what, &stat, err));
    if (stat.is_file) return open_file(what, against, err);
    struct rp_error why = {0};
    enum rp_status status = rp_run_find(what, &run, &why);
    if (status != RP_STATUS_OK)
        status = rp_error_set(err, status,
                              "--against %s: expected a final digest (64 digits), a file "
                              "digests.jsonl, or a run: %s",
                              what, why.text);
    if (status == RP_STATUS_OK) status = rp_cli_against_open_run(run, against, err);
    against->what = what;
    rp_mem_free(run);
    return status;
}

const struct rp_digests *rp_cli_against_steps(const struct rp_cli_against *against)
{
    return against->digests.n > 0 ? &against->digests : NULL;
}

static enum rp_status check_length(const struct rp_cli_against *against,
                                   const struct rp_train_result *result, struct rp_error *err)
{
    const struct rp_digests *digests = &against->digests;
    if (!digests->n) return RP_STATUS_OK;
    uint64_t first = digests->line[0].step, last = digests->line[digests->n - 1].step;
    if (last > result->step)
        return rp_error_set(err, RP_STATUS_DIFFERENT,
                            "%s ended after step %llu, all equal so far, but %s goes on to step "
                            "%llu: train as long",
                            result->run, (unsigned long long)result->step, against->what,
                            (unsigned long long)last);
    if (result->n_compared == 0)
        return rp_error_set(err, RP_STATUS_DIFFERENT,
                            "nothing compared: %s begins with step %llu and shares no step with "
                            "%s; compare with a record of the same steps",
                            against->what, (unsigned long long)first, result->run);
    return RP_STATUS_OK;
}

static enum rp_status check_final(const struct rp_cli_against *against,
                                  const struct rp_train_result *result, struct rp_error *err)
{
    const char *theirs = against->final;
    if (!theirs[0] || strcmp(theirs, result->final) == 0) return RP_STATUS_OK;
    if (against->run)
        return rp_error_set(err, RP_STATUS_DIFFERENT,
                            "final digest %s of %s, but %s of %s: `reprise compare %s %s`", theirs,
                            against->run, result->final, result->run, against->run, result->run);
    return rp_error_set(err, RP_STATUS_DIFFERENT,
                        "final digest %s expected, but %s is that of %s; with the other run or its "
                        "digests.jsonl after --against, the first step that differs is named",
                        theirs, result->final, result->run);
}

enum rp_status rp_cli_against_end(const struct rp_cli_against *against,
                                  const struct rp_train_result *result, json_t *json,
                                  struct rp_error *err)
{
    enum rp_status status = check_length(against, result, err);
    if (status == RP_STATUS_OK) status = check_final(against, result, err);
    json_object_set_new(json, "against", rp_json_text(against->what));
    json_object_set_new(json, "compared", json_integer((json_int_t)result->n_compared));
    json_object_set_new(json, "equal", json_boolean(status == RP_STATUS_OK));
    return status;
}

void rp_cli_against_release(struct rp_cli_against *against)
{
    rp_digests_release(&against->digests);
    rp_mem_free(against->run);
    *against = (struct rp_cli_against){0};
}
