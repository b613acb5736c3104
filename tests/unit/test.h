/* test.h - assertions that print both values. A test program is a main that calls its tests in turn
 * and returns test_result(); exit 77 (test_skip) says that what it needs is absent. */
#ifndef RP_TEST_H
#define RP_TEST_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int test_failures;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                         \
            test_failures++;                                                                       \
        }                                                                                          \
    } while (0)
#define CHECK_INT(got, want)                                                                       \
    do {                                                                                           \
        long long got_ = (long long)(got), want_ = (long long)(want);                              \
        if (got_ != want_) {                                                                       \
            printf("%s:%d: %s is %lld, want %lld\n", __FILE__, __LINE__, #got, got_, want_);       \
            test_failures++;                                                                       \
        }                                                                                          \
    } while (0)
#define CHECK_HEX(got, want)                                                                       \
    do {                                                                                           \
        unsigned long long got_ = (unsigned long long)(got), want_ = (unsigned long long)(want);   \
        if (got_ != want_) {                                                                       \
            printf("%s:%d: %s is %llx, want %llx\n", __FILE__, __LINE__, #got, got_, want_);       \
            test_failures++;                                                                       \
        }                                                                                          \
    } while (0)
#define CHECK_TEXT(got, want)                                                                      \
    do {                                                                                           \
        const char *got_ = (got), *want_ = (want);                                                 \
        if (strcmp(got_, want_) != 0) {                                                            \
            printf("%s:%d: %s is\n%s\nwant\n%s\n", __FILE__, __LINE__, #got, got_, want_);         \
            test_failures++;                                                                       \
        }                                                                                          \
    } while (0)
#define CHECK_OK(call, err)                                                                        \
    do {                                                                                           \
        enum rp_status status_ = (call);                                                           \
        if (status_ != RP_STATUS_OK) {                                                             \
            printf("%s:%d: %s gave %d: %s\n", __FILE__, __LINE__, #call, (int)status_,             \
                   (err)->text);                                                                   \
            test_failures++;                                                                       \
        }                                                                                          \
    } while (0)
#define CHECK_STATUS(call, want, err)                                                              \
    do {                                                                                           \
        enum rp_status status_ = (call);                                                           \
        if (status_ != (want)) {                                                                   \
            printf("%s:%d: %s gave %d, want %d: %s\n", __FILE__, __LINE__, #call, (int)status_,    \
                   (int)(want), (err)->text);                                                      \
            test_failures++;                                                                       \
        }                                                                                          \
        rp_error_clear(err);                                                                       \
    } while (0)

static inline int test_result(void)
{
    if (test_failures) printf("%d failures\n", test_failures);
    return test_failures ? 1 : 0;
}

static inline int test_skip(const char *why)
{
    printf("skipped: %s\n", why);
    return 77;
}

#endif
