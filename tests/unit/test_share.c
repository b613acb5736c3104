/* test_share.c - a division by a number whose rounded reciprocal is known, as cross_entropy_dx does
 * it on a GPU: q = a y, then q + (a - q b) y is a / b as it is rounded, for all mantissas.
 *
 * The rest a - q b is below 3 units of q times b, y is wrong by less than half a unit, so the sum
 * before its rounding is wrong by less than 2.5 2^-24 units of q. A quotient nearer than that to
 * the middle of two floats is (middle b + d) / b with d from -8 to 8 in halves of such units: for
 * each b and d there are at most a few, which are all tried here. */
#include <math.h>

#include "numerics.h"
#include "test.h"

enum { MOST = 8 };

static int zeros_below(uint32_t n)
{
    int zeros = 0;
    for (; n % 2 == 0; n /= 2) zeros++;
    return zeros;
}

/* x with odd x = 1 modulo 2^32. */
static uint32_t inverse_of(uint32_t odd)
{
    uint32_t x = odd;
    for (int i = 0; i < 5; i++) x *= 2 - odd * x;
    return x;
}

/* Quotients a / b = (middle + d / b) 2^(-shift), with middle, odd, of 25 bits and a, b of 24. */
static int try_middles(uint32_t b, int d, int shift, uint64_t *tried)
{
    int zeros = zeros_below(b), wrong = 0;
    uint32_t of_odd = (uint32_t)(-d / (1 << zeros)) * inverse_of(b >> zeros);
    uint64_t step = UINT64_C(1) << (shift - zeros);
    for (uint64_t middle = of_odd & (step - 1); middle < 1u << 25; middle += step) {
        int64_t a = (int64_t)(b * middle + (uint64_t)(int64_t)d) >> shift;
        if (middle < 1u << 24 || a < 1 << 23 || a >= 1 << 24) continue;
        float by = (float)b, of = (float)a, y = 1.0f / by, q = of * y;
        wrong += rp_fma(rp_fma(-q, by, of), y, q) != of / by;
        ++*tried;
    }
    return wrong;
}

int main(void)
{
    uint64_t tried = 0;
    int wrong = 0;
    for (uint32_t b = 1u << 23; b < 1u << 24; b++) {
        int zeros = zeros_below(b);
        for (int d = -MOST; d <= MOST; d++)
            if (d != 0 && zeros_below((uint32_t)(d < 0 ? -d : d)) == zeros)
                for (int shift = 24; shift <= 25; shift++)
                    wrong += try_middles(b, d, shift, &tried);
    }
    CHECK_INT(wrong, 0);
    CHECK(tried > 40000000);
    return test_result();
}
