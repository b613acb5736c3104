/* control_int.h - private to control*.c: the state of the control channel on one rank. */
#ifndef RP_CONTROL_INT_H
#define RP_CONTROL_INT_H

#include "comm/control.h"
#include "comm/net.h"

#include <pthread.h>
#include <stdatomic.h>

/* What rank 0 knows of another rank. */
struct rp_control_member {
    int fd; /* -1: not connected, or ended */
    bool there, ended;
    uint32_t pid;
    char host[256];
    uint64_t step;
    char phase[24];
    double heard, since; /* clock: last message; how long it is where it is */
    void *slot;          /* its part of the agreement under way, or NULL */
    size_t slot_bytes;
    char *wanted; /* a key that it waits for, or NULL */
};

struct rp_control_entry {
    char *key;
    void *bytes;
    size_t n;
};

struct rp_control {
    int rank, n_ranks;
    struct rp_comm_options options;
    int patience; /* seconds to wait for the others to come */
    char own_address[64];
    pthread_t thread;
    bool started;
    atomic_bool closing, settled;
    atomic_ullong step;
    _Atomic(const char *) phase;

    pthread_mutex_t mutex; /* of all below */
    pthread_cond_t changed;
    pthread_mutex_t sending;     /* one message at a time */
    bool failed, told;           /* told: rank 0 has said the cause already */
    bool main_ends, thread_ends; /* who ends this process after a failure */
    enum rp_status status;
    char text[2048];

    /* rank 0 */
    int listener;
    struct rp_control_member *member; /* (n_ranks), 0 is this rank */
    struct rp_control_entry *store;
    int n_store;
    double slowest_step, slowest_rest; /* seconds so far: of a step; of an evaluation or a save */

    /* the others */
    int fd;
    char server[340]; /* rank 0: its host, address and port */
    struct rp_net_beat server_beat;
    double heard; /* of rank 0 */
    void *answer; /* to what was asked last, or NULL */
    size_t answer_bytes;
};

/* The first cause stays; everybody who waits is woken. Without the mutex. */
void rp_control_fail(struct rp_control *control, enum rp_status status, const char *format, ...)
    RP_PRINTF(3, 4);
/* Under the mutex: until something changes. False: asked to stop, while all are starting. */
bool rp_control_wait(struct rp_control *control);
/* For the control thread after a failure: gives the main thread some seconds to end by itself, then
 * ends the process. */
void rp_control_end_process(struct rp_control *control);
/* For the main thread, under the mutex: the failure as its status, to end by. */
RP_NODISCARD enum rp_status rp_control_failure(struct rp_control *control, struct rp_error *err);
bool rp_control_send(struct rp_control *control, int fd, enum rp_net_type type, const void *bytes,
                     size_t n);
void rp_control_send_end(struct rp_control *control, int fd, enum rp_status status,
                         const char *text);

/* control_stuck.c, on rank 0, under the mutex. Where a rank stands now; a word that is older than
 * what is known is not heard. */
void rp_control_place(struct rp_control *control, struct rp_control_member *member, uint64_t step,
                      const char *phase, double now);
/* NULL, or why: then rank `who` is stuck, or the one to name where all are. */
const char *rp_control_find_stuck(const struct rp_control *control, double now, int *who);

/* control_gather.c, control_server.c: rank 0; control_client.c: the others. `main` is the control
 * thread. */
RP_NODISCARD enum rp_status rp_control_server_open(struct rp_control *control,
                                                   const struct rp_comm_world *world,
                                                   struct rp_error *err);
void *rp_control_server_main(void *control);
void rp_control_server_beat(struct rp_control *control); /* to all that are there */
/* What no second try heals on one rank ends all in the same way; else a peer is lost. */
enum rp_status rp_control_end_of_all(enum rp_status of_rank);
RP_NODISCARD enum rp_status rp_control_server_agree(struct rp_control *control, const void *mine,
                                                    size_t bytes, void *all, struct rp_error *err);
/* Under the mutex: answers to those who wait for it go out. */
void rp_control_server_set(struct rp_control *control, const char *key, const void *bytes,
                           size_t n);
const struct rp_control_entry *rp_control_server_find(const struct rp_control *control,
                                                      const char *key);
void rp_control_server_forget(struct rp_control *control, const struct rp_control_entry *entry);
void rp_control_server_close(struct rp_control *control, enum rp_status status, const char *text);

RP_NODISCARD enum rp_status rp_control_client_open(struct rp_control *control,
                                                   const struct rp_comm_world *world,
                                                   struct rp_error *err);
void *rp_control_client_main(void *control);
/* Sends a question and waits for the answer, which is the caller's to free. */
RP_NODISCARD enum rp_status rp_control_client_ask(struct rp_control *control, enum rp_net_type type,
                                                  const void *bytes, size_t n, void **answer,
                                                  size_t *answer_bytes, struct rp_error *err);
void rp_control_client_close(struct rp_control *control, enum rp_status status, const char *text);

#endif
