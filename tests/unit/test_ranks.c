/* Ranks: the tree over their nodes, and which rank a process is. */
#include "base/mem.h"
#include "comm/tree.h"
#include "comm/world.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 16, N = 300 };

/* As DESIGN says it: the halves, then their sum. */
static float tree_of(const float *node, int first, int n, int i)
{
    if (n == 1) return node[first * N + i];
    return tree_of(node, first, n / 2, i) + tree_of(node, first + n / 2, n / 2, i);
}

static void test_tree(void)
{
    float *node = RP_NEW_ARRAY(float, MOST *N), *copy = RP_NEW_ARRAY(float, MOST *N);
    struct rp_error err = {0};
    int other = 0;
    for (int n = 2; n <= MOST; n *= 2) {
        uint32_t state = 1;
        for (int i = 0; i < n * N; i++) {
            state = state * 1664525u + 1013904223u;
            copy[i] = node[i] = (float)(int32_t)state * 1e-7f;
        }
        CHECK_INT(rp_tree_join(NULL, node, n, N, node, &err), RP_STATUS_OK);
        for (int i = 0; i < N; i++) {
            float want = tree_of(copy, 0, n, i), in_order = copy[i];
            for (int r = 1; r < n; r++) in_order += copy[r * N + i];
            CHECK(memcmp(&node[i], &want, sizeof want) == 0);
            other += n > 2 && memcmp(&node[i], &in_order, sizeof want) != 0;
        }
    }
    CHECK(other > N); /* control: the order of the ranks is another sum */
    rp_mem_free(node);
    rp_mem_free(copy);
}

static void check_host(const char *list, const char *want)
{
    char host[256];
    CHECK(rp_world_first_host(list, host));
    CHECK_TEXT(host, want);
}

static void test_hosts(void)
{
    char host[256];
    check_host("n1", "n1");
    check_host("n[1-3]", "n1");
    check_host("gpu[08-10,12]", "gpu08");
    check_host("n[01-03,7]", "n01");
    check_host("n[7,01-03]", "n7");
    check_host("a1,b[2,4]-ib", "a1");
    check_host("b[2,4]-ib,a1", "b2-ib");
    check_host("rack[0-1]node[0-3]", "rack0node0");
    CHECK(!rp_world_first_host("", host));
    CHECK(!rp_world_first_host("n[1-3", host));
}

static void forget(void)
{
    static const char *const names[] = {"REPRISE_RANK",
                                        "REPRISE_RANKS",
                                        "REPRISE_LOCAL_RANK",
                                        "REPRISE_LOCAL_RANKS",
                                        "REPRISE_ADDRESS",
                                        "REPRISE_PORT",
                                        "REPRISE_TOKEN",
                                        "RANK",
                                        "WORLD_SIZE",
                                        "LOCAL_RANK",
                                        "LOCAL_WORLD_SIZE",
                                        "MASTER_ADDR",
                                        "MASTER_PORT",
                                        "OMPI_COMM_WORLD_RANK",
                                        "OMPI_COMM_WORLD_SIZE",
                                        "OMPI_COMM_WORLD_LOCAL_RANK",
                                        "OMPI_COMM_WORLD_LOCAL_SIZE",
                                        "PMI_RANK",
                                        "PMI_SIZE",
                                        "MPI_LOCALRANKID",
                                        "MPI_LOCALNRANKS",
                                        "SLURM_PROCID",
                                        "SLURM_LOCALID",
                                        "SLURM_STEP_NUM_TASKS",
                                        "SLURM_STEP_ID",
                                        "SLURM_JOB_ID",
                                        "SLURM_STEP_NODELIST",
                                        "SLURM_NTASKS",
                                        "PET_NNODES",
                                        "PET_NODE_RANK",
                                        "PET_NPROC_PER_NODE",
                                        "PET_MASTER_ADDR",
                                        "PET_MASTER_PORT",
                                        "JOB_COMPLETION_INDEX",
                                        "REPRISE_NODES",
                                        "CLUSTER_SPEC",
                                        "PMIX_RANK",
                                        "PMIX_NAMESPACE",
                                        "REPRISE_WAIT"};
    for (size_t i = 0; i < RP_COUNT(names); i++) unsetenv(names[i]);
}

/* Sets NAME=VALUE pairs, then asks. */
static enum rp_status discover(const char *const *pairs, struct rp_comm_world *world,
                               struct rp_error *err)
{
    forget();
    rp_error_clear(err);
    for (; *pairs; pairs += 2) setenv(pairs[0], pairs[1], 1);
    return rp_comm_discover(world, err);
}
#define DISCOVER(...) discover((const char *const[]){__VA_ARGS__, NULL}, &world, &err)

