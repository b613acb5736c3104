/* test_data_jsonl - JSON lines and tokenizers: which tokens they give, which of them are targets,
 * and what is refused. */
#include "data/bpe.h"
#include "data/tokens.h"
#include "data_case.h"

enum { T = 8 };

static void use(struct data_case *c, enum rp_format format, const char *file)
{
    struct rp_spec_dataset *train = &c->spec.train_data;
    case_files(train, format, file, NULL);
    train->jsonl_field = (char *)(uintptr_t) "text";
    train->jsonl_prompt = train->jsonl_response = train->tokenizer = NULL;
}

/* All tokens of a data set, and which of them are targets (never the first); caller frees. */
static int32_t *all_tokens(const struct rp_data *data, int64_t *n, bool **heard)
{
    const struct rp_data_tokens *tokens = data->train.tokens;
    int32_t *id = RP_NEW_ARRAY(int32_t, tokens->n + T);
    *heard = RP_NEW_ARRAY(bool, tokens->n + T + 1);
    *n = tokens->n;
    for (int64_t w = 0; w < rp_data_samples(data, RP_SPLIT_TRAIN); w++) {
        int32_t y[T];
        rp_data_fill_eval(data, RP_SPLIT_TRAIN, w, 1, id + w * T, y);
        for (int i = 0; i < T; i++) (*heard)[w * T + i + 1] = y[i] >= 0;
    }
    if (*n % T == 1) tokens_copy(tokens, *n - 1, 1, id + *n - 1);
    return id;
}

/* ---- lines of bytes -------------------------------------------------------------------------- */

static void test_field(struct data_case *c)
{
    static const char want[] = "Ein Satz.\n\0zwei \xe2\x82\xac\0drei\0vier mehr";
    put_text(c->folder, "a.jsonl",
             "\xef\xbb\xbf{\"id\": 123456789012345678901234567890, \"text\": \"Ein Satz.\\n\"}\r\n"
             "\n  \t \n{\"text\": \"zwei \\u20ac\", \"more\": {\"text\": [1, 1e300]}}\n"
             "{\"text\": \"\"}\n{\"text\": \"drei\"}\n{\"text\": \"vier mehr\"}");
    use(c, RP_FORMAT_JSONL, "a.jsonl");
    struct rp_data *data = case_open(c);
    if (!data) return;
    int64_t n;
    bool *heard;
    int32_t *id = all_tokens(data, &n, &heard);
    CHECK_INT(n, (int64_t)sizeof want - 1);
    for (int64_t i = 0; i < n; i++) CHECK_INT(id[i], (unsigned char)want[i]);
    for (int64_t i = 1; i < n; i++) CHECK(heard[i]);
    CHECK_INT(rp_data_shape(data)->n_classes, 256);
    CHECK_INT(rp_data_loss_values(data, 0, 3), 3 * T);
    struct rp_data_shape shape;
    struct rp_error err = {0};
    CHECK_OK(rp_data_describe(&c->spec, false, &shape, &err), &err);
    CHECK_INT(shape.n_train, -1);
    CHECK_OK(rp_data_describe(&c->spec, true, &shape, &err), &err);
    CHECK_INT(shape.n_train, rp_data_shape(data)->n_train);
    rp_mem_free(heard);
    rp_mem_free(id);
    rp_data_free(data);
}

