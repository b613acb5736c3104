/* npz.c - two arrays of one .npz file: a zip archive of .npy members, stored or deflated.
 *
 * Members are found through the archive's directory at its end, as the format asks: the sizes in
 * front of a member may be missing. Archives past 4 GiB (zip64) are refused. */
#include "data/npy.h"

#include <string.h>
#include <zlib.h>

enum { END_BYTES = 22, ENTRY_BYTES = 46, LOCAL_BYTES = 30, COMMENT_MOST = 65535 };
enum { METHOD_STORED = 0, METHOD_DEFLATED = 8 };
#define END_MAGIC   "PK\5\6"
#define ENTRY_MAGIC "PK\1\2"
#define LOCAL_MAGIC "PK\3\4"

struct archive {
    struct rp_data_source *source;
    const unsigned char *bytes;
    size_t length;
    size_t directory, directory_end;
};
struct member {
    int method;
    uint32_t crc;
    size_t packed_size, size;
    const unsigned char *packed;
};

static uint32_t u16(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static uint32_t u32(const unsigned char *at)
{
    return u16(at) | u16(at + 2) << 16;
}

static enum rp_status fail_damaged(const struct archive *archive, const char *what,
                                   struct rp_error *err)
{
    return rp_data_fail(archive->source, 0, err, "damaged or no .npz archive: %s", what);
}

static enum rp_status find_directory(struct archive *archive, struct rp_error *err)
{
    const unsigned char *bytes = archive->bytes;
    if (archive->length < END_BYTES) return fail_damaged(archive, "it is too short", err);
    size_t at = archive->length - END_BYTES, least = at > COMMENT_MOST ? at - COMMENT_MOST : 0;
    while (memcmp(bytes + at, END_MAGIC, 4) != 0 ||
           at + END_BYTES + u16(bytes + at + 20) != archive->length) {
        if (at == least) return fail_damaged(archive, "its end record is missing", err);
        at--;
    }
    uint32_t size = u32(bytes + at + 12), offset = u32(bytes + at + 16);
    if (size == UINT32_MAX || offset == UINT32_MAX || u16(bytes + at + 10) == 65535)
        return rp_data_fail(archive->source, 0, err,
                            "a zip64 archive; save the arrays as .npy and write `format: npy`");
    if (offset > at || size > at - offset)
        return fail_damaged(archive, "its directory lies outside of it", err);
    archive->directory = offset;
    archive->directory_end = (size_t)offset + size;
    return RP_STATUS_OK;
}

/* The directory entry called `name` with ".npy"; names of all arrays go to `names`. */
static const unsigned char *find_entry(const struct archive *archive, const char *name,
                                       struct rp_text *names)
{
    size_t at = archive->directory, wanted = strlen(name);
    while (at + ENTRY_BYTES <= archive->directory_end &&
           memcmp(archive->bytes + at, ENTRY_MAGIC, 4) == 0) {
        const unsigned char *entry = archive->bytes + at;
        size_t length = u16(entry + 28);
        size_t whole = ENTRY_BYTES + length + u16(entry + 30) + u16(entry + 32);
        if (whole > archive->directory_end - at) return NULL;
        const char *found = (const char *)entry + ENTRY_BYTES;
        if (length > 4 && memcmp(found + length - 4, ".npy", 4) == 0) length -= 4;
        if (length == wanted && memcmp(found, name, wanted) == 0) return entry;
        rp_text_add(names, "%s%.*s", names->length ? ", " : "", (int)length, found);
        at += whole;
    }
    return NULL;
}

static enum rp_status find_member(const struct archive *archive, const char *name,
                                  struct member *member, struct rp_error *err)
{
    struct rp_text names = {0};
    enum rp_status status = RP_STATUS_OK;
    const unsigned char *entry = find_entry(archive, name, &names);
    if (!entry) {
        status = rp_data_fail(archive->source, 0, err, "no array `%s` in it; it has: %s", name,
                              names.length ? rp_text_get(&names) : "none");
        goto out;
    }
    size_t at = u32(entry + 42);
    member->method = (int)u16(entry + 10);
    member->crc = u32(entry + 16);
    member->packed_size = u32(entry + 20);
    member->size = u32(entry + 24);
    if (at > archive->directory || archive->directory - at < LOCAL_BYTES ||
        memcmp(archive->bytes + at, LOCAL_MAGIC, 4) != 0) {
        status = fail_damaged(archive, "a member lies outside of it", err);
        goto out;
    }
    at += LOCAL_BYTES + u16(archive->bytes + at + 26) + u16(archive->bytes + at + 28);
    if (at > archive->directory || member->packed_size > archive->directory - at)
        status = fail_damaged(archive, "a member lies outside of it", err);
    member->packed = archive->bytes + at;
out:
    rp_text_release(&names);
    return status;
}

/* Inflates a member into `block` of member->size bytes. */
static bool inflate_member(const struct member *member, unsigned char *block)
{
    z_stream zlib = {0};
    if (inflateInit2(&zlib, -MAX_WBITS) != Z_OK) return false;
    zlib.next_in = (unsigned char *)(uintptr_t)member->packed;
    zlib.avail_in = (uInt)member->packed_size;
    zlib.next_out = block;
    zlib.avail_out = (uInt)member->size;
    int code = inflate(&zlib, Z_FINISH);
    bool good = code == Z_STREAM_END && zlib.avail_out == 0 && zlib.avail_in == 0;
    inflateEnd(&zlib);
    return good;
}

/* The bytes of a member: in the archive itself, or in *block, which the caller frees. */
static enum rp_status unpack(const struct archive *archive, const char *name,
                             const struct member *member, const unsigned char **bytes, void **block,
                             struct rp_error *err)
{
    enum { DEFLATE_MOST = 1032 };
    *bytes = member->packed;
    if (member->method == METHOD_DEFLATED) {
        if (member->size / DEFLATE_MOST > member->packed_size)
            return fail_damaged(archive, "a member promises more than it can hold", err);
        *bytes = *block = rp_mem_try(member->size ? member->size : 1);
        if (!*block)
            return rp_error_set(
                err, RP_STATUS_MEMORY,
                "%s: array `%s` does not fit into memory; take a machine with more, or less data",
                archive->source->dataset->files[0].path, name);
        if (!inflate_member(member, *block))
            return fail_damaged(archive, "a member does not decompress", err);
    } else if (member->method != METHOD_STORED || member->size != member->packed_size) {
        return rp_data_fail(archive->source, 0, err,
                            "array `%s` is packed with method %d; expected 0 (stored) or 8 "
                            "(deflated)",
                            name, member->method);
    }
    if (crc32_z(0, *bytes, member->size) != member->crc)
        return fail_damaged(archive, "a member has another checksum", err);
    return RP_STATUS_OK;
}

static enum rp_status read_array(const struct archive *archive, const char *name, bool is_x,
                                 struct rp_data_set *set, struct rp_error *err)
{
    struct member member = {0};
    const unsigned char *bytes = NULL;
    void *block = NULL;
    enum rp_status status;
    char *label = rp_mem_text("array `%s`: ", name);
    RP_TRY_GOTO(status, find_member(archive, name, &member, err), out);
    RP_TRY_GOTO(status, unpack(archive, name, &member, &bytes, &block, err), out);
    struct npy_input input = {
        .source = archive->source, .at = bytes, .end = bytes + member.size, .name = label};
    status = is_x ? npy_read_x(&input, set, err) : npy_read_y(&input, set, err);
out:
    rp_mem_free(block);
    rp_mem_free(label);
    return status;
}

enum rp_status rp_data_read_npz(struct rp_data_source *source, struct rp_data_set *set,
                                struct rp_error *err)
{
    const struct rp_spec_dataset *dataset = source->dataset;
    char *bytes = NULL;
    size_t length = 0;
    RP_TRY(rp_data_read_whole(source, 0, "file", &bytes, &length, err));
    struct archive archive = {
        .source = source, .bytes = (const unsigned char *)bytes, .length = length};
    enum rp_status status = find_directory(&archive, err);
    if (status == RP_STATUS_OK)
        status = read_array(&archive, dataset->npz_x ? dataset->npz_x : "x", true, set, err);
    if (status == RP_STATUS_OK && !source->without_targets)
        status = read_array(&archive, dataset->npz_y ? dataset->npz_y : "y", false, set, err);
    rp_mem_free(bytes);
    return status;
}

static enum rp_status describe_array(const struct archive *archive, const char *name,
                                     struct npy_array *array, struct rp_error *err)
{
    struct member member = {0};
    const unsigned char *bytes = NULL;
    void *block = NULL;
    RP_TRY(find_member(archive, name, &member, err));
    enum rp_status status = unpack(archive, name, &member, &bytes, &block, err);
    struct npy_input input = {
        .source = archive->source, .at = bytes, .end = bytes + member.size, .name = ""};
    if (status == RP_STATUS_OK) status = npy_read_header(&input, array, err);
    rp_mem_free(block);
    return status;
}

enum rp_status npz_list(struct rp_data_source *source, struct npz_entry entry[NPZ_MAX_ENTRIES],
                        int *n, struct rp_error *err)
{
    char *bytes = NULL;
    size_t length = 0;
    struct rp_text names = {0};
    *n = 0;
    RP_TRY(rp_data_read_whole(source, 0, "file", &bytes, &length, err));
    struct archive archive = {
        .source = source, .bytes = (const unsigned char *)bytes, .length = length};
    enum rp_status status = find_directory(&archive, err);
    if (status == RP_STATUS_OK) find_entry(&archive, "", &names);
    const char *at = rp_text_get(&names);
    while (status == RP_STATUS_OK && *at && *n < NPZ_MAX_ENTRIES) {
        size_t name_bytes = strcspn(at, ",");
        entry[*n].name = rp_mem_text("%.*s", (int)name_bytes, at);
        status = describe_array(&archive, entry[*n].name, &entry[*n].array, err);
        ++*n;
        at += name_bytes;
        at += strspn(at, ", ");
    }
    rp_text_release(&names);
    rp_mem_free(bytes);
    return status;
}
