/* compare.c - `reprise compare A B`: the first step, tensor and element in which two runs differ.
 */
#include "cli/compare_int.h"

#include "base/sys.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/run_view.h"
#include "train/train.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- the two sides --------------------------------------------------------------------------- */

static enum rp_status open_side(const char *word, struct rp_compare_side *side,
                                struct rp_error *err)
{
    struct rp_sys_stat stat;
    bool found = false;
    *side = (struct rp_compare_side){.word = word, .manifest = {.segment = -1}};
    RP_TRY(rp_sys_stat(word, &stat, err));
    if (stat.is_file) return rp_digests_read(word, &side->digests, err);
    RP_TRY(rp_run_find(word, &side->run, err));
    RP_TRY(rp_manifest_read(side->run, &found, &side->manifest, err));
    char *path = rp_sys_join(side->run, "digests.jsonl");
    enum rp_status status = rp_digests_read(path, &side->digests, err);
    rp_mem_free(path);
    return status;
}

static void close_side(struct rp_compare_side *side)
{
    rp_digests_release(&side->digests);
    rp_manifest_release(&side->manifest);
    rp_mem_free(side->run);
}

static const char *final_of(const struct rp_compare_side *side)
{
    return json_string_value(
        json_object_get(json_object_get(side->manifest.root, "digests"), "final"));
}

static char *name_of(const struct rp_compare_side *side)
{
    return rp_utf8_shown(side->run ? side->run : side->word, false);
}

/* ---- steps ----------------------------------------------------------------------------------- */

struct difference {
    int64_t n_common;                   /* steps that both have */
    const struct rp_digest_line *a, *b; /* the first that differs, or NULL */
    uint64_t
        tensors_step; /* first logged step of both at or after it whose tensors differ; 0: none */
    char **names;     /* the tensors that differ there */
    int n_names;
};

static void note_tensors(struct difference *d, uint64_t step, const char *a, const char *b)
{
    json_t *x = json_loads(a, 0, NULL), *y = json_loads(b, 0, NULL), *value;
    const char *name;
    json_object_foreach(x, name, value)
    {
        json_t *other = json_object_get(y, name);
        if (!other || json_equal(value, other)) continue;
        d->names = rp_mem_grow(d->names, (size_t)(d->n_names + 1) * sizeof *d->names);
        d->names[d->n_names++] = rp_mem_copy_text(name);
    }
    if (d->n_names) d->tensors_step = step;
    json_decref(y);
    json_decref(x);
}

/* Walks both logs side by side; each is in the order of its steps. */
static void find_difference(const struct rp_digests *a, const struct rp_digests *b,
                            struct difference *d)
{
    for (int64_t i = 0, k = 0; i < a->n && k < b->n;) {
        const struct rp_digest_line *x = &a->line[i], *y = &b->line[k];
        if (x->step != y->step) {
            if (x->step < y->step)
                i++;
            else
                k++;
            continue;
        }
        d->n_common++;
        if (!d->a && (x->loss_bits != y->loss_bits || x->params != y->params)) {
            d->a = x;
            d->b = y;
        }
        if (d->a && !d->n_names && a->tensors[i] && b->tensors[k])
            note_tensors(d, x->step, a->tensors[i], b->tensors[k]);
        i++;
        k++;
    }
}

static void release_difference(struct difference *d)
{
    for (int i = 0; i < d->n_names; i++) rp_mem_free(d->names[i]);
    rp_mem_free(d->names);
}

/* ---- telling --------------------------------------------------------------------------------- */

static double loss_of(const struct rp_digest_line *line)
{
    float value;
    memcpy(&value, &line->loss_bits, sizeof value);
    return (double)value;
}

static json_t *pair_of_bits(uint32_t a, uint32_t b)
{
    char x[16], y[16];
    snprintf(x, sizeof x, "%08" PRIx32, a);
    snprintf(y, sizeof y, "%08" PRIx32, b);
    return json_pack("[s, s]", x, y);
}

static json_t *pair_of_digests(uint64_t a, uint64_t b)
{
    char x[RP_HEX64], y[RP_HEX64];
    rp_hex64(a, x);
    rp_hex64(b, y);
    return json_pack("[s, s]", x, y);
}

