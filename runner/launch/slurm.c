/* slurm.c - a batch script for Slurm. It starts one srun, forwards the request to stop, and has
 * itself requeued; which signals and exit codes reach whom was tried on a cluster
 * (tests/launch/test_slurm.py does it again). */
#include "launch/launch_int.h"

#include "base/log.h"
#include "base/sys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_MEMBERS = 1000 /* MaxArraySize is 1001 unless a site raises it */ };

static int64_t ranks_per_node(const struct rp_site *site)
{
    return site->slurm.ranks_per_node;
}

static void add_option(struct rp_text *text, const char *name, const char *value)
{
    if (!value) return;
    rp_text_add(text, "#SBATCH --%s=", name);
    rp_launch_add_word(text, value);
    rp_text_add(text, "\n");
}

static void add_number(struct rp_text *text, const char *name, int64_t value)
{
    rp_text_add(text, "#SBATCH --%s=%lld\n", name, (long long)value);
}

/* What the script itself says before it knows the run folder; sbatch reads `%` as a pattern. */
static void add_output(struct rp_text *text, const struct rp_launch *job)
{
    struct rp_text path = {0};
    for (const char *c = job->folder; *c; c++) rp_text_add(&path, *c == '%' ? "%%%%" : "%c", *c);
    rp_text_add(&path, "%s", job->n_members > 1 ? "/slurm-%A_%a.txt" : "/slurm-%j.txt");
    add_option(text, "output", rp_text_get(&path));
    rp_text_release(&path);
}

/* A GPU for each rank, where the spec or the site speaks of GPUs. */
static bool wants_gpus(const struct rp_launch *job)
{
    const char *device = job->spec->resources.device;
    return strcmp(device, "cuda") == 0 ||
           (strcmp(device, "auto") == 0 && job->site->slurm.gpus_type);
}

/* Seconds of "minutes", "m:s", "h:m:s", "d-h", "d-h:m", "d-h:m:s"; 0 when it is none of them. */
static long seconds_of(const char *time)
{
    long part[3] = {0}, days = 0;
    char *end = NULL;
    int n = 0;
    const char *dash = strchr(time, '-');
    if (dash) {
        days = strtol(time, &end, 10);
        if (end != dash) return 0;
        time = dash + 1;
    }
    for (; n < 3; n++) {
        if (*time < '0' || *time > '9') return 0;
        part[n] = strtol(time, &end, 10);
        time = end + 1;
        if (!*end) break;
        if (*end != ':') return 0;
    }
    if (n == 3) return 0;
    if (dash) return days * 86400 + part[0] * 3600 + part[1] * 60 + part[2];
    return n == 2 ? part[0] * 3600 + part[1] * 60 + part[2] : part[0] * 60 + part[1];
}

static const char *limit_of(const struct rp_launch *job)
{
    const char *time = job->time ? job->time : job->site->slurm.time;
    return job->estimate && (!time || seconds_of(job->estimate) < seconds_of(time)) ? job->estimate
                                                                                    : time;
}

/* A short job is asked to stop in its last quarter, not at once. */
static int signal_seconds(const struct rp_launch *job)
{
    long limit = seconds_of(limit_of(job));
    return limit > 0 && limit / 4 < job->stop_seconds ? (int)(limit / 4) : job->stop_seconds;
}

