/* nearest.h - what somebody meant who mistyped one of a few words. */
#ifndef RP_NEAREST_H
#define RP_NEAREST_H

#include "base/base.h"

/* Of the `n` words the nearest to `word`, or NULL when none is near; case does not count. */
const char *rp_nearest_word(const char *word, const char *const *words, int n);

#endif
