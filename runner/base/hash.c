#include "base/hash.h"

#include "base/mem.h"
#include "base/sys.h"

#include <openssl/evp.h>
#include <string.h>

struct rp_hasher {
    EVP_MD_CTX *context;
};

struct rp_hasher *rp_hasher_new(void)
{
    struct rp_hasher *hasher = RP_NEW(struct rp_hasher);
    hasher->context = EVP_MD_CTX_new();
    EVP_DigestInit_ex(hasher->context, EVP_sha256(), NULL);
    return hasher;
}

void rp_hasher_add(struct rp_hasher *hasher, const void *bytes, size_t length)
{
    EVP_DigestUpdate(hasher->context, bytes, length);
}

struct rp_sha256 rp_hasher_finish(struct rp_hasher *hasher)
{
    struct rp_sha256 hash;
    EVP_DigestFinal_ex(hasher->context, hash.bytes, NULL);
    return hash;
}

void rp_hasher_free(struct rp_hasher *hasher)
{
    if (!hasher) return;
    EVP_MD_CTX_free(hasher->context);
    rp_mem_free(hasher);
}

struct rp_sha256 rp_sha256_of(const void *bytes, size_t length)
{
    struct rp_hasher *hasher = rp_hasher_new();
    rp_hasher_add(hasher, bytes, length);
    struct rp_sha256 hash = rp_hasher_finish(hasher);
    rp_hasher_free(hasher);
    return hash;
}

static enum rp_status hash_file(const char *path, const struct rp_stop *stop,
                                struct rp_sha256 *hash, uint64_t *size, struct rp_error *err)
{
    enum { CHUNK = 1 << 20 };
    struct rp_hasher *hasher = rp_hasher_new();
    unsigned char *chunk = rp_mem_new(CHUNK);
    uint64_t total = 0;
    int fd = -1;
    enum rp_status status = RP_STATUS_OK;
    RP_TRY_GOTO(status, rp_sys_open_read(path, RP_STATUS_DATA, &fd, err), out);
    for (;;) {
        size_t got = 0;
        RP_TRY_GOTO(status, rp_stop_look(stop, path, err), out);
        RP_TRY_GOTO(status, rp_sys_read(fd, chunk, CHUNK, &got, path, RP_STATUS_DATA, err), out);
        if (!got) break;
        rp_hasher_add(hasher, chunk, got);
        total += got;
    }
    *hash = rp_hasher_finish(hasher);
    if (size) *size = total;
out:
    rp_sys_close(fd);
    rp_mem_free(chunk);
    rp_hasher_free(hasher);
    return status;
}

enum rp_status rp_sha256_of_file(const char *path, struct rp_sha256 *hash, uint64_t *size,
                                 struct rp_error *err)
{
    return hash_file(path, NULL, hash, size, err);
}

enum rp_status rp_sha256_of_file_until(const char *path, const struct rp_stop *stop,
                                       struct rp_sha256 *hash, struct rp_error *err)
{
    return hash_file(path, stop, hash, NULL, err);
}

static const char digits[] = "0123456789abcdef";

void rp_sha256_hex(const struct rp_sha256 *hash, char hex[RP_SHA256_HEX])
{
    for (int i = 0; i < RP_SHA256_BYTES; i++) {
        hex[2 * i] = digits[hash->bytes[i] >> 4];
        hex[2 * i + 1] = digits[hash->bytes[i] & 15];
    }
    hex[RP_SHA256_HEX - 1] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool rp_sha256_from_hex(const char *hex, struct rp_sha256 *hash)
{
    if (strlen(hex) != RP_SHA256_HEX - 1) return false;
    for (int i = 0; i < RP_SHA256_BYTES; i++) {
        int high = hex_value(hex[2 * i]), low = hex_value(hex[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        hash->bytes[i] = (unsigned char)(high * 16 + low);
    }
    return true;
}

bool rp_sha256_equal(const struct rp_sha256 *a, const struct rp_sha256 *b)
{
    return memcmp(a->bytes, b->bytes, RP_SHA256_BYTES) == 0;
}

void rp_hex64(uint64_t value, char hex[RP_HEX64])
{
    for (int i = 0; i < 16; i++) hex[i] = digits[value >> (60 - 4 * i) & 15];
    hex[16] = '\0';
}

bool rp_hex64_parse(const char *hex, uint64_t *value)
{
    uint64_t result = 0;
    if (strlen(hex) != RP_HEX64 - 1) return false;
    for (int i = 0; i < 16; i++) {
        int digit = hex_value(hex[i]);
        if (digit < 0) return false;
        result = result << 4 | (uint64_t)digit;
    }
    *value = result;
    return true;
}
