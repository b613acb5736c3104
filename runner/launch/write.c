/* write.c - what all targets share: how many nodes, files put down without loss, the command that
 * submits them. */
#include "launch/launch_int.h"

#include "base/log.h"
#include "base/sys.h"
#include "plan/plan.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

const struct rp_launcher *rp_launcher_find(const char *name)
{
    static const struct rp_launcher *const all[] = {&rp_launcher_local, &rp_launcher_slurm,
                                                    &rp_launcher_kubernetes};
    for (size_t i = 0; i < RP_COUNT(all); i++)
        if (strcmp(all[i]->name, name) == 0) return all[i];
    return NULL;
}

/* ---- ranks on nodes -------------------------------------------------------------------------- */

/* The spec's demand; without one as many as the nodes named hold. */
static enum rp_status count(const struct rp_launch *job, int64_t per_node, int *ranks, int *nodes,
                            struct rp_error *err)
{
    int64_t demanded = job->spec->resources.ranks, n_nodes = job->nodes, n = demanded;
    if (n == 0) n = n_nodes == 0 ? 1 : n_nodes * (per_node ? per_node : 1);
    RP_TRY(rp_plan_check_ranks(job->spec, n, err));
    if (n_nodes == 0)
        for (n_nodes = 1; per_node && (n % n_nodes || n / n_nodes > per_node);) n_nodes++;
    if (n % n_nodes || (per_node && n / n_nodes > per_node))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%lld ranks do not fit on %lld nodes%s: give another --nodes, or "
                            "another resources.ranks",
                            (long long)n, (long long)n_nodes,
                            n % n_nodes ? ", the same number on each"
                                        : ", as the site's ranks_per_node is less");
    *ranks = (int)n;
    *nodes = (int)n_nodes;
    return RP_STATUS_OK;
}

