/* signals.c - SIGTERM, SIGUSR1, SIGHUP: save and stop. SIGINT: the same, twice: at once. SIGUSR2:
 * save and go on. */
#include "base/sys.h"
#include "train/train_int.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>

static atomic_int stop_signal, save_asked;
static _Atomic(double) stop_clock; /* of the first signal that asked */

static void on_stop(int number)
{
    int nobody = 0;
    double never = 0;
    atomic_compare_exchange_strong(&stop_clock, &never, rp_sys_clock());
    if (!atomic_compare_exchange_strong(&stop_signal, &nobody, number) && number == SIGINT &&
        nobody == SIGINT) {
        signal(SIGINT, SIG_DFL); /* the second Ctrl-C ends the process here and now */
        raise(SIGINT);
    }
}

static void on_save(int number)
{
    (void)number;
    atomic_store(&save_asked, 1);
}

static void catch_signal(int number, void (*handler)(int))
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

void rp_train_catch_signals(void)
{
    struct sigaction before;
    catch_signal(SIGTERM, on_stop);
    catch_signal(SIGUSR1, on_stop);
    catch_signal(SIGINT, on_stop);
    catch_signal(SIGUSR2, on_save);
    /* nohup says "go on when the terminal closes": whoever ignored SIGHUP before us is obeyed. */
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        catch_signal(SIGHUP, on_stop);
}

double rp_signals_stop_clock(void)
{
    return atomic_load(&stop_clock);
}

bool rp_signals_stop_asked(void)
{
    return atomic_load(&stop_signal) != 0;
}

enum rp_request rp_signals_request(int *number)
{
    *number = atomic_load(&stop_signal);
    if (*number) return RP_REQUEST_STOP;
    return atomic_exchange(&save_asked, 0) ? RP_REQUEST_SAVE : RP_REQUEST_NONE;
}