static void test_world(void)
{
    struct rp_comm_world world;
    struct rp_error err = {0};
    CHECK_INT(DISCOVER("HOME", "/"), RP_STATUS_OK);
    CHECK(!world.launcher && world.n_ranks == 1 && world.rank == 0);

    CHECK_INT(DISCOVER("RANK", "3", "WORLD_SIZE", "8", "LOCAL_RANK", "1", "LOCAL_WORLD_SIZE", "2",
                       "MASTER_ADDR", "node1", "MASTER_PORT", "29500"),
              RP_STATUS_OK);
    CHECK_TEXT(world.launcher, "torchrun");
    CHECK(world.rank == 3 && world.n_ranks == 8 && world.local_rank == 1 && world.port == 29501);
    CHECK_TEXT(world.address, "node1");

    /* RANK alone is a pod's number, as Kubeflow's training operator sets it, not a process's. */
    CHECK_INT(DISCOVER("RANK", "3", "WORLD_SIZE", "8", "MASTER_ADDR", "job-master-0", "MASTER_PORT",
                       "23456"),
              RP_STATUS_OK);
    CHECK(world.n_ranks == 1 && world.node == 3 && world.n_nodes == 8 && world.port == 23456);
    CHECK_TEXT(world.address, "job-master-0");
    CHECK_INT(DISCOVER("RANK", "3", "WORLD_SIZE", "8"), RP_STATUS_USAGE);
    CHECK(strstr(err.text, "WORLD_SIZE is 8 and RANK is 3, but neither LOCAL_RANK"));
    CHECK_INT(DISCOVER("RANK", "0", "WORLD_SIZE", "1"), RP_STATUS_OK);
    CHECK(!world.launcher && world.n_nodes == 1);

    CHECK_INT(DISCOVER("SLURM_PROCID", "5", "SLURM_STEP_NUM_TASKS", "8", "SLURM_LOCALID", "1",
                       "SLURM_STEP_ID", "2", "SLURM_JOB_ID", "4711", "SLURM_STEP_NODELIST",
                       "gpu[08-11]"),
              RP_STATUS_OK);
    CHECK(world.rank == 5 && world.port == 20000 + (4711 + 97 * 2) % 12000);
    CHECK_TEXT(world.address, "gpu08");

    /* The batch script itself is no step, though Slurm gives it a rank. */
    CHECK_INT(DISCOVER("SLURM_PROCID", "0", "SLURM_NTASKS", "8", "SLURM_JOB_ID", "4711"),
              RP_STATUS_OK);
    CHECK_INT(world.n_ranks, 1);

    /* mpirun inside an allocation: its variables, not the stale ones of Slurm. */
    CHECK_INT(DISCOVER("OMPI_COMM_WORLD_RANK", "1", "OMPI_COMM_WORLD_SIZE", "2",
                       "OMPI_COMM_WORLD_LOCAL_RANK", "1", "OMPI_COMM_WORLD_LOCAL_SIZE", "2",
                       "SLURM_PROCID", "0", "SLURM_STEP_NUM_TASKS", "1", "SLURM_STEP_ID", "0"),
              RP_STATUS_OK);
    CHECK(world.rank == 1 && world.n_ranks == 2);
    CHECK_TEXT(world.address, "127.0.0.1");
}

