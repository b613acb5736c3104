/* NumPy arrays, alone and in archives: files that NumPy wrote, every dtype, and what is refused. */
#include "data_case.h"
#include "numpy_files.h"

static void put(struct data_case *c, const char *name, const unsigned char *bytes, size_t length)
{
    put_file(c->folder, name, bytes, length);
}

/* A .npy file of version 1 around `data`. */
static void put_npy(struct data_case *c, const char *name, const char *type, const char *shape,
                    const void *data, size_t length)
{
    unsigned char bytes[1024] = "\x93NUMPY\x01\x00";
    int n = snprintf((char *)bytes + 10, 512,
                     "{'descr': '%s', 'fortran_order': False, 'shape': %s, }\n", type, shape);
    bytes[8] = (unsigned char)n;
    bytes[9] = 0;
    memcpy(bytes + 10 + n, data, length);
    put_file(c->folder, name, bytes, 10 + (size_t)n + length);
}

static void check_x_y(struct data_case *c)
{
    static const int32_t labels[3] = {2, 0, 1};
    float x[6] = {0};
    int32_t y[3] = {0};
    struct rp_data *data = case_open(c);
    if (!data) return;
    CHECK_INT(rp_data_shape(data)->n_dims, 1);
    CHECK_INT(rp_data_shape(data)->dims[0], 2);
    CHECK_INT(rp_data_shape(data)->n_train, 3);
    CHECK_INT(rp_data_shape(data)->n_classes, 3);
    rp_data_fill_eval(data, RP_SPLIT_TRAIN, 0, 3, x, y);
    for (int i = 0; i < 6; i++) CHECK(x[i] == (float)i * 0.3f - 0.5f);
    for (int i = 0; i < 3; i++) CHECK_INT(y[i], labels[i]);
    rp_data_free(data);
}

static void test_numpy_files(struct data_case *c)
{
    case_files(&c->spec.train_data, RP_FORMAT_NPY, "x.npy", "y.npy");
    put(c, "y.npy", numpy_y_i8, sizeof numpy_y_i8);
    put(c, "x.npy", numpy_x_f4, sizeof numpy_x_f4);
    check_x_y(c);
    put(c, "x.npy", numpy_x_f4_v2, sizeof numpy_x_f4_v2);
    check_x_y(c);
    put(c, "x.npy", numpy_x_f4_v3, sizeof numpy_x_f4_v3);
    check_x_y(c);
    put(c, "x.npy", numpy_x_fortran, sizeof numpy_x_fortran);
    CASE_FAILS(c, RP_STATUS_DATA, "Fortran order", "ascontiguousarray");
    put(c, "x.npy", numpy_x_big, sizeof numpy_x_big);
    CASE_FAILS(c, RP_STATUS_DATA, "type '>f4'", "little-endian");
    put(c, "x.npy", numpy_x_f4, sizeof numpy_x_f4 - 1);
    CASE_FAILS(c, RP_STATUS_DATA, "promises 152 bytes", "has 151");
    put(c, "x.npy", numpy_y_i8, 9);
    CASE_FAILS(c, RP_STATUS_DATA, "NumPy header", "found 9");
    put(c, "x.npy", (const unsigned char *)"not an array at all", 19);
    CASE_FAILS(c, RP_STATUS_DATA, "expected a NumPy array", "6e 6f 74 20");
}

static void test_u1_is_scaled(struct data_case *c)
{
    float x[24];
    int32_t y[3];
    case_files(&c->spec.train_data, RP_FORMAT_NPY, "x.npy", "y.npy");
    put(c, "x.npy", numpy_x_u1, sizeof numpy_x_u1);
    struct rp_data *data = case_open(c);
    if (!data) return;
    CHECK_INT(rp_data_shape(data)->n_dims, 3);
    CHECK_INT(rp_data_shape(data)->dims[0], 2);
    CHECK_INT(rp_data_shape(data)->dims[1], 4);
    CHECK_INT(rp_data_shape(data)->dims[2], 1);
    rp_data_fill_eval(data, RP_SPLIT_TRAIN, 0, 3, x, y);
    for (int i = 0; i < 24; i++) CHECK(x[i] == (float)(i * 10) / 255.0f);
    rp_data_free(data);
}

static void test_types(struct data_case *c)
{
    static const signed char i1[3] = {-1, 0, 100};
    static const int16_t i2[3] = {-1, 0, 100};
    static const int32_t i4[3] = {-1, 0, 100};
    static const int64_t i8[3] = {-1, 0, 100};
    static const double f8[3] = {-1, 0, 100};
    static const struct {
        const char *type;
        const void *data;
        size_t bytes;
    } cases[] = {{"|i1", i1, 1}, {"<i2", i2, 2}, {"<i4", i4, 4}, {"<i8", i8, 8}, {"<f8", f8, 8}};
    case_files(&c->spec.train_data, RP_FORMAT_NPY, "x.npy", "y.npy");
    for (size_t k = 0; k < RP_COUNT(cases); k++) {
        float x[3];
        int32_t y[3];
        put_npy(c, "x.npy", cases[k].type, "(3,)", cases[k].data, 3 * cases[k].bytes);
        struct rp_data *data = case_open(c);
        if (!data) continue;
        rp_data_fill_eval(data, RP_SPLIT_TRAIN, 0, 3, x, y);
        CHECK(x[0] == -1 && x[1] == 0 && x[2] == 100);
        rp_data_free(data);
    }
    put_npy(c, "x.npy", "<u2", "(3,)", i2, 6);
    CASE_FAILS(c, RP_STATUS_DATA, "type '<u2'", "i8, f4 or f8");
}