static void add_options(struct rp_text *text, const struct rp_launch *job, int ranks, int nodes)
{
    const struct rp_site *site = job->site;
    int64_t threads = job->spec->resources.threads;
    add_option(text, "job-name", job->spec->name);
    add_number(text, "nodes", nodes);
    add_number(text, "ntasks", ranks);
    add_number(text, "ntasks-per-node", ranks / nodes);
    if (threads > 0)
        add_number(text, "cpus-per-task", threads);
    else
        rp_text_add(text, "# A rank has one processor unless --cpus-per-task asks for more: the "
                          "site's, or resources.threads.\n");
    if (wants_gpus(job)) {
        struct rp_text gpus = {0};
        const char *type = site->slurm.gpus_type;
        rp_text_add(&gpus, "%s%s%d", type ? type : "", type ? ":" : "", ranks / nodes);
        add_option(text, "gpus-per-node", rp_text_get(&gpus));
        rp_text_release(&gpus);
    }
    add_option(text, "mem", site->slurm.mem);
    add_option(text, "time", limit_of(job));
    add_option(text, "partition", site->slurm.partition);
    add_option(text, "account", site->slurm.account);
    add_option(text, "qos", site->slurm.qos);
    if (job->n_members > 1) rp_text_add(text, "#SBATCH --array=0-%d\n", job->n_members - 1);
    rp_text_add(text,
                "# The request to stop, some time before the limit; it may come a minute early.\n"
                "#SBATCH --signal=B:USR1@%d\n#SBATCH --requeue\n#SBATCH --open-mode=append\n",
                signal_seconds(job));
    add_output(text, job);
    for (int i = 0; i < site->slurm.sbatch.n; i++) {
        rp_text_add(text, "#SBATCH ");
        rp_launch_add_word(text, site->slurm.sbatch.item[i]);
        rp_text_add(text, "\n");
    }
}

static void add_program(struct rp_text *text, const struct rp_launch *job)
{
    const char *folders[] = {job->folder, job->data};
    if (!job->site->slurm.container) {
        rp_text_add(text, "program=(");
        rp_launch_add_word(text, job->program);
        rp_text_add(text, ")\n");
        return;
    }
    rp_text_add(text, "program=(apptainer exec%s --bind \"$run\"", wants_gpus(job) ? " --nv" : "");
    for (size_t i = 0; i < RP_COUNT(folders); i++) {
        rp_text_add(text, " --bind ");
        rp_launch_add_word(text, folders[i]);
    }
    rp_text_add(text, " ");
    rp_launch_add_word(text, job->site->slurm.container);
    rp_text_add(text, " reprise)\n");
}

static void add_member(struct rp_text *text, const struct rp_launch *job,
                       const struct rp_launch_member *member, int indent)
{
    rp_text_add(text, "%*srun=", indent, "");
    rp_launch_add_word(text, member->run);
    rp_text_add(text, "\n%*swords=(", indent, "");
    struct rp_text words = {0};
    rp_launch_add_run(&words, job, member);
    rp_text_add(text, "%s)", rp_text_get(&words) + 1);
    rp_text_release(&words);
}

/* Before anything that takes time: a request that comes early must not end the shell. */
static const char traps[] =
    "# USR1 to srun reaches every rank, which save and end with 20. TERM is never forwarded: srun "
    "would kill\n# them at once, and Slurm sends it to them by itself. It tells that the job is to "
    "end for good.\n"
    "step='' asked=0 ended=0\n"
    "trap 'asked=1; [ -z \"$step\" ] || kill -USR1 \"$step\" 2>/dev/null' USR1\n"
    "trap 'ended=1' TERM\n\n";

static void add_runs(struct rp_text *text, const struct rp_launch *job)
{
    if (job->n_members == 1) {
        add_member(text, job, &job->member[0], 0);
        rp_text_add(text, "\n");
    } else {
        rp_text_add(text, "case $SLURM_ARRAY_TASK_ID in\n");
        for (int i = 0; i < job->n_members; i++) {
            rp_text_add(text, "%d)\n", i);
            add_member(text, job, &job->member[i], 4);
            rp_text_add(text, "\n    ;;\n");
        }
        rp_text_add(text, "*)\n    echo \"no member $SLURM_ARRAY_TASK_ID\"\n    exit 2\n    ;;\n"
                          "esac\n");
    }
    rp_text_add(text, "mkdir -p \"$run/logs\" || exit 9\n");
    rp_text_add(text, "exec >>\"$run/logs/slurm-$SLURM_JOB_ID.txt\" 2>&1\n");
    add_program(text, job);
}

