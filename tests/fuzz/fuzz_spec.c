/* fuzz_spec.c - any bytes as a spec: no crash, no leak, no wait; and what loads, loads again from
 * its resolved form with the same digests.
 *
 * With clang and -fsanitize=fuzzer it is a libFuzzer target (preset `fuzz`). Without, RP_FUZZ_ALONE
 * makes it a program: `fuzz_spec FILE...` runs each file, and `fuzz_spec --rounds N FILE...`
 * damages the files at random N times, the same way every time. */
#include "spec/spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

static void check_resolved(const struct rp_spec *spec, struct rp_error *err)
{
    struct rp_text text = {0};
    struct rp_spec *again = NULL;
    rp_spec_resolved(spec, &text);
    if (rp_spec_parse("fuzz.yaml", text.bytes, text.length, NULL, &again, err) != RP_STATUS_OK) {
        fprintf(stderr, "resolved does not load: %s\n%s\n", err->text, text.bytes);
        abort();
    }
    for (int section = 0; section < 3; section++) {
        struct rp_sha256 a = rp_spec_digest(spec, (enum rp_section)section);
        struct rp_sha256 b = rp_spec_digest(again, (enum rp_section)section);
        if (!rp_sha256_equal(&a, &b)) {
            fprintf(stderr, "resolved has another digest\n%s\n", text.bytes);
            abort();
        }
    }
    rp_spec_free(again);
    rp_text_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    static struct rp_error err;
    struct rp_spec *spec = NULL;
    rp_error_clear(&err);
    if (rp_spec_parse("fuzz.yaml", (const char *)bytes, n_bytes, NULL, &spec, &err) == RP_STATUS_OK)
        check_resolved(spec, &err);
    rp_spec_free(spec);
    return 0;
}

#ifdef RP_FUZZ_ALONE
static uint64_t state = 1;

static uint64_t draw(uint64_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % n;
}

/* A few bytes replaced, removed, repeated, or taken from what matters to YAML. */
static size_t damage(uint8_t *bytes, size_t n, size_t room)
{
    static const char marks[] = "{}[]:,-&*!|>'\"%@`#\n\t \0\xff\xc3?~0123456789e.xo";
    for (uint64_t i = 1 + draw(4); i > 0 && n > 0; i--) {
        size_t at = (size_t)draw(n), length = (size_t)draw(n - at < 24 ? n - at : 24);
        switch (draw(4)) {
        case 0:
            bytes[at] = (uint8_t)marks[draw(sizeof marks - 1)];
            break;
        case 1:
            memmove(bytes + at, bytes + at + length, n - at - length);
            n -= length;
            break;
        case 2:
            if (n + length > room) break;
            memmove(bytes + at + length, bytes + at, n - at);
            n += length;
            break;
        default:
            bytes[at] ^= (uint8_t)(1u << draw(8));
        }
    }
    return n;
}

static void run_file(const char *path, long rounds)
{
    enum { ROOM = 1 << 16 };
    static uint8_t original[ROOM], copy[ROOM];
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "%s cannot be opened\n", path);
        exit(2);
    }
    size_t n = fread(original, 1, ROOM / 2, file);
    fclose(file);
    LLVMFuzzerTestOneInput(original, n);
    for (long i = 0; i < rounds; i++) {
        memcpy(copy, original, n);
        LLVMFuzzerTestOneInput(copy, damage(copy, n, ROOM));
    }
}

int main(int argc, char **argv)
{
    long rounds = 0;
    int first = 1;
    if (argc > 2 && strcmp(argv[1], "--rounds") == 0) {
        rounds = atol(argv[2]);
        first = 3;
    }
    for (int i = first; i < argc; i++) run_file(argv[i], rounds);
    return 0;
}
#endif
