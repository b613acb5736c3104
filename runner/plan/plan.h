/* plan.h - everything that can be known before the first step: passes, steps, memory, events,
 * digests. Joins what data, model, optim and comm describe; hashes nothing that belongs to one
 * host. */
#ifndef RP_PLAN_H
#define RP_PLAN_H

#include "device.h"
#include "model/model.h"
#include "optim/optim.h"

enum {
    RP_PLAN_ALIGN = 256,        /* of every tensor in a block */
    RP_PLAN_CHUNK = 4096,       /* elements: what the norm, digests and owners count in */
    RP_PLAN_LOADER_DEPTH = 2,   /* batches read ahead by one thread, beside the CPU's work */
    RP_PLAN_GPU_DEPTH = 4,      /* the most beside a GPU's, by a thread each */
    RP_PLAN_EVAL_SAMPLES = 1024 /* the largest evaluation pass */
};

static inline uint64_t rp_plan_align(uint64_t bytes)
{
    return (bytes + RP_PLAN_ALIGN - 1) / RP_PLAN_ALIGN * RP_PLAN_ALIGN;
}

/* Where each tensor of a graph lies: a byte offset in its arena. */
struct rp_plan_place {
    uint64_t *offset; /* per tensor number, aliases where their owner is; UINT64_MAX: not in the
                       * arena (parameters, sums, inputs) or touched by no node */
    uint64_t bytes;   /* of the arena */
};

/* One line of the memory table. */
struct rp_plan_memory {
    const char *what; /* "parameters", "gradients", "optimizer state", "activations", ... */
    uint64_t bytes;
    bool on_device; /* in a GPU's own memory */
};
enum { RP_PLAN_MEMORY_ROWS = 24 };

/* Trained parameters that the ranks exchange together, `n` that follow each other in
 * rp_plan_owners.order. Rank q owns what lies between border q and q + 1: of the chunks, and the
 * bytes of these in each block. */
struct rp_plan_bucket {
    int first, n;
    bool whole;                  /* matrices under muon: each has one owner */
    int64_t *chunk;              /* (ranks + 1) */
    uint64_t *gradient, *second; /* in a level of sums: gradients, and those of second uses */
    uint64_t *kept;              /* in the block of kept tensors */
    int64_t *norm;               /* (ranks) the first of each one's chunks in those of the norm */
};
/* Gradients of a bucket, or those of its second uses, which are complete when node `after` of the
 * train graph has run in the last pass of a step. */
struct rp_plan_exchange {
    int after;
    const uint64_t *border; /* (ranks + 1) the bucket's */
};
/* Who updates what (owners.c). Statistics are everybody's, and so is what is frozen. */
struct rp_plan_owners {
    int ranks;
    int *order; /* trained parameters as they lie in the blocks: matrices under muon last */
    int64_t *first_chunk; /* (n_kept) of a trained parameter, counted in that order */
    int64_t n_chunks;
    struct rp_plan_bucket *bucket; /* of one rank: one */
    int n_buckets;
    int *bucket_of;                    /* (n_kept) of a trained parameter */
    struct rp_plan_exchange *exchange; /* in the order in which backward completes them; one rank
                                        * has none */
    int n_exchanges;
    uint64_t *norm; /* (ranks + 1) bytes: chunks of the norm, fp64, by owner and then by bucket */
    bool reordered; /* that is not the order of the parameters */
    uint64_t *kept_offset, kept_bytes; /* (n_kept) */
    uint64_t *sum_offset, sum_bytes;   /* (tensors of the train graph) in a level of sums;
                                        * the uses of a parameter that add to one sum share it */
    uint64_t incoming;                 /* bytes that a reduction needs for what other ranks send */
    uint64_t shared_sums;              /* from here on they are everybody's: loss, statistics */
    int *writer; /* (n_kept) the rank that writes it, whole, to a checkpoint */
};
static inline int64_t rp_plan_chunks(int64_t elements)
{
    return (elements + RP_PLAN_CHUNK - 1) / RP_PLAN_CHUNK;
}
/* Elements [first, first + n) of a tensor; n is 0 for none of it. */
struct rp_plan_part {
    int64_t first, n;
};

