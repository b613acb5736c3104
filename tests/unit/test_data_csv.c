/* CSV tables: cells by RFC 4180, numbers to the bit, classes in bytewise order, and what is
 * refused. */
#include "base/number.h"
#include "data_case.h"

#include <locale.h>

static void put_csv(struct data_case *c, const char *text)
{
    put_text(c->folder, "a.csv", text);
    case_files(&c->spec.train_data, RP_FORMAT_CSV, "a.csv", NULL);
}

static void test_words(struct data_case *c)
{
    static const char *const names[4] = {"B", "a", "a,b \"x\"\nz", "ab"};
    static const int32_t want[5] = {3, 1, 0, 2, 1};
    float x[10];
    int32_t y[5];
    put_csv(c, "\xef\xbb\xbf"
               "u, label ,\"v\"\r\n"
               "1,ab,2\r\n"
               " 3 ,a,\"4\"\r\n"
               "\r\n"
               "5e-1,B,-0.25\r\n"
               "7,\"a,b \"\"x\"\"\nz\",8\r\n"
               "9,a,10");
    struct rp_data *data = case_open(c);
    if (!data) return;
    const char *const *found = rp_data_class_names(data);
    CHECK_INT(rp_data_shape(data)->n_classes, 4);
    CHECK_INT(rp_data_shape(data)->n_train, 5);
    CHECK_INT(rp_data_shape(data)->dims[0], 2);
    for (int i = 0; i < 4; i++) CHECK_TEXT(found[i], names[i]);
    rp_data_fill_eval(data, RP_SPLIT_TRAIN, 0, 5, x, y);
    for (int i = 0; i < 5; i++) CHECK_INT(y[i], want[i]);
    CHECK(x[0] == 1 && x[1] == 2 && x[2] == 3 && x[3] == 4 && x[4] == 0.5f && x[5] == -0.25f);
    CHECK(x[8] == 9 && x[9] == 10);
    rp_data_free(data);
}

/* A second set takes the numbers of the first one's classes, and must not bring new ones. */
static void test_second_set(struct data_case *c)
{
    int32_t y[2];
    float x[2];
    put_csv(c, "u,label\n1,b\n2,a\n3,c\n");
    put_text(c->folder, "b.csv", "u,label\n5,c\n6,b\n");
    case_files(&c->spec.valid_data, RP_FORMAT_CSV, "b.csv", NULL);
    struct rp_data *data = case_open(c);
    CHECK_INT(rp_data_shape(data)->n_valid, 2);
    rp_data_fill_eval(data, RP_SPLIT_VALID, 0, 2, x, y);
    CHECK_INT(y[0], 2);
    CHECK_INT(y[1], 1);
    rp_data_free(data);
    put_text(c->folder, "b.csv", "u,label\n5,c\n6,d\n");
    CASE_FAILS(c, RP_STATUS_DATA, "line 3: the label `d`", "data.train");
    put_text(c->folder, "b.csv", "u,w,label\n5,1,c\n");
    CASE_FAILS(c, RP_STATUS_DATA, "data.valid has rows of 2 numbers", "rows of 1 numbers");
    c->spec.valid_data.format = RP_FORMAT_NONE;
}

static void test_values_and_delimiter(struct data_case *c)
{
    float x[4], y[2];
    put_csv(c, "label;u;v\n1.5;2;3\n-2;4;5\n");
    c->spec.train_data.csv_delimiter = ';';
    c->spec.train_data.target = RP_TARGET_VALUES;
    struct rp_data *data = case_open(c);
    if (data) {
        CHECK_INT(rp_data_shape(data)->n_values, 1);
        rp_data_fill_eval(data, RP_SPLIT_TRAIN, 0, 2, x, y);
        CHECK(y[0] == 1.5f && y[1] == -2 && x[0] == 2 && x[3] == 5);
        CHECK(rp_data_class_names(data) == NULL);
    }
    rp_data_free(data);
    c->spec.train_data.csv_delimiter = ',';
    CASE_FAILS(c, RP_STATUS_DATA, "no column `label`", "`label;u;v`");
    c->spec.train_data.target = RP_TARGET_CLASSES;
}

