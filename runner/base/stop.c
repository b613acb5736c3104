/* stop.c - whether what takes long is to end. */
#include "base/stop.h"

bool rp_stop_asked(const struct rp_stop *stop)
{
    return stop && stop->asked(stop->context);
}

enum rp_status rp_stop_look(const struct rp_stop *stop, const char *path, struct rp_error *err)
{
    if (!rp_stop_asked(stop)) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_STOPPED, "stopped while %s was read", path);
}
