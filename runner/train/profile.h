/* profile.h - private to train/: time per phase and per op of a run, beside the floor of each op;
 * or only the names of the phases, for a profiler of the device's own. */
#ifndef RP_PROFILE_H
#define RP_PROFILE_H

#include "device.h"

struct rp_text;

#define RP_PHASE_LIST(X)                                                                           \
    X(DATA, "data")                                                                                \
    X(MODEL, "model")                                                                              \
    X(REDUCE, "reduce")                                                                            \
    X(UPDATE, "update")                                                                            \
    X(GATHER, "gather") X(RECORD, "record") X(EVALUATE, "evaluate") X(SAVE, "save")
enum rp_phase {
#define RP_PHASE_ENUM(name, text) RP_PHASE_##name,
    RP_PHASE_LIST(RP_PHASE_ENUM)
#undef RP_PHASE_ENUM
        RP_PHASE_COUNT
};

/* A NULL profile makes every call below do nothing. */
struct rp_profile *rp_profile_new(struct rp_device *device, bool timed);
/* Every op is waited for and timed. */
bool rp_profile_is_timed(const struct rp_profile *profile);
void rp_profile_free(struct rp_profile *profile);
/* The phase that begins now; the one before ends. */
void rp_profile_phase(struct rp_profile *profile, enum rp_phase phase);
/* Of a phase so far, the one that runs now left out. */
double rp_profile_seconds(const struct rp_profile *profile, enum rp_phase phase);
/* Around one op: begin gives the time to hand to end. */
double rp_profile_begin(const struct rp_profile *profile);
void rp_profile_end(struct rp_profile *profile, const struct rp_op_call *call, double began);

/* Two tables; floors from a peak rate (FLOP/s) and bandwidth (bytes/s) measured on this machine. */
void rp_profile_print(struct rp_profile *profile, double peak_flops, double peak_bytes,
                      struct rp_text *text);
/* A trace in Chrome's JSON form, which Perfetto opens: the first events up to a bound. */
RP_NODISCARD enum rp_status rp_profile_write(struct rp_profile *profile, const char *path,
                                             struct rp_error *err);

#endif
