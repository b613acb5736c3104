/* world.c - which rank this process is, from the variables of whoever started it (DESIGN 8). */
#include "comm/world.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/sys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Below those that kernels give to connections (32768 and up). */
enum { FIRST_PORT = 20000, PORTS = 12000, MOST_WAIT = 86400 };

/* One row per launcher, in the order in which they are believed: mpirun inside a Slurm allocation
 * leaves Slurm's variables of another job step behind. `also` must be set too, for the launcher to
 * be the one that started us; `local_ranks` may be missing. */
static const struct launcher {
    const char *name, *rank, *n_ranks, *local_rank, *local_ranks, *also;
} launchers[] = {
    {"reprise", "REPRISE_RANK", "REPRISE_RANKS", "REPRISE_LOCAL_RANK", "REPRISE_LOCAL_RANKS",
     "REPRISE_RANK"},
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK"},
    {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_RANK"},
    {"MPICH", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "PMI_RANK"},
    {"Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", NULL, "SLURM_STEP_ID"},
};

const char *rp_world_value(const char *name)
{
    const char *value = name ? rp_sys_env(name) : NULL;
    return value && value[0] ? value : NULL;
}

/* A whole number from `low` to `high` in variable `name`. */
enum rp_status rp_world_number(const char *name, long low, long high, int *number,
                               struct rp_error *err)
{
    const char *text = rp_world_value(name);
    char *end = NULL;
    errno = 0;
    long value = text ? strtol(text, &end, 10) : 0;
    if (text && *end == '\0' && errno == 0 && value >= low && value <= high) {
        *number = (int)value;
        return RP_STATUS_OK;
    }
    if (!text)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "the variable %s is not set, though others of its launcher are; unset "
                            "them to run alone",
                            name);
    return rp_error_set(err, RP_STATUS_USAGE, "%s is \"%s\", not a whole number from %ld to %ld",
                        name, text, low, high);
}

static bool in_slurm_step(void)
{
    const char *step = rp_world_value("SLURM_STEP_ID");
    return step && step[0] >= '0' && step[0] <= '9';
}

static bool is_there(const struct launcher *l)
{
    if (!rp_world_value(l->rank) || !rp_world_value(l->also)) return false;
    return strcmp(l->name, "Slurm") != 0 || in_slurm_step();
}

static const struct launcher *find_launcher(void)
{
    for (size_t i = 0; i < RP_COUNT(launchers); i++)
        if (is_there(&launchers[i])) return &launchers[i];
    return NULL;
}

static enum rp_status read_ranks(const struct launcher *l, struct rp_comm_world *world,
                                 struct rp_error *err)
{
    RP_TRY(rp_world_number(l->n_ranks, 1, 1 << 20, &world->n_ranks, err));
    RP_TRY(rp_world_number(l->rank, 0, 1 << 20, &world->rank, err));
    if (world->rank >= world->n_ranks)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s is %d, but %s is %d: a rank is less than their number", l->rank,
                            world->rank, l->n_ranks, world->n_ranks);
    if (rp_world_value(l->local_rank))
        RP_TRY(rp_world_number(l->local_rank, 0, 1 << 20, &world->local_rank, err));
    if (!rp_world_value(l->local_ranks)) return RP_STATUS_OK;
    RP_TRY(rp_world_number(l->local_ranks, 1, 1 << 20, &world->local_ranks, err));
    if (world->local_ranks > world->n_ranks)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s is %d, but %s is %d: a host has no more ranks than there are",
                            l->local_ranks, world->local_ranks, l->n_ranks, world->n_ranks);
    if (world->local_rank >= world->local_ranks)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s is %d, but %s is %d: a rank is less than their number",
                            l->local_rank, world->local_rank, l->local_ranks, world->local_ranks);
    return RP_STATUS_OK;
}

/* A launcher starts four, and the MPI that it was not told about gives each a world of its own. */
static enum rp_status check_against(const struct launcher *l, const struct launcher *other,
                                    const struct rp_comm_world *world, struct rp_error *err)
{
    int tasks = 1;
    if (world->n_ranks != 1 || other == l || !is_there(other) || !rp_world_value(other->n_ranks))
        return RP_STATUS_OK;
    RP_TRY(rp_world_number(other->n_ranks, 1, 1 << 20, &tasks, err));
    if (tasks == 1) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "%s is 1, but %s is %d: %s started %d processes and gave each a world of "
                        "its own. Start them with `srun --mpi=none`, or as one job with mpirun",
                        l->n_ranks, other->n_ranks, tasks, other->name, tasks);
}

/* PMIx tells a rank its number, and of how many only by calls. */
static enum rp_status check_against_pmix(const struct launcher *l,
                                         const struct rp_comm_world *world, struct rp_error *err)
{
    int rank = 0;
    if (!rp_world_value("PMIX_RANK")) return RP_STATUS_OK;
    if (!l)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "PMIX_RANK is %s, but no variable says of how many ranks: start them "
                            "with srun or mpirun, or set REPRISE_RANK, REPRISE_RANKS, "
                            "REPRISE_ADDRESS and REPRISE_PORT; unset it to run alone",
                            rp_world_value("PMIX_RANK"));
    if (strcmp(l->name, "Slurm") != 0) return RP_STATUS_OK;
    RP_TRY(rp_world_number("PMIX_RANK", 0, 1 << 20, &rank, err));
    if (rank == world->rank) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "PMIX_RANK is %d, but SLURM_PROCID is %d: two launchers have numbered the "
                        "ranks; start them with srun or mpirun alone",
                        rank, world->rank);
}

