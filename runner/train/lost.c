/* lost.c - a rank is lost: what every other rank leaves in the run folder at once. A launcher such
 * as mpirun may kill us before we have ended in order. */
#include "train/start_int.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"

#include <stdatomic.h>
#include <stdio.h>

static _Atomic(char *) own_log; /* of a rank other than 0, whose log begins with a loss */

void rp_lost_begin(const char *run, int rank)
{
    if (rank == 0) return;
    char name[32], *logs = rp_sys_join(run, "logs");
    snprintf(name, sizeof name, "rank-%05d.txt", rank);
    rp_mem_free(atomic_exchange(&own_log, rp_sys_join(logs, name)));
    rp_mem_free(logs);
}

void rp_lost_note(void *context, const char *text)
{
    const char *path = atomic_load(&own_log);
    int fd = -1;
    (void)context;
    if (path && rp_sys_open_append(path, &fd, NULL) == RP_STATUS_OK) rp_log_to_file(fd);
    rp_log_note(text);
}
