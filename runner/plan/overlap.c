/* overlap.c - what of the exchange backward hides, predicted: buckets leave as they are complete,
 * one after another (train/owners.c). scale.h has the formula. */
#include "plan/scale.h"

#include <math.h>

/* The part of a pass that is over when node `node` has run, as its operations are of all. */
static double part_until(const struct rp_graph *graph, int node)
{
    double until = 0, all = 0;
    for (int i = 0; i < graph->n_nodes; i++) {
        struct rp_op_call call;
        double flops, bytes;
        rp_graph_call(graph, i, &call);
        rp_op_cost(&call, &flops, &bytes);
        all += flops;
        if (i <= node) until += flops;
    }
    return all > 0 ? until / all : 1;
}

double rp_scale_hidden(const struct rp_plan *plan, const struct rp_plan_step *step)
{
    const struct rp_plan_owners *o = &plan->owners;
    double pass = step->compute / plan->n_passes, seconds = step->scatter + step->join, end = 0;
    if (o->n_exchanges == 0) return 0;
    for (int j = 0; j < o->n_exchanges; j++) {
        const struct rp_plan_exchange *e = &o->exchange[j];
        double bytes = (double)(e->border[o->ranks] - e->border[0]);
        double ready = pass * part_until(&plan->model->train, e->after);
        end = fmax(end, ready) + seconds * bytes / (double)o->sum_bytes;
    }
    double last = seconds * (double)(o->sum_bytes - o->shared_sums) / (double)o->sum_bytes;
    return seconds - (fmax(end - pass, 0) + last);
}