struct rp_plan {
    struct rp_model *model; /* owned */
    struct rp_data_shape data;
    struct rp_optim_schedule schedule;
    int64_t batch, shards, samples_per_shard;
    int64_t pass_samples; /* of one training pass on a rank */
    int n_passes;         /* passes of a step on a rank */
    int n_levels;         /* sum buffers: 1 + log2(passes of whole shards) */
    bool partial;         /* passes cover parts of a shard: open chains are kept */
    int64_t eval_samples; /* of one evaluation pass */
    uint64_t n_steps;     /* train.for in steps */
    int ranks, threads, max_ranks;
    bool one_host; /* the ranks are known to be on one (rp_plan_share_host) */
    int loader_depth, loader_threads;
    struct rp_plan_place train_place, eval_place;
    struct rp_plan_owners owners;
    struct rp_plan_memory memory[RP_PLAN_MEMORY_ROWS];
    int n_memory;
    uint64_t memory_bytes;       /* in all, on a rank, of the machine's memory */
    uint64_t device_bytes;       /* in all, of the GPU's; 0 on the CPU */
    uint64_t context_bytes;      /* of these, what opening the device has taken */
    uint64_t more_between_hosts; /* what a rank would need beside that were they not on one host */
    uint64_t scratch_bytes;      /* of the device's kernels: struct rp_device_table, reserve */
    const struct rp_device_table *device;
    uint64_t checkpoint_bytes;
    bool saves_live; /* a save reads the state where it lies, and the update waits; else a copy */
    double flops_per_step;
};

/* `threads` is resolved by the caller (env/). `data` must be complete: n_train and the classes
 * known. Pure: looks at nothing of this machine. USAGE with the place in the spec when the numbers
 * do not fit together. free with rp_plan_free. */
RP_NODISCARD enum rp_status rp_plan_make(const struct rp_spec *spec,
                                         const struct rp_data_shape *data, int threads,
                                         struct rp_plan **plan, struct rp_error *err);
/* The same for another device than the CPU, and for `ranks` of them; 0: as many as the spec
 * demands, else 1. */
RP_NODISCARD enum rp_status rp_plan_make_for(const struct rp_spec *spec,
                                             const struct rp_data_shape *data, int threads,
                                             int ranks, const struct rp_device_table *device,
                                             struct rp_plan **plan, struct rp_error *err);
/* All ranks of the plan will be on one host, where they share memory unless the spec says
 * otherwise: its table of memory is made anew. */
void rp_plan_share_host(struct rp_plan *plan, const struct rp_spec *spec);
void rp_plan_free(struct rp_plan *plan); /* NULL is fine */

/* USAGE, at the shards' place in the spec, when so many ranks cannot share them. */
RP_NODISCARD enum rp_status rp_plan_check_ranks(const struct rp_spec *spec, int64_t ranks,
                                                struct rp_error *err);

/* MEMORY, with the table, when the plan asks for more than this machine or cgroup gives. */
RP_NODISCARD enum rp_status rp_plan_check_memory(const struct rp_plan *plan, struct rp_error *err);

/* The same for the GPU's memory, of which `bytes` are free now that the device is open. */
RP_NODISCARD enum rp_status rp_plan_check_device_memory(const struct rp_plan *plan, uint64_t bytes,
                                                        struct rp_error *err);

/* The pass number i of a step: rows, and the slot of its first sample. */
void rp_plan_pass(const struct rp_plan *plan, int i, struct rp_rows *rows, uint64_t *first_slot);

/* The node of the train graph that adds the gradient of a parameter's first use to that of its
 * second, where both are one sum; -1: they are none, or there is no second use. */
int rp_plan_tie_node(const struct rp_plan *plan, int tensor);
/* What `rank` updates of a kept tensor. */
struct rp_plan_part rp_plan_owned(const struct rp_plan *plan, int rank, int tensor);
/* Where the chunks of what it owns of a trained one begin in those of the norm. */
int64_t rp_plan_norm_chunk(const struct rp_plan *plan, int rank, int tensor);
/* Of who owns what and when it moves: the same on every rank of a run. */
struct rp_sha256 rp_plan_exchange_digest(const struct rp_plan *plan);

/* A span in steps: the first step count that completes it (epochs, samples: ceil); seconds give 0.
 */
uint64_t rp_plan_steps(const struct rp_plan *plan, const struct rp_span *span);
/* Does an event fire after `step` steps are done? Seconds never do here: the loop has the clock. */
bool rp_plan_due(const struct rp_plan *plan, const struct rp_spans *spans, uint64_t steps_done);

