/* stop.c - Ctrl-C and SIGTERM for commands that leave nothing half done. */
#include "cli/data_int.h"

#include <signal.h>
#include <stdatomic.h>

static atomic_int stop_signal;

static void on_stop(int number)
{
    atomic_store(&stop_signal, number);
    signal(number, SIG_DFL); /* the second one ends the process here and now */
}

static void catch_signals(void (*handler)(int))
{
    signal(SIGINT, handler);
    signal(SIGTERM, handler);
}

void rp_cli_catch_stop(void)
{
    catch_signals(on_stop);
}

void rp_cli_release_stop(void)
{
    catch_signals(SIG_DFL);
}

static bool asked(void *context)
{
    (void)context;
    return atomic_load(&stop_signal) != 0;
}

const struct rp_stop rp_cli_stop = {asked, NULL};
