/* choose.c - which module moves the bytes between ranks. */
#include "comm/mover.h"
#include "comm/shm.h"
#include "comm/world.h"

#include "base/mem.h"
#include "base/sys.h"

#include <stdio.h>
#include <string.h>

#define NCCL_MODULE "reprise_nccl"
#define MPICH       "reprise_mpi_mpich"
#define OPEN_MPI    "reprise_mpi_openmpi"
#define GLOO_ADVICE                                                                                \
    "it moves bytes between CPU ranks; install libgloo-dev (scripts/setup) and build again"
#define NCCL_ADVICE                                                                                \
    "it moves bytes between GPUs and comes with every build: install the modules that came with "  \
    "this program, or name their folder in REPRISE_MODULES"
#define MPI_ADVICE                                                                                 \
    "it is built for each MPI whose compiler is found: install libmpich-dev or libopenmpi-dev, "   \
    "or "                                                                                          \
    "name the compiler of this site's own MPI (cmake -DRP_MPICC=FILE), and build again"

/* A site's own build comes first; of Debian's two the one whose launcher started us, told by the
 * variables of its process manager. */
static const char *find_mpi(const struct rp_comm_world *world)
{
    bool pmix = strcmp(world->launcher, "Open MPI") == 0 || rp_world_value("PMIX_RANK");
    const char *first = pmix ? OPEN_MPI : MPICH, *second = pmix ? MPICH : OPEN_MPI;
    if (rp_extension_is_there("reprise_mpi")) return "reprise_mpi";
    return rp_extension_is_there(first) || !rp_extension_is_there(second) ? first : second;
}

static enum rp_status open_module(const char *name, const char *advice,
                                  const struct rp_comm_module **module, struct rp_error *err)
{
    const struct rp_extension *extension = NULL;
    char why[RP_COMM_WHY_BYTES] = "";
    RP_TRY(rp_extension_open(name, advice, &extension, err));
    *module = (const struct rp_comm_module *)(const void *)extension;
    enum rp_status status =
        (*module)->look ? (*module)->look(rp_sys_env("REPRISE_NCCL"), why) : RP_STATUS_OK;
    return status == RP_STATUS_OK ? status : rp_error_set(err, status, "%s", why);
}

bool rp_comm_has_nccl(struct rp_error *why)
{
    const struct rp_comm_module *module = NULL;
    return open_module(NCCL_MODULE, NCCL_ADVICE, &module, why) == RP_STATUS_OK;
}

/* NCCL refuses two ranks on a GPU of one host, so to it each is a host of its own, and what needs
 * real hosts is off. For tests on a machine with one GPU; a variable that is set stays. */
static void let_nccl_share(int rank)
{
    static const char *const variable[][2] = {
        {"NCCL_NET", "Socket"},    {"NCCL_IB_DISABLE", "1"},   {"NCCL_SOCKET_IFNAME", "lo"},
        {"NCCL_NVLS_ENABLE", "0"}, {"NCCL_MNNVL_ENABLE", "0"},
    };
    char name[32];
    snprintf(name, sizeof name, "reprise-rank-%d", rank);
    if (!rp_sys_env("NCCL_HOSTID")) rp_sys_set_env("NCCL_HOSTID", name);
    for (size_t i = 0; i < RP_COUNT(variable); i++)
        if (!rp_sys_env(variable[i][0])) rp_sys_set_env(variable[i][0], variable[i][1]);
}

/* UCX, below MPICH, writes pages about a dead rank that we name in a line. Open MPI ends in
 * MPI_Init where Slurm has not told it of the others. */
static enum rp_status prepare_mpi(const char *name, const struct rp_comm_world *world,
                                  struct rp_error *err)
{
    if (!rp_sys_env("UCX_HANDLE_ERRORS")) rp_sys_set_env("UCX_HANDLE_ERRORS", "none");
    if (strcmp(name, OPEN_MPI) != 0 || strcmp(world->launcher, "Slurm") != 0 ||
        rp_world_value("PMIX_RANK"))
        return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "Slurm started %d ranks, but Open MPI would have a world of 1: it was not "
                        "told of the others. Start them with `srun --mpi=pmix`; `resources: {comm: "
                        "gloo}` needs no MPI",
                        world->n_ranks);
}

enum rp_status rp_comm_open_gloo(struct rp_comm_mover *mover, struct rp_error *err)
{
    mover->name = "reprise_gloo";
    return open_module(mover->name, GLOO_ADVICE, &mover->module, err);
}

