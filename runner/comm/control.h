/* control.h - private to comm/: the control channel (DESIGN 8). Every rank has a TCP connection to
 * rank 0, served by a thread of its own on both sides. It carries a key-value store (for the
 * rendezvous of Gloo), agreements, heartbeats, and the cause when a rank ends. */
#ifndef RP_CONTROL_H
#define RP_CONTROL_H

#include "comm/comm.h"

struct rp_control;

RP_NODISCARD enum rp_status rp_control_open(const struct rp_comm_world *world,
                                            const struct rp_comm_options *options,
                                            struct rp_control **control, struct rp_error *err);
void rp_control_close(struct rp_control *control, enum rp_status status, const char *text);

RP_NODISCARD enum rp_status rp_control_agree(struct rp_control *control, const void *mine,
                                             size_t bytes, void *all, struct rp_error *err);
void rp_control_note(struct rp_control *control, uint64_t step, const char *phase);
void rp_control_settle(struct rp_control *control);
void rp_control_rank_text(const struct rp_control *control, int rank, char text[300]);

/* The store: a value is set once. get waits until it is there; `*bytes` is the caller's to free. */
RP_NODISCARD enum rp_status rp_control_set(struct rp_control *control, const char *key,
                                           const void *bytes, size_t n, struct rp_error *err);
RP_NODISCARD enum rp_status rp_control_get(struct rp_control *control, const char *key,
                                           void **bytes, size_t *n, struct rp_error *err);

/* The same as set from any thread, whatever else is under way; not on rank 0. */
RP_NODISCARD enum rp_status rp_control_post(struct rp_control *control, const char *key,
                                            const void *bytes, size_t n, struct rp_error *err);
/* On rank 0, from any thread: waits for what `rank` posts under the key, and takes it out.
 * PEER_LOST when that rank has ended, or the run. */
RP_NODISCARD enum rp_status rp_control_take(struct rp_control *control, int rank, const char *key,
                                            void **bytes, size_t *n, struct rp_error *err);

/* A transport has failed: waits for the channel to find out why, a few seconds at most, and puts
 * that into `err`; else `what` is the cause. */
RP_NODISCARD enum rp_status rp_control_cause(struct rp_control *control, const char *what,
                                             struct rp_error *err);
/* A rank is known to be lost: whoever waits for others should stop. */
bool rp_control_is_over(struct rp_control *control);
/* The address of this host as rank 0 is reached from here, for others to connect to. */
const char *rp_control_own_address(const struct rp_control *control);

#endif
