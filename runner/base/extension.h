/* extension.h - modules whose functions the host calls: parts of reprise that need a library which
 * not every machine has, shared objects opened when something asks for them.
 *
 * A module is NAME.so in $REPRISE_MODULES, else beside the program, else in ../lib/reprise from
 * there; always opened by absolute path. It exports rp_module_v1 alone: a function that takes the
 * host's functions and returns the module's table, whose first member is struct rp_extension. It
 * calls nothing else of the program. */
#ifndef RP_EXTENSION_H
#define RP_EXTENSION_H

#include "base/base.h"

/* Another number whenever a table of any module changes, so that old and new never meet. */
enum { RP_EXTENSION_VERSION = 3 };

/* What a module may call. */
struct rp_extension_host {
    uint32_t version; /* RP_EXTENSION_VERSION */
    void (*warn)(const char *text);
    void *(*allocate)(size_t bytes); /* 64-byte aligned, zeroed, or NULL */
    void (*release)(void *block);    /* NULL is fine */
};
/* What every table begins with. */
struct rp_extension {
    uint32_t version; /* RP_EXTENSION_VERSION of the header that it was built with */
    const char *name;
    const char *libraries; /* what it is linked with, for people: "libpng 1.6.39" */
};
#define RP_EXTENSION_ENTRY "rp_module_v1"

/* What a module defines and exports, and the program does not: NULL for a host of another version.
 */
__attribute__((visibility("default"))) const struct rp_extension *
rp_module_v1(const struct rp_extension_host *host);

/* Opens a module once; it stays open. ENVIRONMENT when it is absent or broken, saying where it was
 * looked for and `advice`, what brings it. */
RP_NODISCARD enum rp_status rp_extension_open(const char *name, const char *advice,
                                              const struct rp_extension **module,
                                              struct rp_error *err);

/* Is there a file of that name where modules are looked for? */
bool rp_extension_is_there(const char *name);

#endif
