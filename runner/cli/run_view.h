/* run_view.h - private to cli/: what `show` and `list` say about a run. */
#ifndef RP_RUN_VIEW_H
#define RP_RUN_VIEW_H

#include "base/mem.h"
#include "record/record.h"

#include <jansson.h>

struct rp_run_view {
    char *run;
    char *shown; /* the same for a terminal: control characters escaped */
    struct rp_manifest manifest;
    const char *status; /* running, finished, stopped, failed, lost */
    uint64_t step, steps;
    char chain[RP_SHA256_HEX]; /* of the last step, or "" */
};
/* DATA when there is no manifest. Reads the manifest and, while it may be behind, the last line of
 * digests.jsonl. */
RP_NODISCARD enum rp_status rp_run_view_open(const char *run, struct rp_run_view *view,
                                             struct rp_error *err);
void rp_run_view_close(struct rp_run_view *view);

/* A text of the manifest, by group (NULL: the top) and key; "" when there is none. */
const char *rp_run_view_text(const struct rp_run_view *view, const char *group, const char *key);
const json_t *rp_run_view_last_segment(const struct rp_run_view *view); /* or NULL */
double rp_run_view_started(const struct rp_run_view *view); /* wall clock of the newest segment */

/* A JSON number, or "NaN", "Infinity", "-Infinity". */
json_t *rp_json_number(double value);
/* "3.2 s", "12 min", "2.1 h", "5 days". */
void rp_text_add_duration(struct rp_text *text, double seconds);

/* A curve of `n` points (x ascending) as lines of text, width x height characters with an axis at
 * the left; braille dots when `unicode`, else '*'. Values that are not finite are left out. */
void rp_text_add_curve(struct rp_text *text, const uint64_t *x, const double *y, int64_t n,
                       int width, int height, bool unicode);
/* The same in one line of `width` characters: block characters, or plain ones by height. */
void rp_text_add_sparkline(struct rp_text *text, const double *y, int64_t n, int width,
                           bool unicode);
/* Where `y` was best, for a metric of which more or less is better; -1 for others, and when none is
 * finite. */
int64_t rp_series_best(const struct rp_series *series);
bool rp_terminal_is_utf8(void); /* by LC_ALL, LC_CTYPE, LANG */

#endif
