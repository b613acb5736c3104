/* env.h - the environment: probed, compared with a lock, recorded before step 0.
 *
 * An environment is a JSON object (`reprise env --json` prints one). It holds no
 * secret: of the process environment a fixed list of variables is read, and their values are taken
 * over only where they have a form that no secret has. */
#ifndef RP_ENV_H
#define RP_ENV_H

#include "device.h"
#include "spec/spec.h"

struct json_t;

/* Starts hashing the program and its libraries on a thread of its own (some 10 MB), so that the
 * hashes are there when rp_env_probe() asks for them. Not needed; calling it early hides their
 * cost. Call it after the last module has been opened. */
void rp_env_begin(void);
/* Waits for that thread. The program calls it on its way out: libcrypto must not be taken down
 * under a thread that hashes. */
void rp_env_end(void);

/* Everything that could matter: code, binary and library hashes, compiler and flags, device and
 * path, kernel, libc, threads, container, variables. `threads` is as resolved. `spec` may be NULL
 * (`reprise env` without one). Caller decref's. */
struct json_t *rp_env_probe(const struct rp_spec *spec, int threads);
/* The same object as rp_env_probe(), its device section that of `device` (NULL: the CPU). */
struct json_t *rp_env_probe_on(const struct rp_spec *spec, int threads, struct rp_device *device);
/* For people: sections with aligned names and values. */
void rp_env_print(const struct json_t *environment, struct rp_text *text);

/* resources.threads: a number, else OMP_NUM_THREADS, else affinity mask and cgroup quota. */
int rp_env_threads(const struct rp_spec *spec);
/* The same for each of `ranks` that this program starts on one host: nobody has said how many, so
 * they share what there is. */
int rp_env_threads_beside(const struct rp_spec *spec, int ranks);

/* ---- the device: the CPU, or a GPU through the module reprise_cuda (open_device.c) ----------- */

struct rp_env_device_options {
    int threads;   /* as resolved */
    int gpu;       /* CUDA: which of the visible ones: the rank's number on its host */
    bool no_graph; /* CUDA: every kernel launched by itself */
    bool quiet;    /* `auto` falls to the CPU without a word */
};

/* Opens what `resources.device` says (`spec` NULL: auto) and lets it test itself. `auto` takes a
 * GPU where the module and one are there, else the CPU, and says why where the module is there.
 * ENVIRONMENT when the device named is not to be had: what was looked for, found, and what to do.
 */
RP_NODISCARD enum rp_status rp_env_open_device(const struct rp_spec *spec,
                                               const struct rp_env_device_options *options,
                                               struct rp_device **device, struct rp_error *err);
void rp_env_close_device(struct rp_device *device); /* NULL is fine */

/* How many GPUs the job could use on this host: 0 where its device is the CPU, or there is none. */
int rp_env_count_gpus(const struct rp_spec *spec);

/* The table of the device that the job would get, for plans: a GPU need not be there when the spec
 * names it, only the module; without that the CPU's. Opens nothing for long. */
const struct rp_device_table *rp_env_planned_device(const struct rp_spec *spec);

/* ---- the lock -------------------------------------------------------------------------------- */

/* A data file as the lock names it. Not owned. */
struct rp_env_file {
    const char *key; /* "data.train.images" */
    uint64_t size;
    struct rp_sha256 sha256;
};

/* What `reprise lock` writes. Caller decref's. */
struct json_t *rp_env_lock_new(const struct rp_spec *spec, const struct json_t *environment,
                               const struct rp_env_file *files, int n_files);
/* Reads and checks the form of a lock; ENVIRONMENT when it is missing or is none. Caller decref's.
 */
RP_NODISCARD enum rp_status rp_env_lock_read(const char *path, struct json_t **lock,
                                             struct rp_error *err);

/* What differs between a lock and an environment: an array of {"what", "expected", "found",
 * "touches_bits"}; touches_bits is true where the difference can change a bit at the tier. Caller
 * decref's. */
struct json_t *rp_env_compare(const struct json_t *lock, const struct json_t *environment,
                              enum rp_tier tier);
/* The same for data files: every difference can touch bits. */
struct json_t *rp_env_compare_data(const struct json_t *lock, const struct rp_env_file *files,
                                   int n_files);
/* How many of these rows can touch bits. */
int rp_env_count_touching(const struct json_t *rows);
/* The rows as a table: what, expected, found, can touch bits. */
void rp_env_print_rows(const struct json_t *rows, struct rp_text *text);

/* Compares with the lock that the spec names, if it names one. ENVIRONMENT with the table when a
 * difference can touch a bit at the spec's tier and `allow_drift` is not given; other differences
 * are only recorded. `drift` (may be NULL) gets the rows for the manifest, an empty array when
 * nothing differed; caller decref's. */
RP_NODISCARD enum rp_status rp_env_check(const struct rp_spec *spec,
                                         const struct json_t *environment, bool allow_drift,
                                         struct json_t **drift, struct rp_error *err);
/* The same against a lock at hand, which messages call `name`: for a rerun, {"environment": that of
 * the manifest}, so that a run folder moved elsewhere needs no other file. */
RP_NODISCARD enum rp_status rp_env_check_against(const struct rp_spec *spec, const char *name,
                                                 const struct json_t *lock,
                                                 const struct json_t *environment, bool allow_drift,
                                                 struct json_t **drift, struct rp_error *err);
/* The data of the run against the same lock: DATA with the table when a file has another hash. A
 * spec without a lock is fine. */
RP_NODISCARD enum rp_status rp_env_check_data(const struct rp_spec *spec,
                                              const struct rp_env_file *files, int n_files,
                                              struct rp_error *err);

#endif
