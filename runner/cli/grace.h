/* grace.h - private to cli/: how long a run takes to stop, beside what a scheduler leaves it. */
#ifndef RP_CLI_GRACE_H
#define RP_CLI_GRACE_H

#include "launch/launch.h"
#include "plan/plan.h"

struct rp_cli_stop {
    double work;   /* seconds until the step and the evaluation under way have ended */
    double save;   /* ... and until all is saved */
    int allowance; /* whole seconds to leave a run that has to stop */
    bool measured; /* all of it, by the run that is in `run`: else reckoned */
    bool stepped;  /* the step was measured, by plan --ranks */
    char run[512];
    int segment; /* of its manifest */
};
/* From what the newest start in `run` has measured (NULL: nobody has), else reckoned: the step from
 * `step_seconds` (0: unknown) and the save from the plan (NULL: unknown). */
void rp_cli_stop_expect(const char *run, const struct rp_plan *plan, double step_seconds,
                        struct rp_cli_stop *stop);
/* What to leave when a stop took so many seconds: as much again, and 5 s. */
int rp_cli_stop_allowance(double seconds);
/* What a launcher asks for and compares with. */
void rp_cli_stop_apply(const struct rp_cli_stop *stop, struct rp_launch *job);

/* plan: the stop beside everything that the site says of how long it leaves; warns where that does
 * not do. Printed, or with `json` (else NULL) added to it. */
void rp_cli_stop_show(const struct rp_cli_stop *stop, const struct rp_spec *spec,
                      const struct rp_site *site, struct json_t *json);

#endif
