/* Files that come back as they were, and files made by somebody who wishes us ill. */
#include "test.h"

#include "checkpoint/checkpoint.h"
#include "run_folder.h"

#include <stdint.h>

static struct rp_st_tensor make(const char *name, float *data, int n_dims, int64_t d0, int64_t d1)
{
    struct rp_st_tensor tensor = {.shape = {.data = data, .dtype = RP_DTYPE_F32, .n_dims = n_dims}};
    tensor.shape.dims[0] = d0;
    tensor.shape.dims[1] = d1;
    snprintf(tensor.name, sizeof tensor.name, "%s", name);
    return tensor;
}

/* ---- what we write --------------------------------------------------------------------------- */

static void test_round_trip(const char *folder)
{
    struct rp_error err = {0};
    float a[6] = {0.0f, -0.0f, 1.5f, -3e-42f, 1.0f / 3, 3e38f}, b[1] = {7};
    const uint32_t odd[2] = {0x7fc01234, 0xff800000}; /* a NaN with a payload, -inf */
    float c[2];
    memcpy(c, odd, sizeof c);
    struct rp_st_tensor tensors[] = {
        make("layers.0.weight", a, 2, 2, 3), make("scalar", b, 0, 0, 0),
        make("quote\"back\\slash", c, 1, 2, 0), make("empty", NULL, 1, 0, 0)};
    const char *metadata[] = {"format", "pt", "step", "12", NULL};
    struct rp_sha256 hashes[4], file_hash;
    char *path = rp_sys_join(folder, "a.safetensors");
    CHECK_OK(rp_st_write(path, tensors, 4, NULL, metadata, hashes, &file_hash, &err), &err);

    struct rp_st_file file;
    CHECK_OK(rp_st_read(path, RP_STATUS_DATA, &file, &err), &err);
    CHECK_INT(file.n, 4);
    CHECK(rp_sha256_equal(&file.file_hash, &file_hash));
    const struct rp_st_tensor *back = rp_st_find(&file, "layers.0.weight");
    CHECK(back && back->shape.n_dims == 2 && back->shape.dims[0] == 2 && back->shape.dims[1] == 3);
    CHECK(back && memcmp(back->shape.data, a, sizeof a) == 0);
    back = rp_st_find(&file, "quote\"back\\slash");
    CHECK(back && memcmp(back->shape.data, odd, sizeof odd) == 0);
    back = rp_st_find(&file, "scalar");
    CHECK(back && back->shape.n_dims == 0 && *(const float *)back->shape.data == 7);
    CHECK(rp_st_find(&file, "scala") == NULL);
    struct rp_sha256 of_a = rp_sha256_of(a, sizeof a);
    CHECK(rp_sha256_equal(&of_a, &hashes[0]));
    CHECK(!rp_sha256_equal(&of_a, &hashes[1]));
    rp_st_release(&file);
    rp_st_release(&file); /* safe twice */

    /* The form: length, a header of that length that starts with a brace, data on 64 bytes. */
    size_t length = 0;
    char *bytes = get_file(folder, "a.safetensors", &length);
    uint64_t header = 0;
    memcpy(&header, bytes, 8);
    CHECK_INT((8 + header) % 64, 0);
    CHECK_INT(length, 8 + header + sizeof a + sizeof b + sizeof c);
    CHECK(bytes[8] == '{' &&
          strstr(bytes + 8, "\"__metadata__\":{\"format\":\"pt\",\"step\":\"12\"}"));
    CHECK(memcmp(bytes + 8 + header, a, sizeof a) == 0);
    rp_mem_free(bytes);
    rp_mem_free(path);
}