static void tell_step(const struct difference *d, struct rp_text *text, json_t *result)
{
    rp_text_add(text,
                "first step that differs: %" PRIu64 "\n  loss    %.9g (%08" PRIx32
                ")  %.9g (%08" PRIx32 ")%s\n  params  %016" PRIx64 "  %016" PRIx64 "%s\n",
                d->a->step, loss_of(d->a), d->a->loss_bits, loss_of(d->b), d->b->loss_bits,
                d->a->loss_bits == d->b->loss_bits ? "  equal: forward the same, update not" : "",
                d->a->params, d->b->params, d->a->params == d->b->params ? "  equal" : "");
    json_object_set_new(result, "first_step", json_integer((json_int_t)d->a->step));
    json_object_set_new(result, "loss_bits", pair_of_bits(d->a->loss_bits, d->b->loss_bits));
    json_object_set_new(result, "params", pair_of_digests(d->a->params, d->b->params));
    if (!d->n_names) return;
    json_t *names = json_array();
    rp_text_add(text, "tensors that differ at step %" PRIu64 ":", d->tensors_step);
    for (int i = 0; i < d->n_names; i++) {
        if (i < 8) rp_text_add(text, " %s", d->names[i]);
        json_array_append_new(names, json_string(d->names[i]));
    }
    rp_text_add(text, d->n_names > 8 ? " and %d more\n" : "\n", d->n_names - 8);
    json_object_set_new(result, "tensors", names);
    json_object_set_new(result, "tensors_step", json_integer((json_int_t)d->tensors_step));
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void tell_element(const struct rp_compare_element *e, struct rp_text *text, json_t *result)
{
    json_t *index = json_array();
    struct rp_text place = {0};
    for (int d = 0; d < e->n_dims; d++) {
        rp_text_add(&place, "%s%" PRId64, d ? ", " : "", e->index[d]);
        json_array_append_new(index, json_integer(e->index[d]));
    }
    rp_text_add(text,
                "first element that differs, %s %" PRIu64 ": %s [%s] of the %s\n"
                "  %.9g (%08" PRIx32 ")  %.9g (%08" PRIx32 "), ",
                e->replayed ? "after step" : "checkpoint of step", e->step, e->tensor,
                rp_text_get(&place), e->file, (double)e->a, bits_of(e->a), (double)e->b,
                bits_of(e->b));
    if (e->ulps == UINT64_MAX)
        rp_text_add(text, "one is no number");
    else
        rp_text_add(text, "%" PRIu64 " ulp%s apart", e->ulps, e->ulps == 1 ? "" : "s");
    rp_text_add(text, "\n  %" PRId64 " of its %" PRId64 " elements differ; %d tensor%s in all\n",
                e->n_differ, e->n_elements, e->n_tensors,
                e->n_tensors == 1 ? " differs" : "s differ");
    json_object_set_new(result, "checkpoint", json_integer((json_int_t)e->step));
    json_object_set_new(result, "tensor", json_string(e->tensor));
    json_object_set_new(result, "element", index);
    json_object_set_new(
        result, "values",
        json_pack("[o, o]", rp_json_number((double)e->a), rp_json_number((double)e->b)));
    json_object_set_new(result, "value_bits", pair_of_bits(bits_of(e->a), bits_of(e->b)));
    json_object_set_new(result, "ulps",
                        e->ulps == UINT64_MAX ? json_null() : json_integer((json_int_t)e->ulps));
    rp_text_release(&place);
}

static enum rp_status tell_checkpoints(const struct rp_compare_side *a,
                                       const struct rp_compare_side *b, uint64_t from, bool replay,
                                       struct rp_text *text, json_t *result, struct rp_error *err)
{
    struct rp_compare_element element;
    if (!a->run || !b->run) return RP_STATUS_OK;
    enum rp_status status = replay ? rp_compare_replayed(a, b, from, &element, err)
                                   : rp_compare_checkpoints(a->run, b->run, from, &element, err);
    if (status != RP_STATUS_OK) return status;
    if (!element.has_checkpoint)
        rp_text_add(text,
                    "no checkpoint of one step from %" PRIu64
                    " on is in both folders, so the element "
                    "cannot be named; --replay computes it\n",
                    from);
    if (element.only[0]) rp_text_add(text, "%s\n", element.only);
    if (element.found) tell_element(&element, text, result);
    return RP_STATUS_OK;
}

/* ---- the verdict ----------------------------------------------------------------------------- */

enum verdict { EQUAL, EQUAL_SO_FAR, STEP_DIFFERS, FINAL_DIFFERS, LENGTH_DIFFERS, NOTHING_COMMON };

static enum verdict judge(const struct rp_compare_side *a, const struct rp_compare_side *b,
                          const struct difference *d)
{
    const char *x = final_of(a), *y = final_of(b);
    if (d->a) return STEP_DIFFERS;
    if (!d->n_common) return NOTHING_COMMON;
    if (x && y && strcmp(x, y) != 0 && a->digests.n == b->digests.n) return FINAL_DIFFERS;
    if (a->digests.n != b->digests.n) return LENGTH_DIFFERS;
    return x && y ? EQUAL : EQUAL_SO_FAR;
}

static uint64_t last_step(const struct rp_compare_side *side)
{
    return side->digests.n ? side->digests.line[side->digests.n - 1].step : 0;
}

/* Tells everything that differs; a difference is also the error, in one line. */
static enum rp_status tell(const struct rp_compare_side *a, const struct rp_compare_side *b,
                           const struct difference *d, bool replay, struct rp_text *text,
                           json_t *result, struct rp_error *err)
{
    enum verdict verdict = judge(a, b, d);
    char *x = name_of(a), *y = name_of(b);
    enum rp_status status = RP_STATUS_OK;
    json_object_set_new(result, "equal", json_boolean(verdict == EQUAL || verdict == EQUAL_SO_FAR));
    json_object_set_new(result, "steps_compared", json_integer(d->n_common));
    switch (verdict) {
    case EQUAL:
        rp_text_add(text, "equal: the same bits in all %" PRId64 " steps\nfinal digest %s\n",
                    d->n_common, final_of(a));
        json_object_set_new(result, "final", json_string(final_of(a)));
        break;
    case EQUAL_SO_FAR:
        rp_text_add(text,
                    "equal: the same bits in all %" PRId64 " steps; not both have a final digest\n",
                    d->n_common);
        break;
    case STEP_DIFFERS:
        tell_step(d, text, result);
        status = tell_checkpoints(a, b, d->a->step, replay, text, result, err);
        if (status == RP_STATUS_OK)
            status = rp_error_set(err, RP_STATUS_DIFFERENT,
                                  "%s and %s differ from step %" PRIu64 " on", x, y, d->a->step);
        break;
    case FINAL_DIFFERS:
        rp_text_add(
            text, "every step has the same loss and params, the final digests differ\n  %s\n  %s\n",
            final_of(a), final_of(b));
        status = tell_checkpoints(a, b, last_step(a), false, text, result, err);
        if (status == RP_STATUS_OK)
            status = rp_error_set(err, RP_STATUS_DIFFERENT,
                                  "%s and %s have different final digests", x, y);
        break;
    case LENGTH_DIFFERS:
        rp_text_add(text, "the same bits in the %" PRId64 " steps that both have\n", d->n_common);
        status = rp_error_set(err, RP_STATUS_DIFFERENT,
                              "%s ends at step %" PRIu64 ", %s at step %" PRIu64
                              "; nothing differs before",
                              x, last_step(a), y, last_step(b));
        break;
    case NOTHING_COMMON:
        status = rp_error_set(err, RP_STATUS_DIFFERENT, "%s and %s have no step in common", x, y);
        break;
    }
    rp_mem_free(y);
    rp_mem_free(x);
    return status;
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    struct rp_compare_side a = {.manifest = {.segment = -1}}, b = {.manifest = {.segment = -1}};
    struct difference difference = {0};
    struct rp_text text = {0}, facts = {0};
    enum rp_status status = RP_STATUS_OK;
    rp_train_catch_signals();
    RP_TRY_GOTO(status, open_side(args->word[0], &a, err), out);
    RP_TRY_GOTO(status, open_side(args->word[1], &b, err), out);
    if (rp_cli_has(args, "--replay") && (!a.run || !b.run)) {
        status = rp_error_set(err, RP_STATUS_USAGE,
                              "--replay needs two run folders; %s is a list of digests alone",
                              a.run ? b.word : a.word);
        goto out;
    }
    find_difference(&a.digests, &b.digests, &difference);
    rp_compare_facts(&a, &b, &facts, result);
    status = tell(&a, &b, &difference, rp_cli_has(args, "--replay"), &text, result, err);
    if (!args->json) {
        if (facts.length) printf("what differs around them:\n%s", facts.bytes);
        fputs(rp_text_get(&text), stdout);
    }
out:
    rp_text_release(&facts);
    rp_text_release(&text);
    release_difference(&difference);
    close_side(&b);
    close_side(&a);
    return status;
}

static const struct rp_cli_option options[] = {
    {"--replay", RP_CLI_FLAG, NULL,
     "compute the first step that differs again in both runs, and name the element there"},
    {NULL, RP_CLI_FLAG, NULL, NULL},
};

const struct rp_command rp_command_compare = {
    .name = "compare",
    .usage = "A B",
    .summary =
        "the first step, tensor and element in which two runs (or digests.jsonl files) differ",
    .min_words = 2,
    .max_words = 2,
    .options = options,
    .run = run,
};
