/* kubernetes.c - a manifest: the spec as a ConfigMap, a headless Service, an indexed Job whose pods
 * are the nodes of a run (runner/comm/world_nodes.c reads the variables); or what sets.c makes. */
#include "launch/manifest.h"

#include "base/sys.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_SPEC_BYTES = 1000000,
    /* "-nodes-0-" and up to three digits and a suffix of six come behind it, and a label has 63. */
    MOST_NAME_BYTES = 45,
    HASH_BYTES = 9
};

enum rp_site_kind rp_manifest_kind(const struct rp_manifest *m)
{
    return m->job->site->kubernetes.kind;
}

static int64_t ranks_per_node(const struct rp_site *site)
{
    return site->kubernetes.ranks_per_node;
}

void rp_manifest_add(struct rp_text *text, int indent, const char *key, const char *value)
{
    rp_text_add(text, "%*s%s: ", indent, "", key);
    rp_launch_add_yaml(text, value, indent + 2);
    rp_text_add(text, "\n");
}

void rp_manifest_add_indented(struct rp_text *text, int spaces, const char *body)
{
    for (const char *line = body; *line;) {
        size_t n = strcspn(line, "\n") + 1;
        if (n > 1) rp_text_add(text, "%*s", spaces, "");
        rp_text_add_bytes(text, line, n);
        line += n;
    }
}

/* The name of a run folder as that of an object: a DNS label that starts with a letter. A long one
 * keeps its end, the digits of the digest. */
static void name_object(const char *run, char name[RP_MANIFEST_NAME_BYTES])
{
    const char *base = strrchr(run, '/') ? strrchr(run, '/') + 1 : run;
    size_t n = 0, length = strlen(base);
    if (!isalpha((unsigned char)base[0])) name[n++] = 'r';
    for (size_t i = 0; i < length; i++) {
        if (length > MOST_NAME_BYTES - 1 && i == MOST_NAME_BYTES - 1 - HASH_BYTES)
            i = length - HASH_BYTES;
        bool plain = isalnum((unsigned char)base[i]);
        name[n++] = plain ? (char)tolower((unsigned char)base[i]) : '-';
    }
    name[n] = '\0';
}

void rp_manifest_add_head(struct rp_text *text, const char *version, const char *kind,
                          const char *name, const struct rp_launch *job, bool queued)
{
    const struct rp_site *site = job->site;
    rp_text_add(text, "apiVersion: %s\nkind: %s\nmetadata:\n", version, kind);
    rp_manifest_add(text, 2, "name", name);
    if (site->kubernetes.namespace)
        rp_manifest_add(text, 2, "namespace", site->kubernetes.namespace);
    if (!queued || !site->kubernetes.queue) return;
    rp_text_add(text, "  labels:\n");
    rp_manifest_add(text, 4, "kueue.x-k8s.io/queue-name", site->kubernetes.queue);
}

static void add_spec_map(struct rp_text *text, const struct rp_manifest *m)
{
    rp_manifest_add_head(text, "v1", "ConfigMap", m->shared_name, m->job, false);
    rp_text_add(text, "immutable: true\ndata:\n");
    rp_manifest_add(text, 2, "spec.yaml", m->job->spec->bytes);
}

static void add_service(struct rp_text *text, const struct rp_manifest *m)
{
    rp_text_add(text, "---\n# Gives the pods names, before they are ready too.\n");
    rp_manifest_add_head(text, "v1", "Service", m->name, m->job, false);
    rp_text_add(text, "spec:\n  clusterIP: None\n  publishNotReadyAddresses: true\n  selector:\n");
    rp_manifest_add(text, 4, "job-name", m->name);
    rp_text_add(text, "  ports:\n  - name: control\n    port: %d\n", RP_MANIFEST_PORT);
}

void rp_manifest_add_job_spec(struct rp_text *text, const struct rp_manifest *m)
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
        "        containerName: %s\n"
        "        operator: In\n"
        "        values: [2, 3, 4, 5, 6, 7, 8, 9, 10]\n"
        "    # Evicted or preempted, or stopped with all saved: again, as often as it takes.\n"
        "    - action: Ignore\n"
        "      onPodConditions:\n"
        "      - type: DisruptionTarget\n"
        "        status: \"True\"\n"
        "    - action: Ignore\n"
        "      onExitCodes:\n"
        "        containerName: %s\n"
        "        operator: In\n"
        "        values: [20]\n",
        m->nodes, m->nodes, rp_manifest_kind(m) == RP_SITE_JOB ? RP_MANIFEST_TRIES * m->nodes : 0,
        rp_manifest_container(m), rp_manifest_container(m));
    rp_manifest_add_pod(text, m);
}

static void add_job(struct rp_text *text, const struct rp_manifest *m)
{
    rp_text_add(text, "---\n");
    rp_manifest_add_head(text, "batch/v1", "Job", m->name, m->job, true);
    rp_text_add(text, "spec:\n");
    rp_manifest_add_job_spec(text, m);
}

