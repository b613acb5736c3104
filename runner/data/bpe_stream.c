/* bpe_stream.c - tokens to text while they come: a token may end inside a character. */
#include "data/bpe_int.h"

#include <string.h>

/* Could these n bytes, no character yet, be the beginning of one? */
static bool may_begin(const char *bytes, int n)
{
    char whole[4];
    for (int first = 0x80; n < 4 && first < 0xC0; first++) {
        memset(whole, 0x80, sizeof whole);
        memcpy(whole, bytes, (size_t)n);
        whole[n] = (char)first; /* only the second byte of a character has a range of its own */
        if (bpe_char_at(whole, sizeof whole).length > n) return true;
    }
    return false;
}

static void replace(struct rp_text *out)
{
    rp_text_add_bytes(out, "\xEF\xBF\xBD", 3);
}

/* Gives out what `held` decides: whole characters, and U+FFFD for bytes that belong to none. */
static void settle(struct rp_bpe_stream *stream, struct rp_text *out)
{
    while (stream->n_held) {
        struct bpe_char c = bpe_char_at(stream->held, (size_t)stream->n_held);
        int done = c.length;
        if (c.code_point != UINT32_MAX) {
            rp_text_add_bytes(out, stream->held, (size_t)done);
        } else {
            if (may_begin(stream->held, stream->n_held)) return;
            /* The longest part that could have been a beginning goes as one. */
            while (done + 1 < stream->n_held && may_begin(stream->held, done + 1)) done++;
            replace(out);
        }
        stream->n_held -= done;
        memmove(stream->held, stream->held + done, (size_t)stream->n_held);
    }
}

void rp_bpe_stream_add_bytes(struct rp_bpe_stream *stream, const char *bytes, size_t n,
                             struct rp_text *out)
{
    for (size_t i = 0; i < n; i++) {
        stream->held[stream->n_held++] = bytes[i];
        settle(stream, out);
    }
}

void rp_bpe_stream_add(const struct rp_bpe *bpe, struct rp_bpe_stream *stream, int32_t id,
                       struct rp_text *out)
{
    const char *bytes;
    size_t n = rp_bpe_decode_one(bpe, id, &bytes);
    rp_bpe_stream_add_bytes(stream, bytes, n, out);
}

void rp_bpe_stream_end(struct rp_bpe_stream *stream, struct rp_text *out)
{
    if (stream->n_held) replace(out);
    stream->n_held = 0;
}
