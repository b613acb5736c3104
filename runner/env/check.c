/* check.c - the lock that a spec names, at the start of a run: refuse, or record. */
#include "env/env_int.h"

#include <string.h>

static const char *tier_name(enum rp_tier tier)
{
    static const char *const names[] = {"portable", "pinned", "fast"};
    return names[tier];
}

/* The lock of the spec; *lock stays NULL when it names none. */
static enum rp_status read_lock(const struct rp_spec *spec, char **path, json_t **lock,
                                struct rp_error *err)
{
    *path = NULL;
    *lock = NULL;
    if (!spec->environment_lock) return RP_STATUS_OK;
    *path = rp_spec_path(spec, spec->environment_lock);
    return rp_env_lock_read(*path, lock, err);
}

enum rp_status rp_env_check_against(const struct rp_spec *spec, const char *name,
                                    const json_t *lock, const json_t *environment, bool allow_drift,
                                    json_t **drift, struct rp_error *err)
{
    struct rp_text table = {0};
    enum rp_status status = RP_STATUS_OK;
    json_t *rows = rp_env_compare(lock, environment, spec->determinism);
    int n_touching = rp_env_count_touching(rows);
    /* At fast no bit is promised, so none can be broken. */
    if (n_touching > 0 && spec->determinism != RP_TIER_FAST && !allow_drift) {
        rp_env_print_rows(rows, &table);
        status = rp_error_set(
            err, RP_STATUS_ENVIRONMENT,
            "the environment is not the one of %s, and %d of the differences can touch bits at "
            "`determinism: %s`:\n%srun where it is the same, or write a new lock with `reprise "
            "lock "
            "%s`, or pass --allow-drift, which is recorded",
            name, n_touching, tier_name(spec->determinism), rp_text_get(&table), spec->path);
    } else if (drift) {
        *drift = json_incref(rows);
    }
    rp_text_release(&table);
    json_decref(rows);
    return status;
}

enum rp_status rp_env_check(const struct rp_spec *spec, const json_t *environment, bool allow_drift,
                            json_t **drift, struct rp_error *err)
{
    char *path = NULL;
    json_t *lock = NULL;
    enum rp_status status = RP_STATUS_OK;
    RP_TRY_GOTO(status, read_lock(spec, &path, &lock, err), out);
    if (lock)
        status = rp_env_check_against(spec, path, lock, environment, allow_drift, drift, err);
    else if (drift)
        *drift = json_array();
out:
    json_decref(lock);
    rp_mem_free(path);
    return status;
}

enum rp_status rp_env_check_data(const struct rp_spec *spec, const struct rp_env_file *files,
                                 int n_files, struct rp_error *err)
{
    char *path = NULL;
    json_t *lock = NULL, *rows = NULL;
    struct rp_text table = {0};
    enum rp_status status = RP_STATUS_OK;
    RP_TRY_GOTO(status, read_lock(spec, &path, &lock, err), out);
    if (!lock) goto out;
    rows = rp_env_compare_data(lock, files, n_files);
    if (json_array_size(rows) > 0) {
        rp_env_print_rows(rows, &table);
        status = rp_error_set(err, RP_STATUS_DATA,
                              "the data is not that of %s:\n%srestore these files, or write a new "
                              "lock with `reprise lock %s`",
                              path, rp_text_get(&table), spec->path);
    }
out:
    rp_text_release(&table);
    json_decref(rows);
    json_decref(lock);
    rp_mem_free(path);
    return status;
}
