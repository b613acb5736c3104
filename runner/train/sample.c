/* sample.c - text from a checkpoint: the prompt is fed at once, then token after token.
 *
 * When the context is full, its last half is fed anew as the beginning of the next one: what comes
 * out stays a function of the tokens before it, and a text may be longer than the context. */
#include "train/sampler.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"
#include "env/env.h"
#include "train/start_int.h"
#include "train/tokenizer.h"

#include <string.h>

struct speaker {
    const struct rp_sample_options *options;
    struct rp_manifest manifest;
    struct rp_spec *spec;
    struct rp_data_shape shape;
    struct rp_device *device;
    struct rp_plan *plan;
    struct rp_trainer *trainer;
    struct rp_sampler *sampler;
    struct rp_bpe *bpe;      /* NULL: bytes, or numbers */
    bool bytes;              /* a token is a byte */
    int64_t end;             /* token that ends a text, -1: none */
    struct rp_tokens tokens; /* prompt, then what came */
    struct rp_choose_room room;
    struct rp_bpe_stream stream;
    float *logits;
};

/* ---- the model ------------------------------------------------------------------------------- */

static enum rp_status open_spec(struct speaker *s, struct rp_error *err)
{
    const char *run = s->options->run;
    bool found = false;
    RP_TRY(rp_manifest_read(run, &found, &s->manifest, err));
    if (!found)
        return rp_error_set(err, RP_STATUS_USAGE, "%s holds no run (no manifest.json)", run);
    RP_TRY(rp_train_load_spec(run, &s->manifest, NULL, NULL, &s->spec, err));
    if (s->spec->model.kind != RP_MODEL_GPT)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s is no language model (`kind: gpt`); `reprise predict` applies it",
                            run);
    if (!rp_facts_shape(&s->manifest, &s->shape))
        RP_TRY(rp_data_describe(s->spec, true, &s->shape, err));
    return RP_STATUS_OK;
}

/* One sample at a time, whatever the training took: the weights do not depend on it. */
static enum rp_status open_model(struct speaker *s, uint64_t step, uint64_t *found_step,
                                 struct rp_error *err)
{
    int threads = rp_env_threads(s->spec);
    struct rp_env_device_options device = {.threads = threads, .quiet = true};
    s->spec->train.batch = s->spec->train.shards = 1;
    s->spec->train.micro_batch = 0;
    s->shape.n_valid = 1;
    RP_TRY(rp_env_open_device(s->spec, &device, &s->device, err));
    RP_TRY(rp_plan_make_for(s->spec, &s->shape, threads, 1, s->device->table, &s->plan, err));
    RP_TRY(rp_trainer_open_eval(s->spec, s->plan, NULL, s->device, &s->trainer, err));
    RP_TRY(rp_weights_restore_model(s->trainer, s->options->run, step, found_step, err));
    return rp_sampler_open(s->trainer, &s->sampler, err);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static enum rp_status open_tokens(struct speaker *s, struct rp_error *err)
{
    enum rp_format format = s->spec->train_data.format;
    int64_t vocab = rp_sampler_vocab(s->sampler), known = vocab;
    RP_TRY(rp_tokenizer_open(s->spec, s->options->tokenizer, &s->bpe, err));
    s->bytes = !s->bpe && (format == RP_FORMAT_TEXT || format == RP_FORMAT_JSONL);
    s->end = rp_tokenizer_end_of_text(s->spec, s->bpe);
    if (s->bpe && rp_bpe_size(s->bpe) > vocab)
        return rp_error_set(err, RP_STATUS_DATA,
                            "%s has %d tokens, the model of %s knows %lld: it is not its tokenizer",
                            rp_bpe_files(s->bpe)[0], (int)rp_bpe_size(s->bpe), s->options->run,
                            (long long)vocab);
    /* Rows that no token has (a vocabulary rounded up) are never drawn. */
    if (s->bpe) known = rp_bpe_size(s->bpe);
    if (s->bytes && known > 256) known = 256;
    rp_choose_room_init(&s->room, known);
    s->logits = rp_mem_try((size_t)vocab * sizeof *s->logits);
    if (s->logits) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_MEMORY, "no memory for %lld logits", (long long)vocab);
}

/* "12 7 300": for models of what is no text. */
static enum rp_status read_numbers(struct speaker *s, struct rp_error *err)
{
    const char *text = s->options->prompt, *end = text + s->options->prompt_bytes;
    while (text < end) {
        int64_t id = 0;
        size_t n = 0;
        if (*text == ' ' || *text == '\n' || *text == ',') {
            text++;
            continue;
        }
        for (; text + n < end && text[n] >= '0' && text[n] <= '9' && n < 10; n++)
            id = 10 * id + (text[n] - '0');
        if (n == 0 || id >= s->room.n || n == 10)
            return rp_error_set(
                err, RP_STATUS_USAGE,
                "the prompt: %.*s is no token from 0 to %lld. The data of %s are "
                "tokens, so a prompt is their numbers, or text with --tokenizer PATH",
                (int)strcspn(text, " \n,") > 20 ? 20 : (int)strcspn(text, " \n,"), text,
                (long long)s->room.n - 1, s->options->run);
        rp_tokens_add(&s->tokens, (int32_t)id);
        text += n;
    }
    return RP_STATUS_OK;
}

