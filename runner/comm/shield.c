/* shield.c - ranks that a launcher of MPI started. It kills all others as soon as one is gone,
 * before they can say why; so the process that it started only waits, and its child is the rank.
 * When a rank dies this process stays for some seconds, in which the others write down what they
 * know and end. */
#include "comm/comm.h"

#include "base/log.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SECONDS_TO_STAY = 4 /* longer than a rank takes to unwind (control.c) */ };

/* Ends to which all ranks come by themselves. */
static bool is_expected(int code)
{
    return rp_comm_ends_together((enum rp_status)code) || code == RP_STATUS_USAGE ||
           code == RP_STATUS_ENVIRONMENT || code == RP_STATUS_DATA;
}

static _Noreturn void die_of(int number, const sigset_t *all)
{
    signal(number, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, all, NULL);
    raise(number);
    _exit(128 + number);
}

/* A rank that was killed is a lost peer, to the launcher and to who reads its exit code too. */
static _Noreturn void end_like(int rank, pid_t child, int state, const sigset_t *all)
{
    const struct timespec stay = {.tv_sec = SECONDS_TO_STAY};
    int code = WIFEXITED(state) ? WEXITSTATUS(state) : RP_STATUS_PEER_LOST;
    char text[128];
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    if (WIFSIGNALED(state) && WTERMSIG(state) == SIGINT) die_of(SIGINT, all);
    if (WIFSIGNALED(state)) {
        snprintf(text, sizeof text, "rank %d, process %d, was killed by signal %d (%s)", rank,
                 (int)child, WTERMSIG(state), strsignal(WTERMSIG(state)));
        rp_log_error(text);
    }
    if (!is_expected(code)) (void)sigtimedwait(&term, NULL, &stay);
    _exit(code);
}

/* What others send to this process is for the rank; what a terminal sends it gets itself. */
static _Noreturn void watch(int rank, pid_t child, const sigset_t *all)
{
    siginfo_t info;
    int state = 0;
    for (;;) {
        int number = sigwaitinfo(all, &info);
        if (number == SIGCHLD && waitpid(child, &state, WNOHANG) == child)
            end_like(rank, child, state, all);
        if (number > 0 && number != SIGCHLD && info.si_code <= 0) kill(child, number);
    }
}

void rp_comm_shield(int rank)
{
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    fflush(NULL);
    pid_t self = getpid(), child = fork();
    if (child > 0) watch(rank, child, &all);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != self) _exit(RP_STATUS_PEER_LOST); /* it died before we asked */
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
}
