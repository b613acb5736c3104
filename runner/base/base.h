/* base.h - the status list and the error struct: the one header that everything may include.
 *
 * A function that can fail returns an rp_status and takes a `struct rp_error *`. The place that
 * detects a failure writes the message once, with rp_error_set(); everybody above only passes the
 * status on, up to main, where the status is the exit code of the process. */
#ifndef RP_BASE_H
#define RP_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RP_NODISCARD         __attribute__((warn_unused_result))
#define RP_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* X(NAME, exit code, what it means, what to do). The one list: enum, exit codes, `explain`, README.
 * 20 to 24 are the set that a scheduler retries. */
#define RP_STATUS_LIST(X)                                                                          \
    X(OK, 0, "done", "nothing")                                                                    \
    X(USAGE, 2, "usage or spec is wrong", "correct the line named and run again")                  \
    X(ENVIRONMENT, 3, "the environment cannot give the promised bits or lacks something",          \
      "install or change what is named, or pass --allow-drift")                                    \
    X(DATA, 4, "data is missing, damaged or has another hash", "restore the file named")           \
    X(MEMORY, 5, "out of memory, predicted or met", "lower train.micro_batch")                     \
    X(NONFINITE, 6, "the loss or a gradient is not finite", "lower the learning rate or clip")     \
    X(DIFFERENT, 7, "bits differ", "see the first difference named")                               \
    X(NO_CHECKPOINT, 8, "no usable checkpoint", "run with --fresh, or restore the folder")         \
    X(STORAGE, 9, "storage is full or failing", "free space; the run goes on from its last save")  \
    X(INTERNAL, 10, "internal error", "report it with the message")                                \
    X(STOPPED, 20, "stopped by a signal or --stop-after, state saved", "run me again")             \
    X(PEER_LOST, 21, "a peer was lost", "run me again")                                            \
    X(STUCK, 22, "no progress", "run me again; if it recurs, look at the rank named")              \
    X(HARDWARE, 23, "hardware suspected: one computation gave two results", "take the node out")   \
    X(BUSY, 24, "the run folder is in use", "wait for the other process, or use --out")

enum rp_status {
#define RP_STATUS_ENUM(name, code, meaning, advice) RP_STATUS_##name = (code),
    RP_STATUS_LIST(RP_STATUS_ENUM)
#undef RP_STATUS_ENUM
};

enum { RP_ERROR_TEXT_BYTES = 16384 };

/* What went wrong, complete for a person: what, where, what to do. Zero-initialise it. A text may
 * hold several lines (all the errors of a spec); it never ends in a newline. */
struct rp_error {
    enum rp_status status;
    char text[RP_ERROR_TEXT_BYTES];
};

/* Writes the message and returns `status`, so that a failing place is one line:
 *     return rp_error_set(err, RP_STATUS_DATA, "%s: %s", path, why);
 * Control characters and bytes that are no UTF-8 are escaped in the result. A first message is
 * kept: a later one, from cleaning up, cannot hide the cause. `err` may be NULL (the status alone
 * is wanted). */
RP_NODISCARD enum rp_status rp_error_set(struct rp_error *err, enum rp_status status,
                                         const char *format, ...) RP_PRINTF(3, 4);

/* Forgets what `err` says, for a caller that has dealt with it. */
void rp_error_clear(struct rp_error *err);

/* "USAGE", "usage or spec is wrong", "correct the line ...": never NULL. */
const char *rp_status_name(enum rp_status status);
const char *rp_status_meaning(enum rp_status status);
const char *rp_status_advice(enum rp_status status);

/* The two check forms: return, or go to a label with the status kept in `status_var`. */
#define RP_TRY(call)                                                                               \
    do {                                                                                           \
        enum rp_status rp_try_ = (call);                                                           \
        if (rp_try_ != RP_STATUS_OK) return rp_try_;                                               \
    } while (0)
#define RP_TRY_GOTO(status_var, call, label)                                                       \
    do {                                                                                           \
        (status_var) = (call);                                                                     \
        if ((status_var) != RP_STATUS_OK) goto label;                                              \
    } while (0)

#define RP_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
