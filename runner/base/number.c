#include "base/number.h"

#include <ctype.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

static void make_c_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* printf has no form that takes a locale, so its call runs with the thread's locale set to C. */
static void print(char text[RP_NUMBER_BYTES], const char *format, int digits, double value)
{
    pthread_once(&c_locale_once, make_c_locale);
    locale_t before = uselocale(c_locale);
    if (digits)
        snprintf(text, RP_NUMBER_BYTES, format, digits, value);
    else
        snprintf(text, RP_NUMBER_BYTES, format, value);
    uselocale(before);
}

bool rp_number_parse(const char *text, double *value)
{
    pthread_once(&c_locale_once, make_c_locale);
    if (!*text || isspace((unsigned char)*text)) return false;
    char *end = NULL;
    *value = strtod_l(text, &end, c_locale);
    return *end == '\0';
}

void rp_number_text(double value, char text[RP_NUMBER_BYTES])
{
    if (isnan(value) || isinf(value)) {
        snprintf(text, RP_NUMBER_BYTES, "%s",
                 isnan(value) ? "NaN"
                 : value > 0  ? "Infinity"
                              : "-Infinity");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        double again = 0;
        print(text, "%.*g", digits, value);
        if (rp_number_parse(text, &again) && memcmp(&again, &value, sizeof value) == 0) break;
    }
    if (!strpbrk(text, ".e")) memcpy(text + strlen(text), ".0", 3);
}

void rp_number_hex(double value, char text[RP_NUMBER_BYTES])
{
    print(text, "%a", 0, value);
}