/* Of prompt and response the response is learnt, with its end; the loss is over as many. */
static void test_prompts(struct data_case *c)
{
    static const char want[] = "1+1=2.\0what?that\0eol\0nothing but prompt\0and one more";
    static const char is_heard[] = "    xxx     xxxxxxxxx                  xxxxxxxxxxxxxx";
    put_text(c->folder, "p.jsonl",
             "{\"q\": \"1+1=\", \"a\": \"2.\"}\n{\"q\": \"what?\", \"a\": \"that\"}\n"
             "{\"q\": \"\", \"a\": \"eol\"}\n{\"a\": \"\", \"q\": \"nothing but prompt\"}\n"
             "{\"q\": \"\", \"a\": \"and one more\"}\n");
    use(c, RP_FORMAT_JSONL, "p.jsonl");
    c->spec.train_data.jsonl_prompt = (char *)(uintptr_t) "q";
    c->spec.train_data.jsonl_response = (char *)(uintptr_t) "a";
    struct rp_data *data = case_open(c);
    if (!data) return;
    int64_t n, n_heard = 0;
    bool *heard;
    int32_t *id = all_tokens(data, &n, &heard);
    CHECK_INT(n, (int64_t)sizeof want);
    for (int64_t i = 0; i < n; i++) CHECK_INT(id[i], (unsigned char)want[i]);
    for (int64_t i = 1; i < n; i++) CHECK_INT(heard[i], is_heard[i] == 'x');
    for (int64_t i = 1; i < n; i++) n_heard += is_heard[i] == 'x';
    CHECK(n_heard < n - 1);
    /* What the loss is divided by: as many as fill_train gives, wherever a batch begins. */
    int different = 0;
    for (uint64_t p = 0; p < 200; p++) {
        int32_t x[7 * T], y[7 * T];
        int64_t count = 0;
        rp_data_fill_train(data, p, 7, x, y);
        for (int i = 0; i < 7 * T; i++) count += y[i] >= 0;
        CHECK_INT(rp_data_loss_values(data, p, 7), count);
        different += count != 7 * T;
    }
    CHECK(different > 100);
    rp_mem_free(heard);
    rp_mem_free(id);
    rp_data_free(data);
    /* Nothing to learn, in all of it or in what is evaluated. */
    put_text(c->folder, "q.jsonl", "{\"q\": \"only a prompt, \", \"a\": \"1\"}\n");
    c->spec.valid_fraction = 0.25;
    use(c, RP_FORMAT_JSONL, "q.jsonl");
    c->spec.train_data.jsonl_prompt = (char *)(uintptr_t) "q";
    c->spec.train_data.jsonl_response = (char *)(uintptr_t) "a";
    CASE_FAILS(c, RP_STATUS_DATA, "data.train has no token of a response", "all of it is prompt");
    c->spec.valid_fraction = 0;
}

/* ---- a tokenizer ----------------------------------------------------------------------------- */

/* How GPT-2 writes a byte in its files. */
static void add_byte(struct rp_text *text, int byte)
{
    static const char *const own[] = {"\\\"", "\\\\"};
    int code = byte, above = 0;
    bool printed = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    for (int b = 0; b < byte && !printed; b++)
        above += !((b >= 33 && b <= 126) || (b >= 161 && b != 173));
    if (!printed) code = 256 + above;
    if (code == '"' || code == '\\')
        rp_text_add(text, "%s", own[code == '\\']);
    else if (code < 0x80)
        rp_text_add(text, "%c", code);
    else
        rp_text_add(text, "%c%c", 0xc0 | code >> 6, 0x80 | (code & 0x3f));
}

/* Every byte, five merges, and perhaps an end of text. */
static void put_tokenizer(struct data_case *c, const char *folder, bool with_end)
{
    struct rp_text vocab = {0};
    char *path = rp_sys_join(c->folder, folder);
    CHECK_OK(rp_sys_make_folder(path, NULL), (&(struct rp_error){0}));
    rp_text_add(&vocab, "{");
    for (int byte = 0; byte < 256; byte++) {
        rp_text_add(&vocab, "\"");
        add_byte(&vocab, byte);
        rp_text_add(&vocab, "\": %d, ", byte);
    }
    rp_text_add(&vocab,
                "\"th\": 256, \"the\": 257, \"\xc4\xa0the\": 258, \"in\": 259, \"ing\": 260");
    rp_text_add(&vocab, with_end ? ", \"<|endoftext|>\": 261}" : "}");
    put_file(path, "vocab.json", vocab.bytes, vocab.length);
    put_text(path, "merges.txt", "#version: 0.2\nt h\nth e\n\xc4\xa0 the\ni n\nin g\n");
    rp_text_release(&vocab);
    rp_mem_free(path);
}

