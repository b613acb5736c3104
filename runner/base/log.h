/* log.h - what a person reads while a command works. Everything here goes to standard error (and,
 * when a run has opened one, to its log file); results go to standard output by printf. */
#ifndef RP_LOG_H
#define RP_LOG_H

#include "base/base.h"

struct rp_log_style {
    bool quiet; /* only errors */
    bool color; /* ANSI colours on standard error */
};
void rp_log_configure(const struct rp_log_style *style);

/* This process is a rank other than 0: it says errors alone, with its number before them, and its
 * standard output goes nowhere. */
void rp_log_as_rank(int rank, const char *host);
/* Nothing more, for a rank that ends because of what rank 0 has said already. */
void rp_log_mute(void);

/* Also writes each line to this descriptor, with a UTC time; -1 stops it. Not owned. */
void rp_log_to_file(int fd);

void rp_log_info(const char *format, ...) RP_PRINTF(1, 2);    /* "reprise: ..." */
void rp_log_warning(const char *format, ...) RP_PRINTF(1, 2); /* "reprise: warning: ..." */
/* "reprise: error: ..."; also a line of the file $REPRISE_TERMINATION_LOG, where that is set. */
void rp_log_error(const char *text);

void rp_log_note(const char *text); /* to the log file alone, as an error */

/* One line on a terminal that the next replaces; nothing when standard error is no terminal. */
void rp_log_progress(const char *format, ...) RP_PRINTF(1, 2);
void rp_log_progress_clear(void);
bool rp_log_is_terminal(void);

#endif
