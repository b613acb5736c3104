/* run_row.h - private to cli/: many runs side by side, for `list` and the table of a sweep. */
#ifndef RP_CLI_RUN_ROW_H
#define RP_CLI_RUN_ROW_H

#include "cli/run_view.h"

struct rp_run_row {
    struct rp_run_view view;
    const char *group; /* digest without the seed */
    double started, group_started;
    char seed[24];
    char *resolved;            /* the text of resolved.yaml, or NULL */
    struct rp_metrics metrics; /* the newest values */
    bool end_of_group;
};
/* False when the folder holds no run; one that cannot be read is named by a warning. */
bool rp_run_row_open(const char *folder, struct rp_run_row *row);
void rp_run_row_close(struct rp_run_row *row);
/* Every run under `root`. Free with rp_run_rows_free. */
RP_NODISCARD enum rp_status rp_run_rows_read(const char *root, struct rp_run_row **rows, size_t *n,
                                             struct rp_error *err);
void rp_run_rows_free(struct rp_run_row *rows, size_t n);
/* Groups by age of their newest run, the newest last, next to the prompt. */
void rp_run_rows_sort(struct rp_run_row *rows, size_t n);

/* The metric to show: accuracy on validation data, else its loss, else the training loss; NULL. */
const char *rp_run_row_metric(const struct rp_run_row *row, double *value);
/* "valid/loss": the newest value; false when there is none. */
bool rp_run_row_metric_value(const struct rp_run_row *row, const char *key, double *value);
/* What a run has under a key: a metric, a fact (status, step, seed, ...), or a key of its spec.
 * False when it has none. */
bool rp_run_row_value(const struct rp_run_row *row, const char *key, struct rp_text *value);
/* USAGE when `key` is none of these and no run has it as a metric. */
RP_NODISCARD enum rp_status rp_run_rows_check_key(const struct rp_run_row *rows, size_t n,
                                                  const char *key, struct rp_error *err);

/* Mean and spread over the seeds of a group (rows[0..n)), finished runs alone, each seed once. */
struct rp_run_spread {
    const char *metric; /* NULL: fewer than two seeds have finished */
    int n;
    double mean, deviation, low, high; /* deviation: of the sample, n - 1 */
};
struct rp_run_spread rp_run_rows_spread(const struct rp_run_row *rows, size_t n);

/* ---- --where 'train.optimizer.lr>1e-4' ------------------------------------------------------- */

enum rp_where_op { RP_WHERE_EQ, RP_WHERE_NE, RP_WHERE_LT, RP_WHERE_LE, RP_WHERE_GT, RP_WHERE_GE };
struct rp_where {
    char *key;
    enum rp_where_op op;
    const char *value; /* into the argument */
};
RP_NODISCARD enum rp_status rp_where_parse(const char *text, struct rp_where *where,
                                           struct rp_error *err);
bool rp_where_fits(const struct rp_where *where, const struct rp_run_row *row);
void rp_where_release(struct rp_where *where);
/* Numbers by value ("5 epochs" and "10k steps" too, where the units agree), other texts bytewise.
 */
int rp_where_compare(const char *a, const char *b, bool *are_numbers);

#endif
