/* data_case.h - a folder of data files and a spec that names them, for the tests of runner/data. */
#ifndef RP_TEST_DATA_CASE_H
#define RP_TEST_DATA_CASE_H

#include "data/data_int.h"
#include "run_folder.h"
#include "test.h"

struct data_case {
    char *folder;
    struct rp_spec spec;
};

static char data_case_text[] = "data: line 1\nline 2\nline 3\nline 4\n";

static inline void case_init(struct data_case *c)
{
    memset(c, 0, sizeof *c);
    c->folder = new_folder();
    c->spec.path = (char *)(uintptr_t) "job.yaml";
    c->spec.folder = c->folder;
    c->spec.bytes = data_case_text;
    c->spec.n_bytes = sizeof data_case_text - 1;
    c->spec.seed = 1234;
}

static inline void case_release(struct data_case *c)
{
    remove_folder(c->folder);
}

/* A data set of up to two files. */
static inline void case_files(struct rp_spec_dataset *dataset, enum rp_format format,
                              const char *first, const char *second)
{
    const char *paths[] = {first, second};
    dataset->format = format;
    dataset->at = (struct rp_spec_place){2, 1};
    dataset->cifar_classes = 10;
    dataset->csv_label = (char *)(uintptr_t) "label";
    dataset->csv_delimiter = ',';
    dataset->npz_x = (char *)(uintptr_t) "x";
    dataset->npz_y = (char *)(uintptr_t) "y";
    dataset->n_files = 0;
    for (int i = 0; i < 2 && paths[i]; i++) {
        dataset->files[i].path = (char *)(uintptr_t)paths[i];
        dataset->files[i].at = (struct rp_spec_place){3 + i, 1};
        dataset->n_files++;
    }
}

static inline void case_normalize(struct data_case *c, int n, const float *mean, const float *std)
{
    struct rp_spec_transform *transform = &c->spec.transform[c->spec.n_transforms++];
    transform->kind = RP_TRANSFORM_NORMALIZE;
    transform->n_channels = n;
    memcpy(transform->mean, mean, sizeof(float) * (size_t)n);
    memcpy(transform->std, std, sizeof(float) * (size_t)n);
}

/* Opens, expecting success. NULL when it fails, which is counted. */
static inline struct rp_data *case_open(struct data_case *c)
{
    struct rp_error err = {0};
    struct rp_data *data = NULL;
    CHECK_OK(rp_data_open(&c->spec, NULL, &data, &err), &err);
    return data;
}

/* Opening fails with `status` and a message that holds both texts; so does describing, unless the
 * fault is one that only a whole reading can find. */
static inline void case_fails(struct data_case *c, int line, enum rp_status status,
                              const char *text, const char *more)
{
    struct rp_error err = {0};
    struct rp_data *data = NULL;
    enum rp_status got = rp_data_open(&c->spec, NULL, &data, &err);
    if (got != status || !strstr(err.text, text) || !strstr(err.text, more)) {
        printf("line %d: status %d, want %d; message\n  %s\nwant `%s` and `%s`\n", line, (int)got,
               (int)status, err.text, text, more);
        test_failures++;
    }
    rp_data_free(data);
}
#define CASE_FAILS(c, status, text, more) case_fails(c, __LINE__, status, text, more)

#endif