/* As Kubeflow, an indexed job and Vertex AI set them: one process per host. */
static void test_nodes(void)
{
    struct rp_comm_world world;
    struct rp_error err = {0};
    CHECK_INT(DISCOVER("PET_NNODES", "2", "PET_NODE_RANK", "1", "PET_NPROC_PER_NODE", "4",
                       "PET_MASTER_ADDR", "job-node-0-0.job", "PET_MASTER_PORT", "29500"),
              RP_STATUS_OK);
    CHECK_TEXT(world.launcher, "Kubeflow");
    CHECK(world.node == 1 && world.n_nodes == 2 && world.n_local == 4 && world.port == 29500);
    CHECK_TEXT(world.address, "job-node-0-0.job");
    CHECK_INT(DISCOVER("PET_NNODES", "2", "PET_NODE_RANK", "0", "PET_NPROC_PER_NODE", "auto"),
              RP_STATUS_USAGE);
    CHECK(strstr(err.text, "PET_MASTER_ADDR is not set"));
    CHECK_INT(DISCOVER("PET_NNODES", "2", "PET_NODE_RANK", "2"), RP_STATUS_USAGE);
    CHECK(strstr(err.text, "PET_NODE_RANK is \"2\""));

    CHECK_INT(DISCOVER("JOB_COMPLETION_INDEX", "3"), RP_STATUS_OK); /* an array, not a world */
    CHECK(!world.launcher && world.n_nodes == 1);
    CHECK_INT(DISCOVER("JOB_COMPLETION_INDEX", "3", "REPRISE_NODES", "4", "REPRISE_ADDRESS",
                       "job-0.svc", "REPRISE_PORT", "4000"),
              RP_STATUS_OK);
    CHECK(world.node == 3 && world.n_nodes == 4 && world.port == 4000 && world.patience == 600);
    CHECK_INT(DISCOVER("JOB_COMPLETION_INDEX", "3", "REPRISE_NODES", "4", "REPRISE_ADDRESS",
                       "job-0.svc", "REPRISE_WAIT", "30"),
              RP_STATUS_OK);
    CHECK_INT(world.patience, 30);

    /* One host: its ranks are this process's own, as many as it says. */
    CHECK_INT(DISCOVER("PET_NNODES", "1", "PET_NODE_RANK", "0", "PET_NPROC_PER_NODE", "4"),
              RP_STATUS_OK);
    CHECK(!world.launcher && world.n_nodes == 1 && world.n_local == 4);
    CHECK_INT(DISCOVER("JOB_COMPLETION_INDEX", "0", "REPRISE_NODES", "1"), RP_STATUS_OK);
    CHECK(!world.launcher && world.n_nodes == 1);

    static const char vertex[] =
        "{\"cluster\":{\"workerpool0\":[\"h0:2222\"],\"workerpool1\":[\"h1:2222\",\"h2:2222\"]},"
        "\"environment\":\"cloud\",\"task\":{\"type\":\"workerpool1\",\"index\":1}}";
    CHECK_INT(DISCOVER("CLUSTER_SPEC", vertex), RP_STATUS_OK);
    CHECK(world.node == 2 && world.n_nodes == 3 && world.port == 2222);
    CHECK_TEXT(world.address, "h0");
    CHECK_INT(DISCOVER("CLUSTER_SPEC", "{"), RP_STATUS_USAGE);
    CHECK_INT(DISCOVER("CLUSTER_SPEC", "{\"cluster\":{}}"), RP_STATUS_USAGE);
}

static void check_sagemaker(const char *text, enum rp_status want, int node, const char *address)
{
    char path[] = "/tmp/reprise-test-XXXXXX";
    struct rp_comm_world world = {.n_ranks = 1, .n_nodes = 1};
    struct rp_error err = {0};
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    forget();
    CHECK_INT(rp_world_find_nodes(path, &world, &err), want);
    unlink(path);
    if (want != RP_STATUS_OK) return;
    CHECK_INT(world.node, node);
    CHECK_TEXT(world.address, address);
}

static void test_sagemaker(void)
{
    check_sagemaker("{\"current_host\":\"algo-2\",\"hosts\":[\"algo-2\",\"algo-1\"],"
                    "\"network_interface_name\":\"eth0\"}",
                    RP_STATUS_OK, 1, "algo-1");
    CHECK_TEXT(getenv("NCCL_SOCKET_IFNAME"), "eth0"); /* the others inherit it */
    check_sagemaker("{\"current_host\":\"algo-1\",\"hosts\":[\"algo-2\",\"algo-1\"],"
                    "\"network_interface_name\":\"eth1\"}",
                    RP_STATUS_OK, 0, "algo-1");
    CHECK_TEXT(getenv("NCCL_SOCKET_IFNAME"), "eth0"); /* what is set stays */
    check_sagemaker("{\"current_host\":\"algo-3\",\"hosts\":[\"algo-2\",\"algo-1\"]}",
                    RP_STATUS_USAGE, 0, "");
    check_sagemaker("no json", RP_STATUS_USAGE, 0, "");
}

