/* kubernetes.c - a manifest: the spec as a ConfigMap, a headless Service, an indexed Job whose pods
 * are the nodes of a run (runner/comm/world_nodes.c reads the variables); or a JobSet of one. */
#include "launch/launch_int.h"

#include "base/sys.h"

#include <ctype.h>
#include <string.h>

enum { MOST_SPEC_BYTES = 1000000, PORT = 29500, NAME_BYTES = 64, TRIES = 5 };

struct manifest {
    const struct rp_launch *job;
    const struct rp_launch_member *member;
    int ranks, nodes;
    char spec_name[NAME_BYTES], name[NAME_BYTES]; /* of the ConfigMap; of this member's objects */
};

static bool is_set(const struct manifest *m)
{
    return m->job->site->kubernetes.kind == RP_SITE_JOBSET;
}

static int64_t ranks_per_node(const struct rp_site *site)
{
    return site->kubernetes.ranks_per_node;
}

/* "key: value" with its line end. */
static void add(struct rp_text *text, int indent, const char *key, const char *value)
{
    rp_text_add(text, "%*s%s: ", indent, "", key);
    rp_launch_add_yaml(text, value, indent + 2);
    rp_text_add(text, "\n");
}

/* Kubernetes puts variables in place of $(NAME) in arguments; $$ is one dollar. */
static void add_argument(struct rp_text *text, const char *argument)
{
    struct rp_text escaped = {0};
    for (const char *c = argument; *c; c++) rp_text_add(&escaped, *c == '$' ? "$$" : "%c", *c);
    rp_text_add(text, "        - ");
    /* A block would end the argument with its last line end kept, which is right, too. */
    rp_launch_add_yaml(text, rp_text_get(&escaped), 12);
    rp_text_add(text, "\n");
    rp_text_release(&escaped);
}

/* The name of a run folder as that of an object: a DNS label that starts with a letter. */
static void name_object(const char *run, char name[NAME_BYTES])
{
    const char *base = strrchr(run, '/') ? strrchr(run, '/') + 1 : run;
    size_t n = 0;
    if (!isalpha((unsigned char)base[0])) name[n++] = 'r';
    for (; *base && n < 52; base++)
        name[n++] = isalnum((unsigned char)*base) ? (char)tolower((unsigned char)*base) : '-';
    name[n] = '\0';
}

static void add_head(struct rp_text *text, const char *version, const char *kind, const char *name,
                     const struct rp_launch *job)
{
    rp_text_add(text, "apiVersion: %s\nkind: %s\nmetadata:\n", version, kind);
    add(text, 2, "name", name);
    if (job->site->kubernetes.namespace) add(text, 2, "namespace", job->site->kubernetes.namespace);
}

static void add_spec_map(struct rp_text *text, const struct manifest *m)
{
    add_head(text, "v1", "ConfigMap", m->spec_name, m->job);
    rp_text_add(text, "immutable: true\ndata:\n");
    add(text, 2, "spec.yaml", m->job->spec->bytes);
}

static void add_service(struct rp_text *text, const struct manifest *m)
{
    rp_text_add(text, "---\n# Gives the pods names, before they are ready too.\n");
    add_head(text, "v1", "Service", m->name, m->job);
    rp_text_add(text, "spec:\n  clusterIP: None\n  publishNotReadyAddresses: true\n  selector:\n");
    add(text, 4, "job-name", m->name);
    rp_text_add(text, "  ports:\n  - name: control\n    port: %d\n", PORT);
}

static void add_environment(struct rp_text *text, const struct manifest *m)
{
    const struct rp_site_texts *secrets = &m->job->site->kubernetes.env_from;
    if (m->nodes > 1) {
        struct rp_text address = {0};
        rp_text_add(&address, is_set(m) ? "%s-nodes-0-0.%s" : "%s-0.%s", m->name, m->name);
        rp_text_add(text,
                    "        env:\n        - name: REPRISE_NODES\n          value: \"%d\"\n"
                    "        - name: REPRISE_ADDRESS\n",
                    m->nodes);
        add(text, 10, "value", rp_text_get(&address));
        rp_text_add(text, "        - name: REPRISE_PORT\n          value: \"%d\"\n", PORT);
        rp_text_release(&address);
    }
    if (secrets->n) rp_text_add(text, "        envFrom:\n");
    for (int i = 0; i < secrets->n; i++) {
        rp_text_add(text, "        - secretRef:\n");
        add(text, 12, "name", secrets->item[i]);
    }
}

static void add_resources(struct rp_text *text, const struct manifest *m)
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

static void add_command(struct rp_text *text, const struct manifest *m)
{
    char *ranks = rp_mem_text("resources.ranks=%d", m->ranks);
    const char *words[] = {
        "run", "/etc/reprise/spec/spec.yaml", "--data", m->job->data, "--out", m->member->run};
    rp_text_add(text, "        command:\n        - reprise\n        args:\n");
    for (size_t i = 0; i < RP_COUNT(words); i++) add_argument(text, words[i]);
    for (const char *const *set = m->member->set; set && *set; set++) {
        add_argument(text, "--set");
        add_argument(text, *set);
    }
    add_argument(text, "--set");
    add_argument(text, ranks);
    rp_mem_free(ranks);
}

