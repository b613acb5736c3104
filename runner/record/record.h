/* record.h - the run folder: who holds it, its manifest, its two logs, reading it again.
 *
 * runs/NAME-DIGEST/ { spec.yaml, resolved.yaml, manifest.json, metrics.jsonl, digests.jsonl,
 * checkpoints/, logs/ } as in DESIGN section 4. */
#ifndef RP_RECORD_H
#define RP_RECORD_H

#include "base/hash.h"
#include "base/mem.h"

struct json_t;

/* ---- who holds the folder -------------------------------------------------------------------- */

struct rp_hold;
/* Creates the folder when missing and takes it. BUSY names host, pid and since when. Falls back to
 * a counter raised every 5 s where locks do not work (probed). A stale lock is taken over. */
RP_NODISCARD enum rp_status rp_hold_take(const char *run, struct rp_hold **hold,
                                         struct rp_error *err);
/* Is somebody holding it? Never writes. Where locks do not work this goes by the age of the counter
 * on the file system's clock, so it is for showing; taking always watches the counter itself. */
bool rp_hold_is_held(const char *run);
void rp_hold_release(struct rp_hold *hold); /* NULL is fine; the lock file stays */

/* ---- manifest -------------------------------------------------------------------------------- */

/* A jansson object under our own rules: read whole, changed in memory, written whole and
 * atomically. Each start appends a segment; rp_manifest_write refuses (BUSY) when the file on disk
 * has a newer one, or another one of the same number (each carries a random "id"). Keys keep the
 * order in which they were set. */
struct rp_manifest {
    struct json_t *root; /* owned */
    char *path;
    int segment; /* number of the segment this process added; -1: reading only */
};
RP_NODISCARD enum rp_status rp_manifest_read(const char *run, bool *found,
                                             struct rp_manifest *manifest, struct rp_error *err);
void rp_manifest_begin(const char *run, struct rp_manifest *manifest); /* a new, empty one */
/* Appends a segment {start, host, pid, ...}; `facts` (stolen) is merged into it. */
void rp_manifest_add_segment(struct rp_manifest *manifest, struct json_t *facts);
/* One more fact of our segment; `value` is stolen. */
void rp_manifest_set(struct rp_manifest *manifest, const char *key, struct json_t *value);
void rp_manifest_end_segment(struct rp_manifest *manifest, const char *why, uint64_t step);
RP_NODISCARD enum rp_status rp_manifest_write(struct rp_manifest *manifest, struct rp_error *err);
/* BUSY when the file on disk has a newer segment than ours: what to ask before any other commit (a
 * checkpoint's before_commit). Reads only. */
RP_NODISCARD enum rp_status rp_manifest_check(const struct rp_manifest *manifest,
                                              struct rp_error *err);
void rp_manifest_release(struct rp_manifest *manifest);
/* running, finished, stopped, failed, and "lost" when it says running but nobody holds the folder.
 */
const char *rp_manifest_status(const struct rp_manifest *manifest, const char *run);

/* ---- metrics.jsonl, digests.jsonl ------------------------------------------------------------ */

struct rp_metric {
    const char *name; /* "loss" */
    double value;
};
struct rp_digest_tensor {
    const char *name;
    uint64_t digest;
};
struct rp_digest_line {
    uint64_t step; /* steps done */
    uint32_t loss_bits;
    uint64_t params;
    struct rp_sha256 chain; /* filled by rp_record_digest */
};

struct rp_record;
/* A log's numbers: finite doubles in the shortest form that reads back as the same bits
 * (base/number.h); NaN and the infinities as the strings "NaN", "Infinity", "-Infinity", which
 * Python's float() and JavaScript's Number() take. Lines of digests go to the file in groups, at
 * the latest 0.2 s after the line before; a metrics line writes out both. All functions on one
 * rp_record may be called from several threads.
 *
 * Opens both logs for appending, cut to the given lengths (of the checkpoint); digest lines beyond
 * are kept in memory to check recomputed steps against, and are not written twice. A torn or
 * damaged line ends what is kept; it and what follows are cut with a warning. `chain`: of the
 * checkpoint, or NULL at the start (32 zero bytes). DATA when a log is shorter than the checkpoint
 * says, or its chain there is another. */
