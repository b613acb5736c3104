/* pod.c - the pod of a run on Kubernetes: the program's words, its volumes, what it may do. It runs
 * as any user id but root, with no home and a root file system that nobody can write. */
#include "launch/manifest.h"

#include <string.h>

static const char reason_path[] = "/dev/termination-log";

const char *rp_manifest_container(const struct rp_manifest *m)
{
    return rp_manifest_kind(m) == RP_SITE_TRAINJOB ? "node" : "train"; /* Kubeflow looks for it */
}

/* Kubernetes puts variables in place of $(NAME) in arguments; $$ is one dollar. */
static void add_argument(struct rp_text *text, int indent, const char *argument)
{
    struct rp_text escaped = {0};
    for (const char *c = argument; *c; c++) rp_text_add(&escaped, *c == '$' ? "$$" : "%c", *c);
    rp_text_add(text, "%*s- ", indent, "");
    /* A block would end the argument with its last line end kept, which is right, too. */
    rp_launch_add_yaml(text, rp_text_get(&escaped), indent + 4);
    rp_text_add(text, "\n");
    rp_text_release(&escaped);
}

void rp_manifest_add_command(struct rp_text *text, const struct rp_manifest *m, int indent)
{
    char *ranks = rp_mem_text("resources.ranks=%d", m->ranks);
    const char *words[] = {
        "run", "/etc/reprise/spec/spec.yaml", "--data", m->job->data, "--out", m->member->run};
    rp_text_add(text, "%*scommand:\n%*s- reprise\n%*sargs:\n", indent, "", indent, "", indent, "");
    for (size_t i = 0; i < RP_COUNT(words); i++) add_argument(text, indent, words[i]);
    for (const char *const *set = m->member->set; set && *set; set++) {
        add_argument(text, indent, "--set");
        add_argument(text, indent, *set);
    }
    add_argument(text, indent, "--set");
    add_argument(text, indent, ranks);
    rp_mem_free(ranks);
}

/* Kubeflow's Trainer tells the nodes of each other by variables of its own. */
static void add_environment(struct rp_text *text, const struct rp_manifest *m)
{
    const struct rp_site_texts *secrets = &m->job->site->kubernetes.env_from;
    rp_text_add(text,
                "        env:\n        - name: REPRISE_TERMINATION_LOG\n          value: %s\n",
                reason_path);
    if (m->nodes > 1 && rp_manifest_kind(m) != RP_SITE_TRAINJOB) {
        bool set = rp_manifest_kind(m) == RP_SITE_JOBSET;
        struct rp_text address = {0};
        rp_text_add(&address, set ? "%s-nodes-0-0.%s" : "%s-0.%s", m->name, m->name);
        rp_text_add(text,
                    "        - name: REPRISE_NODES\n          value: \"%d\"\n"
                    "        - name: REPRISE_ADDRESS\n",
                    m->nodes);
        rp_manifest_add(text, 10, "value", rp_text_get(&address));
        rp_text_add(text, "        - name: REPRISE_PORT\n          value: \"%d\"\n",
                    RP_MANIFEST_PORT);
        rp_text_release(&address);
    }
    if (secrets->n) rp_text_add(text, "        envFrom:\n");
    for (int i = 0; i < secrets->n; i++) {
        rp_text_add(text, "        - secretRef:\n");
        rp_manifest_add(text, 12, "name", secrets->item[i]);
    }
}

static void add_resources(struct rp_text *text, const struct rp_manifest *m)
{
    const struct rp_spec *spec = m->job->spec;
    int per_node = m->ranks / m->nodes;
    int64_t threads = spec->resources.threads;
    bool gpus = strcmp(spec->resources.device, "cuda") == 0;
    if (!gpus && threads == 0) return;
    rp_text_add(text, "        resources:\n");
    if (threads > 0)
        rp_text_add(text, "          requests:\n            cpu: \"%lld\"\n",
                    (long long)(threads * per_node));
    if (gpus)
        rp_text_add(text, "          limits:\n            nvidia.com/gpu: \"%d\"\n", per_node);
}