/* What an API server would refuse, or a pod find hidden. */
static enum rp_status check_mounts(const struct rp_site *site, struct rp_error *err)
{
    const char *taken[3 + 1 + RP_SITE_MAX_ITEMS] = {"/tmp", "/dev/shm", "/etc/reprise/spec"};
    int n = 3;
    for (int i = -1; i < site->kubernetes.n_data; i++) {
        const char *path = i < 0 ? site->kubernetes.runs.path : site->kubernetes.data[i].path;
        const char *key = i < 0 ? "kubernetes.runs" : "kubernetes.data";
        if (path[0] != '/' || !path[1] || strchr(path, ':'))
            return rp_error_set(err, RP_STATUS_USAGE,
                                "%s: `%s`: the path `%s` must begin with `/`, name a folder below "
                                "it, and have no `:`",
                                site->path, key, path);
        for (int k = 0; k < n; k++)
            if (strcmp(taken[k], path) == 0)
                return rp_error_set(err, RP_STATUS_USAGE,
                                    "%s: `%s`: something else is mounted at `%s` already; give it "
                                    "another path",
                                    site->path, key, path);
        taken[n++] = path;
    }
    return RP_STATUS_OK;
}

static enum rp_status check_site(const struct rp_launch *job, struct rp_error *err)
{
    const struct rp_site *site = job->site;
    const struct rp_spec *spec = job->spec;
    bool files = spec->train_data.n_files || spec->valid_data.n_files || spec->test_data.n_files;
    if (!site->kubernetes.image) return rp_site_lacks(site, "kubernetes.image", err);
    if (!site->kubernetes.runs.claim) return rp_site_lacks(site, "kubernetes.runs", err);
    if (files && !site->kubernetes.n_data) return rp_site_lacks(site, "kubernetes.data", err);
    RP_TRY(check_mounts(site, err));
    if (job->spec->n_bytes > MOST_SPEC_BYTES)
        return rp_error_set(err, RP_STATUS_USAGE, "%s has %zu bytes; a ConfigMap holds at most %d",
                            spec->path, spec->n_bytes, MOST_SPEC_BYTES);
    return RP_STATUS_OK;
}

static bool has_key(const char *yaml, const char *key)
{
    size_t length = strlen(key);
    for (const char *line = yaml; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, length) == 0 && line[length] == ':') return true;
    }
    return false;
}

/* The first character of the first line that says something. `*body` is what comes behind the mark
 * that starts a document, where there is one. */
static char begins_with(const char *yaml, const char **body)
{
    *body = yaml;
    for (const char *line = yaml; *line;) {
        bool mark = strncmp(line, "---\n", 4) == 0;
        if (!mark && *line != '#' && *line != '\n') return *line;
        line += strcspn(line, "\n");
        line += *line == '\n';
        if (mark) *body = line;
    }
    return '\0';
}

/* kustomize takes a strategic patch for one only when it names an object; which, `target` says. A
 * list is a patch of another kind, and is left alone. */
static void add_patch(struct rp_text *text, const char *patch)
{
    const char *body;
    char first = begins_with(patch, &body);
    if (first == '-' || first == '[' || has_key(patch, "kind")) {
        rp_text_add(text, "%s", patch);
        return;
    }
    rp_text_add(text, "apiVersion: batch/v1\nkind: Job\n%s%s",
                has_key(patch, "metadata") ? "" : "metadata:\n  name: any\n", body);
}

static enum rp_status read_patch(const struct rp_site *site, char **bytes, struct rp_error *err)
{
    size_t length = 0;
    char *folder = rp_sys_folder_of(site->path);
    char *path = rp_sys_join(folder, site->kubernetes.patch);
    enum rp_status status = rp_sys_read_file(path, 1 << 20, RP_STATUS_USAGE, bytes, &length, err);
    rp_mem_free(path);
    rp_mem_free(folder);
    return status;
}

/* A JobSet and a TrainingRuntime hold the Job in a list, and a strategic patch cannot change one
 * item of a list whose kind kustomize does not know: one for a Job would land beside it, where the
 * cluster refuses it. */
static enum rp_status check_reach(const struct rp_site *site, const char *patch,
                                  struct rp_error *err)
{
    static const char *const of_pods[] = {"containers:", "nodeSelector:",    "tolerations:",
                                          "affinity:",   "securityContext:", "volumes:"};
    const char *body, *found = NULL;
    bool set = site->kubernetes.kind == RP_SITE_JOBSET;
    char first = begins_with(patch, &body);
    if (site->kubernetes.kind == RP_SITE_JOB || first == '-' || first == '[') return RP_STATUS_OK;
    if (strstr(patch, "replicatedJobs:")) return RP_STATUS_OK;
    for (size_t i = 0; i < RP_COUNT(of_pods) && !found; i++)
        if (strstr(patch, of_pods[i])) found = of_pods[i];
    if (!found && set && strstr(patch, "template:")) found = "template:";
    if (!found) return RP_STATUS_OK;
    return rp_error_set(
        err, RP_STATUS_USAGE,
        "%s: `kubernetes.patch`: %s has `%s`, which is of a Job, and with `kind: %s` that lies in "
        "a list, where such a patch does not reach. Write the patch as operations:\n"
        "  - op: add\n    path: /spec%s/replicatedJobs/0/template/spec/template/spec/nodeSelector\n"
        "    value: {disk: fast}",
        site->path, site->kubernetes.patch, found, set ? "jobset" : "trainjob",
        set ? "" : "/template/spec");
}

