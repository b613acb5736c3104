/* bpe_ids.c - the tokenizer of runner/data laid open, for tests/cli/test_bpe.py.
 *
 *     bpe_ids TOKENIZER words|ids|prompt|cuts|decode|stream < INPUT > OUTPUT
 *
 * words: lengths of the words of a text; ids, prompt: its tokens; cuts: for each place of the text
 * the next one to cut at, the text ending there and going on; all int32. decode: tokens to bytes;
 * stream: the same for a reader, a line feed after each token's part. "-" for TOKENIZER: the
 * patterns alone (words-0, words-1, words-2). */
#include "data/bpe_int.h"

#include <stdio.h>
#include <string.h>

static void read_all(struct rp_text *text)
{
    char part[65536];
    for (size_t n; (n = fread(part, 1, sizeof part, stdin)) > 0;) rp_text_add_bytes(text, part, n);
}

static void put(int64_t value)
{
    int32_t number = (int32_t)value;
    fwrite(&number, sizeof number, 1, stdout);
}

static void print_words(enum bpe_pattern pattern, const struct rp_text *text)
{
    for (size_t i = 0, n; i < text->length; i += n) {
        n = bpe_word_length(pattern, text->bytes + i, text->length - i);
        put((int64_t)n);
    }
}

static void print_cuts(const struct rp_bpe *bpe, const struct rp_text *text)
{
    for (size_t i = 0; i < text->length; i++) {
        put((int64_t)rp_bpe_cut(bpe, text->bytes, text->length, i, false));
        put((int64_t)rp_bpe_cut(bpe, text->bytes, text->length, i, true));
    }
}

static void print_text(const struct rp_bpe *bpe, const struct rp_text *ids, bool streaming)
{
    struct rp_bpe_stream stream = {0};
    struct rp_text out = {0};
    for (size_t i = 0; i + 4 <= ids->length; i += 4) {
        int32_t id;
        const char *bytes;
        memcpy(&id, ids->bytes + i, 4);
        if (streaming)
            rp_bpe_stream_add(bpe, &stream, id, &out);
        else
            rp_text_add_bytes(&out, bytes, rp_bpe_decode_one(bpe, id, &bytes));
        if (streaming) rp_text_add_bytes(&out, "\n", 1);
    }
    rp_bpe_stream_end(&stream, &out);
    fwrite(rp_text_get(&out), 1, out.length, stdout);
    rp_text_release(&out);
}

static int act(const struct rp_bpe *bpe, const char *what, const struct rp_text *in)
{
    struct rp_tokens tokens = {0};
    const char *text = rp_text_get(in);
    if (strcmp(what, "words") == 0)
        print_words(bpe->pattern, in);
    else if (strcmp(what, "cuts") == 0)
        print_cuts(bpe, in);
    else if (strcmp(what, "decode") == 0 || strcmp(what, "stream") == 0)
        print_text(bpe, in, what[0] == 's');
    else if (strcmp(what, "prompt") == 0)
        rp_bpe_encode_prompt(bpe, text, in->length, &tokens);
    else
        rp_bpe_encode(bpe, text, in->length, &tokens);
    for (int64_t i = 0; i < tokens.n; i++) put(tokens.id[i]);
    rp_tokens_release(&tokens);
    return 0;
}

int main(int argc, char **argv)
{
    struct rp_error err = {0};
    struct rp_text in = {0};
    struct rp_bpe *bpe = NULL;
    int code = 0;
    if (argc != 3) return 2;
    read_all(&in);
    if (strcmp(argv[1], "-") == 0) {
        print_words((enum bpe_pattern)(argv[2][strlen("words-")] - '0'), &in);
    } else if (rp_bpe_open(argv[1], &bpe, &err) == RP_STATUS_OK) {
        code = act(bpe, argv[2], &in);
    } else {
        fprintf(stderr, "%s\n", err.text);
        code = (int)err.status;
    }
    rp_bpe_free(bpe);
    rp_text_release(&in);
    return code;
}
