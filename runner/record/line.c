/* line.c - one line of digests.jsonl, as text and back, and the link that chains the lines. */
#include "record/record_int.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static void put_little_endian(unsigned char *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) to[i] = (unsigned char)(value >> (8 * i));
}

struct rp_sha256 rp_record_link(const struct rp_sha256 *previous, uint64_t step, uint32_t loss_bits,
                                uint64_t params)
{
    unsigned char bytes[RP_SHA256_BYTES + 8 + 4 + 8];
    memcpy(bytes, previous->bytes, RP_SHA256_BYTES);
    put_little_endian(bytes + RP_SHA256_BYTES, step, 8);
    put_little_endian(bytes + RP_SHA256_BYTES + 8, loss_bits, 4);
    put_little_endian(bytes + RP_SHA256_BYTES + 12, params, 8);
    return rp_sha256_of(bytes, sizeof bytes);
}

struct rp_sha256 rp_record_final(const struct rp_sha256 *chain,
                                 const struct rp_sha256 *tensors_hash)
{
    unsigned char bytes[2 * RP_SHA256_BYTES];
    memcpy(bytes, chain->bytes, RP_SHA256_BYTES);
    memcpy(bytes + RP_SHA256_BYTES, tensors_hash->bytes, RP_SHA256_BYTES);
    return rp_sha256_of(bytes, sizeof bytes);
}

void rp_digest_line_add(struct rp_text *text, const struct rp_digest_line *line,
                        const struct rp_digest_tensor *tensors, int n_tensors)
{
    char params[RP_HEX64], chain[RP_SHA256_HEX];
    rp_hex64(line->params, params);
    rp_sha256_hex(&line->chain, chain);
    rp_text_add(text,
                "{\"step\": %" PRIu64 ", \"loss\": \"%08" PRIx32
                "\", \"params\": \"%s\", \"chain\": \"%s\"",
                line->step, line->loss_bits, params, chain);
    for (int i = 0; i < n_tensors; i++) {
        char digest[RP_HEX64];
        rp_hex64(tensors[i].digest, digest);
        rp_text_add(text, "%s", i ? ", " : ", \"tensors\": {");
        rp_text_add_json(text, tensors[i].name);
        rp_text_add(text, ": \"%s\"", digest);
    }
    rp_text_add(text, n_tensors ? "}}\n" : "}\n");
}

static bool parse_hex32(const char *hex, uint32_t *value)
{
    if (strlen(hex) != 8 || strspn(hex, "0123456789abcdef") != 8) return false;
    *value = (uint32_t)strtoul(hex, NULL, 16);
    return true;
}

static bool tensors_are_digests(const json_t *tensors)
{
    const char *name;
    const json_t *value;
    uint64_t digest;
    if (!json_is_object(tensors)) return false;
    json_object_foreach((json_t *)tensors, name, value)
    {
        const char *hex = json_string_value(value);
        if (!hex || !rp_hex64_parse(hex, &digest)) return false;
    }
    return true;
}

bool rp_digest_line_parse(const char *bytes, size_t length, struct rp_digest_line *line,
                          char **tensors)
{
    json_t *root = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, NULL);
    const json_t *step = json_object_get(root, "step"), *list = json_object_get(root, "tensors");
    const char *loss = json_string_value(json_object_get(root, "loss"));
    const char *params = json_string_value(json_object_get(root, "params"));
    const char *chain = json_string_value(json_object_get(root, "chain"));
    bool good = json_is_integer(step) && json_integer_value(step) >= 0 && loss && params && chain &&
                parse_hex32(loss, &line->loss_bits) && rp_hex64_parse(params, &line->params) &&
                rp_sha256_from_hex(chain, &line->chain) && (!list || tensors_are_digests(list));
    if (good) line->step = (uint64_t)json_integer_value(step);
    if (tensors) *tensors = NULL;
    if (good && tensors && list) {
        char *text = json_dumps(list, JSON_COMPACT);
        *tensors = rp_mem_copy_text(text);
        free(text);
    }
    json_decref(root);
    return good;
}
