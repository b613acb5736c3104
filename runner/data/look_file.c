/* look_file.c - what one file is, from its first bytes, and where these tell nothing from its name.
 */
#include "data/look_int.h"

#include "base/sys.h"

#include <string.h>
#include <strings.h>
#include <zlib.h>

enum { PEEK_BYTES = 4096, CIFAR_10_RECORD = 3073, CIFAR_100_RECORD = 3074, IDX_TYPE_U8 = 8 };

const char *look_name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool look_ends_with(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);
    return n > m && strcasecmp(path + n - m, ending) == 0;
}

/* The first bytes of a file, unpacked where it is gzip; returns how many. */
static size_t unpack_beginning(unsigned char *bytes, size_t n)
{
    unsigned char packed[PEEK_BYTES];
    z_stream zlib = {0};
    if (n < 2 || bytes[0] != 0x1f || bytes[1] != 0x8b) return n;
    memcpy(packed, bytes, n);
    if (inflateInit2(&zlib, 15 + 16) != Z_OK) return n;
    zlib.next_in = packed;
    zlib.avail_in = (uInt)n;
    zlib.next_out = bytes;
    zlib.avail_out = PEEK_BYTES;
    inflate(&zlib, Z_SYNC_FLUSH);
    n = PEEK_BYTES - zlib.avail_out;
    inflateEnd(&zlib);
    return n;
}

/* Text without control characters but tabs and line ends, with a line end in it. */
static bool is_text(const unsigned char *bytes, size_t n)
{
    bool line = false;
    for (size_t i = 0; i < n; i++) {
        line = line || bytes[i] == '\n';
        if (bytes[i] == 0x7f || (bytes[i] < ' ' && !strchr("\t\r\n", bytes[i]))) return false;
    }
    return line && n > 0;
}

static void recognise(struct look_file *found, const unsigned char *bytes, size_t n, uint64_t size)
{
    if (n >= 8 && memcmp(bytes, "\x93NUMPY", 6) == 0) {
        found->kind = LOOK_KIND_NPY;
    } else if (n >= 4 && memcmp(bytes, "PK\3\4", 4) == 0 && !look_ends_with(found->path, ".zip")) {
        found->kind = LOOK_KIND_NPZ;
    } else if (n >= 8 && memcmp(bytes, "RPPACKED", 8) == 0) {
        found->kind = LOOK_KIND_PACKED;
    } else if (n >= 8 && !bytes[0] && !bytes[1] && bytes[2] == IDX_TYPE_U8 && bytes[3] >= 1 &&
               bytes[3] <= 4) {
        found->kind = LOOK_KIND_IDX;
        found->n_dims = bytes[3];
        found->n = (int64_t)bytes[4] << 24 | bytes[5] << 16 | bytes[6] << 8 | bytes[7];
    } else if (look_ends_with(found->path, ".bin") && look_token_header(bytes, n)) {
        found->kind = LOOK_KIND_TOKENS;
    } else if (size && look_ends_with(found->path, ".bin") && size % CIFAR_10_RECORD == 0) {
        found->kind = LOOK_KIND_CIFAR;
        found->cifar_classes = 10;
    } else if (size && look_ends_with(found->path, ".bin") && size % CIFAR_100_RECORD == 0) {
        found->kind = LOOK_KIND_CIFAR;
        found->cifar_classes = 100;
    } else if (size && look_ends_with(found->path, ".bin") && size % 2 == 0) {
        found->kind = LOOK_KIND_TOKENS;
    } else if (look_ends_with(found->path, ".jsonl") || look_ends_with(found->path, ".ndjson")) {
        found->kind = LOOK_KIND_JSONL;
    } else if (look_ends_with(found->path, ".txt") || look_ends_with(found->path, ".md")) {
        found->kind = LOOK_KIND_TEXT;
    } else if (is_text(bytes, n)) {
        found->kind = LOOK_KIND_CSV;
    }
}

enum rp_status look_at_file(const char *path, struct look_file *found, struct rp_error *err)
{
    unsigned char bytes[PEEK_BYTES];
    size_t n = 0;
    int fd = -1;
    struct rp_sys_stat stat;
    *found = (struct look_file){.path = path};
    RP_TRY(rp_sys_stat(path, &stat, err));
    if (!stat.exists)
        return rp_error_set(err, RP_STATUS_DATA, "there is no file or folder %s", path);
    RP_TRY(rp_sys_open_read(path, RP_STATUS_DATA, &fd, err));
    enum rp_status status = rp_sys_read(fd, bytes, sizeof bytes, &n, path, RP_STATUS_DATA, err);
    rp_sys_close(fd);
    RP_TRY(status);
    recognise(found, bytes, unpack_beginning(bytes, n), stat.size);
    return RP_STATUS_OK;
}
