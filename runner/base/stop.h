/* stop.h - what takes long asks now and then whether it is to end. */
#ifndef RP_STOP_H
#define RP_STOP_H

#include "base/base.h"

struct rp_stop {
    bool (*asked)(void *context); /* true ends it */
    void *context;
};
bool rp_stop_asked(const struct rp_stop *stop); /* NULL: never */
/* STOPPED, naming what was read, when it says so. */
RP_NODISCARD enum rp_status rp_stop_look(const struct rp_stop *stop, const char *path,
                                         struct rp_error *err);

#endif
