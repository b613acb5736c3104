/* number.h - doubles as text that gives the same double back, whatever the locale says about
 * commas. */
#ifndef RP_NUMBER_H
#define RP_NUMBER_H

#include "base/base.h"

enum { RP_NUMBER_BYTES = 40 };

/* The shortest of 15, 16 or 17 digits that reads back as the same bits, always with a point or an
 * exponent ("3.0", "-0.0", "1e+30"); NaN, Infinity, -Infinity (not JSON numbers: quote them). */
void rp_number_text(double value, char text[RP_NUMBER_BYTES]);
/* The same of a binary32, in as few digits from 6 on as give that one back. */
void rp_number_text_float(float value, char text[RP_NUMBER_BYTES]);
/* "0x1.8p+1"; nan, inf, -inf. */
void rp_number_hex(double value, char text[RP_NUMBER_BYTES]);
/* Reads either form; all of `text` must be a number. */
bool rp_number_parse(const char *text, double *value);
/* A decimal number of a table ("-12.5e3"; no hex, no inf, no nan, no blanks), `length` bytes that
 * need no NUL after them, rounded once to binary32. False for anything else, and when it is too
 * large for one. */
bool rp_number_parse_float(const char *text, size_t length, float *value);

#endif
