/* data_int.h - private to cli/: what `init`, `pack` and `tokenize` share. */
#ifndef RP_CLI_DATA_INT_H
#define RP_CLI_DATA_INT_H

#include "cli/cli.h"

#include "data/data.h"

/* "224" or "96x128". */
bool rp_cli_parse_size(const char *text, int64_t *height, int64_t *width);

/* Between the two Ctrl-C and SIGTERM only ask to stop, once; the second ends the process. */
void rp_cli_catch_stop(void);
void rp_cli_release_stop(void);
extern const struct rp_stop rp_cli_stop;

/* Packs with a progress bar; broken images as warnings and in result "broken". */
RP_NODISCARD enum rp_status rp_cli_pack(const struct rp_pack_options *wanted,
                                        struct rp_pack_result *packed, struct json_t *result,
                                        struct rp_error *err);

/* `init` of data: looks at args->word, writes the text of a spec that will lie at `out`, and prints
 * by which rules it was written. */
RP_NODISCARD enum rp_status rp_init_from_data(const struct rp_cli_args *args, const char *out,
                                              struct rp_text *text, struct json_t *result,
                                              struct rp_error *err);

#endif
