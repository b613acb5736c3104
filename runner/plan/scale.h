/* scale.h - private to plan/: what a step takes on many ranks, by formulas.
 *
 * R ranks, K of them on each of R/K nodes (R <= K: one node); n bytes of sums, cut into slices of
 * s = n/R. A message of b bytes takes, after Hockney (The communication challenge for MPP, Parallel
 * Computing 20, 1994), alpha + b beta: alpha the latency, 1/beta the bandwidth;
 *
 *   w(b) = alpha_w + b beta_w        between two ranks of a node
 *   x(b, k) = alpha_x + k b beta_x   between two nodes, k ranks of a node sending at once
 *
 * The collectives are those of comm/, with the costs that Thakur, Rabenseifner and Gropp give them
 * (Optimization of collective communication operations in MPICH, International Journal of High
 * Performance Computing Applications 19(1), 2005), where all messages cost the same; ranks are
 * numbered node by node, so that here K - 1 of a rank's R - 1 partners are near:
 *
 *   scatter  slice q of everybody to rank q, pairwise exchange; theirs alpha + n (R-1)/R beta
 *            (K-1) w(s) + (R-K) x(s, K)
 *   join     R slices added in the order of the tree; theirs n (R-1)/R gamma
 *            (R-1)/R A, A the time to add n bytes to n others, measured
 *   gather   slices to everybody, a ring; theirs alpha + n (R-1)/R beta. A step of it is over
 *            when the slowest link is; one rank of a node sends to the next node
 *            max(w(s) if K > 1, x(s, 1) if R > K)
 *   agree    what the control channel costs a step: R - 1 votes of v bytes into rank 0, R - 1
 *            answers of R v bytes out of it
 *            H + (R-K) (x(v, 1) + x(R v, 1))
 *            H, the handovers, measured: an agreement of the K ranks of a node, of two where K = 1.
 *            It is all but threads that are woken one by the other (rank 0's of the channel and
 *            its main one, the same two of another rank), which no link's numbers say. Where
 *            copies of a rank are measured beside each other it is part of C, and H is 0 here
 *
 *   Where a step scatters or gathers several times, each further time costs its latencies.
 *
 *   step     C + U + exposed         exposed = scatter + join + gather + agree - hidden
 *
 * hidden: bucket after bucket of the sums is scattered and joined while backward goes
 * on, as in wait-free backpropagation (Zhang et al., Poseidon, USENIX ATC 2017; with merged
 * gradients: Shi, Chu, Li, MG-WFBP, INFOCOM 2019). Bucket j of b_j bytes, in the order in which
 * backward completes them, ends at
 *
 *   e_j = max(e_(j-1), r_j) + (scatter + join) b_j / n      e_0 = 0
 *
 * r_j: when it is complete, P f_j, of a pass of P = C / passes; f_j is the part of the pass's
 * operations up to there. Of the last e, e - P is exposed, and so are the sums that are
 * everybody's.
 *
 * C (data, forward, backward of batch/R samples) and U (the update) are measured by running them,
 * in the passes that a rank of R has and with as many copies at once as a node has ranks, so that
 * cores and memory are shared as they will be. After each step these agree as ranks do, so that a
 * step of C + U takes as long as the slowest's, the threads of the channel are woken, and copies
 * that take turns on a core (more of them than cores) wait for them once. Of all steps the median
 * counts. Nothing of the gather is counted as hidden behind U.
 * Between GPUs the same formulas are taken, and have been compared with no measurement yet.
 *
 * Left out: on CPUs whoever moves the bytes takes them from the same cores, and where ranks take
 * turns on a core each further exchange of a step begins when the last one has had its turn, too. A
 * link's two numbers cannot say that. `--network local` measures it instead: whole steps of
 * R ranks on this machine, connected as they will be, and S is what they take,
 *
 *   exposed = S - C - U */
#ifndef RP_PLAN_SCALE_H
#define RP_PLAN_SCALE_H

#include "plan/plan.h"

enum {
    RP_SCALE_VOTE_BYTES = 56, /* of an agreement after a step (train/ranks.c) */
    RP_SCALE_SCATTERS = 2, /* collectives of a step (train/owners.c): one has all the bytes, the */
    RP_SCALE_GATHERS = 3   /* others are small */
};

/* The formulas alone: n bytes of sums; `time` gives R and A. */
void rp_scale_exchange(double n, const struct rp_plan_time *time,
                       const struct rp_plan_network *network, struct rp_plan_step *step);

/* overlap.c: what of scatter and join backward hides; `step` has these and compute. */
double rp_scale_hidden(const struct rp_plan *plan, const struct rp_plan_step *step);

#endif