/* What `reprise tokenize` writes of a file or folder is what it is read as without that. */
static void check_tokenized(struct data_case *c, const char *name, const int32_t *want, int64_t n)
{
    char *input = rp_sys_join(c->folder, name), *bpe = rp_sys_join(c->folder, "bpe"),
         *out = rp_sys_join(c->folder, "made.bin");
    const char *inputs[] = {input};
    struct rp_tokenize_options options = {
        .input = inputs, .n_inputs = 1, .tokenizer = bpe, .out = out, .force = true, .threads = 2};
    struct rp_tokenize_result result = {0};
    struct rp_error err = {0};
    struct rp_spec_dataset *before = RP_NEW(struct rp_spec_dataset);
    *before = c->spec.train_data;
    CHECK_OK(rp_data_tokenize(&options, &result, &err), &err);
    use(c, RP_FORMAT_TOKENS, "made.bin");
    struct rp_data *data = case_open(c);
    int32_t *id = RP_NEW_ARRAY(int32_t, n);
    CHECK_INT(data ? data->train.tokens->n : -1, n);
    if (data && data->train.tokens->n == n) {
        tokens_copy(data->train.tokens, 0, n, id);
        CHECK(memcmp(id, want, (size_t)n * sizeof *id) == 0);
    }
    rp_mem_free(id);
    rp_data_free(data);
    rp_tokenize_result_release(&result);
    c->spec.train_data = *before;
    rp_mem_free(before);
    rp_mem_free(out);
    rp_mem_free(bpe);
    rp_mem_free(input);
}

static void test_tokenizer(struct data_case *c)
{
    static const int32_t want[] = {257, 258, 260, '!', ' ', 't', 'o', 261, 257, '\n', 259, 259};
    put_tokenizer(c, "bpe", true);
    put_tokenizer(c, "no-end", false);
    put_text(c->folder, "texts/a", "the theing! to");
    put_text(c->folder, "texts/b", "");
    put_text(c->folder, "texts/c", "the\ninin");
    use(c, RP_FORMAT_TEXT, "texts");
    c->spec.train_data.tokenizer = (char *)(uintptr_t) "bpe";
    struct rp_data *data = case_open(c);
    if (!data) return;
    int64_t n;
    bool *heard;
    int32_t *id = all_tokens(data, &n, &heard);
    CHECK_INT(n, (int64_t)(sizeof want / sizeof *want));
    for (int64_t i = 0; i < n; i++) CHECK_INT(id[i], want[i]);
    check_tokenized(c, "texts", id, n);
    CHECK_INT(rp_data_shape(data)->n_classes, 262);
    /* The files of the tokenizer enter by content. */
    const struct rp_data_file *files;
    int n_files = rp_data_files(data, &files), tokenizers = 0;
    for (int i = 0; i < n_files; i++)
        tokenizers += strncmp(files[i].key, "data.train.tokenizer[", 21) == 0;
    CHECK_INT(tokenizers, 2);
    CHECK_INT(n_files, 5);
    /* Bytes behind the targets: all of both texts but the first token's. */
    CHECK_INT(rp_data_target_bytes(data, RP_SPLIT_TRAIN), 14 - 3 + 8);
    rp_mem_free(heard);
    rp_mem_free(id);
    rp_data_free(data);
    c->spec.train_data.tokenizer = (char *)(uintptr_t) "no-end";
    CASE_FAILS(c, RP_STATUS_DATA, "the tokenizer no-end has no token for the end of a text",
               "reprise tokenize --end-of-text NAME");
    use(c, RP_FORMAT_TEXT, "texts/c");
    c->spec.model.context = 2;
    c->spec.train_data.tokenizer = (char *)(uintptr_t) "no-end";
    rp_data_free(case_open(c)); /* one text needs none */
    c->spec.model.context = T;
    c->spec.train_data.tokenizer = (char *)(uintptr_t) "nowhere";
    CASE_FAILS(c, RP_STATUS_DATA, "nowhere", "");
}

