/* env_int.h - private to env/. */
#ifndef RP_ENV_INT_H
#define RP_ENV_INT_H

#include "env/env.h"

#include <jansson.h>

/* From which tier on a difference can change a bit. */
enum rp_env_touch { RP_ENV_TOUCH_ALWAYS, RP_ENV_TOUCH_PINNED, RP_ENV_TOUCH_NEVER };

/* {"path", "sha256"} of the program and [{"name", "path", "sha256"}] of the libraries. Waits for
 * the thread of rp_env_begin(), or does the work here. New references. */
void rp_env_hashes(json_t **binary, json_t **libraries);

/* The variables that are set, of the fixed list: {name: value}. A new reference. */
json_t *rp_env_variables(void);
/* Whether the value of this variable can change a bit above portable. */
enum rp_env_touch rp_env_variable_touch(const char *name);

#endif
