/* listing.h - private to runner/data: the files of a data set that may name folders. */
#ifndef RP_DATA_LISTING_H
#define RP_DATA_LISTING_H

#include "data/data_int.h"

/* Finds the files that the data set names, those of its folders included when they end in `ending`
 * (NULL: whatever their name; names that begin with a dot are passed over). From then on they are
 * the files of the source. */
RP_NODISCARD enum rp_status rp_data_source_list(struct rp_data_source *source, const char *ending,
                                                struct rp_error *err);
void rp_data_source_release(struct rp_data_source *source);

#endif