static void test_contradictions(void)
{
    struct rp_comm_world world;
    struct rp_error err = {0};
    CHECK_INT(DISCOVER("RANK", "1", "LOCAL_RANK", "1"), RP_STATUS_USAGE);
    CHECK(strstr(err.text, "WORLD_SIZE is not set"));
    CHECK_INT(DISCOVER("RANK", "1x", "LOCAL_RANK", "1", "WORLD_SIZE", "2"), RP_STATUS_USAGE);
    CHECK(strstr(err.text, "RANK is \"1x\""));
    CHECK_INT(DISCOVER("PMI_RANK", "2", "PMI_SIZE", "2"), RP_STATUS_USAGE);
    CHECK(strstr(err.text, "PMI_RANK is 2, but PMI_SIZE is 2"));
    CHECK_INT(DISCOVER("PMI_RANK", "0", "PMI_SIZE", "1", "SLURM_PROCID", "3", "SLURM_STEP_ID", "0",
                       "SLURM_STEP_NUM_TASKS", "4"),
              RP_STATUS_USAGE);
    CHECK(strstr(err.text, "PMI_SIZE is 1, but SLURM_STEP_NUM_TASKS is 4"));
    CHECK_INT(DISCOVER("OMPI_COMM_WORLD_RANK", "0", "OMPI_COMM_WORLD_SIZE", "1", "PMI_RANK", "3",
                       "PMI_SIZE", "4"),
              RP_STATUS_USAGE);
    CHECK(strstr(err.text, "OMPI_COMM_WORLD_SIZE is 1, but PMI_SIZE is 4"));
    CHECK_INT(DISCOVER("OMPI_COMM_WORLD_RANK", "0", "OMPI_COMM_WORLD_SIZE", "1", "PMI_RANK", "0",
                       "PMI_SIZE", "1"),
              RP_STATUS_OK); /* control */
    CHECK_INT(DISCOVER("RANK", "1", "WORLD_SIZE", "4", "LOCAL_RANK", "2", "LOCAL_WORLD_SIZE", "2"),
              RP_STATUS_USAGE);
    CHECK(strstr(err.text, "LOCAL_RANK is 2, but LOCAL_WORLD_SIZE is 2"));
    CHECK_INT(DISCOVER("RANK", "1", "WORLD_SIZE", "4", "LOCAL_RANK", "2", "LOCAL_WORLD_SIZE", "8"),
              RP_STATUS_USAGE);
    CHECK(strstr(err.text, "LOCAL_WORLD_SIZE is 8, but WORLD_SIZE is 4"));
    CHECK_INT(DISCOVER("OMPI_COMM_WORLD_RANK", "1", "OMPI_COMM_WORLD_SIZE", "4",
                       "OMPI_COMM_WORLD_LOCAL_RANK", "1", "OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
              RP_STATUS_USAGE);
    CHECK(strstr(err.text, "REPRISE_ADDRESS"));
    CHECK_INT(DISCOVER("OMPI_COMM_WORLD_RANK", "1", "OMPI_COMM_WORLD_SIZE", "4",
                       "OMPI_COMM_WORLD_LOCAL_RANK", "1", "OMPI_COMM_WORLD_LOCAL_SIZE", "2",
                       "REPRISE_ADDRESS", "node1"),
              RP_STATUS_USAGE); /* each host would come to another number */
    CHECK(strstr(err.text, "set REPRISE_PORT"));
}

/* It tells a rank its number, and of how many only by calls: Slurm says that. */
static void test_pmix(void)
{
    struct rp_comm_world world;
    struct rp_error err = {0};
    CHECK_INT(DISCOVER("PMIX_RANK", "2", "PMIX_NAMESPACE", "slurm.pmix.7.0", "SLURM_PROCID", "2",
                       "SLURM_STEP_NUM_TASKS", "4", "SLURM_STEP_ID", "0", "SLURM_JOB_ID", "7",
                       "SLURM_STEP_NODELIST", "n[1-2]"),
              RP_STATUS_OK);
    CHECK(world.rank == 2 && world.n_ranks == 4);
    CHECK_INT(DISCOVER("PMIX_RANK", "3", "SLURM_PROCID", "1", "SLURM_STEP_NUM_TASKS", "2",
                       "SLURM_STEP_ID", "0", "SLURM_STEP_NODELIST", "n[1-2]"),
              RP_STATUS_USAGE);
    CHECK(strstr(err.text, "PMIX_RANK is 3, but SLURM_PROCID is 1"));
    CHECK_INT(DISCOVER("PMIX_RANK", "0", "PMIX_NAMESPACE", "prterun-1"), RP_STATUS_USAGE);
    CHECK(strstr(err.text, "PMIX_RANK is 0, but no variable says of how many"));
}

int main(void)
{
    test_tree();
    test_hosts();
    test_world();
    test_nodes();
    test_sagemaker();
    test_contradictions();
    test_pmix();
    return test_result();
}
