/* choose.c - which module moves the bytes between ranks. */
#include "comm/mover.h"
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

enum rp_status rp_comm_choose(struct rp_comm *comm, const struct rp_comm_world *world,
                              const char *wanted, struct rp_device *device, struct rp_error *err)
{
    bool on_gpu = device->table->stream != NULL;
    if (comm->n_ranks <= 1) return RP_STATUS_OK;
    if (strcmp(wanted, "auto") == 0) wanted = on_gpu ? "nccl" : "gloo";
    bool for_gpu = strcmp(wanted, "nccl") == 0, mpi = strcmp(wanted, "mpi") == 0;
    if (for_gpu != on_gpu)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "resources.comm is %s, which moves bytes between %s, and the device is "
                            "%s: write `comm: auto`",
                            wanted, for_gpu ? "GPUs" : "CPUs", device->table->name);
    const char *name = for_gpu ? NCCL_MODULE : mpi ? find_mpi(world) : "reprise_gloo";
    const struct rp_comm_module *module = NULL;
    if (for_gpu && device->config.share) let_nccl_share(comm->rank);
    if (mpi) RP_TRY(prepare_mpi(name, world, err));
    RP_TRY(open_module(name, for_gpu ? NCCL_ADVICE : mpi ? MPI_ADVICE : GLOO_ADVICE, &module, err));
    comm->mover = RP_NEW(struct rp_comm_mover);
    comm->mover->module = module;
    comm->mover->name = name;
    comm->mover->device = device;
    comm->mover->launcher = world->launcher;
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
    if (comm->mover)
        snprintf(text, 128, "%s, %s", comm->mover->name, comm->mover->module->extension.libraries);
}
