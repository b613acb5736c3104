/* launch.h - job files: a spec, and what is known of a site, as files that a person can read and a
 * scheduler takes. Nothing is started but by rp_launch_submit. */
#ifndef RP_LAUNCH_H
#define RP_LAUNCH_H

#include "base/mem.h"
#include "spec/spec.h"

/* One run: its --set arguments (NULL-terminated, or NULL) and its folder, absolute. Of a sweep
 * there are several, else one. */
struct rp_launch_member {
    const char *const *set;
    const char *run;
};
struct rp_launch {
    const struct rp_spec *spec; /* of the first member */
    const struct rp_site *site;
    const char *folder; /* where the files go; absolute */
    const char *data;   /* where relative paths of the spec start; absolute */
    const char *program;
    const struct rp_launch_member *member;
    int n_members;
    int nodes;            /* 0: as few as ranks and site allow */
    const char *time;     /* NULL: the site's */
    const char *estimate; /* Slurm: a limit that is taken when it is less; NULL: none */
    int stop_seconds;     /* to ask for, from the request to stop until all is saved */
    int save_seconds;     /* what a step and a save may take of it */
    bool measured;        /* save_seconds was measured here, not reckoned from the checkpoint */
};

/* What was made; paths are absolute. */
enum { RP_LAUNCH_MAX_FILES = 8 };
struct rp_launch_files {
    char *path[RP_LAUNCH_MAX_FILES];
    bool made[RP_LAUNCH_MAX_FILES]; /* by this call: it was not there before */
    int n;
    char *submit[6]; /* the command that submits them, NULL-terminated */
    bool runs;       /* it is the run itself, whose exit code counts */
};

/* How long somebody leaves between the request to stop and the kill. */
struct rp_launch_grace {
    long seconds;
    char who[160]; /* what to change where that is too short: "slurm.grace of the site" */
};
enum { RP_LAUNCH_MAX_GRACES = 72 };

/* The fourth table of function pointers of DESIGN 2: a row per target. */
struct rp_launcher {
    const char *name;
    int64_t (*ranks_per_node)(const struct rp_site *site); /* 0: any number */
    /* All that the site, the options and the job's own files say; how many. */
    int (*graces)(const struct rp_launch *job, struct rp_launch_grace graces[RP_LAUNCH_MAX_GRACES]);
    enum rp_status (*write)(const struct rp_launch *job, int ranks, int nodes,
                            struct rp_launch_files *files, struct rp_error *err);
};
/* NULL when there is none of this name. */
const struct rp_launcher *rp_launcher_find(const char *name);

int rp_launch_graces(const struct rp_launcher *launcher, const struct rp_launch *job,
                     struct rp_launch_grace graces[RP_LAUNCH_MAX_GRACES]);
/* False, with a warning, where it is less than what the run may take to stop. */
bool rp_launch_check_grace(const struct rp_launch *job, const struct rp_launch_grace *grace);
/* A file that is there already with other bytes is kept, and is a failure (USAGE). */
RP_NODISCARD enum rp_status rp_launch_write(const struct rp_launcher *launcher,
                                            const struct rp_launch *job,
                                            struct rp_launch_files *files, struct rp_error *err);
/* Runs the command; what it prints goes where ours does. ENVIRONMENT when it cannot or fails; then
 * what a scheduler has refused is removed, as far as it was made here, so that it can be written
 * again when the site is corrected. */
RP_NODISCARD enum rp_status rp_launch_submit(const struct rp_launch_files *files,
                                             struct rp_error *err);
void rp_launch_files_release(struct rp_launch_files *files);

/* ---- quoting: whatever a spec, a site or a command line gave passes through one of these ---- */

/* `word` as every POSIX shell reads it back; while it has no control character, sbatch too, in
 * whose `#SBATCH` lines a backslash counts between single quotes and not before a blank. */
void rp_launch_add_word(struct rp_text *text, const char *word);
/* `string` as a YAML scalar behind "key: ": a literal block below column `indent` when it is plain
 * lines, else in double quotes. It must be UTF-8. */
void rp_launch_add_yaml(struct rp_text *text, const char *string, int indent);

#endif
