/* record_int.h - private to record/: times that tests change, and one line of digests.jsonl. */
#ifndef RP_RECORD_INT_H
#define RP_RECORD_INT_H

#include "record/record.h"

/* Seconds; DESIGN section 4. Tests shorten them, and pretend that locks do not work. */
struct rp_hold_tuning {
    double raise_every; /* the holder's counter */
    double standstill;  /* after this long without a change the counter is dead */
    double settle;      /* after writing a takeover, before believing it */
    bool locks_are_off;
};
extern struct rp_hold_tuning rp_hold_tuning;

/* One line without its newline. `tensors` (may be NULL) gets the JSON text of "tensors" or NULL;
 * caller frees. False when it is no line of ours. */
bool rp_digest_line_parse(const char *bytes, size_t length, struct rp_digest_line *line,
                          char **tensors);
/* Appends the line with its newline. */
void rp_digest_line_add(struct rp_text *text, const struct rp_digest_line *line,
                        const struct rp_digest_tensor *tensors, int n_tensors);

/* The longest log that is read. */
#define RP_RECORD_MAX_LOG ((uint64_t)16 << 30)

#endif
