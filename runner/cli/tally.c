/* tally.c - counting what a model gave for each sample. Sums are made in fp64 in the order of the
 * samples, so that they are the same everywhere. */
#include "cli/tally.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void rp_tally_init(struct rp_tally *tally, const struct rp_apply *apply)
{
    *tally = (struct rp_tally){.width = apply->width};
    if (apply->shape.target == RP_TARGET_VALUES) {
        tally->value = RP_NEW_ARRAY(struct rp_value_tally, tally->width);
        return;
    }
    tally->class = RP_NEW_ARRAY(int32_t, apply->n_samples);
    tally->predicted = RP_NEW_ARRAY(int32_t, apply->n_samples);
    tally->of = RP_NEW_ARRAY(struct rp_class_tally, tally->width);
}

/* Welford's sum of squares about the mean: one pass, and exact enough for targets far from 0. */
static void add_values(struct rp_tally *tally, const float *output, const float *target)
{
    for (int64_t j = 0; j < tally->width; j++) {
        struct rp_value_tally *value = &tally->value[j];
        double y = (double)target[j], error = (double)output[j] - y, before = y - value->mean;
        value->mse += error * error;
        value->mae += fabs(error);
        value->mean += before / (double)(tally->n + 1);
        value->squares += before * (y - value->mean);
    }
    tally->n++;
}

static void add_class(struct rp_tally *tally, const float *output, int32_t class)
{
    int64_t predicted = rp_cli_apply_argmax(output, tally->width);
    tally->class[tally->n] = class;
    tally->predicted[tally->n] = (int32_t)predicted;
    tally->n++;
    tally->of[class].support++;
    if (predicted < 0) {
        tally->n_undecided++;
        return;
    }
    tally->of[predicted].predicted++;
    if (predicted == class) tally->of[class].right++;
}

enum rp_status rp_tally_add(void *context, const struct rp_apply_pass *pass, struct rp_error *err)
{
    struct rp_tally *tally = context;
    for (int64_t i = 0; i < pass->n; i++) {
        const float *output = pass->output + i * tally->width;
        if (pass->values)
            add_values(tally, output, pass->values + i * tally->width);
        else if (pass->classes[i] < 0 || pass->classes[i] >= tally->width)
            return rp_error_set(err, RP_STATUS_DATA,
                                "sample %lld (from 0) has class %d, and the model tells 0 to %lld "
                                "apart",
                                (long long)(pass->first + i), pass->classes[i],
                                (long long)tally->width - 1);
        else
            add_class(tally, output, pass->classes[i]);
    }
    return RP_STATUS_OK;
}

/* ---- the end --------------------------------------------------------------------------------- */

static void end_class(struct rp_class_tally *of)
{
    double both = (double)(of->support + of->predicted), right = (double)of->right;
    of->precision = of->predicted ? right / (double)of->predicted : of->support ? 0 : NAN;
    of->recall = of->support ? right / (double)of->support : NAN;
    of->f1 = both > 0 ? 2 * right / both : NAN;
}

static void end_classes(struct rp_tally *tally)
{
    int64_t n = 0;
    struct rp_class_tally *mean = &tally->mean;
    for (int64_t c = 0; c < tally->width; c++) {
        struct rp_class_tally *of = &tally->of[c];
        end_class(of);
        if (!of->support) continue;
        n++;
        mean->support += of->support;
        mean->precision += of->precision;
        mean->recall += of->recall;
        mean->f1 += of->f1;
    }
    if (!n) return;
    mean->precision /= (double)n;
    mean->recall /= (double)n;
    mean->f1 /= (double)n;
}

static int by_pair(const void *a, const void *b)
{
    const struct rp_confused *x = a, *y = b;
    if (x->class != y->class) return x->class < y->class ? -1 : 1;
    return (x->as > y->as) - (x->as < y->as);
}

static int by_count(const void *a, const void *b)
{
    const struct rp_confused *x = a, *y = b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return by_pair(a, b);
}

static void end_confused(struct rp_tally *tally)
{
    struct rp_confused *list = RP_NEW_ARRAY(struct rp_confused, tally->n + 1);
    int64_t n = 0, kept = 0;
    for (int64_t i = 0; i < tally->n; i++)
        if (tally->predicted[i] >= 0 && tally->predicted[i] != tally->class[i])
            list[n++] = (struct rp_confused){tally->class[i], tally -> predicted[i], 1};
    qsort(list, (size_t)n, sizeof *list, by_pair);
    for (int64_t i = 0; i < n; i++) {
        if (kept > 0 && by_pair(&list[kept - 1], &list[i]) == 0)
            list[kept - 1].count++;
        else
            list[kept++] = list[i];
    }
    qsort(list, (size_t)kept, sizeof *list, by_count);
    tally->confused = list;
    tally->n_confused = kept;
}

static void end_values(struct rp_tally *tally)
{
    struct rp_value_tally *all = &tally->all;
    int64_t n_r2 = 0;
    for (int64_t j = 0; j < tally->width; j++) {
        struct rp_value_tally *value = &tally->value[j];
        value->r2 = value->squares > 0 ? 1 - value->mse / value->squares : NAN;
        value->mse /= (double)tally->n;
        value->mae /= (double)tally->n;
        all->mse += value->mse;
        all->mae += value->mae;
        if (isnan(value->r2)) continue;
        all->r2 += value->r2;
        n_r2++;
    }
    all->mse /= (double)tally->width;
    all->mae /= (double)tally->width;
    all->r2 = n_r2 ? all->r2 / (double)n_r2 : NAN;
}

void rp_tally_end(struct rp_tally *tally)
{
    if (tally->value) {
        end_values(tally);
        return;
    }
    end_classes(tally);
    end_confused(tally);
}

void rp_tally_release(struct rp_tally *tally)
{
    rp_mem_free(tally->value);
    rp_mem_free(tally->confused);
    rp_mem_free(tally->of);
    rp_mem_free(tally->predicted);
    rp_mem_free(tally->class);
    *tally = (struct rp_tally){0};
}