/* ---- where rank 0 listens -------------------------------------------------------------------- */

bool rp_world_first_host(const char *list, char host[256])
{
    size_t n = 0;
    for (const char *at = list; *at && *at != ','; at++) {
        if (*at == '[') { /* the first of what the bracket holds */
            for (at++; *at && *at != ']' && *at != ',' && *at != '-' && n < 255; at++)
                host[n++] = *at;
            while (*at && *at != ']') at++;
            if (!*at) return false;
            continue;
        }
        if (n < 255) host[n++] = *at;
    }
    host[n] = '\0';
    return n > 0;
}

static enum rp_status find_address(const struct launcher *l, struct rp_comm_world *world,
                                   struct rp_error *err)
{
    const char *given = rp_world_value("REPRISE_ADDRESS");
    if (!given && strcmp(l->name, "torchrun") == 0) given = rp_world_value("MASTER_ADDR");
    if (given) {
        snprintf(world->address, sizeof world->address, "%s", given);
        return RP_STATUS_OK;
    }
    const char *nodes = in_slurm_step() ? rp_world_value("SLURM_STEP_NODELIST") : NULL;
    if (nodes && rp_world_first_host(nodes, world->address)) return RP_STATUS_OK;
    snprintf(world->address, sizeof world->address, "127.0.0.1");
    if (world->local_ranks == world->n_ranks) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "%s does not say where rank 0 is: set REPRISE_ADDRESS to its host on every "
                        "rank (%s is %d, of %d)",
                        l->name, l->rank, world->rank, world->n_ranks);
}

/* Ranks of one job must come to one number, those of two jobs on a host to two. */
static enum rp_status find_port(const struct launcher *l, struct rp_comm_world *world,
                                struct rp_error *err)
{
    if (rp_world_value("REPRISE_PORT"))
        return rp_world_number("REPRISE_PORT", 1, 65535, &world->port, err);
    if (strcmp(l->name, "torchrun") == 0 && rp_world_value("MASTER_PORT")) {
        RP_TRY(rp_world_number("MASTER_PORT", 1, 65534, &world->port, err));
        world->port++; /* torchrun's own store listens on the port itself */
        return RP_STATUS_OK;
    }
    if (!in_slurm_step() && world->local_ranks != world->n_ranks)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s does not say at which port rank 0 listens: set REPRISE_PORT to a "
                            "free one, the same on every rank (%s is %d, of %d)",
                            l->name, l->rank, world->rank, world->n_ranks);
    int job = (int)getppid(); /* of ranks on one host: the launcher's process */
    if (in_slurm_step() && rp_world_value("SLURM_JOB_ID")) {
        int step = 0;
        RP_TRY(rp_world_number("SLURM_JOB_ID", 0, 2000000000, &job, err));
        RP_TRY(rp_world_number("SLURM_STEP_ID", 0, 2000000000, &step, err));
        job = (int)(((int64_t)job + 97 * (int64_t)step) % PORTS);
    }
    world->port = FIRST_PORT + job % PORTS;
    return RP_STATUS_OK;
}

void rp_world_find_token(struct rp_comm_world *world)
{
    const char *given = rp_world_value("REPRISE_TOKEN"), *job = rp_world_value("SLURM_JOB_ID");
    char text[512];
    if (given) {
        snprintf(world->token, sizeof world->token, "%s", given);
        return;
    }
    /* Keeps strangers of the same site apart, no more. */
    snprintf(text, sizeof text, "%s %s %d %s", world->launcher, world->address, world->port,
             job ? job : "");
    struct rp_sha256 hash = rp_sha256_of(text, strlen(text));
    rp_sha256_hex(&hash, world->token);
}

enum rp_status rp_comm_discover(struct rp_comm_world *world, struct rp_error *err)
{
    *world = (struct rp_comm_world){.n_ranks = 1, .n_nodes = 1, .local_ranks = 1, .listener = -1};
    const struct launcher *l = find_launcher();
    if (rp_world_value("REPRISE_WAIT"))
        RP_TRY(rp_world_number("REPRISE_WAIT", 1, MOST_WAIT, &world->patience, err));
    if (!l) {
        RP_TRY(rp_world_find_nodes(RP_WORLD_SAGEMAKER, world, err));
        return world->launcher ? RP_STATUS_OK : check_against_pmix(l, world, err);
    }
    world->launcher = l->name;
    world->local_ranks = 0;
    RP_TRY(read_ranks(l, world, err));
    for (size_t i = 0; i < RP_COUNT(launchers); i++)
        RP_TRY(check_against(l, &launchers[i], world, err));
    RP_TRY(check_against_pmix(l, world, err));
    if (world->n_ranks == 1) {
        world->local_ranks = 1;
        return RP_STATUS_OK;
    }
    RP_TRY(find_address(l, world, err));
    RP_TRY(find_port(l, world, err));
    rp_world_find_token(world);
    return RP_STATUS_OK;
}

bool rp_comm_is_one_host(const struct rp_comm_world *world)
{
    return world->n_nodes <= 1 && (!world->launcher || world->local_ranks == world->n_ranks);
}
