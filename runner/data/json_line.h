/* json_line.h - private to runner/data: one line of a file of JSON lines, for data sets and for
 * `tokenize`. */
#ifndef RP_DATA_JSON_LINE_H
#define RP_DATA_JSON_LINE_H

#include "base/base.h"

#include <jansson.h>

/* The object of line number `line` (from 1) of a file; NULL for a line of blanks. DATA: `err` says
 * what the line is instead, to be read after "line 7 is ". */
RP_NODISCARD enum rp_status rp_json_line_read(int64_t line, const char *text, size_t n,
                                              json_t **object, struct rp_error *err);
/* Its member `name`, a text, which the object owns. DATA: `err` says what is there instead, to be
 * read after "line 7 has ". */
RP_NODISCARD enum rp_status rp_json_line_text(const json_t *object, const char *name,
                                              const char **text, size_t *n, struct rp_error *err);

#endif
