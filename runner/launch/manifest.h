/* manifest.h - private to launch/: what the files that write a Kubernetes manifest share. */
#ifndef RP_MANIFEST_H
#define RP_MANIFEST_H

#include "launch/launch_int.h"

enum { RP_MANIFEST_PORT = 29500, RP_MANIFEST_NAME_BYTES = 64, RP_MANIFEST_TRIES = 5 };

struct rp_manifest {
    const struct rp_launch *job;
    const struct rp_launch_member *member;
    int ranks, nodes;
    /* Of what all members share; of this member's objects. */
    char shared_name[RP_MANIFEST_NAME_BYTES], name[RP_MANIFEST_NAME_BYTES];
};

enum rp_site_kind rp_manifest_kind(const struct rp_manifest *manifest);

/* "key: value" with its line end. */
void rp_manifest_add(struct rp_text *text, int indent, const char *key, const char *value);
/* apiVersion, kind, metadata; with the queue of the site where `queued`. */
void rp_manifest_add_head(struct rp_text *text, const char *version, const char *kind,
                          const char *name, const struct rp_launch *job, bool queued);
/* Each line of `body` behind `spaces` more. */
void rp_manifest_add_indented(struct rp_text *text, int spaces, const char *body);

/* pod.c: "command:" and "args:" at this column; "template:" of a Job, at column 2. */
void rp_manifest_add_command(struct rp_text *text, const struct rp_manifest *manifest, int indent);
void rp_manifest_add_pod(struct rp_text *text, const struct rp_manifest *manifest);
const char *rp_manifest_container(const struct rp_manifest *manifest); /* its name */

/* kubernetes.c: the spec of a Job, at column 2, as it stands in a Job or in the template of a set.
 */
void rp_manifest_add_job_spec(struct rp_text *text, const struct rp_manifest *manifest);

/* sets.c: documents of controllers that start all pods of a run again together. */
void rp_manifest_add_job_set(struct rp_text *text, const struct rp_manifest *manifest);
void rp_manifest_add_runtime(struct rp_text *text, const struct rp_manifest *manifest);
void rp_manifest_add_train_job(struct rp_text *text, const struct rp_manifest *manifest);

#endif
