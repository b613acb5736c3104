/* Which rank is found stuck, where each stands and since when being given. */
#include "comm/control_int.h"
#include "test.h"

#include <string.h>

enum { N = 3, STEP_LIMIT = 60, REST_LIMIT = 1800, PATIENCE = 120 };

struct world {
    struct rp_control control;
    struct rp_control_member member[N];
};

static void init(struct world *w)
{
    *w = (struct world){.control = {.n_ranks = N, .patience = PATIENCE}};
    w->control.member = w->member;
    for (int r = 0; r < N; r++) rp_control_place(&w->control, &w->member[r], 0, "start", 0);
}

static void place_all(struct world *w, uint64_t step, const char *phase, double now)
{
    for (int r = 0; r < N; r++) rp_control_place(&w->control, &w->member[r], step, phase, now);
}

/* The rank that is named at `now`; -1: nobody is. */
static int named(const struct world *w, double now, const char *why_has)
{
    int who = -1;
    const char *why = rp_control_find_stuck(&w->control, now, &who);
    if (!why) return -1;
    CHECK(strstr(why, why_has));
    return who;
}

static void test_steps(void)
{
    struct world w;
    init(&w);
    CHECK_INT(named(&w, 1e6, ""), -1); /* a start takes as long as it takes */
    place_all(&w, 1, "step", 100);
    CHECK_INT(named(&w, 100 + STEP_LIMIT, ""), -1);
    rp_control_place(&w.control, &w.member[0], 1, "reduce", 101);
    rp_control_place(&w.control, &w.member[1], 1, "reduce", 101);
    CHECK_INT(named(&w, 101 + STEP_LIMIT, "makes no progress"), 2);
    rp_control_place(&w.control, &w.member[2], 1, "reduce", 102);
    CHECK_INT(named(&w, 101 + STEP_LIMIT, "nobody does"), 0); /* all wait for each other */
    place_all(&w, 2, "step", 200); /* 100 s: ten times as much is allowed from now on */
    CHECK_INT(named(&w, 200 + 999, ""), -1);
    CHECK_INT(named(&w, 200 + 1001, "makes no progress"), 0);
    w.control.options.step_timeout = 5;
    CHECK_INT(named(&w, 206, "makes no progress"), 0);
}

/* What a save or an evaluation takes is neither a step's time nor without end. */
static void test_saves_and_evaluations(void)
{
    static const char *const phases[] = {"save", "evaluate"};
    for (int i = 0; i < 2; i++) {
        struct world w;
        int slot = 0;
        init(&w);
        place_all(&w, 7, "reduce", 10);
        place_all(&w, 7, phases[i], 12);
        CHECK_INT(named(&w, 12 + REST_LIMIT, ""), -1);
        CHECK_INT(named(&w, 13 + REST_LIMIT, "makes no progress"), 1);
        w.member[1].slot = &slot; /* it waits for an agreement */
        CHECK_INT(named(&w, 13 + REST_LIMIT, "makes no progress"), 2);
        w.member[2].slot = &slot;
        CHECK_INT(named(&w, 13 + REST_LIMIT, "makes no progress"), 0);
        /* Afterwards the step's clock begins anew, and has learned nothing. */
        place_all(&w, 7, "agree", 1000);
        CHECK_INT(named(&w, 1000 + STEP_LIMIT, ""), -1);
        CHECK_INT(named(&w, 1001 + STEP_LIMIT, "nobody does"), 0);
        /* The others have gone on, and wait for it. */
        place_all(&w, 7, phases[i], 2000);
        rp_control_place(&w.control, &w.member[0], 8, "reduce", 2001);
        rp_control_place(&w.control, &w.member[2], 8, "reduce", 2001);
        w.member[1].slot = NULL;
        CHECK_INT(named(&w, 2000 + REST_LIMIT, ""), -1);
        CHECK_INT(named(&w, 2000 + 9889, "makes no progress"), 1); /* ten times 988 s */
    }
}

static void test_connecting(void)
{
    struct world w;
    init(&w);
    place_all(&w, 0, "connect", 50);
    rp_control_place(&w.control, &w.member[0], 0, "start", 51);
    CHECK_INT(named(&w, 50 + PATIENCE, ""), -1);
    CHECK_INT(named(&w, 51 + PATIENCE, "does not come into connection"), 1);
    w.control.options.step_timeout = 1000; /* whoever allows more for a step does here, too */
    CHECK_INT(named(&w, 51 + PATIENCE, ""), -1);
    CHECK_INT(named(&w, 1051, "does not come into connection"), 1);
}

/* A word that comes late is older than what is known. */
static void test_late_words(void)
{
    struct world w;
    init(&w);
    place_all(&w, 5, "step", 10);
    rp_control_place(&w.control, &w.member[1], 4, "save", 11);
    CHECK_TEXT(w.member[1].phase, "step");
    CHECK(w.member[1].step == 5 && w.member[1].since > 9 && w.member[1].since < 11);
}

int main(void)
{
    test_steps();
    test_saves_and_evaluations();
    test_connecting();
    test_late_words();
    return test_result();
}
