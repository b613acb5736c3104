/* device.h - the device table: allocate, copy, run an op. The CPU is its first entry; the CUDA
 * device comes from a module (module.h). */
#ifndef RP_DEVICE_H
#define RP_DEVICE_H

#include "op.h"

struct rp_device;

struct rp_device_config {
    int threads; /* CPU: threads of the pool, at least 1 */
    const char
        *path;     /* CPU: "avx512", "avx2", "neon", "scalar", or NULL for the widest that runs */
    bool poison;   /* fill what alloc returns with NaN patterns (tests) */
    int number;    /* CUDA: which of the visible devices; where one alone is visible, that one */
    bool share;    /* CUDA: numbers go round: several processes may be on a device (tests) */
    bool no_graph; /* CUDA: launch every kernel by itself (debugging, profiles) */
};

/* One of several copies to the host that are waited for together. */
struct rp_device_copy {
    void *host;
    const void *from;
    size_t bytes;
};

/* What the record of a run says of the device; "" and 0 where there is nothing to say. */
struct rp_device_facts {
    char model[128], id[64]; /* "NVIDIA H200", "GPU-8a1c..." */
    char driver[64], runtime[32], architecture[32];
    int processors;
    uint64_t memory, memory_free; /* bytes of the device's own; 0: it uses the machine's */
};

/* One of the program's four tables of function pointers. Every call returns a status and writes the
 * message at the failing place. A stream is implied: calls run in order, sync() waits for all. */
struct rp_device_table {
    const char *name;    /* "cpu", "cuda" */
    int64_t logits_kept; /* as many of a head in a pass are kept for the gradient; of more, half are
                            made again. Memory against time, no bit */
    int (*count)(void);  /* how many there are to be had; NULL: one */
    enum rp_status (*open)(const struct rp_device_config *config, struct rp_device **device,
                           struct rp_error *err);
    void (*close)(struct rp_device *device); /* NULL is fine */
    enum rp_status (*alloc)(struct rp_device *device, size_t bytes, void **block,
                            struct rp_error *err); /* 256-byte aligned, zeroed unless poison */
    void (*free)(struct rp_device *device, void *block);
    enum rp_status (*copy_in)(struct rp_device *device, void *to, const void *host, size_t bytes,
                              struct rp_error *err);
    /* Memory of the host that copy_in reads where it lies, and may go on reading until copies_wait
     * returns; or that save_start writes. Where it cannot be pinned nothing is lost but time. */
    void (*pin)(struct rp_device *device, void *block, size_t bytes);
    void (*unpin)(struct rp_device *device, void *block);
    enum rp_status (*copies_wait)(struct rp_device *device, struct rp_error *err);
    /* Pinned memory that a copy_in will ask for: it may be fetched now, beside the work under way.
     * NULL: forget what was fetched. The pointer itself is NULL where there is no use for it. */
    enum rp_status (*copy_ahead)(struct rp_device *device, const void *host, size_t bytes,
                                 struct rp_error *err);
    enum rp_status (*copy_out)(struct rp_device *device, void *host, const void *from, size_t bytes,
                               struct rp_error *err);
    /* All of them, and one wait. */
    enum rp_status (*copy_out_many)(struct rp_device *device, const struct rp_device_copy *copies,
                                    int n, struct rp_error *err);
    /* Copies of what is there now, made beside what is asked for later, into memory of the host
     * that is pinned (else they are done when it returns); one set at a time. What is asked for
     * after save_fence waits until they have been read, so it may change what they are of.
     * save_wait, which any thread may call, returns when they are there. The pointers are NULL
     * where there is no use for them. */
    enum rp_status (*save_start)(struct rp_device *device, const struct rp_device_copy *copies,
                                 int n, struct rp_error *err);
    enum rp_status (*save_fence)(struct rp_device *device, struct rp_error *err);
    enum rp_status (*save_wait)(struct rp_device *device, struct rp_error *err);
    enum rp_status (*zero)(struct rp_device *device, void *block, size_t bytes,
                           struct rp_error *err);
    enum rp_status (*run)(struct rp_device *device, const struct rp_op_call *call,
                          const struct rp_pass *pass, struct rp_error *err);
    enum rp_status (*sync)(struct rp_device *device, struct rp_error *err);
    /* work(arg, part) once for each part 0 .. config.threads - 1, by the threads that compute, and
     * waits for all. NULL: the device's work is not done by threads of this machine. */
    void (*on_threads)(struct rp_device *device, void (*work)(void *arg, int part), void *arg);
    /* A second stream beside all that, for a library that moves bytes between devices (NCCL) and
     * for adding what it brings. What is asked for there after beside_begin comes after all that
     * run, copies and so on were asked for before it; what these are asked for after beside_end
     * comes after all that was asked for beside. Neither waits. beside_run is for ops that need no
     * scratch, no pass and no update. The pointers are NULL where there is no such stream. */
    enum rp_status (*beside_begin)(struct rp_device *device, void **stream, struct rp_error *err);
    enum rp_status (*beside_run)(struct rp_device *device, const struct rp_op_call *call,
                                 struct rp_error *err);
    enum rp_status (*beside_end)(struct rp_device *device, struct rp_error *err);
    /* 1: everything beside is done, 0: not yet, -1: it has failed. Waits for nothing. */
    int (*beside_state)(struct rp_device *device);
    /* Around the calls of one training step. A device may record what it is asked to do between
     * them and, when a later step asks for the same, replay that whole; copies and ops may
     * therefore wait for `step_end`. Nothing is read back in between. */
    enum rp_status (*step_begin)(struct rp_device *device, struct rp_error *err);
    enum rp_status (*step_end)(struct rp_device *device, struct rp_error *err);
    /* Tells a profiler what the work from here on is for ("update"); NULL: that it has ended. The
     * pointer is NULL where no profiler of the device's own could want to know. */
    void (*mark)(struct rp_device *device, const char *phase);
    /* Scratch for run(), taken now and not in a step. */
    enum rp_status (*reserve)(struct rp_device *device, size_t bytes, struct rp_error *err);
    /* Floating-point mode and 300 or so golden vectors, on every thread. ENVIRONMENT when one
     * fails. */
    enum rp_status (*self_test)(struct rp_device *device, struct rp_error *err);
    /* What a person wants to know: "AMD EPYC, avx2, 2 threads". */
    void (*describe)(struct rp_device *device, char text[256]);
    void (*facts)(struct rp_device *device, struct rp_device_facts *facts);
    /* The most that this device can do, measured in about 0.1 s: fp32 operations (a fma is two) and
     * bytes read and written, a second. For floors. `clock` gives seconds. */
    void (*peak)(struct rp_device *device, double (*clock)(void), double *flops, double *bytes);
    /* Bytes of scratch that run() needs for this call beyond its tensors: counted by plan. */
    size_t (*scratch_bytes)(const struct rp_device_config *config, const struct rp_op_call *call);
};

struct rp_device {
    const struct rp_device_table *table;
    struct rp_device_config config;
    /* the device's own state follows */
};

extern const struct rp_device_table rp_device_cpu;

/* "avx512 avx2 scalar": the CPU paths compiled in that this machine can run, widest first. */
const char *rp_cpu_paths(void);

#endif