static enum rp_status check_path(const char *what, const char *path, struct rp_error *err)
{
    for (const char *c = path; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return rp_error_set(err, RP_STATUS_USAGE,
                                "%s %s has a control character in its name: job files cannot hold "
                                "it; give another",
                                what, path);
    return RP_STATUS_OK;
}

enum rp_status rp_launch_write(const struct rp_launcher *launcher, const struct rp_launch *job,
                               struct rp_launch_files *files, struct rp_error *err)
{
    struct rp_launch_grace graces[RP_LAUNCH_MAX_GRACES];
    int ranks = 1, nodes = 1;
    *files = (struct rp_launch_files){0};
    RP_TRY(check_path("the folder", job->folder, err));
    RP_TRY(check_path("the data folder", job->data, err));
    RP_TRY(check_path("the program", job->program, err));
    for (int i = 0; i < job->n_members; i++)
        RP_TRY(check_path("the run folder", job->member[i].run, err));
    RP_TRY(count(job, launcher->ranks_per_node(job->site), &ranks, &nodes, err));
    int n = rp_launch_graces(launcher, job, graces);
    for (int i = 0; i < n; i++) (void)rp_launch_check_grace(job, &graces[i]);
    return launcher->write(job, ranks, nodes, files, err);
}

/* ---- files ----------------------------------------------------------------------------------- */

enum rp_status rp_launch_put(const struct rp_launch *job, const char *name, const void *bytes,
                             size_t length, struct rp_launch_files *files, struct rp_error *err)
{
    struct rp_sys_stat stat;
    char *path = rp_sys_join(job->folder, name), *old = NULL;
    size_t old_length = 0;
    enum rp_status status;
    files->path[files->n++] = path;
    RP_TRY_GOTO(status, rp_sys_make_folder(job->folder, err), out);
    RP_TRY_GOTO(status, rp_sys_stat(path, &stat, err), out);
    if (stat.exists) {
        RP_TRY_GOTO(status,
                    rp_sys_read_file(path, 1 << 26, RP_STATUS_USAGE, &old, &old_length, err), out);
        if (old_length == length && memcmp(old, bytes, length) == 0) goto out;
        status = rp_error_set(err, RP_STATUS_USAGE,
                              "%s is there already and is another; remove it, or write to another "
                              "folder (--out DIR)",
                              path);
        goto out;
    }
    status = rp_sys_write_file(path, bytes, length, err);
    files->made[files->n - 1] = status == RP_STATUS_OK;
out:
    rp_mem_free(old);
    return status;
}

enum rp_status rp_launch_put_spec(const struct rp_launch *job, struct rp_launch_files *files,
                                  struct rp_error *err)
{
    return rp_launch_put(job, "spec.yaml", job->spec->bytes, job->spec->n_bytes, files, err);
}

void rp_launch_add_run(struct rp_text *text, const struct rp_launch *job,
                       const struct rp_launch_member *member)
{
    char *spec = rp_sys_join(job->folder, "spec.yaml");
    const char *words[] = {"run", spec, "--data", job->data, "--out", member->run};
    for (size_t i = 0; i < RP_COUNT(words); i++) {
        rp_text_add(text, " ");
        rp_launch_add_word(text, words[i]);
    }
    for (const char *const *set = member->set; set && *set; set++) {
        rp_text_add(text, " --set ");
        rp_launch_add_word(text, *set);
    }
    rp_mem_free(spec);
}

/* ---- time to stop ---------------------------------------------------------------------------- */

void rp_launch_add_grace(struct rp_launch_grace graces[RP_LAUNCH_MAX_GRACES], int *n, long seconds,
                         const char *who)
{
    if (*n == RP_LAUNCH_MAX_GRACES) return;
    struct rp_launch_grace *grace = &graces[(*n)++];
    grace->seconds = seconds;
    snprintf(grace->who, sizeof grace->who, "%s", who);
}

int rp_launch_graces(const struct rp_launcher *launcher, const struct rp_launch *job,
                     struct rp_launch_grace graces[RP_LAUNCH_MAX_GRACES])
{
    return launcher->graces ? launcher->graces(job, graces) : 0;
}

bool rp_launch_check_grace(const struct rp_launch *job, const struct rp_launch_grace *grace)
{
    if (grace->seconds >= job->save_seconds) return true;
    rp_log_warning(
        "%s leaves %ld s between the request to stop and the kill, but a step and a save "
        "%s %d s: what was computed since the last checkpoint may be lost. Raise it, or "
        "save more often (checkpoint.every)",
        grace->who, grace->seconds,
        job->measured ? "took, with as much again for safety," : "may take", job->save_seconds);
    return false;
}

void rp_launch_files_release(struct rp_launch_files *files)
{
    for (int i = 0; i < files->n; i++) rp_mem_free(files->path[i]);
    for (size_t i = 0; i < RP_COUNT(files->submit); i++) rp_mem_free(files->submit[i]);
    *files = (struct rp_launch_files){0};
}

/* Nobody has them: a job that waits keeps its files. */
static void take_back(const struct rp_launch_files *files)
{
    for (int i = 0; i < files->n; i++)
        if (files->made[i] && rp_sys_remove(files->path[i], NULL) != RP_STATUS_OK) return;
}

enum rp_status rp_launch_submit(const struct rp_launch_files *files, struct rp_error *err)
{
    int how = 0;
    pid_t child = fork();
    if (child == 0) {
        execvp(files->submit[0], files->submit);
        _exit(127);
    }
    rp_sys_wait_child(child, &how);
    if (child > 0 && WIFEXITED(how) && WEXITSTATUS(how) == 0) return RP_STATUS_OK;
    if (files->runs && child > 0 && WIFEXITED(how) && WEXITSTATUS(how) != 127)
        return rp_error_set(err, (enum rp_status)WEXITSTATUS(how),
                            "the run ended with %d, for the reason that it gives above",
                            WEXITSTATUS(how));
    if (child > 0 && WIFEXITED(how) && WEXITSTATUS(how) == 127)
        return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                            "%s is not installed here, or not in PATH; the files are written: "
                            "submit them where it is",
                            files->submit[0]);
    take_back(files);
    return rp_error_set(
        err, RP_STATUS_ENVIRONMENT,
        "%s failed (exit %d), for the reason that it gives above. Correct that, and "
        "give the same command again: what it had written is removed (without "
        "--submit it stays, to look at)",
        files->submit[0], child > 0 && WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how));
}