/* How often an event fires in the whole training, at most: spans that fall on the same step are
 * counted each. */
uint64_t rp_plan_count(const struct rp_plan *plan, const struct rp_spans *spans);

/* Digests with data and initial weights bound by content. */
struct rp_sha256 rp_plan_numeric_digest(const struct rp_spec *spec, const struct rp_data *data,
                                        const struct rp_sha256 *init_from);

/* The memory table alone: a line per purpose, then the sum. */
void rp_plan_print_memory(const struct rp_plan *plan, struct rp_text *text);

/* What `plan` prints, and the same as JSON (a jansson object; caller decref's). */
void rp_plan_print(const struct rp_spec *spec, const struct rp_plan *plan, struct rp_text *text);
struct json_t *rp_plan_json(const struct rp_spec *spec, const struct rp_plan *plan);

/* ---- many ranks: scale.c predicts (scale.h has the formulas), times.c keeps what was measured
 * ---------------------------------------------------------------------------------------------
 */

enum { RP_PLAN_MOST_RANKS = 4096, RP_PLAN_TIMES = 13 /* powers of two up to that */ };

/* Hockney's two numbers: a message of n bytes takes seconds + n / bytes_per_second. */
struct rp_plan_link {
    double bytes_per_second, seconds;
};
struct rp_plan_network {
    struct rp_plan_link between; /* nodes: what a node has, its ranks share it */
    struct rp_plan_link within;  /* a node: what each rank has */
    int per_node;                /* ranks on a node, a power of two */
    bool local; /* all ranks on this machine, connected and measured: the links say nothing */
};
/* "400Gb/s,5us". USAGE, naming `option`, for anything else and for what is not above zero. */
RP_NODISCARD enum rp_status rp_plan_parse_link(const char *option, const char *text,
                                               struct rp_plan_link *link, struct rp_error *err);

/* What one of `ranks` ranks takes for its part of a step, bytes of others left out. */
struct rp_plan_time {
    int ranks, beside;      /* `beside`: copies that ran at once, as ranks on a node do */
    int threads;            /* of each */
    double compute_seconds; /* data, forward, backward, the tree over its passes, what is kept; of
                             * copies beside each other with their agreement: the slowest's */
    double update_seconds;
    double add_seconds;   /* all sums added to a block of as many */
    double agree_seconds; /* an agreement of the ranks of a node, of two at least, where
                           * compute_seconds has none; below 0: of an old table, not measured */
    /* Of the ranks connected, on this machine: whole steps, and in them what reduces, and what
     * gathers, waiting for each other included; 0: not measured. */
    double step_seconds, reduce_seconds, gather_seconds;
};
struct rp_plan_times {
    char where[192]; /* device and processor */
    int64_t batch, shards, parameters;
    int n;
    struct rp_plan_time time[RP_PLAN_TIMES]; /* (n) 1, 2, 4, ... ranks */
};
RP_NODISCARD enum rp_status rp_plan_times_read(const char *path, struct rp_plan_times *times,
                                               struct rp_error *err);
RP_NODISCARD enum rp_status rp_plan_times_write(const char *path, const struct rp_plan_times *times,
                                                struct rp_error *err);
/* USAGE when the times are of another job than the plan, or lack its number of ranks on nodes of so
 * many, connected where the network is local. */
RP_NODISCARD enum rp_status rp_plan_times_find(const struct rp_plan_times *times, const char *path,
                                               const struct rp_plan *plan,
                                               const struct rp_plan_network *network,
                                               const struct rp_plan_time **time,
                                               struct rp_error *err);

/* A step predicted, in seconds. */
struct rp_plan_step {
    int ranks, nodes;
    double compute, update;
    double scatter, join, gather, agree; /* slices to their owners, their sum, back; the control */
    double exchange, exposed;            /* these four; what of them nothing hides */
    double step;
};
void rp_plan_predict(const struct rp_plan *plan, const struct rp_plan_time *time,
                     const struct rp_plan_network *network, struct rp_plan_step *step);

/* Which rule of the optimizer a parameter is under. */
static inline struct rp_optim_kind rp_plan_optim_kind(const struct rp_model_tensor *kept)
{
    return (struct rp_optim_kind){.by_muon = kept->by_muon, .decays = kept->decays};
}

#endif
