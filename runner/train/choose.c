/* choose.c - which token comes next: the same on every machine, for the same logits.
 *
 *     order   by logit, largest first, as IEEE 754 orders bit patterns (+0 before -0); equal ones
 *             by number, smallest first
 *     keep    the first top_k of them
 *     e_i     = exp((l_i - l_0) / temperature), binary32: one subtraction, one division
 *     c_i     = c_(i-1) + e_i in fp64, in that order
 *     keep    the first n for which c_n >= top_p c_last
 *     u       53 bits of Philox: purpose SAMPLING, site 0, p the number of the token
 *     token   the first i with c_i > u c_n
 *
 * At temperature 0 it is the first of the order, and nothing is drawn. */
#include "train/sampler.h"

#include "base/mem.h"
#include "numerics.h"

#include <math.h>
#include <string.h>

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS };

void rp_choose_room_init(struct rp_choose_room *room, int64_t n)
{
    room->n = n;
    for (int i = 0; i < 2; i++) {
        room->key[i] = RP_NEW_ARRAY(uint32_t, n);
        room->id[i] = RP_NEW_ARRAY(int32_t, n);
    }
    room->sum = RP_NEW_ARRAY(double, n);
}

void rp_choose_room_release(struct rp_choose_room *room)
{
    for (int i = 0; i < 2; i++) {
        rp_mem_free(room->key[i]);
        rp_mem_free(room->id[i]);
    }
    rp_mem_free(room->sum);
    *room = (struct rp_choose_room){0};
}

/* Small for large logits. */
static uint32_t key_of(float logit)
{
    uint32_t bits = rp_float_bits(logit);
    return bits >> 31 ? bits : ~bits & 0x7fffffff;
}

static float logit_of(uint32_t key)
{
    return rp_float_of_bits(key >> 31 ? key : ~key & 0x7fffffff);
}

/* One pass of a radix sort, which keeps the order of equal digits. */
static void sort_digit(struct rp_choose_room *room, int from, int shift)
{
    int64_t begin[DIGITS] = {0}, at = 0;
    for (int64_t i = 0; i < room->n; i++) begin[room->key[from][i] >> shift & (DIGITS - 1)]++;
    for (int d = 0; d < DIGITS; d++) {
        int64_t count = begin[d];
        begin[d] = at;
        at += count;
    }
    for (int64_t i = 0; i < room->n; i++) {
        int64_t to = begin[room->key[from][i] >> shift & (DIGITS - 1)]++;
        room->key[!from][to] = room->key[from][i];
        room->id[!from][to] = room->id[from][i];
    }
}

static enum rp_status take_logits(struct rp_choose_room *room, const float *logits,
                                  int32_t *likeliest, struct rp_error *err)
{
    *likeliest = 0;
    for (int64_t i = 0; i < room->n; i++) {
        if (isnan(logits[i]) || logits[i] == INFINITY)
            return rp_error_set(err, RP_STATUS_NONFINITE,
                                "the model's logit of token %lld is no number; the weights of this "
                                "checkpoint are not usable",
                                (long long)i);
        room->key[0][i] = key_of(logits[i]);
        room->id[0][i] = (int32_t)i;
        if (room->key[0][i] < room->key[0][*likeliest]) *likeliest = (int32_t)i;
    }
    return RP_STATUS_OK;
}

/* Sums of weights in order, as far as top_k and top_p go; how many. */
static int64_t add_up(struct rp_choose_room *room, const struct rp_choose_how *how)
{
    int64_t n = how->top_k > 0 && how->top_k < room->n ? how->top_k : room->n, kept = 0;
    const uint32_t *key = room->key[1];
    float most = logit_of(key[0]);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)rp_exp((logit_of(key[i]) - most) / how->temperature);
        room->sum[i] = sum;
    }
    double enough = how->top_p * sum;
    while (kept < n - 1 && room->sum[kept] < enough) kept++;
    return kept + 1;
}

enum rp_status rp_choose(struct rp_choose_room *room, const float *logits,
                         const struct rp_choose_how *how, uint64_t number, int32_t *token,
                         struct rp_error *err)
{
    int32_t likeliest;
    RP_TRY(take_logits(room, logits, &likeliest, err));
    *token = likeliest;
    if (how->temperature == 0 || logits[likeliest] == -INFINITY) return RP_STATUS_OK;
    sort_digit(room, 0, 0);
    sort_digit(room, 1, DIGIT_BITS);
    sort_digit(room, 0, 2 * DIGIT_BITS);
    int64_t n = add_up(room, how), low = 0, high = n - 1;
    struct rp_draw draw = rp_draw_block(how->seed, RP_PURPOSE_SAMPLING, 0, number, 0);
    uint64_t bits = ((uint64_t)draw.u[0] << 32 | draw.u[1]) >> 11;
    double level = (double)bits * 0x1p-53 * room->sum[n - 1];
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (room->sum[middle] > level)
            high = middle;
        else
            low = middle + 1;
    }
    *token = room->id[1][low];
    return RP_STATUS_OK;
}