static void add_mount(struct rp_text *text, const char *name, const char *path, bool read_only)
{
    rp_text_add(text, "        - name: %s\n", name);
    add(text, 10, "mountPath", path);
    if (read_only) rp_text_add(text, "          readOnly: true\n");
}

static void add_container(struct rp_text *text, const struct manifest *m)
{
    const struct rp_site *site = m->job->site;
    rp_text_add(text, "      containers:\n      - name: train\n");
    add(text, 8, "image", site->kubernetes.image);
    add_command(text, m);
    add_environment(text, m);
    add_resources(text, m);
    rp_text_add(text, "        # The last lines of a run that fails are its reason.\n"
                      "        terminationMessagePath: /dev/termination-log\n"
                      "        terminationMessagePolicy: FallbackToLogsOnError\n"
                      "        securityContext:\n"
                      "          allowPrivilegeEscalation: false\n"
                      "          readOnlyRootFilesystem: true\n"
                      "          capabilities:\n"
                      "            drop:\n"
                      "            - ALL\n"
                      "        volumeMounts:\n");
    add_mount(text, "spec", "/etc/reprise/spec", true);
    add_mount(text, "runs", site->kubernetes.runs.path, false);
    for (int i = 0; i < site->kubernetes.n_data; i++) {
        char *name = rp_mem_text("data-%d", i);
        add_mount(text, name, site->kubernetes.data[i].path, true);
        rp_mem_free(name);
    }
    add_mount(text, "shm", "/dev/shm", false);
    add_mount(text, "tmp", "/tmp", false);
}

static void add_claim(struct rp_text *text, const char *name, const char *claim, bool read_only)
{
    rp_text_add(text, "      - name: %s\n        persistentVolumeClaim:\n", name);
    add(text, 10, "claimName", claim);
    if (read_only) rp_text_add(text, "          readOnly: true\n");
}

static void add_volumes(struct rp_text *text, const struct manifest *m)
{
    const struct rp_site *site = m->job->site;
    rp_text_add(text, "      volumes:\n      - name: spec\n        configMap:\n");
    add(text, 10, "name", m->spec_name);
    add_claim(text, "runs", site->kubernetes.runs.claim, false);
    for (int i = 0; i < site->kubernetes.n_data; i++) {
        char *name = rp_mem_text("data-%d", i);
        add_claim(text, name, site->kubernetes.data[i].claim, true);
        rp_mem_free(name);
    }
    rp_text_add(text, "      - name: shm\n        emptyDir:\n          medium: Memory\n"
                      "          sizeLimit: 1Gi\n      - name: tmp\n        emptyDir: {}\n");
}

