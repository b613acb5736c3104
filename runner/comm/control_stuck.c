/* control_stuck.c - which rank is stuck: it is heard, but gets no further. Each kind of place has a
 * clock of its own: what a save or an evaluation takes is no step's time. */
#include "comm/control_int.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double LEAST_STEP_TIMEOUT = 60, LEAST_REST_TIMEOUT = 1800;

enum kind {
    KIND_START,   /* reading and hashing what there is: as long as it takes */
    KIND_CONNECT, /* the module brings the ranks together */
    KIND_STEP,    /* computing, or waiting within a collective */
    KIND_REST     /* an evaluation, a save */
};

static enum kind kind_of(const char *phase)
{
    static const struct {
        const char *phase;
        enum kind kind;
    } others[] = {{"", KIND_START},
                  {"start", KIND_START},
                  {"connect", KIND_CONNECT},
                  {"evaluate", KIND_REST},
                  {"save", KIND_REST}};
    for (size_t i = 0; i < RP_COUNT(others); i++)
        if (strcmp(phase, others[i].phase) == 0) return others[i].kind;
    return KIND_STEP;
}

void rp_control_place(struct rp_control *c, struct rp_control_member *member, uint64_t step,
                      const char *phase, double now)
{
    enum kind before = kind_of(member->phase);
    double took = now - member->since;
    if (step < member->step) return;
    if (step != member->step || kind_of(phase) != before) {
        if (before == KIND_STEP && member->step > 0) c->slowest_step = fmax(c->slowest_step, took);
        if (before == KIND_REST) c->slowest_rest = fmax(c->slowest_rest, took);
        member->since = now;
    }
    member->step = step;
    snprintf(member->phase, sizeof member->phase, "%s", phase);
}

static double limit_of(const struct rp_control *c, enum kind kind)
{
    double given = c->options.step_timeout;
    double step = given > 0 ? given : fmax(LEAST_STEP_TIMEOUT, 10 * c->slowest_step);
    if (kind == KIND_STEP) return step;
    if (kind == KIND_CONNECT) return fmax(step, c->patience);
    return fmax(fmax(given, LEAST_REST_TIMEOUT), 10 * c->slowest_rest);
}

/* For the result of an agreement; of rank 0 it is not known. */
static bool waits_for_others(const struct rp_control *c, int r)
{
    return r > 0 && c->member[r].slot;
}

/* The furthest behind of those that have been in such a place for too long and wait for nobody; -1:
 * there is none. */
static int find_late(const struct rp_control *c, enum kind kind, double now)
{
    int who = -1;
    for (int r = 0; r < c->n_ranks; r++) {
        const struct rp_control_member *m = &c->member[r];
        if (m->ended || kind_of(m->phase) != kind || now - m->since <= limit_of(c, kind)) continue;
        if (kind == KIND_STEP && (m->step == 0 || strcmp(m->phase, "step") != 0)) continue;
        if (waits_for_others(c, r)) continue;
        /* Rank 0 may wait for any that is named in its stead. */
        if (who < 0 || m->step < c->member[who].step || (who == 0 && kind == KIND_REST)) who = r;
    }
    return who;
}

/* Do all wait for each other? */
static bool all_wait(const struct rp_control *c, double now)
{
    for (int r = 0; r < c->n_ranks; r++) {
        const struct rp_control_member *m = &c->member[r];
        bool late = m->step > 0 && now - m->since > limit_of(c, KIND_STEP);
        bool waits = kind_of(m->phase) == KIND_STEP && strcmp(m->phase, "step") != 0;
        if (!m->ended && !(late && waits)) return false;
    }
    return true;
}

const char *rp_control_find_stuck(const struct rp_control *c, double now, int *who)
{
    *who = find_late(c, KIND_STEP, now);
    if (*who < 0) *who = find_late(c, KIND_REST, now);
    if (*who >= 0) return "makes no progress";
    *who = find_late(c, KIND_CONNECT, now);
    if (*who >= 0)
        return "does not come into connection with the others, though all are heard: other ports "
               "than rank 0's may be closed between the hosts, or the wrong network be taken (of "
               "NCCL: NCCL_SOCKET_IFNAME);";
    if (!all_wait(c, now)) return NULL;
    *who = 0;
    for (int r = 1; r < c->n_ranks; r++)
        if (c->member[r].step < c->member[*who].step) *who = r;
    return "makes no progress, and nobody does, though all are heard: a connection between two "
           "ranks may be cut;";
}