static enum rp_status read_prompt(struct speaker *s, struct rp_error *err)
{
    const struct rp_sample_options *o = s->options;
    if (s->bpe) {
        rp_bpe_encode_prompt(s->bpe, o->prompt, o->prompt_bytes, &s->tokens);
    } else if (s->bytes) {
        for (size_t i = 0; i < o->prompt_bytes; i++)
            rp_tokens_add(&s->tokens, (unsigned char)o->prompt[i]);
    } else {
        RP_TRY(read_numbers(s, err));
    }
    if (s->tokens.n > 0) return RP_STATUS_OK;
    if (s->end < 0)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "an empty prompt: nobody knows the token that begins a text here; give "
                            "--prompt");
    rp_tokens_add(&s->tokens, (int32_t)s->end);
    return RP_STATUS_OK;
}

static bool say(struct speaker *s, int32_t token)
{
    struct rp_text text = {0};
    char byte = (char)token;
    if (s->bpe)
        rp_bpe_stream_add(s->bpe, &s->stream, token, &text);
    else if (s->bytes)
        rp_bpe_stream_add_bytes(&s->stream, &byte, 1, &text);
    else
        rp_text_add(&text, " %d", (int)token);
    bool heard = !text.length || s->options->say(s->options->context, text.bytes, text.length);
    rp_text_release(&text);
    return heard;
}

/* ---- speaking -------------------------------------------------------------------------------- */

/* Feeds what has not been fed; makes room when there is none. */
static enum rp_status feed(struct speaker *s, int64_t *fed, struct rp_sample_result *result,
                           struct rp_error *err)
{
    int64_t places = rp_sampler_places(s->sampler), used = rp_sampler_used(s->sampler);
    int64_t half = places > 1 ? places / 2 : 1;
    if (s->tokens.n - *fed > places - used) {
        if (result->n_slides++ == 0)
            rp_log_warning("the context of %lld tokens is full: the last %lld begin a new one",
                           (long long)places, (long long)half);
        rp_sampler_forget(s->sampler);
        *fed = s->tokens.n - half;
    }
    int64_t n = s->tokens.n - *fed;
    RP_TRY(rp_sampler_feed(s->sampler, s->tokens.id + *fed, n, s->logits, err));
    *fed += n;
    return RP_STATUS_OK;
}

static enum rp_status speak(struct speaker *s, struct rp_sample_result *result,
                            struct rp_error *err)
{
    const struct rp_sample_options *o = s->options;
    const struct rp_choose_how how = {
        .temperature = o->temperature, .top_k = o->top_k, .top_p = o->top_p, .seed = o->seed};
    int64_t fed = 0;
    double began = rp_sys_clock();
    result->n_prompt = s->tokens.n;
    RP_TRY(feed(s, &fed, result, err));
    result->prompt_seconds = rp_sys_clock() - began;
    began = rp_sys_clock();
    result->why = RP_SAMPLE_LENGTH;
    while (result->n_new < o->n_tokens) {
        int32_t token;
        RP_TRY(rp_choose(&s->room, s->logits, &how, (uint64_t)result->n_new, &token, err));
        if (token == s->end) {
            result->why = RP_SAMPLE_END_OF_TEXT;
            break;
        }
        rp_tokens_add(&s->tokens, token);
        result->n_new++;
        if (!say(s, token)) {
            result->why = RP_SAMPLE_NOBODY_LISTENS;
            break;
        }
        if (result->n_new < o->n_tokens) RP_TRY(feed(s, &fed, result, err));
    }
    result->seconds = rp_sys_clock() - began;
    return RP_STATUS_OK;
}

/* What is held of a character that never came to its end. */
static void say_rest(struct speaker *s)
{
    struct rp_text text = {0};
    rp_bpe_stream_end(&s->stream, &text);
    bool heard = !text.length || s->options->say(s->options->context, text.bytes, text.length);
    (void)heard; /* it was the last in any case */
    rp_text_release(&text);
}

static void close_speaker(struct speaker *s)
{
    rp_mem_free(s->logits);
    rp_choose_room_release(&s->room);
    rp_tokens_release(&s->tokens);
    rp_bpe_free(s->bpe);
    rp_sampler_close(s->sampler);
    rp_trainer_close(s->trainer);
    rp_plan_free(s->plan);
    rp_env_close_device(s->device);
    rp_spec_free(s->spec);
    rp_manifest_release(&s->manifest);
}

enum rp_status rp_train_sample(const struct rp_sample_options *options,
                               struct rp_sample_result *result, struct rp_error *err)
{
    struct speaker s = {.options = options, .manifest.segment = -1};
    uint64_t step = 0;
    enum rp_status status = RP_STATUS_OK;
    *result = (struct rp_sample_result){0};
    RP_TRY_GOTO(status, open_spec(&s, err), out);
    RP_TRY_GOTO(status, rp_train_pick_step(options->run, options->at, &step, err), out);
    RP_TRY_GOTO(status, open_model(&s, step, &result->step, err), out);
    RP_TRY_GOTO(status, open_tokens(&s, err), out);
    RP_TRY_GOTO(status, read_prompt(&s, err), out);
    status = speak(&s, result, err);
    say_rest(&s);
    if (status != RP_STATUS_OK) goto out;
    result->tokens = RP_NEW_ARRAY(int32_t, result->n_new + 1);
    memcpy(result->tokens, s.tokens.id + result->n_prompt,
           (size_t)result->n_new * sizeof *result->tokens);
out:
    close_speaker(&s);
    return status;
}

void rp_sample_result_release(struct rp_sample_result *result)
{
    rp_mem_free(result->tokens);
    *result = (struct rp_sample_result){0};
}