static void test_refused(struct data_case *c)
{
    put_csv(c, "u,v,label\n1,2,a\n1,,b\n,2,c\n1,2,\n1,2,a\n,,\n,2,a\n");
    CASE_FAILS(c, RP_STATUS_DATA, "7 empty cells, in lines 3, 4, 5, 7, 7, ...", "job.yaml:3");
    put_csv(c, "u,v,label\n1,2,a\n1,n/a,b\n");
    CASE_FAILS(c, RP_STATUS_DATA, "line 3, column `v`: `n/a` is no number", "");
    put_csv(c, "u,v,label\n1,2,a\n1,2,b,c\n");
    CASE_FAILS(c, RP_STATUS_DATA, "line 3: expected 3 cells", "found 4");
    put_csv(c, "u,v,label\n1,2\n");
    CASE_FAILS(c, RP_STATUS_DATA, "line 2: expected 3 cells", "found 2");
    put_csv(c, "u,v,label\n1,\"2,a\n1,2,b\n");
    CASE_FAILS(c, RP_STATUS_DATA, "line 2: a quoted cell without", "");
    put_csv(c, "u,v,label\n1,\"2\"x,a\n");
    CASE_FAILS(c, RP_STATUS_DATA, "line 2: text behind the closing quote", "");
    put_csv(c, "u,v,label\n");
    CASE_FAILS(c, RP_STATUS_DATA, "no lines below its first", "");
    put_csv(c, "");
    CASE_FAILS(c, RP_STATUS_DATA, "line 1: no text", "");
    put_csv(c, "1,2,3\n4,5,6\n");
    CASE_FAILS(c, RP_STATUS_DATA, "no column `label`", "`1`, `2`, `3`");
    put_csv(c, "label,u,label\n4,5,6\n");
    CASE_FAILS(c, RP_STATUS_DATA, "more than one column `label`", "");
    put_csv(c, "label\n4\n");
    CASE_FAILS(c, RP_STATUS_DATA, "only the column `label`", "");
    put_csv(c, "u,label\n1e39,a\n");
    CASE_FAILS(c, RP_STATUS_DATA, "`1e39` is no number", "");
    put_file(c->folder, "a.csv", "u\0,\0l\0", 6);
    CASE_FAILS(c, RP_STATUS_DATA, "zero bytes", "UTF-8");
}

static void test_describe(struct data_case *c)
{
    struct rp_error err = {0};
    struct rp_data_shape shape;
    put_csv(c, "u,v,label\n1,2,a\n3,4,b\n5,6,b\n");
    c->spec.valid_fraction = 0.34;
    CHECK_OK(rp_data_describe(&c->spec, false, &shape, &err), &err);
    CHECK_INT(shape.dims[0], 2);
    CHECK_INT(shape.n_classes, -1);
    CHECK_INT(shape.n_train, -1);
    CHECK_INT(shape.n_valid, -1);
    CHECK_OK(rp_data_describe(&c->spec, true, &shape, &err), &err);
    CHECK_INT(shape.n_classes, 2);
    CHECK_INT(shape.n_train, 2);
    CHECK_INT(shape.n_valid, 1);
    c->spec.valid_fraction = 0;
}

/* Every number rounds once: the C library in the C locale is the judge, for short and long texts.
 */
static void test_numbers(void)
{
    static const char *const good[] = {"0",
                                       "-0",
                                       "1",
                                       "+1.5",
                                       ".5",
                                       "5.",
                                       "1e5",
                                       "1E-5",
                                       "0.1",
                                       "16777217",
                                       "3.4028235e38",
                                       "1e-45",
                                       "1e-46",
                                       "123456789",
                                       "0.000000000000000000000000000001e35",
                                       "1.00000005960464477539062",
                                       "1.00000005960464477539063",
                                       "7.038531e-26",
                                       "8388609.499999999999"};
    static const char *const bad[] = {"",    "-",   ".",  "e5", "1e",    "1e+", "0x10", "inf",
                                      "nan", "1,5", "1 ", " 1", "1.2.3", "--1", "1e39", "1_000"};
    for (size_t i = 0; i < RP_COUNT(good); i++) {
        float value = 99, want = strtof(good[i], NULL);
        CHECK(rp_number_parse_float(good[i], strlen(good[i]), &value));
        if (memcmp(&value, &want, sizeof want) != 0)
            printf("%s: got %a, want %a\n", good[i], (double)value, (double)want);
        CHECK(memcmp(&value, &want, sizeof want) == 0);
    }
    for (size_t i = 0; i < RP_COUNT(bad); i++) {
        float value;
        CHECK(!rp_number_parse_float(bad[i], strlen(bad[i]), &value));
    }
    /* All decimals of up to five digits, every exponent that the short way takes and some more. */
    int wrong = 0;
    for (int digits = 0; digits < 100000; digits += 7) {
        char text[32];
        float value, want;
        snprintf(text, sizeof text, "%d.%03de%d", digits / 1000, digits % 1000, digits % 27 - 13);
        want = strtof(text, NULL);
        wrong += !rp_number_parse_float(text, strlen(text), &value) || value != want;
    }
    CHECK_INT(wrong, 0);
}

int main(void)
{
    struct data_case c;
    case_init(&c);
    test_numbers();
    test_words(&c);
    test_second_set(&c);
    test_values_and_delimiter(&c);
    test_refused(&c);
    test_describe(&c);
    /* A locale with a decimal comma, where one is installed, changes nothing. */
    if (setlocale(LC_ALL, "de_DE.UTF-8") || setlocale(LC_ALL, "fr_FR.UTF-8")) test_words(&c);
    case_release(&c);
    return test_result();
}