/* More than one block of the writer, not a multiple of it. */
static void test_large(const char *folder)
{
    struct rp_error err = {0};
    int64_t n = 3000017;
    float *data = rp_mem_try((size_t)n * sizeof *data);
    for (int64_t i = 0; i < n; i++) data[i] = (float)i;
    struct rp_st_tensor tensors[] = {make("a", data, 1, n, 0), make("b", data + 1, 1, n - 1, 0)};
    struct rp_sha256 hashes[2], file_hash, seen;
    uint64_t size = 0;
    struct rp_st_file file;
    char *path = rp_sys_join(folder, "large");
    CHECK_OK(rp_st_write(path, tensors, 2, NULL, NULL, hashes, &file_hash, &err), &err);
    CHECK_OK(rp_sha256_of_file(path, &seen, &size, &err), &err);
    CHECK(rp_sha256_equal(&seen, &file_hash));
    CHECK_OK(rp_st_read(path, RP_STATUS_DATA, &file, &err), &err);
    CHECK(memcmp(file.tensor[0].shape.data, data, (size_t)n * 4) == 0);
    CHECK(memcmp(file.tensor[1].shape.data, data + 1, (size_t)(n - 1) * 4) == 0);
    struct rp_sha256 of_b = rp_sha256_of(data + 1, (size_t)(n - 1) * 4);
    CHECK(rp_sha256_equal(&of_b, &hashes[1]));
    rp_st_release(&file);
    rp_mem_free(data);
    rp_mem_free(path);
}

/* ---- what others write ----------------------------------------------------------------------- */

static void put_safetensors(const char *folder, uint64_t header_length, const char *header,
                            size_t data_bytes)
{
    struct rp_text text = {0};
    rp_text_add_bytes(&text, &header_length, 8);
    rp_text_add(&text, "%s", header);
    for (size_t i = 0; i < data_bytes; i++) rp_text_add_bytes(&text, "\x01", 1);
    put_file(folder, "h", text.bytes, text.length);
    rp_text_release(&text);
}

static enum rp_status read_hostile(const char *folder, struct rp_error *err)
{
    struct rp_st_file file;
    char *path = rp_sys_join(folder, "h");
    enum rp_status status = rp_st_read(path, RP_STATUS_DATA, &file, err);
    if (status == RP_STATUS_OK) {
        /* What is accepted must be readable to its last byte. */
        volatile unsigned char sum = 0;
        for (int i = 0; i < file.n; i++)
            for (size_t k = 0; k < rp_tensor_bytes(&file.tensor[i].shape); k++)
                sum = (unsigned char)(sum + ((unsigned char *)file.tensor[i].shape.data)[k]);
    }
    rp_st_release(&file);
    rp_mem_free(path);
    return status;
}

static void test_hostile_headers(const char *folder)
{
    static const struct {
        const char *header;
        size_t data;
        bool good;
        const char *says;
    } cases[] = {
        {"{}", 0, true, ""},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, true, ""},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}   ", 4, true, ""},
        {"{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
         8, true, ""},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[0,0]}}", 0, true, ""},
        {"{\"__metadata__\":{\"x\":\"y\"}}", 0, true, ""},
        {"", 0, false, "JSON"},
        {"[]", 0, false, "JSON"},
        {"{\"a\":1}", 0, false, "missing"},
        {"{\"a\":{}}", 0, false, "missing"},
        {"{", 0, false, "JSON"},
        {"{}", 1, false, "behind the last"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, false,
         "behind the end"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, false,
         "behind the last"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 8, false,
         "do not fit"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, false,
         "do not fit"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, false,
         "starts at byte 4"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, false, "missing"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, false, "missing"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0.0,4.0]}}", 4, false,
         "missing"},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, false, "only F32"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":\"2\",\"data_offsets\":[0,8]}}", 8, false, "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, false, "no size"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, false,
         "up to 6"},
        /* Products that wrap round: 2^62 * 4 = 0 and 2^32 * 2^32 = 0 modulo 2^64. */
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0,
         false, "larger"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
         false, "larger"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,4]}}", 4,
         false, "JSON"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,9223372036854775807]}}", 4,
         false, "fit"},
        /* Overlap, hole, twice the same name. */
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         8, false, "expected 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
         12, false, "expected 4"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         8, false, "JSON"},
        {"{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, false,
         "JSON"},
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        struct rp_error err = {0};
        put_safetensors(folder, strlen(cases[i].header), cases[i].header, cases[i].data);
        enum rp_status status = read_hostile(folder, &err);
        if ((status == RP_STATUS_OK) != cases[i].good || !strstr(err.text, cases[i].says)) {
            printf("case %zu: %s: status %d, %s\n", i, cases[i].header, (int)status, err.text);
            test_failures++;
        }
    }
}