/* Text of many chunks, with several threads or one, is what it is in one piece. */
static void test_chunks(struct data_case *c)
{
    enum { LINES = 60000, BYTES_MOST = LINES * 120 };
    struct rp_text lines = {0}, plain = {0};
    uint32_t state = 7;
    for (int i = 0; i < LINES; i++) {
        rp_text_add(&lines, "{\"text\": \"");
        size_t from = plain.length;
        for (int w = 0; w < 12; w++) {
            state = state * 1664525u + 1013904223u;
            rp_text_add(&plain, "%s%.*s", w ? " " : "", 1 + (int)(state >> 28),
                        "theinging the mouthpiece");
        }
        rp_text_add_bytes(&lines, plain.bytes + from, plain.length - from);
        rp_text_add(&lines, "\"}\n");
    }
    put_file(c->folder, "many.jsonl", lines.bytes, lines.length);
    put_file(c->folder, "many.txt", plain.bytes, plain.length);
    CHECK(lines.length > 4 << 20);
    struct rp_bpe *bpe = NULL;
    struct rp_error err = {0};
    char *folder = rp_sys_join(c->folder, "bpe");
    CHECK_OK(rp_bpe_open(folder, &bpe, &err), &err);
    struct rp_tokens once = {0};
    rp_bpe_encode(bpe, plain.bytes, plain.length, &once);
    for (int lines_of = 0; lines_of < 2; lines_of++) {
        use(c, lines_of ? RP_FORMAT_JSONL : RP_FORMAT_TEXT, lines_of ? "many.jsonl" : "many.txt");
        c->spec.train_data.tokenizer = (char *)(uintptr_t) "bpe";
        struct rp_data *data = case_open(c);
        if (!data) continue;
        CHECK(data->train.tokens->n_parts > 3);
        int64_t n = data->train.tokens->n, ends = 0;
        int32_t *id = RP_NEW_ARRAY(int32_t, n);
        tokens_copy(data->train.tokens, 0, n, id);
        for (int64_t i = 0; i < n; i++) ends += id[i] == 261;
        CHECK_INT(ends, lines_of ? LINES - 1 : 0);
        check_tokenized(c, lines_of ? "many.jsonl" : "many.txt", id, n);
        if (!lines_of) {
            CHECK_INT(n, once.n);
            CHECK(n == once.n && memcmp(id, once.id, (size_t)n * sizeof *id) == 0);
        }
        rp_mem_free(id);
        rp_data_free(data);
    }
    rp_tokens_release(&once);
    rp_bpe_free(bpe);
    rp_mem_free(folder);
    /* Two lines are wrong, chunks apart: the first is named, whichever thread sees which first. */
    char *late = lines.bytes + lines.length / 6 * 5, *early = lines.bytes + lines.length / 2;
    *strchr(late, '{') = '[';
    early = strchr(early, '{');
    *early = '[';
    int64_t line = 1;
    for (char *at = lines.bytes; at < early; at++) line += *at == '\n';
    put_file(c->folder, "many.jsonl", lines.bytes, lines.length);
    char *says = rp_mem_text("many.jsonl: line %lld is no JSON", (long long)line);
    for (int i = 0; i < 5; i++) CASE_FAILS(c, RP_STATUS_DATA, says, "");
    rp_mem_free(says);
    rp_text_release(&plain);
    rp_text_release(&lines);
}

/* A stop that is asked for when all has been read, and chunks are being encoded. */
static bool encoding;

static void hear(const char *what, double fraction)
{
    if (fraction >= 0 && fraction <= 1) encoding = strcmp(what, "data.train") == 0;
}

static bool ask(void *context)
{
    (void)context;
    return encoding;
}