static void add_mount(struct rp_text *text, const char *name, const char *path, bool read_only)
{
    rp_text_add(text, "        - name: %s\n", name);
    rp_manifest_add(text, 10, "mountPath", path);
    if (read_only) rp_text_add(text, "          readOnly: true\n");
}

/* Ranks of one pod may talk through shared memory, of which a container has 64 MiB by default. */
static bool shares_memory(const struct rp_manifest *m)
{
    return m->ranks > m->nodes;
}

static void add_mounts(struct rp_text *text, const struct rp_manifest *m)
{
    const struct rp_site *site = m->job->site;
    rp_text_add(text, "        volumeMounts:\n");
    add_mount(text, "spec", "/etc/reprise/spec", true);
    add_mount(text, "runs", site->kubernetes.runs.path, false);
    for (int i = 0; i < site->kubernetes.n_data; i++) {
        char *name = rp_mem_text("data-%d", i);
        add_mount(text, name, site->kubernetes.data[i].path, true);
        rp_mem_free(name);
    }
    if (shares_memory(m)) add_mount(text, "shm", "/dev/shm", false);
    add_mount(text, "tmp", "/tmp", false);
}

static void add_container(struct rp_text *text, const struct rp_manifest *m)
{
    rp_text_add(text, "      containers:\n      - name: %s\n", rp_manifest_container(m));
    rp_manifest_add(text, 8, "image", m->job->site->kubernetes.image);
    if (rp_manifest_kind(m) != RP_SITE_TRAINJOB) rp_manifest_add_command(text, m, 8);
    add_environment(text, m);
    add_resources(text, m);
    rp_text_add(text,
                "        # The program writes its reason there; of one that was killed, the last "
                "lines are it.\n"
                "        terminationMessagePath: %s\n"
                "        terminationMessagePolicy: FallbackToLogsOnError\n"
                "        securityContext:\n"
                "          allowPrivilegeEscalation: false\n"
                "          readOnlyRootFilesystem: true\n"
                "          capabilities:\n"
                "            drop:\n"
                "            - ALL\n",
                reason_path);
    add_mounts(text, m);
}

static void add_claim(struct rp_text *text, const char *name, const char *claim, bool read_only)
{
    rp_text_add(text, "      - name: %s\n        persistentVolumeClaim:\n", name);
    rp_manifest_add(text, 10, "claimName", claim);
    if (read_only) rp_text_add(text, "          readOnly: true\n");
}

static void add_volumes(struct rp_text *text, const struct rp_manifest *m)
{
    const struct rp_site *site = m->job->site;
    rp_text_add(text, "      volumes:\n      - name: spec\n        configMap:\n");
    rp_manifest_add(text, 10, "name", m->shared_name);
    add_claim(text, "runs", site->kubernetes.runs.claim, false);
    for (int i = 0; i < site->kubernetes.n_data; i++) {
        char *name = rp_mem_text("data-%d", i);
        add_claim(text, name, site->kubernetes.data[i].claim, true);
        rp_mem_free(name);
    }
    if (shares_memory(m))
        rp_text_add(text, "      - name: shm\n        emptyDir:\n          medium: Memory\n"
                          "          sizeLimit: 1Gi\n");
    rp_text_add(text, "      - name: tmp\n        emptyDir: {}\n");
}

void rp_manifest_add_pod(struct rp_text *text, const struct rp_manifest *m)
{
    rp_text_add(text, "  template:\n    spec:\n");
    if (m->nodes > 1 && rp_manifest_kind(m) == RP_SITE_JOB)
        rp_manifest_add(text, 6, "subdomain", m->name);
    rp_text_add(text,
                "      restartPolicy: Never\n"
                "      # From the request to stop until all is saved.\n"
                "      terminationGracePeriodSeconds: %d\n"
                "      automountServiceAccountToken: false\n"
                "      enableServiceLinks: false\n"
                "      securityContext:\n"
                "        runAsNonRoot: true\n"
                "        seccompProfile:\n"
                "          type: RuntimeDefault\n",
                m->job->stop_seconds);
    add_container(text, m);
    add_volumes(text, m);
}
