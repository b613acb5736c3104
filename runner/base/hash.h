/* hash.h - SHA-256 (libcrypto) over bytes and files, and hexadecimal text. */
#ifndef RP_HASH_H
#define RP_HASH_H

#include "base/stop.h"

enum { RP_SHA256_BYTES = 32, RP_SHA256_HEX = 65 };

struct rp_sha256 {
    unsigned char bytes[RP_SHA256_BYTES];
};

/* A running hash. new/free; add any number of times; finish once. */
struct rp_hasher;
struct rp_hasher *rp_hasher_new(void);
void rp_hasher_add(struct rp_hasher *hasher, const void *bytes, size_t length);
struct rp_sha256 rp_hasher_finish(struct rp_hasher *hasher);
void rp_hasher_free(struct rp_hasher *hasher); /* NULL is fine */

struct rp_sha256 rp_sha256_of(const void *bytes, size_t length);
/* Streams a regular file; DATA when it cannot be read. `size` may be NULL. */
RP_NODISCARD enum rp_status rp_sha256_of_file(const char *path, struct rp_sha256 *hash,
                                              uint64_t *size, struct rp_error *err);
/* The same; STOPPED when `stop` says so meanwhile. */
RP_NODISCARD enum rp_status rp_sha256_of_file_until(const char *path, const struct rp_stop *stop,
                                                    struct rp_sha256 *hash, struct rp_error *err);
void rp_sha256_hex(const struct rp_sha256 *hash, char hex[RP_SHA256_HEX]);
bool rp_sha256_from_hex(const char *hex, struct rp_sha256 *hash); /* exactly 64 hex digits */
bool rp_sha256_equal(const struct rp_sha256 *a, const struct rp_sha256 *b);

/* 16 lower-case digits, zero padded: how 64-bit digests are written everywhere. */
enum { RP_HEX64 = 17 };
void rp_hex64(uint64_t value, char hex[RP_HEX64]);
bool rp_hex64_parse(const char *hex, uint64_t *value);

#endif
