/* IDX and CIFAR files: what is read from good ones, and what is said of damaged ones. */
#include "data_case.h"

#include <sys/stat.h>
#include <zlib.h>

enum { N = 6, H = 3, W = 4 };

/* Four bytes of magic, then dimensions, then bytes that count up from `start`. */
static size_t make_idx(unsigned char *out, int n_dims, const uint32_t *dims, size_t n_bytes,
                       int start)
{
    size_t at = 0;
    out[at++] = 0;
    out[at++] = 0;
    out[at++] = 8;
    out[at++] = (unsigned char)n_dims;
    for (int i = 0; i < n_dims; i++)
        for (int shift = 24; shift >= 0; shift -= 8) out[at++] = (unsigned char)(dims[i] >> shift);
    for (size_t i = 0; i < n_bytes; i++) out[at++] = (unsigned char)(start + (int)i);
    return at;
}

static size_t put_images(struct data_case *c, const char *name, unsigned char *bytes)
{
    static const uint32_t dims[3] = {N, H, W};
    size_t length = make_idx(bytes, 3, dims, N * H * W, 0);
    put_file(c->folder, name, bytes, length);
    return length;
}

static size_t put_labels(struct data_case *c, const char *name, unsigned char *bytes)
{
    static const uint32_t dims[1] = {N};
    size_t length = make_idx(bytes, 1, dims, N, 2);
    put_file(c->folder, name, bytes, length);
    return length;
}