static const char facts[] =
    "\n# What the run folder tells: how often a run was begun, how the last one ended (nothing "
    "when "
    "it was\n# killed), its newest checkpoint.\n"
    "starts() { grep -c '^ *\"segment\": ' \"$run/manifest.json\" 2>/dev/null; }\n"
    "exit_code() { sed -n 's/^  \"exit_code\": \\([0-9]*\\),*$/\\1/p' \"$run/manifest.json\" "
    "2>/dev/null; }\n"
    "checkpoint() {\n"
    "    local file newest=''\n"
    "    for file in \"$run\"/checkpoints/step-*/COMMITTED; do newest=$file; done\n"
    "    printf '%s' \"$newest\"\n"
    "}\n"
    "idle_file=$run/logs/slurm-$SLURM_JOB_ID.idle # starts in a row without a new checkpoint\n"
    "idle=$(cat \"$idle_file\" 2>/dev/null)\n"
    "idle=${idle:-0}\n"
    "starts_before=$(starts)\n"
    "checkpoint_before=$(checkpoint)\n";

static const char end[] =
    "    step=$!\n"
    "    [ \"$asked\" = 0 ] || kill -USR1 \"$step\" 2>/dev/null\n"
    "    while :; do # a trap interrupts `wait`\n"
    "        wait \"$step\"\n"
    "        status=$?\n"
    "        kill -0 \"$step\" 2>/dev/null || break\n"
    "    done\n"
    "fi\n"
    "\n# srun tells the largest exit code or how it was ended itself, the manifest the first "
    "cause.\n"
    "code=$status\n"
    "if [ \"$(starts)\" != \"$starts_before\" ]; then\n"
    "    code=$(exit_code)\n"
    "    code=${code:-21}\n"
    "elif [ \"$status\" -ge 128 ]; then\n"
    "    code=21\n"
    "fi\n"
    "idle=$((idle + 1))\n"
    "[ \"$(checkpoint)\" = \"$checkpoint_before\" ] || idle=0\n"
    "echo \"$idle\" >\"$idle_file\"\n"
    "echo \"launch: srun ended with $status, the run with $code\"\n"
    "case $code in\n"
    "20 | 21 | 22 | 23 | 24)\n"
    "    if [ \"$ended\" = 1 ]; then\n"
    "        echo \"launch: cancelled or out of time, so not requeued; sbatch goes on with it\"\n"
    "    elif [ \"$idle\" -gt 5 ]; then\n"
    "        echo \"launch: $idle starts without a new checkpoint, so not requeued\"\n"
    "    else\n"
    "        echo \"launch: requeued\"\n"
    "        if scontrol requeue \"$job\"; then\n"
    "            sleep 3\n"
    "        else\n"
    "            echo \"launch: Slurm does not take it back; sbatch goes on with it\"\n"
    "        fi\n"
    "    fi\n"
    "    ;;\n"
    "esac\n"
    "exit \"$code\"\n";

static void add_script(struct rp_text *text, const struct rp_launch *job, int ranks, int nodes)
{
    /* MPI is told of its ranks in the way that the site has chosen (MpiDefault, SLURM_MPI_TYPE). */
    const char *mpi = strcmp(job->spec->resources.comm, "mpi") == 0 ? "" : " --mpi=none";
    rp_text_add(text, "#!/bin/bash\n# %s, written by reprise %s\n", job->spec->name, RP_VERSION);
    add_options(text, job, ranks, nodes);
    rp_text_add(text, "\n%s", traps);
    /* The number of an array's last member is that of the whole array, too. */
    rp_text_add(text, "job=%s\n",
                job->n_members > 1 ? "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
                                   : "$SLURM_JOB_ID");
    add_runs(text, job);
    for (int i = 0; i < job->site->slurm.before.n; i++)
        rp_text_add(text, "%s%s\n", i ? "" : "\n# slurm.before of the site\n",
                    job->site->slurm.before.item[i]);
    rp_text_add(text,
                "%s\nstatus=20 # asked to stop before it began\n"
                "if [ \"$asked$ended\" = 00 ]; then\n"
                "    # srun does not take --cpus-per-task over from sbatch in every release.\n"
                "    srun%s --kill-on-bad-exit=0 "
                "${SLURM_CPUS_PER_TASK:+\"--cpus-per-task=$SLURM_CPUS_PER_TASK\"} "
                "\"${program[@]}\" \"${words[@]}\" &\n%s",
                facts, mpi, end);
}