RP_NODISCARD enum rp_status rp_record_open(const char *run, uint64_t metrics_bytes,
                                           uint64_t digests_bytes, const struct rp_sha256 *chain,
                                           struct rp_record **record, struct rp_error *err);
/* {"step","split","time","metrics"}; floats round-trip. */
RP_NODISCARD enum rp_status rp_record_metrics(struct rp_record *record, uint64_t step,
                                              const char *split, const struct rp_metric *metrics,
                                              int n, struct rp_error *err);
/* One line per step, steps one after another; chain = SHA-256(previous chain, step, loss bits,
 * params), all little-endian. A step that is already on record is compared: DIFFERENT with both
 * values, and nothing is overwritten. */
RP_NODISCARD enum rp_status rp_record_digest(struct rp_record *record, struct rp_digest_line *line,
                                             const struct rp_digest_tensor *tensors, int n_tensors,
                                             struct rp_error *err);
/* fsync of both; their lengths go into the checkpoint. digests_bytes counts lines up to the last
 * step given. */
RP_NODISCARD enum rp_status rp_record_sync(struct rp_record *record, uint64_t *metrics_bytes,
                                           uint64_t *digests_bytes, struct rp_error *err);
/* The lengths alone, lines written out but not synced: for a save whose slow part (rp_record_sync
 * with NULL for both, then rp_checkpoint_save) runs in a thread of its own while steps go on. */
RP_NODISCARD enum rp_status rp_record_mark(struct rp_record *record, uint64_t *metrics_bytes,
                                           uint64_t *digests_bytes, struct rp_error *err);
/* Drops the digest lines kept to check against, from memory and file: a new segment starts
 * uncompared (determinism fast, --allow-drift). Call right after rp_record_open. */
RP_NODISCARD enum rp_status rp_record_forget(struct rp_record *record, struct rp_error *err);
/* Recomputed steps that agreed with the record so far, and kept lines not reached yet. */
void rp_record_counts(struct rp_record *record, uint64_t *checked, uint64_t *left);
void rp_record_close(struct rp_record *record); /* writes out what it can; NULL is fine */
/* The next link, as rp_record_digest computes it. */
struct rp_sha256 rp_record_link(const struct rp_sha256 *previous, uint64_t step, uint32_t loss_bits,
                                uint64_t params);

/* final = SHA-256(last chain, tensors_hash). */
struct rp_sha256 rp_record_final(const struct rp_sha256 *chain,
                                 const struct rp_sha256 *tensors_hash);

/* ---- reading a run again --------------------------------------------------------------------- */

/* RUN as a person writes it: a folder with a manifest; a name (its newest); at least 4 first digits
 * of its numeric or final digest; NULL: the newest. Under $REPRISE_RUNS, else runs/. Caller frees.
 * USAGE when none or several fit, naming them. */
RP_NODISCARD enum rp_status rp_run_find(const char *what, char **run, struct rp_error *err);

struct rp_digests {
    struct rp_digest_line *line;
    int64_t n;
    char **tensors; /* per line: the JSON text of its "tensors", or NULL */
};
/* Reads digests.jsonl; a torn last line is dropped, a damaged one in the middle is DATA with its
 * number. A missing file has no lines. */
RP_NODISCARD enum rp_status rp_digests_read(const char *path, struct rp_digests *digests,
                                            struct rp_error *err);
void rp_digests_release(struct rp_digests *digests);
/* The last whole line alone, without reading what is before it. */
RP_NODISCARD enum rp_status rp_digests_last(const char *path, bool *found,
                                            struct rp_digest_line *line, struct rp_error *err);

struct rp_series {
    char *split, *name;
    uint64_t *step;
    double *value;
    int64_t n;
};
struct rp_metrics {
    struct rp_series *series;
    int n;
};
RP_NODISCARD enum rp_status rp_metrics_read(const char *path, struct rp_metrics *metrics,
                                            struct rp_error *err);
/* The same from the last lines alone, at most `bytes` of them: the newest values of every series
 * that is still being written. */
RP_NODISCARD enum rp_status rp_metrics_read_newest(const char *path, uint64_t bytes,
                                                   struct rp_metrics *metrics,
                                                   struct rp_error *err);
const struct rp_series *rp_metrics_find(const struct rp_metrics *metrics,
                                        const char *split_and_name);
void rp_metrics_release(struct rp_metrics *metrics);

#endif
