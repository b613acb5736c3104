/* main.c - rp_test_ops MODE [NAME]: the op cases in four modes. NAME is part of an op's name. */
#include "ops_test.h"

void die(const char *what, const struct rp_error *err)
{
    printf("%s failed: %s\n", what, err->text);
    exit(1);
}

bool case_matches(const struct op_case *c, const char *filter)
{
    return !filter || strstr(rp_op_info(c->call.op)->name, filter);
}

struct rp_device *device_open(const char *path, int threads)
{
    struct rp_device_config config = {.threads = threads, .path = path, .poison = true};
    struct rp_device *device = NULL;
    struct rp_error err = {0};
    if (rp_device_cpu.open(&config, &device, &err) != RP_STATUS_OK) die(path, &err);
    return device;
}

void device_close(struct rp_device *device)
{
    rp_device_cpu.close(device);
}

/* An op without a case is an op without a test. */
static int check_all_ops_have_cases(const struct op_cases *cases)
{
    bool seen[RP_OP_COUNT] = {0};
    int missing = 0;
    for (int i = 0; i < cases->n; i++)
        if (!cases->item[i].large) seen[cases->item[i].call.op] = true;
    for (int op = 0; op < RP_OP_COUNT; op++) {
        if (!seen[op]) printf("%s has no case in tests/ops/cases.c\n", rp_op_info(op)->name);
        missing += !seen[op];
    }
    return missing;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "", *filter = argc > 2 ? argv[2] : NULL;
    struct op_cases cases;
    int failed = 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    cases_make(&cases);
    if (check_all_ops_have_cases(&cases) > 0)
        failed = 1;
    else if (strcmp(mode, "compare") == 0)
        failed = mode_compare(&cases, filter);
    else if (strcmp(mode, "grad") == 0)
        failed = mode_grad(&cases, filter);
    else if (strcmp(mode, "perf") == 0)
        failed = mode_perf(&cases, filter);
    else if (strcmp(mode, "support") == 0)
        failed = mode_support(&cases);
    else
        printf("usage: rp_test_ops compare|grad|perf|support [part of an op's name]\n");
    cases_free(&cases);
    return failed;
}