static void add_pod(struct rp_text *text, const struct manifest *m)
{
    rp_text_add(text, "  template:\n    spec:\n");
    if (m->nodes > 1 && !is_set(m)) add(text, 6, "subdomain", m->name);
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

static void add_labels(struct rp_text *text, const struct manifest *m)
{
    if (!m->job->site->kubernetes.queue) return;
    rp_text_add(text, "  labels:\n");
    add(text, 4, "kueue.x-k8s.io/queue-name", m->job->site->kubernetes.queue);
}

/* The spec of the Job, as it stands in a Job or in the template of a JobSet. */
static void add_job_spec(struct rp_text *text, const struct manifest *m)
{
    rp_text_add(
        text,
        "  completionMode: Indexed\n"
        "  completions: %d\n"
        "  parallelism: %d\n"
        "  # A lost peer ends every pod with 21, and all start again.\n"
        "  backoffLimit: %d\n"
        "  podReplacementPolicy: Failed\n"
        "  podFailurePolicy:\n"
        "    rules:\n"
        "    # What another try cannot mend: spec, environment, data, memory, bits.\n"
        "    - action: FailJob\n"
        "      onExitCodes:\n"
        "        containerName: train\n"
        "        operator: In\n"
        "        values: [2, 3, 4, 5, 6, 7, 8, 9, 10]\n"
        "    # Evicted or preempted, or stopped with all saved: again, as often as it takes.\n"
        "    - action: Ignore\n"
        "      onPodConditions:\n"
        "      - type: DisruptionTarget\n"
        "        status: \"True\"\n"
        "    - action: Ignore\n"
        "      onExitCodes:\n"
        "        containerName: train\n"
        "        operator: In\n"
        "        values: [20]\n",
        m->nodes, m->nodes, is_set(m) ? 0 : TRIES * m->nodes);
    add_pod(text, m);
}

static void add_job(struct rp_text *text, const struct manifest *m)
{
    rp_text_add(text, "---\n");
    add_head(text, "batch/v1", "Job", m->name, m->job);
    add_labels(text, m);
    rp_text_add(text, "spec:\n");
    add_job_spec(text, m);
}

/* A set that starts all its pods again together, and gives them names by itself. */
static void add_job_set(struct rp_text *text, const struct manifest *m)
{
    struct rp_text spec = {0};
    rp_text_add(text, "---\n");
    add_head(text, "jobset.x-k8s.io/v1alpha2", "JobSet", m->name, m->job);
    add_labels(text, m);
    rp_text_add(text,
                "spec:\n"
                "  network:\n"
                "    enableDNSHostnames: true\n"
                "    publishNotReadyAddresses: true\n"
                "  failurePolicy:\n"
                "    maxRestarts: %d\n"
                "    rules:\n"
                "    - name: hopeless\n"
                "      action: FailJobSet\n"
                "      onJobFailureReasons:\n"
                "      - PodFailurePolicy\n"
                "  replicatedJobs:\n"
                "  - name: nodes\n"
                "    replicas: 1\n"
                "    template:\n"
                "      spec:\n",
                TRIES);
    add_job_spec(&spec, m);
    for (const char *line = rp_text_get(&spec); *line;) {
        size_t n = strcspn(line, "\n") + 1;
        if (n > 1) rp_text_add(text, "      ");
        rp_text_add_bytes(text, line, n);
        line += n;
    }
    rp_text_release(&spec);
}

static enum rp_status check_site(const struct rp_launch *job, struct rp_error *err)
{
    const struct rp_site *site = job->site;
    const struct rp_spec *spec = job->spec;
    bool files = spec->train_data.n_files || spec->valid_data.n_files || spec->test_data.n_files;
    if (!site->kubernetes.image) return rp_site_lacks(site, "kubernetes.image", err);
    if (!site->kubernetes.runs.claim) return rp_site_lacks(site, "kubernetes.runs", err);
    if (files && !site->kubernetes.n_data) return rp_site_lacks(site, "kubernetes.data", err);
    if (job->spec->n_bytes > MOST_SPEC_BYTES)
        return rp_error_set(err, RP_STATUS_USAGE, "%s has %zu bytes; a ConfigMap holds at most %d",
                            spec->path, spec->n_bytes, MOST_SPEC_BYTES);
    return RP_STATUS_OK;
}

/* What the site adds beyond this page: its file, applied by kubectl's own kustomize. */
static enum rp_status put_patch(const struct rp_launch *job, struct rp_launch_files *files,
                                struct rp_error *err)
{
    static const char list[] = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
                               "resources:\n- job.yaml\npatches:\n- path: patch.yaml\n"
                               "  target:\n    kind: Job(Set)?\n";
    char *folder = rp_sys_folder_of(job->site->path);
    char *path = rp_sys_join(folder, job->site->kubernetes.patch), *bytes = NULL;
    size_t length = 0;
    enum rp_status status = rp_sys_read_file(path, 1 << 20, RP_STATUS_USAGE, &bytes, &length, err);
    if (status == RP_STATUS_OK)
        status = rp_launch_put(job, "patch.yaml", bytes, length, files, err);
    if (status == RP_STATUS_OK)
        status = rp_launch_put(job, "kustomization.yaml", list, sizeof list - 1, files, err);
    rp_mem_free(bytes);
    rp_mem_free(path);
    rp_mem_free(folder);
    return status;
}

/* Folders in the pods: of runs and data on their volumes. */
static enum rp_status write_job(const struct rp_launch *job, int ranks, int nodes,
                                struct rp_launch_files *files, struct rp_error *err)
{
    struct rp_text text = {0};
    RP_TRY(check_site(job, err));
    struct rp_launch inside = *job;
    inside.data = job->site->kubernetes.n_data ? job->site->kubernetes.data[0].path : "/tmp";
    for (int i = 0; i < job->n_members; i++) {
        const char *run = strrchr(job->member[i].run, '/') + 1;
        char *folder = rp_sys_join(job->site->kubernetes.runs.path, run);
        struct rp_launch_member member = {.set = job->member[i].set, .run = folder};
        struct manifest m = {.job = &inside, .member = &member, .ranks = ranks, .nodes = nodes};
        name_object(job->member[0].run, m.spec_name);
        name_object(run, m.name);
        if (i == 0) {
            rp_text_add(&text, "# %s, written by reprise %s\n", job->spec->name, RP_VERSION);
            add_spec_map(&text, &m);
        }
        if (is_set(&m)) {
            add_job_set(&text, &m);
        } else {
            if (nodes > 1) add_service(&text, &m);
            add_job(&text, &m);
        }
        rp_mem_free(folder);
    }
    bool patched = job->site->kubernetes.patch != NULL;
    enum rp_status status =
        rp_launch_put(job, "job.yaml", rp_text_get(&text), text.length, files, err);
    rp_text_release(&text);
    if (status == RP_STATUS_OK && patched) status = put_patch(job, files, err);
    files->submit[0] = rp_mem_copy_text("kubectl");
    files->submit[1] = rp_mem_copy_text("apply");
    files->submit[2] = rp_mem_copy_text(patched ? "-k" : "-f");
    files->submit[3] =
        patched ? rp_mem_copy_text(job->folder) : rp_sys_join(job->folder, "job.yaml");
    return status;
}

const struct rp_launcher rp_launcher_kubernetes = {
    .name = "kubernetes", .ranks_per_node = ranks_per_node, .write = write_job};
