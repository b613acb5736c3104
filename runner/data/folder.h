/* folder.h - private to runner/data: all files that a folder holds, at any depth. */
#ifndef RP_DATA_FOLDER_H
#define RP_DATA_FOLDER_H

#include "base/base.h"

struct rp_folder {
    char **file; /* paths within the folder, in bytewise order */
    int n;
};

/* Lists the files whose names end in `ending` (NULL: all); names that begin with a dot are passed
 * over. Release it whatever the status. DATA: folders within folders without an end. */
RP_NODISCARD enum rp_status rp_folder_list(const char *root, const char *ending,
                                           struct rp_folder *list, struct rp_error *err);
void rp_folder_release(struct rp_folder *list);

#endif
