#include "base/number.h"
#include "base/mem.h"

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

struct decimal {
    bool negative;
    uint64_t digits; /* the first 19 of them, without the point */
    int n_digits, exponent;
};

/* [+-] digits [. digits] [e [+-] digits], with a digit before or after the point. */
static bool scan_decimal(const char *text, size_t length, struct decimal *decimal)
{
    const char *at = text, *end = text + length;
    int n_seen = 0, exponent = 0;
    *decimal = (struct decimal){0};
    if (at < end && (*at == '+' || *at == '-')) decimal->negative = *at++ == '-';
    for (bool point = false; at < end && ((*at >= '0' && *at <= '9') || (*at == '.' && !point));
         at++) {
        if (*at == '.') {
            point = true;
            continue;
        }
        n_seen++;
        if (decimal->n_digits < 19) {
            decimal->digits = decimal->digits * 10 + (uint64_t)(*at - '0');
            if (decimal->digits) decimal->n_digits++;
            if (point) decimal->exponent--;
        } else {
            decimal->n_digits = 20; /* too many for the short way */
        }
    }
    if (n_seen == 0) return false;
    if (at == end) return true;
    if (*at != 'e' && *at != 'E') return false;
    bool down = ++at < end && *at == '-';
    if (at < end && (*at == '+' || *at == '-')) at++;
    if (at == end) return false;
    for (; at < end && *at >= '0' && *at <= '9'; at++)
        if (exponent < 100000) exponent = exponent * 10 + (*at - '0');
    decimal->exponent += down ? -exponent : exponent;
    return at == end;
}

bool rp_number_parse_float(const char *text, size_t length, float *value)
{
    static const float power[] = {1e0f, 1e1f, 1e2f, 1e3f, 1e4f, 1e5f,
                                  1e6f, 1e7f, 1e8f, 1e9f, 1e10f};
    struct decimal decimal;
    if (!scan_decimal(text, length, &decimal)) return false;
    if (decimal.digits <= 1 << 24 && decimal.n_digits < 20 && decimal.exponent >= -10 &&
        decimal.exponent <= 10) {
        /* Both are exact in binary32, so the one operation rounds once. */
        float digits = (float)decimal.digits;
        float size = decimal.exponent < 0 ? digits / power[-decimal.exponent]
                                          : digits * power[decimal.exponent];
        *value = decimal.negative ? -size : size;
        return true;
    }
    char *copy = rp_mem_new(length + 1);
    memcpy(copy, text, length);
    pthread_once(&c_locale_once, make_c_locale);
    *value = strtof_l(copy, NULL, c_locale);
    rp_mem_free(copy);
    return isfinite(*value);
}

/* A finite value in the fewest digits, from `few` to `most`, that give it back; as a float: that
 * give back its binary32. */
static void print_shortest(double value, int few, int most, bool as_float, char *text)
{
    for (int digits = few; digits <= most; digits++) {
        double again = 0;
        print(text, "%.*g", digits, value);
        if (!rp_number_parse(text, &again)) continue;
        if (as_float ? (float)again == (float)value : memcmp(&again, &value, sizeof value) == 0)
            break;
    }
    if (!strpbrk(text, ".e")) memcpy(text + strlen(text), ".0", 3);
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
    print_shortest(value, 15, 17, false, text);
}

void rp_number_text_float(float value, char text[RP_NUMBER_BYTES])
{
    if (isfinite(value))
        print_shortest((double)value, 6, 9, true, text);
    else
        rp_number_text((double)value, text);
}

void rp_number_hex(double value, char text[RP_NUMBER_BYTES])
{
    print(text, "%a", 0, value);
}
