/* world_nodes.c - launchers that start one process per host, which then starts its ranks itself:
 * Kubeflow's Trainer (torchrun's arguments as PET_*), an indexed job of Kubernetes, Vertex AI,
 * SageMaker. */
#include "comm/world.h"

#include "base/mem.h"
#include "base/sys.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NODES = 1 << 16, DEFAULT_PORT = 29500, MOST_BYTES = 1 << 20 };
/* Hosts come as their cluster has room for them. */
enum { SECONDS_TO_WAIT = 600 };

/* What a cluster tells of its hosts, each in variables of its own. */
struct place {
    int node, n_nodes, port;
    const char *address; /* of node 0; NULL: not told, of a single one */
};

static enum rp_status set_nodes(struct rp_comm_world *world, const char *launcher,
                                const struct place *place)
{
    if (place->n_nodes == 1)
        return RP_STATUS_OK; /* nobody else: its ranks are this process's own */
    if (!world->patience) world->patience = SECONDS_TO_WAIT;
    world->launcher = launcher;
    world->node = place->node;
    world->n_nodes = place->n_nodes;
    snprintf(world->address, sizeof world->address, "%s", place->address);
    world->port = place->port;
    rp_world_find_token(world);
    return RP_STATUS_OK;
}

static enum rp_status find_port(const char *name, int *port, struct rp_error *err)
{
    *port = DEFAULT_PORT;
    if (rp_world_value("REPRISE_PORT")) name = "REPRISE_PORT";
    return rp_world_value(name) ? rp_world_number(name, 1, 65535, port, err) : RP_STATUS_OK;
}

static enum rp_status read_place(const char *n_nodes, const char *node, const char *address,
                                 const char *port, struct place *place, struct rp_error *err)
{
    *place = (struct place){.n_nodes = 1, .address = rp_world_value(address)};
    RP_TRY(rp_world_number(n_nodes, 1, MOST_NODES, &place->n_nodes, err));
    RP_TRY(rp_world_number(node, 0, place->n_nodes - 1, &place->node, err));
    return find_port(port, &place->port, err);
}

/* Kubeflow Trainer 2 injects them, one process per node. PET_NPROC_PER_NODE may be a word. */
static enum rp_status find_pet(struct rp_comm_world *world, struct rp_error *err)
{
    struct place place;
    const char *local = rp_world_value("PET_NPROC_PER_NODE");
    RP_TRY(read_place("PET_NNODES", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT", &place,
                      err));
    if (local && local[0] >= '0' && local[0] <= '9')
        RP_TRY(rp_world_number("PET_NPROC_PER_NODE", 1, RP_COMM_MAX_RANKS, &world->n_local, err));
    if (place.n_nodes > 1 && !place.address)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "PET_NNODES is %d, but PET_MASTER_ADDR is not set: it names the host "
                            "of node 0",
                            place.n_nodes);
    return set_nodes(world, "Kubeflow", &place);
}

/* Kubeflow's training operator of before: a pod is a process with the variables of torchrun, but
 * for LOCAL_RANK. */
static enum rp_status find_pod(struct rp_comm_world *world, struct rp_error *err)
{
    struct place place;
    RP_TRY(read_place("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT", &place, err));
    if (place.n_nodes > 1 && !place.address)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "WORLD_SIZE is %d and RANK is %d, but neither LOCAL_RANK, which "
                            "torchrun sets, nor MASTER_ADDR is set; unset them to run alone",
                            place.n_nodes, place.node);
    return set_nodes(world, "Kubeflow's operator", &place);
}

/* An index does not tell how many there are, nor where: the job's manifest has to. */
static enum rp_status find_indexed_job(struct rp_comm_world *world, struct rp_error *err)
{
    struct place place;
    if (!rp_world_value("REPRISE_NODES")) return RP_STATUS_OK;
    RP_TRY(read_place("REPRISE_NODES", "JOB_COMPLETION_INDEX", "REPRISE_ADDRESS", "REPRISE_PORT",
                      &place, err));
    if (place.n_nodes > 1 && !place.address)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "REPRISE_NODES is %d, but REPRISE_ADDRESS is not set: write the name "
                            "of pod 0 there, JOB-0.SERVICE",
                            place.n_nodes);
    return set_nodes(world, "Kubernetes", &place);
}

/* {"cluster": {"workerpool0": ["host:2222"], "workerpool1": [...]}, "task": {"type": "workerpool1",
 * "index": 0}}: pool 0 has node 0, pool 1 the rest. */
