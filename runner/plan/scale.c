/* scale.c - the formulas of scale.h, and the two numbers of a network read from text. */
#include "plan/scale.h"

#include "base/number.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the network ----------------------------------------------------------------------------- */

struct unit {
    const char *name;
    double factor;
};

static const struct unit bandwidths[] = {{"Gb/s", 1e9 / 8}, {"Mb/s", 1e6 / 8}, {"Tb/s", 1e12 / 8},
                                         {"GB/s", 1e9},     {"MB/s", 1e6},     {"TB/s", 1e12},
                                         {"GiB/s", 0x1p30}, {"MiB/s", 0x1p20}};
static const struct unit times[] = {{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}};

/* A number and, behind it, one of the units. */
static bool parse_amount(const char *text, size_t length, const struct unit *units, size_t n,
                         double *value)
{
    char number[RP_NUMBER_BYTES];
    size_t digits = strspn(text, "+-.0123456789");
    if (digits == 0 || digits >= length || digits >= sizeof number) return false;
    snprintf(number, sizeof number, "%.*s", (int)digits, text);
    if (!rp_number_parse(number, value) || !isfinite(*value)) return false;
    while (text[digits] == ' ') digits++;
    for (size_t i = 0; i < n; i++) {
        if (strlen(units[i].name) != length - digits ||
            strncmp(units[i].name, text + digits, length - digits) != 0)
            continue;
        *value *= units[i].factor;
        return true;
    }
    return false;
}

enum rp_status rp_plan_parse_link(const char *option, const char *text, struct rp_plan_link *link,
                                  struct rp_error *err)
{
    size_t comma = strcspn(text, ",");
    const char *latency = text + comma + (text[comma] != '\0');
    if (!parse_amount(text, comma, bandwidths, RP_COUNT(bandwidths), &link->bytes_per_second) ||
        !parse_amount(latency, strlen(latency), times, RP_COUNT(times), &link->seconds))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s is '%s', and must be a bandwidth and a latency, each with its "
                            "unit, like 400Gb/s,5us or 25GB/s,0.01ms (b: bits, B: bytes)",
                            option, text);
    if (link->bytes_per_second > 0 && link->seconds > 0) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "%s is '%s': bandwidth and latency must be above zero", option, text);
}

/* ---- the step -------------------------------------------------------------------------------- */

/* A message of `bytes`, `sharing` of which use the link at once. */
static double message(const struct rp_plan_link *link, double bytes, double sharing)
{
    return link->seconds + sharing * bytes / link->bytes_per_second;
}

void rp_scale_exchange(double n, const struct rp_plan_time *time,
                       const struct rp_plan_network *network, struct rp_plan_step *step)
{
    const struct rp_plan_link *w = &network->within, *x = &network->between;
    double ranks = time->ranks, slice = n / ranks, vote = RP_SCALE_VOTE_BYTES;
    double near = ranks < network->per_node ? ranks : network->per_node, far = ranks - near;
    double round = near > 1 ? message(w, slice, 1) : 0, wait = near > 1 ? w->seconds : 0;
    if (far > 0) round = fmax(round, message(x, slice, 1)), wait = fmax(wait, x->seconds);
    step->scatter = (near - 1) * message(w, slice, 1) + far * message(x, slice, near) +
                    (RP_SCALE_SCATTERS - 1) * ((near - 1) * w->seconds + far * x->seconds);
    step->join = (ranks - 1) / ranks * time->add_seconds;
    step->gather = (ranks - 1) * (round + (RP_SCALE_GATHERS - 1) * wait);
    step->agree = far * (message(x, vote, 1) + message(x, ranks * vote, 1)) +
                  (time->agree_seconds >= 0
                       ? time->agree_seconds
                       : (near - 1) * (message(w, vote, 1) + message(w, ranks * vote, 1)));
    step->exchange = step->scatter + step->join + step->gather + step->agree;
}

/* What was measured: the parts of a whole step, in which waiting for others is part of the
 * exchange.
 */
static void take_measured(const struct rp_plan_time *time, struct rp_plan_step *step)
{
    step->step = time->ranks > 1 ? time->step_seconds : step->compute + step->update;
    step->scatter = time->reduce_seconds;
    step->gather = time->gather_seconds;
    step->exposed = fmax(0, step->step - step->compute - step->update);
    step->agree = fmax(0, step->exposed - step->scatter - step->gather);
    step->exchange = step->scatter + step->gather + step->agree;
}

void rp_plan_predict(const struct rp_plan *plan, const struct rp_plan_time *time,
                     const struct rp_plan_network *network, struct rp_plan_step *step)
{
    *step = (struct rp_plan_step){.ranks = time->ranks,
                                  .nodes = time->ranks / network->per_node,
                                  .compute = time->compute_seconds,
                                  .update = time->update_seconds};
    if (step->nodes < 1) step->nodes = 1;
    if (network->local) {
        take_measured(time, step);
        return;
    }
    rp_scale_exchange((double)plan->owners.sum_bytes, time, network, step);
    step->exposed = step->exchange - rp_scale_hidden(plan, step);
    step->step = step->compute + step->update + step->exposed;
}