/* The module that is named, or that alone is there for such a device. */
static enum rp_status choose_module(struct rp_comm_mover *mover, const struct rp_comm *comm,
                                    const struct rp_comm_world *world, const char *wanted,
                                    struct rp_error *err)
{
    if (strcmp(wanted, "gloo") == 0) return rp_comm_open_gloo(mover, err);
    if (strcmp(wanted, "nccl") == 0) {
        if (mover->device->config.share) let_nccl_share(comm->rank);
        mover->name = NCCL_MODULE;
        return open_module(mover->name, NCCL_ADVICE, &mover->module, err);
    }
    mover->name = find_mpi(world);
    RP_TRY(prepare_mpi(mover->name, world, err));
    return open_module(mover->name, MPI_ADVICE, &mover->module, err);
}

/* For whoever wants to know whether it is the overlap that is wrong, or worth anything: no bit
 * depends on it, and ranks may differ. */
static enum rp_status read_overlap(struct rp_comm_mover *mover, struct rp_error *err)
{
    const char *text = rp_sys_env("REPRISE_OVERLAP");
    mover->one_after_another = text && strcmp(text, "0") == 0;
    if (!text || !text[0] || mover->one_after_another || strcmp(text, "1") == 0)
        return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "the variable REPRISE_OVERLAP is \"%s\": write 0 for exchanges that wait "
                        "until backward has ended, or 1, the default",
                        text);
}

enum rp_status rp_comm_choose(struct rp_comm *comm, const struct rp_comm_world *world,
                              const char *wanted, struct rp_device *device, struct rp_error *err)
{
    bool on_gpu = device->table->beside_begin != NULL;
    if (comm->n_ranks <= 1) return RP_STATUS_OK;
    bool any = strcmp(wanted, "auto") == 0;
    if (any && on_gpu) wanted = "nccl";
    bool for_gpu = strcmp(wanted, "nccl") == 0;
    if (for_gpu != on_gpu)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "resources.comm is %s, which moves bytes between %s, and the device is "
                            "%s: write `comm: auto`",
                            wanted, for_gpu ? "GPUs" : "CPUs", device->table->name);
    struct rp_comm_mover mover = {.name = wanted, .device = device, .launcher = world->launcher};
    RP_TRY(read_overlap(&mover, err));
    if (any && !on_gpu)
        mover.shm = RP_COMM_SHM_TRY;
    else if (strcmp(wanted, "shm") == 0)
        mover.shm = RP_COMM_SHM_DEMAND;
    else
        RP_TRY(choose_module(&mover, comm, world, wanted, err));
    comm->mover = RP_NEW(struct rp_comm_mover);
    *comm->mover = mover;
    return RP_STATUS_OK;
}

/* Those of MPI are not opened: it is not sure that two MPIs can be in one process. */
int rp_comm_list(const char *names[RP_COMM_MODULES],
                 char texts[RP_COMM_MODULES][RP_COMM_MODULE_TEXT])
{
    static const char *const mpi[] = {MPICH, OPEN_MPI, "reprise_mpi"};
    const struct rp_comm_module *module = NULL;
    struct rp_error why = {0};
    int n = 0;
    names[n] = rp_shm_module.extension.name;
    snprintf(texts[n++], RP_COMM_MODULE_TEXT, "%s", rp_shm_module.extension.libraries);
    for (int i = 0; i < 2; i++, n++) {
        names[n] = i == 0 ? "reprise_gloo" : NCCL_MODULE;
        const char *advice = i == 0 ? GLOO_ADVICE : NCCL_ADVICE;
        bool there = open_module(names[n], advice, &module, &why) == RP_STATUS_OK;
        snprintf(texts[n], RP_COMM_MODULE_TEXT, "%.580s",
                 there ? module->extension.libraries : why.text);
        rp_error_clear(&why);
    }
    for (size_t i = 0; i < RP_COUNT(mpi); i++) {
        if (!rp_extension_is_there(mpi[i])) continue;
        names[n] = mpi[i];
        snprintf(texts[n++], RP_COMM_MODULE_TEXT, "there");
    }
    return n;
}

void rp_comm_describe(const struct rp_comm *comm, char text[128])
{
    text[0] = '\0';
    if (comm->mover && comm->mover->module)
        snprintf(text, 128, "%s, %s", comm->mover->name, comm->mover->module->extension.libraries);
}