/* gzip of some bytes; returns its length. */
static size_t pack(const unsigned char *bytes, size_t length, unsigned char *out, size_t room)
{
    z_stream zlib = {0};
    if (deflateInit2(&zlib, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) exit(1);
    zlib.next_in = (unsigned char *)(uintptr_t)bytes;
    zlib.avail_in = (uInt)length;
    zlib.next_out = out;
    zlib.avail_out = (uInt)room;
    if (deflate(&zlib, Z_FINISH) != Z_STREAM_END) exit(1);
    size_t packed = room - zlib.avail_out;
    deflateEnd(&zlib);
    return packed;
}

static void case_idx(struct data_case *c, unsigned char images[256], unsigned char labels[64])
{
    case_init(c);
    put_images(c, "images", images);
    put_labels(c, "labels", labels);
    case_files(&c->spec.train_data, RP_FORMAT_IDX, "images", "labels");
}

static void check_samples(const struct rp_data *data)
{
    float x[N * H * W];
    int32_t y[N];
    rp_data_fill_eval(data, RP_SPLIT_TRAIN, 0, N, x, y);
    for (int i = 0; i < N * H * W; i++) CHECK(x[i] == (float)i / 255.0f);
    for (int i = 0; i < N; i++) CHECK_INT(y[i], i + 2);
}

static void test_plain_and_gzip(void)
{
    struct data_case c;
    unsigned char images[256], labels[64], packed[512];
    case_idx(&c, images, labels);
    struct rp_data *data = case_open(&c);
    const struct rp_data_shape *shape = rp_data_shape(data);
    CHECK_INT(shape->n_dims, 3);
    CHECK_INT(shape->dims[0], H);
    CHECK_INT(shape->dims[1], W);
    CHECK_INT(shape->dims[2], 1);
    CHECK_INT(shape->n_classes, N + 2);
    CHECK_INT(shape->n_train, N);
    check_samples(data);
    rp_data_free(data);
    /* Two gzip members one after the other are one file. */
    size_t length = 16 + N * H * W, first = pack(images, 30, packed, sizeof packed);
    size_t second = pack(images + 30, length - 30, packed + first, sizeof packed - first);
    put_file(c.folder, "images.gz", packed, first + second);
    case_files(&c.spec.train_data, RP_FORMAT_IDX, "images.gz", "labels");
    data = case_open(&c);
    check_samples(data);
    const struct rp_data_file *files;
    CHECK_INT(rp_data_files(data, &files), 2);
    CHECK_TEXT(files[0].key, "data.train.images");
    CHECK_TEXT(files[1].key, "data.train.labels");
    CHECK_INT(files[0].size, first + second);
    struct rp_sha256 want = rp_sha256_of(packed, first + second);
    CHECK(rp_sha256_equal(&files[0].sha256, &want));
    rp_data_free(data);
    case_release(&c);
}

static void test_damaged_headers(void)
{
    struct data_case c;
    unsigned char images[256], labels[64];
    static const uint32_t five[1] = {5};
    case_idx(&c, images, labels);
    size_t length = 16 + N * H * W;
    put_file(c.folder, "images", images, length - 1);
    CASE_FAILS(&c, RP_STATUS_DATA, "promises 88 bytes", "has 87");
    put_file(c.folder, "images", images, length + 5);
    CASE_FAILS(&c, RP_STATUS_DATA, "promises 88 bytes", "has 93");
    put_file(c.folder, "images", images, 9);
    CASE_FAILS(&c, RP_STATUS_DATA, "IDX header", "found 9");
    put_file(c.folder, "images", images, 0);
    CASE_FAILS(&c, RP_STATUS_DATA, "IDX header", "found 0");
    put_file(c.folder, "images", "hello, this is text", 19);
    CASE_FAILS(&c, RP_STATUS_DATA, "expected an IDX file", "68 65 6c 6c");
    case_files(&c.spec.train_data, RP_FORMAT_IDX, "labels", "labels");
    CASE_FAILS(&c, RP_STATUS_DATA, "first bytes 00 00 08 02", "found 00 00 08 01");
    case_files(&c.spec.train_data, RP_FORMAT_IDX, "images", "labels");
    put_images(&c, "images", images);
    put_file(c.folder, "labels", labels, make_idx(labels, 1, five, 5, 0));
    CASE_FAILS(&c, RP_STATUS_DATA, "5 labels, but images has 6 images", "job.yaml:4");
    case_files(&c.spec.train_data, RP_FORMAT_IDX, "images", "nowhere");
    CASE_FAILS(&c, RP_STATUS_DATA, "there is no file", "nowhere");
    case_files(&c.spec.train_data, RP_FORMAT_IDX, ".", "labels");
    CASE_FAILS(&c, RP_STATUS_DATA, "not a regular file", "");
    /* A pipe that nobody writes into must not be waited for. */
    char *pipe = rp_sys_join(c.folder, "pipe");
    CHECK_INT(mkfifo(pipe, 0600), 0);
    case_files(&c.spec.train_data, RP_FORMAT_IDX, "pipe", "labels");
    CASE_FAILS(&c, RP_STATUS_DATA, "not a regular file", "pipe");
    rp_mem_free(pipe);
    case_release(&c);
}

/* Headers that promise 2^40 and 2^124 elements: refused before anything is allocated. */
static void test_impossible_shapes(void)
{
    struct data_case c;
    unsigned char images[256], labels[64], packed[512];
    static const uint32_t large[3] = {1 << 20, 1 << 10, 1 << 10};
    static const uint32_t huge[4] = {0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff};
    static const uint32_t none[3] = {0, 28, 28};
    case_idx(&c, images, labels);
    size_t length = make_idx(images, 3, large, 60, 0);
    put_file(c.folder, "images", images, length);
    CASE_FAILS(&c, RP_STATUS_DATA, "promises 1099511627792 bytes", "has 76");
    put_file(c.folder, "images", packed, pack(images, length, packed, sizeof packed));
    CASE_FAILS(&c, RP_STATUS_DATA, "1099511627792", "compressed bytes can hold");
    put_file(c.folder, "images", images, make_idx(images, 4, huge, 60, 0));
    CASE_FAILS(&c, RP_STATUS_DATA, "more bytes than any file", "");
    put_file(c.folder, "images", images, make_idx(images, 3, none, 60, 0));
    CASE_FAILS(&c, RP_STATUS_DATA, "dimension 1", "is 0");
    case_release(&c);
}

/* Any flipped bit of a gzip file is noticed, by its checksum at the latest; but for the header's
 * fields for time, level and system, which say nothing about the content. */
static void test_gzip_damage(void)
{
    struct data_case c;
    unsigned char images[256], labels[64], packed[512];
    case_idx(&c, images, labels);
    size_t length = pack(images, 16 + N * H * W, packed, sizeof packed);
    int unnoticed = 0;
    for (size_t bit = 0; bit < 8 * length; bit++) {
        struct rp_error err = {0};
        struct rp_data *data = NULL;
        if (bit / 8 >= 4 && bit / 8 < 10) continue;
        packed[bit / 8] ^= (unsigned char)(1 << bit % 8);
        put_file(c.folder, "images", packed, length);
        packed[bit / 8] ^= (unsigned char)(1 << bit % 8);
        enum rp_status status = rp_data_open(&c.spec, NULL, &data, &err);
        unnoticed += status != RP_STATUS_DATA;
        if (status == RP_STATUS_OK) check_samples(data);
        rp_data_free(data);
    }
    /* The flag "this is text" in the fourth byte, and up to 7 bits that fill the last byte of
     * deflate. */
    CHECK(unnoticed <= 8);
    for (size_t cut = 2; cut < length; cut++) {
        put_file(c.folder, "images", packed, cut);
        CASE_FAILS(&c, RP_STATUS_DATA, "images", "");
    }
    memcpy(packed + length, "junk", 4);
    put_file(c.folder, "images", packed, length + 4);
    CASE_FAILS(&c, RP_STATUS_DATA, "damaged gzip data", "");
    put_file(c.folder, "images", packed, length);
    rp_data_free(case_open(&c));
    case_release(&c);
}

static void test_hashes(void)
{
    struct data_case c;
    struct rp_error err = {0};
    unsigned char images[256], labels[64];
    char hex[RP_SHA256_HEX], wrong[RP_SHA256_HEX];
    case_idx(&c, images, labels);
    struct rp_spec_file *file = &c.spec.train_data.files[0];
    file->has_sha256 = true;
    file->sha256 = rp_sha256_of(images, 16 + N * H * W);
    rp_sha256_hex(&file->sha256, hex);
    struct rp_data *data = case_open(&c);
    struct rp_text canonical = {0};
    rp_data_canonical(data, true, &canonical);
    CHECK(strstr(rp_text_get(&canonical), "data.train.images 88 ") != NULL);
    CHECK(strstr(rp_text_get(&canonical), hex) != NULL);
    CHECK(strstr(rp_text_get(&canonical), c.folder) == NULL);
    rp_text_release(&canonical);
    /* One changed byte: both hashes are named. So it is when the damage also breaks the format. */
    images[40] ^= 1;
    put_file(c.folder, "images", images, 16 + N * H * W);
    struct rp_sha256 other = rp_sha256_of(images, 16 + N * H * W);
    rp_sha256_hex(&other, wrong);
    CASE_FAILS(&c, RP_STATUS_DATA, hex, wrong);
    put_file(c.folder, "images", images, 40);
    CASE_FAILS(&c, RP_STATUS_DATA, "SHA-256", hex);
    put_file(c.folder, "images", images, 16 + N * H * W);
    /* A file known by size, time and inode is not hashed again, unless asked for. */
    struct rp_sys_stat stat;
    const struct rp_data_file *files;
    char *path = rp_sys_join(c.folder, "images");
    CHECK_OK(rp_sys_stat(path, &stat, &err), &err);
    struct rp_data_known known = {path, stat.size, stat.inode, stat.mtime_ns, file->sha256};
    struct rp_data_options options = {.known = &known, .n_known = 1};
    struct rp_data *again = NULL;
    CHECK_OK(rp_data_open(&c.spec, &options, &again, &err), &err);
    rp_data_files(again, &files);
    CHECK(rp_sha256_equal(&files[0].sha256, &file->sha256));
    CHECK_INT(files[0].mtime_ns, stat.mtime_ns);
    rp_data_free(again);
    known.mtime_ns--;
    CHECK_STATUS(rp_data_open(&c.spec, &options, &again, &err), RP_STATUS_DATA, &err);
    known.mtime_ns++;
    options.rehash = true;
    CHECK_STATUS(rp_data_open(&c.spec, &options, &again, &err), RP_STATUS_DATA, &err);
    rp_mem_free(path);
    rp_data_free(data);
    case_release(&c);
}

/* Describing reads the header of the images and the labels, and says the same shape. */
static void test_describe(void)
{
    struct data_case c;
    struct rp_error err = {0};
    struct rp_data_shape shape;
    unsigned char images[256], labels[64];
    case_idx(&c, images, labels);
    c.spec.valid_fraction = 0.25;
    CHECK_OK(rp_data_describe(&c.spec, false, &shape, &err), &err);
    CHECK_INT(shape.n_train, 4);
    CHECK_INT(shape.n_valid, 2);
    CHECK_INT(shape.n_classes, N + 2);
    c.spec.valid_fraction = 0.999;
    CHECK_STATUS(rp_data_describe(&c.spec, false, &shape, &err), RP_STATUS_USAGE, &err);
    c.spec.valid_fraction = 0.001;
    CHECK_OK(rp_data_describe(&c.spec, false, &shape, &err), &err);
    CHECK_INT(shape.n_valid, 1);
    /* A class of validation that training does not have, and images of another size. */
    static const uint32_t six[1] = {N}, other[3] = {N, W, H};
    c.spec.valid_fraction = 0;
    case_files(&c.spec.valid_data, RP_FORMAT_IDX, "images", "more");
    put_file(c.folder, "more", labels, make_idx(labels, 1, six, N, 3));
    CASE_FAILS(&c, RP_STATUS_DATA, "data.valid has a label 8", "end at 7");
    case_files(&c.spec.valid_data, RP_FORMAT_IDX, "turned", "labels");
    put_file(c.folder, "turned", images, make_idx(images, 3, other, N * H * W, 0));
    CASE_FAILS(&c, RP_STATUS_DATA, "images of 4 x 3 x 1", "images of 3 x 4 x 1");
    case_release(&c);
}

static void test_cifar(void)
{
    enum { RECORD = 3073, PIXELS = 1024 };
    struct data_case c;
    static unsigned char bytes[3 * (RECORD + 1)];
    static float x[3 * 3072];
    int32_t y[3];
    case_init(&c);
    for (int i = 0; i < 3 * RECORD; i++) bytes[i] = (unsigned char)(i * 7 + i / 256);
    for (int i = 0; i < 3; i++) bytes[i * RECORD] = (unsigned char)(9 - i);
    put_file(c.folder, "a.bin", bytes, RECORD);
    put_file(c.folder, "b.bin", bytes + RECORD, 2 * RECORD);
    case_files(&c.spec.train_data, RP_FORMAT_CIFAR, "a.bin", "b.bin");
    struct rp_data *data = case_open(&c);
    CHECK_INT(rp_data_shape(data)->n_train, 3);
    CHECK_INT(rp_data_shape(data)->n_classes, 10);
    CHECK_INT(rp_data_shape(data)->dims[2], 3);
    rp_data_fill_eval(data, RP_SPLIT_TRAIN, 0, 3, x, y);
    for (int i = 0; i < 3; i++) CHECK_INT(y[i], 9 - i);
    int wrong = 0;
    for (int i = 0; i < 3; i++)
        for (int p = 0; p < PIXELS; p++)
            for (int ch = 0; ch < 3; ch++)
                wrong += x[(i * PIXELS + p) * 3 + ch] !=
                         (float)bytes[i * RECORD + 1 + ch * PIXELS + p] / 255.0f;
    CHECK_INT(wrong, 0);
    rp_data_free(data);
    /* CIFAR-100 has two label bytes: the second is the fine one. */
    for (int i = 0; i < 3 * (RECORD + 1); i++) bytes[i] = (unsigned char)(i % 20);
    bytes[1] = 99;
    put_file(c.folder, "a.bin", bytes, 3 * (RECORD + 1));
    case_files(&c.spec.train_data, RP_FORMAT_CIFAR, "a.bin", NULL);
    CASE_FAILS(&c, RP_STATUS_DATA, "records of 3073 bytes", "write `classes: 100`");
    c.spec.train_data.cifar_classes = 100;
    data = case_open(&c);
    rp_data_fill_eval(data, RP_SPLIT_TRAIN, 0, 1, x, y);
    CHECK_INT(y[0], 99);
    rp_data_free(data);
    bytes[1] = 100;
    put_file(c.folder, "a.bin", bytes, 3 * (RECORD + 1));
    CASE_FAILS(&c, RP_STATUS_DATA, "record 0 has label 100", "0 to 99");
    put_file(c.folder, "a.bin", bytes, 0);
    CASE_FAILS(&c, RP_STATUS_DATA, "found 0 bytes", "");
    case_release(&c);
}

/* The 10,000 real images, where they lie beside the source tree or in $RP_SHARED_DATA. */
static bool test_mnist(void)
{
    const char *shared = rp_sys_env("RP_SHARED_DATA");
    char *folder = shared ? rp_mem_copy_text(shared) : rp_sys_join(RP_SOURCE_DIR, "../shared/data");
    bool found = there(folder, "mnist-10k-images-idx3-ubyte.gz");
    struct data_case c;
    if (found) {
        /* Known facts of the file: labels begin 7 2 1 0 4, 980 zeros, mean of all bytes. */
        static float x[784];
        int32_t y[5], zeros = 0;
        double sum = 0;
        case_init(&c);
        c.spec.folder = folder;
        case_files(&c.spec.train_data, RP_FORMAT_IDX, "mnist-10k-images-idx3-ubyte.gz",
                   "mnist-10k-labels-idx1-ubyte.gz");
        struct rp_data *data = case_open(&c);
        CHECK_INT(rp_data_shape(data)->n_train, 10000);
        CHECK_INT(rp_data_shape(data)->n_classes, 10);
        for (int64_t i = 0; data && i < 10000; i++) {
            rp_data_fill_eval(data, RP_SPLIT_TRAIN, i, 1, x, y);
            zeros += y[0] == 0;
            for (int j = 0; j < 784; j++) sum += x[j];
        }
        rp_data_fill_eval(data, RP_SPLIT_TRAIN, 0, 1, x, y);
        CHECK_INT(y[0], 7);
        CHECK_INT(zeros, 980);
        CHECK(sum / 7840000 > 0.1325 && sum / 7840000 < 0.1326);
        rp_data_free(data);
        case_release(&c);
    }
    rp_mem_free(folder);
    return found;
}

int main(void)
{
    test_plain_and_gzip();
    test_damaged_headers();
    test_impossible_shapes();
    test_gzip_damage();
    test_hashes();
    test_describe();
    test_cifar();
    if (!test_mnist()) printf("skipped: the MNIST files (set RP_SHARED_DATA to their folder)\n");
    return test_result();
}