static enum rp_status check_patch(const struct rp_site *site, struct rp_error *err)
{
    char *bytes = NULL;
    if (!site->kubernetes.patch) return RP_STATUS_OK;
    enum rp_status status = read_patch(site, &bytes, err);
    if (status == RP_STATUS_OK) status = check_reach(site, bytes, err);
    rp_mem_free(bytes);
    return status;
}

/* What the site adds beyond this page: its file, applied by kubectl's own kustomize. */
static enum rp_status put_patch(const struct rp_launch *job, struct rp_launch_files *files,
                                struct rp_error *err)
{
    static const char list[] = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
                               "# The order of the file: a TrainJob comes behind its runtime.\n"
                               "sortOptions:\n  order: fifo\n"
                               "resources:\n- job.yaml\npatches:\n- path: patch.yaml\n"
                               "  target:\n    kind: Job|JobSet|TrainingRuntime\n";
    char *bytes = NULL;
    struct rp_text text = {0};
    enum rp_status status = read_patch(job->site, &bytes, err);
    if (status == RP_STATUS_OK) {
        add_patch(&text, bytes);
        status = rp_launch_put(job, "patch.yaml", rp_text_get(&text), text.length, files, err);
    }
    if (status == RP_STATUS_OK)
        status = rp_launch_put(job, "kustomization.yaml", list, sizeof list - 1, files, err);
    rp_text_release(&text);
    rp_mem_free(bytes);
    return status;
}

/* What is asked for here, or by the site's patch in its place; and what the site says of its nodes.
 * A patch that cannot be read is told when it is written. */
static int graces(const struct rp_launch *job, struct rp_launch_grace grace[RP_LAUNCH_MAX_GRACES])
{
    static const char key[] = "terminationGracePeriodSeconds";
    const struct rp_site *site = job->site;
    struct rp_error ignored = {0};
    char *bytes = NULL;
    int n = 0;
    if (site->kubernetes.patch && read_patch(site, &bytes, &ignored) != RP_STATUS_OK) bytes = NULL;
    const char *patched = bytes ? strstr(bytes, key) : NULL;
    if (patched && patched[strlen(key)] == ':')
        rp_launch_add_grace(grace, &n, strtol(patched + strlen(key) + 1, NULL, 10),
                            "terminationGracePeriodSeconds of the site's patch");
    else if (site->kubernetes.image)
        rp_launch_add_grace(grace, &n, job->stop_seconds,
                            "terminationGracePeriodSeconds of the manifest");
    if (site->kubernetes.grace)
        rp_launch_add_grace(grace, &n, site->kubernetes.grace, "kubernetes.grace of the site");
    rp_mem_free(bytes);
    return n;
}

static void add_member(struct rp_text *text, const struct rp_manifest *m, bool first)
{
    switch (rp_manifest_kind(m)) {
    case RP_SITE_JOB:
        if (m->nodes > 1) add_service(text, m);
        add_job(text, m);
        break;
    case RP_SITE_JOBSET:
        rp_manifest_add_job_set(text, m);
        break;
    case RP_SITE_TRAINJOB:
        if (first) rp_manifest_add_runtime(text, m);
        rp_manifest_add_train_job(text, m);
        break;
    }
}

/* Folders in the pods: of runs and data on their volumes. */
static enum rp_status write_job(const struct rp_launch *job, int ranks, int nodes,
                                struct rp_launch_files *files, struct rp_error *err)
{
    struct rp_text text = {0};
    RP_TRY(check_site(job, err));
    RP_TRY(check_patch(job->site, err));
    struct rp_launch inside = *job;
    inside.data = job->site->kubernetes.n_data ? job->site->kubernetes.data[0].path : "/tmp";
    for (int i = 0; i < job->n_members; i++) {
        const char *run = strrchr(job->member[i].run, '/') + 1;
        char *folder = rp_sys_join(job->site->kubernetes.runs.path, run);
        struct rp_launch_member member = {.set = job->member[i].set, .run = folder};
        struct rp_manifest m = {.job = &inside, .member = &member, .ranks = ranks, .nodes = nodes};
        name_object(job->member[0].run, m.shared_name);
        name_object(run, m.name);
        if (i == 0) {
            rp_text_add(&text, "# %s, written by reprise %s\n", job->spec->name, RP_VERSION);
            add_spec_map(&text, &m);
        }
        add_member(&text, &m, i == 0);
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
    .name = "kubernetes", .ranks_per_node = ranks_per_node, .graces = graces, .write = write_job};
