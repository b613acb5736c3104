/* fake_quota.c - preloaded into the program: quotactl_fd answers as $FAKE_QUOTA says, a number of
 * KiB that user and group may have, all of it left, or the number of an error below 0. */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/quota.h>
#include <unistd.h>

enum { QUOTACTL_FD = 443, N_ARGUMENTS = 6 };

__attribute__((visibility("default"))) long syscall(long number, ...)
{
    long argument[N_ARGUMENTS];
    const char *wanted = getenv("FAKE_QUOTA");
    va_list list;
    va_start(list, number);
    for (int i = 0; i < N_ARGUMENTS; i++) argument[i] = va_arg(list, long);
    va_end(list);
    if (number == QUOTACTL_FD && wanted) {
        long most = strtol(wanted, NULL, 10);
        struct dqblk limits = {.dqb_bhardlimit = (unsigned long)most};
        if (most < 0) errno = (int)-most;
        if (most >= 0) memcpy((void *)argument[3], &limits, sizeof limits);
        return most < 0 ? -1 : 0;
    }
    long (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return real(number, argument[0], argument[1], argument[2], argument[3], argument[4],
                argument[5]);
}