static void test_stop(struct data_case *c)
{
    struct rp_data *data = NULL;
    struct rp_error err = {0};
    const struct rp_stop stop = {ask, NULL};
    struct rp_data_options options = {.progress = hear, .stop = &stop};
    use(c, RP_FORMAT_TEXT, "many.txt");
    CHECK_OK(rp_data_open(&c->spec, &options, &data, &err), &err); /* bytes: nothing to encode */
    rp_data_free(data);
    data = NULL;
    c->spec.train_data.tokenizer = (char *)(uintptr_t) "bpe";
    CHECK_INT(rp_data_open(&c->spec, &options, &data, &err), RP_STATUS_STOPPED);
    CHECK(strstr(err.text, "while the text of data.train was encoded") != NULL);
    rp_data_free(data);
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void bad(struct data_case *c, const char *bytes, size_t n, const char *says)
{
    put_file(c->folder, "bad.jsonl", bytes, n);
    use(c, RP_FORMAT_JSONL, "bad.jsonl");
    CASE_FAILS(c, RP_STATUS_DATA, says, "bad.jsonl");
}
#define BAD(c, text, says) bad(c, text, sizeof text - 1, says)

static void test_bad(struct data_case *c)
{
    BAD(c, "", "there is no text in it");
    BAD(c, "\n\n \n", "there is no text in it");
    BAD(c, "{\"text\": \"\"}\n", "there is no text in it");
    BAD(c, "{\"text\": \"fine\"}\n{\"text\": \"cut sho", "line 2 is no JSON");
    BAD(c, "\n{\"text\": \"two\"} {\"text\": \"on a line\"}\n", "line 2 is no JSON");
    BAD(c, "[\"text\"]\n", "line 1 is no object {...}");
    BAD(c, "\"text\"\n", "line 1 is no JSON");
    BAD(c, "{\"text\": [\"a\"]}\n", "line 1 has a `text` that is no text in quotes");
    BAD(c, "{\"text\": null}\n", "line 1 has a `text` that is no text in quotes");
    BAD(c, "{\"content\": \"a\", \"id\": 1}\n", "line 1 has no `text`; it has `content`, `id`");
    BAD(c, "{}\n", "line 1 has no `text`; it has none");
    BAD(c, "{\"text\": \"caf\xe9\"}\n", "line 1 is no JSON");
    BAD(c, "{\"text\": \"a\0b\"}\n", "line 1 is no JSON");
    BAD(c, "{\"text\": \"\\ud800\"}\n", "line 1 is no JSON");
    BAD(c, "{\"text\": \"\\u0000\"}\n", "line 1 has a NUL in `text`");
    BAD(c, "\xff\xfe{\0\"\0", "line 1 is no JSON");
    struct rp_text deep = {0};
    rp_text_add(&deep, "{\"text\": ");
    for (int i = 0; i < 100000; i++) rp_text_add(&deep, "[");
    bad(c, deep.bytes, deep.length, "line 1 is no JSON");
    rp_text_release(&deep);
    use(c, RP_FORMAT_JSONL, "a.jsonl");
    c->spec.train_data.jsonl_prompt = (char *)(uintptr_t) "text";
    c->spec.train_data.jsonl_response = (char *)(uintptr_t) "answer";
    CASE_FAILS(c, RP_STATUS_DATA, "line 1 has no `answer`; it has `id`, `text`", "a.jsonl");
}

int main(void)
{
    struct data_case c;
    case_init(&c);
    c.spec.model.context = T;
    char *texts = rp_sys_join(c.folder, "texts");
    CHECK_OK(rp_sys_make_folder(texts, NULL), (&(struct rp_error){0}));
    rp_mem_free(texts);
    test_field(&c);
    test_prompts(&c);
    test_tokenizer(&c);
    test_chunks(&c);
    test_stop(&c);
    test_bad(&c);
    case_release(&c);
    return test_result();
}