static enum rp_status read_vertex(const json_t *root, struct rp_comm_world *world,
                                  struct rp_error *err)
{
    const json_t *cluster = json_object_get(root, "cluster"), *task = json_object_get(root, "task");
    const json_t *first = json_object_get(cluster, "workerpool0");
    const char *head = json_string_value(json_array_get(first, 0));
    const char *pool = json_string_value(json_object_get(task, "type"));
    int index = (int)json_integer_value(json_object_get(task, "index")), port = DEFAULT_PORT;
    int others = (int)json_array_size(json_object_get(cluster, "workerpool1"));
    bool leads = pool && strcmp(pool, "workerpool0") == 0;
    if (!head || !pool || (!leads && strcmp(pool, "workerpool1") != 0) || index < 0 ||
        (!leads && index >= others))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "CLUSTER_SPEC has no host in workerpool0 or no task in workerpool0 or "
                            "1; unset it to run alone");
    char address[256];
    snprintf(address, sizeof address, "%s", head);
    char *colon = strrchr(address, ':');
    if (colon) port = (int)strtol(colon + 1, NULL, 10), *colon = '\0';
    if (rp_world_value("REPRISE_PORT")) RP_TRY(find_port("REPRISE_PORT", &port, err));
    struct place place = {
        .node = leads ? 0 : 1 + index, .n_nodes = 1 + others, .port = port, .address = address};
    return set_nodes(world, "Vertex AI", &place);
}

static enum rp_status find_vertex(struct rp_comm_world *world, struct rp_error *err)
{
    json_error_t why;
    json_t *root = json_loads(rp_world_value("CLUSTER_SPEC"), 0, &why);
    enum rp_status status =
        root ? read_vertex(root, world, err)
             : rp_error_set(err, RP_STATUS_USAGE,
                            "CLUSTER_SPEC is not JSON: %s; unset it to run alone", why.text);
    json_decref(root);
    return status;
}

/* {"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]}: the place among the sorted names. */
static enum rp_status read_sagemaker(const char *path, const json_t *root,
                                     struct rp_comm_world *world, struct rp_error *err)
{
    const json_t *hosts = json_object_get(root, "hosts");
    const char *own = json_string_value(json_object_get(root, "current_host")), *first = NULL;
    int node = 0, n_nodes = (int)json_array_size(hosts), port = 0;
    bool found = false;
    for (int i = 0; i < n_nodes && own; i++) {
        const char *host = json_string_value(json_array_get(hosts, (size_t)i));
        if (!host) continue;
        if (!first || strcmp(host, first) < 0) first = host;
        node += strcmp(host, own) < 0;
        found |= strcmp(host, own) == 0;
    }
    if (!found)
        return rp_error_set(err, RP_STATUS_USAGE, "%s: current_host is not among hosts", path);
    RP_TRY(find_port("REPRISE_PORT", &port, err));
    /* NCCL would look for one by itself, and may find another. */
    const char *network = json_string_value(json_object_get(root, "network_interface_name"));
    if (network && !rp_world_value("NCCL_SOCKET_IFNAME"))
        rp_sys_set_env("NCCL_SOCKET_IFNAME", network);
    struct place place = {.node = node, .n_nodes = n_nodes, .port = port, .address = first};
    return set_nodes(world, "SageMaker", &place);
}

static enum rp_status find_sagemaker(const char *path, struct rp_comm_world *world,
                                     struct rp_error *err)
{
    char *bytes = NULL;
    size_t length = 0;
    json_error_t why;
    RP_TRY(rp_sys_read_file(path, MOST_BYTES, RP_STATUS_USAGE, &bytes, &length, err));
    json_t *root = json_loads(bytes, 0, &why);
    enum rp_status status =
        root ? read_sagemaker(path, root, world, err)
             : rp_error_set(err, RP_STATUS_USAGE, "%s is not JSON: %s", path, why.text);
    json_decref(root);
    rp_mem_free(bytes);
    return status;
}

enum rp_status rp_world_find_nodes(const char *sagemaker, struct rp_comm_world *world,
                                   struct rp_error *err)
{
    struct rp_sys_stat stat = {0};
    if (rp_world_value("PET_NNODES")) return find_pet(world, err);
    if (rp_world_value("RANK") && rp_world_value("WORLD_SIZE")) return find_pod(world, err);
    if (rp_world_value("JOB_COMPLETION_INDEX")) return find_indexed_job(world, err);
    if (rp_world_value("CLUSTER_SPEC")) return find_vertex(world, err);
    RP_TRY(rp_sys_stat(sagemaker, &stat, err));
    return stat.is_file ? find_sagemaker(sagemaker, world, err) : RP_STATUS_OK;
}