static void test_hostile_lengths(const char *folder)
{
    static const uint64_t lengths[] = {3,          1000,           1u << 30,
                                       UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63};
    struct rp_error err = {0};
    for (size_t i = 0; i < RP_COUNT(lengths); i++) {
        put_safetensors(folder, lengths[i], "{}", 0);
        CHECK_STATUS(read_hostile(folder, &err), RP_STATUS_DATA, &err);
    }
    for (size_t length = 0; length < 8; length++) {
        put_file(folder, "h", "\0\0\0\0\0\0\0\0", length);
        CHECK_STATUS(read_hostile(folder, &err), RP_STATUS_DATA, &err);
    }
    /* Two thousand levels deep. */
    struct rp_text deep = {0};
    for (int i = 0; i < 100000; i++) rp_text_add(&deep, "[");
    put_safetensors(folder, deep.length, deep.bytes, 0);
    CHECK_STATUS(read_hostile(folder, &err), RP_STATUS_DATA, &err);
    rp_text_release(&deep);
    /* A name one byte too long, and the longest. */
    for (int length = 111; length <= 112; length++) {
        struct rp_text header = {0};
        rp_text_add(&header, "{\"%0*d\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
                    length, 7);
        put_safetensors(folder, header.length, header.bytes, 4);
        CHECK_STATUS(read_hostile(folder, &err), length == 111 ? RP_STATUS_OK : RP_STATUS_DATA,
                     &err);
        rp_text_release(&header);
    }
}

/* Every byte of a small file changed, and every length cut: no crash, and nothing readable out of
 * bounds. */
static void test_every_byte(const char *folder)
{
    float data[4] = {1, 2, 3, 4};
    struct rp_st_tensor tensors[] = {make("a", data, 1, 3, 0), make("b", data + 3, 1, 1, 0)};
    struct rp_error err = {0};
    char *path = rp_sys_join(folder, "g");
    CHECK_OK(rp_st_write(path, tensors, 2, NULL, NULL, NULL, NULL, &err), &err);
    size_t length = 0;
    int accepted = 0;
    char *bytes = get_file(folder, "g", &length);
    for (size_t i = 0; i < length; i++) {
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] ^= (char)(1 << bit);
            put_file(folder, "h", bytes, length);
            accepted += read_hostile(folder, &err) == RP_STATUS_OK;
            rp_error_clear(&err);
            bytes[i] ^= (char)(1 << bit);
        }
        put_file(folder, "h", bytes, i);
        CHECK_STATUS(read_hostile(folder, &err), RP_STATUS_DATA, &err);
    }
    /* Changed data, and letters of names, are for the hashes to find; the structure is not. */
    CHECK(accepted >= 16 * 8);
    CHECK(accepted < (int)(length * 8) / 2);
    rp_mem_free(bytes);
    rp_mem_free(path);
}

static void test_not_a_file(const char *folder)
{
    struct rp_error err = {0};
    struct rp_st_file file;
    CHECK_STATUS(rp_st_read(folder, RP_STATUS_DATA, &file, &err), RP_STATUS_DATA, &err);
    char *path = rp_sys_join(folder, "missing");
    CHECK_STATUS(rp_st_read(path, RP_STATUS_DATA, &file, &err), RP_STATUS_DATA, &err);
    rp_mem_free(path);
}

int main(void)
{
    char *folder = new_folder();
    test_round_trip(folder);
    test_large(folder);
    test_hostile_headers(folder);
    test_hostile_lengths(folder);
    test_every_byte(folder);
    test_not_a_file(folder);
    remove_folder(folder);
    return test_result();
}