static void test_targets(struct data_case *c)
{
    static const float values[6] = {1, 2, 3, 4, 5, 6};
    static const double endless[3] = {1, 1e300, 2};
    static const int64_t negative[3] = {0, -4, 1};
    float x[6], y[6];
    case_files(&c->spec.train_data, RP_FORMAT_NPY, "x.npy", "y.npy");
    put(c, "x.npy", numpy_x_f4, sizeof numpy_x_f4);
    put_npy(c, "y.npy", "<f4", "(3, 2)", values, sizeof values);
    CASE_FAILS(c, RP_STATUS_DATA, "expected targets of shape (3)", "target: classes");
    c->spec.train_data.target = RP_TARGET_VALUES;
    struct rp_data *data = case_open(c);
    CHECK_INT(rp_data_shape(data)->n_values, 2);
    CHECK_INT(rp_data_shape(data)->n_classes, 0);
    rp_data_fill_eval(data, RP_SPLIT_TRAIN, 0, 3, x, y);
    CHECK(memcmp(y, values, sizeof values) == 0);
    rp_data_fill_train(data, 0, 3, x, y);
    CHECK(y[1] == y[0] + 1);
    rp_data_free(data);
    put_npy(c, "y.npy", "<f8", "(3,)", endless, sizeof endless);
    CASE_FAILS(c, RP_STATUS_DATA, "sample 1, element 0", "not a finite number");
    c->spec.train_data.target = RP_TARGET_CLASSES;
    CASE_FAILS(c, RP_STATUS_DATA, "whole numbers", "target: values");
    put_npy(c, "y.npy", "<i8", "(3,)", negative, sizeof negative);
    CASE_FAILS(c, RP_STATUS_DATA, "label -4 of sample 1", "expected 0 to");
    put_npy(c, "y.npy", "<i8", "(2,)", negative, 16);
    CASE_FAILS(c, RP_STATUS_DATA, "2 targets, but x has 3 samples", "");
    put_npy(c, "x.npy", "<f4", "(1048576, 1048576)", values, sizeof values);
    CASE_FAILS(c, RP_STATUS_DATA, "promises 4398046511", "");
    put_npy(c, "x.npy", "<f4", "(99999999999999999999, 2)", values, sizeof values);
    CASE_FAILS(c, RP_STATUS_DATA, "dimension 1", "");
    put_npy(c, "x.npy", "<f4", "(1, 1, 1, 2, 3)", values, sizeof values);
    CASE_FAILS(c, RP_STATUS_DATA, "1 to 4 dimensions", "more");
    put_npy(c, "x.npy", "<f4", "(3, 2", values, sizeof values);
    CASE_FAILS(c, RP_STATUS_DATA, "cannot read its NumPy header", "(3, 2");
}

static void test_archives(struct data_case *c)
{
    static unsigned char bytes[sizeof numpy_npz + sizeof numpy_npz_compressed];
    case_files(&c->spec.train_data, RP_FORMAT_NPZ, "a.npz", NULL);
    put(c, "a.npz", numpy_npz, sizeof numpy_npz);
    check_x_y(c);
    put(c, "a.npz", numpy_npz_compressed, sizeof numpy_npz_compressed);
    check_x_y(c);
    c->spec.train_data.npz_y = (char *)(uintptr_t) "target";
    CASE_FAILS(c, RP_STATUS_DATA, "no array `target`", "it has: x, y, other");
    c->spec.train_data.npz_y = (char *)(uintptr_t) "y";
    for (size_t cut = 0; cut < sizeof numpy_npz_compressed; cut += 7) {
        put(c, "a.npz", numpy_npz_compressed, cut);
        CASE_FAILS(c, RP_STATUS_DATA, "a.npz", "");
    }
    /* Flipped bits are noticed or change nothing that is read (times, names of other members). */
    for (size_t bit = 0; bit < 8 * sizeof numpy_npz_compressed; bit++) {
        struct rp_error err = {0};
        struct rp_data *data = NULL;
        memcpy(bytes, numpy_npz_compressed, sizeof numpy_npz_compressed);
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        put(c, "a.npz", bytes, sizeof numpy_npz_compressed);
        enum rp_status status = rp_data_open(&c->spec, NULL, &data, &err);
        if (status == RP_STATUS_OK) {
            float x[6] = {0};
            int32_t y[3] = {9, 9, 9};
            rp_data_fill_eval(data, RP_SPLIT_TRAIN, 0, 3, x, y);
            CHECK(x[0] == -0.5f && x[5] == 5 * 0.3f - 0.5f && y[0] == 2 && y[1] == 0 && y[2] == 1);
        } else {
            CHECK_INT(status, RP_STATUS_DATA);
        }
        rp_data_free(data);
    }
}

int main(void)
{
    struct data_case c;
    case_init(&c);
    test_numpy_files(&c);
    test_u1_is_scaled(&c);
    test_types(&c);
    test_targets(&c);
    test_archives(&c);
    case_release(&c);
    return test_result();
}