/* What the site, the limit, or an option of the site's own leave to stop in. */
static int graces(const struct rp_launch *job, struct rp_launch_grace grace[RP_LAUNCH_MAX_GRACES])
{
    const struct rp_site *site = job->site;
    const char *limit = limit_of(job);
    char who[128];
    int n = 0;
    if (limit && seconds_of(limit) > 0) {
        snprintf(who, sizeof who, "the time limit %.100s", limit);
        rp_launch_add_grace(grace, &n, signal_seconds(job), who);
    }
    if (site->slurm.grace)
        rp_launch_add_grace(grace, &n, site->slurm.grace, "slurm.grace of the site");
    for (int i = 0; i < site->slurm.sbatch.n; i++) {
        const char *option = site->slurm.sbatch.item[i], *at = strchr(option, '@');
        if (strncmp(option, "--signal=", 9) == 0)
            rp_launch_add_grace(grace, &n, at ? strtol(at + 1, NULL, 10) : 60, option);
    }
    return n;
}

static void check_signals(const struct rp_site *site)
{
    for (int i = 0; i < site->slurm.sbatch.n; i++) {
        const char *option = site->slurm.sbatch.item[i];
        if (strncmp(option, "--signal=", 9) == 0 && strncmp(option + 9, "B:USR1", 6) != 0)
            rp_log_warning(
                "slurm.sbatch of the site has %s in place of --signal=B:USR1: the script "
                "waits for USR1 to the batch shell, and passes nothing else on",
                option);
    }
}

/* Apptainer reads `:` and `,` in the names of folders that it binds. */
static enum rp_status check_binds(const struct rp_launch *job, struct rp_error *err)
{
    if (!job->site->slurm.container) return RP_STATUS_OK;
    for (int i = -2; i < job->n_members; i++) {
        const char *folder = i == -2 ? job->folder : i == -1 ? job->data : job->member[i].run;
        if (folder[strcspn(folder, ":,")])
            return rp_error_set(err, RP_STATUS_USAGE,
                                "%s has `:` or `,` in its name, and cannot be bound into a "
                                "container; use another folder",
                                folder);
    }
    return RP_STATUS_OK;
}

static enum rp_status write_job(const struct rp_launch *job, int ranks, int nodes,
                                struct rp_launch_files *files, struct rp_error *err)
{
    struct rp_text text = {0};
    if (!limit_of(job)) return rp_site_lacks(job->site, "slurm.time", err);
    RP_TRY(check_binds(job, err));
    if (strchr(job->folder, '\\'))
        return rp_error_set(
            err, RP_STATUS_USAGE,
            "%s has a backslash in its name, which Slurm drops from the path of its "
            "log; write the job files elsewhere (--out DIR)",
            job->folder);
    if (seconds_of(limit_of(job)) == 0)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "the time limit `%s` is none of Slurm's forms, such as 04:00:00, "
                            "90 (minutes) or 1-12:00:00",
                            limit_of(job));
    if (job->n_members > MOST_MEMBERS)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "a sweep of %d members; a job array has at most %d", job->n_members,
                            MOST_MEMBERS);
    check_signals(job->site);
    add_script(&text, job, ranks, nodes);
    enum rp_status status = rp_launch_put_spec(job, files, err);
    if (status == RP_STATUS_OK)
        status = rp_launch_put(job, "job.sbatch", rp_text_get(&text), text.length, files, err);
    rp_text_release(&text);
    files->submit[0] = rp_mem_copy_text("sbatch");
    files->submit[1] = rp_sys_join(job->folder, "job.sbatch");
    return status;
}

const struct rp_launcher rp_launcher_slurm = {
    .name = "slurm", .ranks_per_node = ranks_per_node, .graces = graces, .write = write_job};
