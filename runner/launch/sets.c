/* sets.c - controllers that start all pods of a run again together: a JobSet, or a TrainJob of
 * Kubeflow's Trainer with the TrainingRuntime that it refers to, which holds a JobSet. */
#include "launch/manifest.h"

/* The spec of a JobSet, at column 2. It gives the pods names by itself. */
static void add_set_spec(struct rp_text *text, const struct rp_manifest *m)
{
    bool trainer = rp_manifest_kind(m) == RP_SITE_TRAINJOB;
    struct rp_text spec = {0};
    rp_text_add(text,
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
                "  - name: %s\n"
                "    replicas: 1\n"
                "    template:\n"
                "%s"
                "      spec:\n",
                RP_MANIFEST_TRIES, trainer ? "node" : "nodes",
                trainer ? "      metadata:\n        labels:\n"
                          "          trainer.kubeflow.org/trainjob-ancestor-step: trainer\n"
                        : "");
    rp_manifest_add_job_spec(&spec, m);
    rp_manifest_add_indented(text, 6, rp_text_get(&spec));
    rp_text_release(&spec);
}

void rp_manifest_add_job_set(struct rp_text *text, const struct rp_manifest *m)
{
    rp_text_add(text, "---\n");
    rp_manifest_add_head(text, "jobset.x-k8s.io/v1alpha2", "JobSet", m->name, m->job, true);
    rp_text_add(text, "spec:\n");
    add_set_spec(text, m);
}

/* It must be there before a TrainJob is admitted that refers to it. `torch` is the policy that sets
 * PET_*, which say what torchrun would be told; there is no torch in it. */
void rp_manifest_add_runtime(struct rp_text *text, const struct rp_manifest *m)
{
    struct rp_text set = {0};
    rp_text_add(text, "---\n# How pods of this run look; all members of a sweep share it.\n");
    rp_manifest_add_head(text, "trainer.kubeflow.org/v1alpha1", "TrainingRuntime", m->shared_name,
                         m->job, false);
    rp_text_add(text,
                "spec:\n  mlPolicy:\n    numNodes: %d\n"
                "    # Sets PET_*, by which the nodes find each other.\n    torch: {}\n"
                "  template:\n    spec:\n",
                m->nodes);
    add_set_spec(&set, m);
    rp_manifest_add_indented(text, 4, rp_text_get(&set));
    rp_text_release(&set);
}

/* Resources stand in the runtime: a resourcesPerNode with limits alone made the Trainer of 2025 set
 * PET_NPROC_PER_NODE to 1. */
void rp_manifest_add_train_job(struct rp_text *text, const struct rp_manifest *m)
{
    rp_text_add(text, "---\n");
    rp_manifest_add_head(text, "trainer.kubeflow.org/v1alpha1", "TrainJob", m->name, m->job, true);
    rp_text_add(text, "spec:\n  runtimeRef:\n    apiGroup: trainer.kubeflow.org\n"
                      "    kind: TrainingRuntime\n");
    rp_manifest_add(text, 4, "name", m->shared_name);
    rp_text_add(text, "  trainer:\n    numNodes: %d\n    numProcPerNode: %d\n", m->nodes,
                m->ranks / m->nodes);
    rp_manifest_add_command(text, m, 4);
}
