/* Curves in the terminal: the shape, the labels, values that are no numbers. */
#include "test.h"

#include "base/utf8.h"

#include "cli/run_view.h"

#include <math.h>

static void test_plain(void)
{
    const uint64_t x[] = {0, 10, 20, 30, 40, 50, 60, 70, 80, 90};
    const double y[] = {9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
    struct rp_text text = {0};
    rp_text_add_curve(&text, x, y, 10, 10, 10, false);
    CHECK_TEXT(rp_text_get(&text), "         9 |*         \n"
                                   "           | *        \n"
                                   "           |  *       \n"
                                   "           |   *      \n"
                                   "           |    *     \n"
                                   "           |     *    \n"
                                   "           |      *   \n"
                                   "           |       *  \n"
                                   "           |        * \n"
                                   "         0 |         *\n"
                                   "            step 0 step 90\n");
    rp_text_release(&text);
}

static void test_steep(void)
{
    const uint64_t x[] = {0, 7};
    const double y[] = {3, 0};
    struct rp_text text = {0};
    rp_text_add_curve(&text, x, y, 2, 8, 4, false);
    CHECK(strstr(rp_text_get(&text), "         3 |**"));
    CHECK(strstr(rp_text_get(&text), "         0 |      **"));
    rp_text_release(&text);
}

static void test_braille(void)
{
    const uint64_t x[] = {1, 2};
    const double y[] = {0, 1};
    struct rp_text text = {0};
    rp_text_add_curve(&text, x, y, 2, 8, 2, true);
    CHECK(strstr(rp_text_get(&text), "\xe2\xa0")); /* U+2800 and on */
    size_t characters = 0;
    for (const char *at = rp_text_get(&text); *at; at++)
        characters += ((unsigned char)*at & 0xc0) != 0x80;
    CHECK_INT(characters, 2 * (10 + 1 + 1 + 8 + 1) + 26); /* both rows, and the line of steps */
    rp_text_release(&text);
}

static void test_odd_values(void)
{
    const uint64_t x[] = {1, 2, 3};
    const double all_bad[] = {(double)NAN, HUGE_VAL, -HUGE_VAL}, flat[] = {5, (double)NAN, 5},
                 one[] = {2};
    struct rp_text text = {0};
    rp_text_add_curve(&text, x, all_bad, 3, 20, 4, true);
    CHECK(strstr(rp_text_get(&text), "no finite value"));
    rp_text_release(&text);
    rp_text_add_curve(&text, x, flat, 3, 20, 4, false);
    CHECK(strstr(rp_text_get(&text), "********************"));
    rp_text_release(&text);
    rp_text_add_curve(&text, x, one, 1, 0, 0, false);
    CHECK(strstr(rp_text_get(&text), "*"));
    rp_text_release(&text);
    rp_text_add_curve(&text, x, one, 0, 100000, 100000, true); /* no points, an absurd size */
    CHECK(strstr(rp_text_get(&text), "no finite value"));
    rp_text_release(&text);
}

static void test_for_terminal(void)
{
    char *shown = rp_utf8_shown("a\033[31mb\x7f"
                                "c\n\xc3\xa9",
                                false);
    CHECK_TEXT(shown, "a\\x1b[31mb\\x7fc\\x0a\xc3\xa9");
    rp_mem_free(shown);
    shown = rp_utf8_shown("a\033\n", true);
    CHECK_TEXT(shown, "a\\x1b\n");
    rp_mem_free(shown);
}

static void check_sparkline(const double *y, int64_t n, int width, bool unicode, const char *want)
{
    struct rp_text text = {0};
    rp_text_add_sparkline(&text, y, n, width, unicode);
    CHECK_TEXT(rp_text_get(&text), want);
    rp_text_release(&text);
}

static void test_sparkline(void)
{
    const double rise[] = {0, 1, 2, 3, 4, 5, 6, 7}, flat[] = {5, 5, 5},
                 odd[] = {1, NAN, INFINITY, 0};
    const double pairs[] = {0, 2, 6, 8};
    check_sparkline(rise, 8, 8, false, "_.-:=+*#");
    check_sparkline(rise, 8, 10, true,
                    "\xe2\x96\x81\xe2\x96\x82\xe2\x96\x83\xe2\x96\x84"
                    "\xe2\x96\x85\xe2\x96\x86\xe2\x96\x87\xe2\x96\x88  ");
    check_sparkline(flat, 3, 3, false, "===");
    check_sparkline(odd, 4, 4, false, "#  _");
    check_sparkline(pairs, 4, 2, false, "_#");
    check_sparkline(rise, 0, 3, false, "   ");
}

static void check_best(const char *name, const double *value, int64_t n, int64_t want)
{
    struct rp_series series = {.name = (char *)name, .value = (double *)value, .n = n};
    CHECK(rp_series_best(&series) == want);
}

static void test_best(void)
{
    const double y[] = {3, NAN, 1, 4, 1}, none[] = {NAN};
    check_best("loss", y, 5, 2);
    check_best("accuracy", y, 5, 3);
    check_best("top5_accuracy", y, 5, 3);
    check_best("lr", y, 5, -1);
    check_best("loss", none, 1, -1);
}

int main(void)
{
    test_sparkline();
    test_best();
    test_plain();
    test_steep();
    test_braille();
    test_odd_values();
    test_for_terminal();
    return test_result();
}
