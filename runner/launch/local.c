/* local.c - this machine: a shell script with the command lines. */
#include "launch/launch_int.h"

#include "base/sys.h"

static int64_t any_number(const struct rp_site *site)
{
    (void)site;
    return 0;
}

static enum rp_status write_script(const struct rp_launch *job, int ranks, int nodes,
                                   struct rp_launch_files *files, struct rp_error *err)
{
    struct rp_text text = {0};
    if (nodes > 1)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--nodes %d: --on local is this machine alone; there are --on slurm "
                            "and --on kubernetes",
                            nodes);
    rp_text_add(
        &text, "#!/bin/sh\n# %s, written by reprise %s. A line starts a run, or goes on with it.\n",
        job->spec->name, RP_VERSION);
    rp_text_add(&text, job->n_members == 1 ? "exec " : "code=0\n");
    for (int i = 0; i < job->n_members; i++) {
        rp_launch_add_word(&text, job->program);
        rp_launch_add_run(&text, job, &job->member[i]);
        rp_text_add(&text, " --set resources.ranks=%d", ranks);
        /* 20: the whole was asked to stop. */
        rp_text_add(&text,
                    job->n_members == 1 ? "\n" : " || code=$?\n[ $code != 20 ] || exit 20\n");
    }
    if (job->n_members > 1) rp_text_add(&text, "exit $code\n");
    enum rp_status status = rp_launch_put_spec(job, files, err);
    if (status == RP_STATUS_OK)
        status = rp_launch_put(job, "run.sh", rp_text_get(&text), text.length, files, err);
    rp_text_release(&text);
    files->runs = true;
    files->submit[0] = rp_mem_copy_text("sh");
    files->submit[1] = rp_sys_join(job->folder, "run.sh");
    return status;
}

const struct rp_launcher rp_launcher_local = {
    .name = "local", .ranks_per_node = any_number, .write = write_script};
