/* support.c - a table op x path: does the op run there, in the first of its cases? */
#include "run.h"

enum { MAX_PATHS = 8 };

static bool runs_on(const struct op_case *item, const char *path)
{
    struct op_case c = *item;
    struct rp_error err = {0};
    struct op_values values;
    struct rp_device *device = device_open(path, 2);
    if (rp_op_shape(&c.call, &err) != RP_STATUS_OK) die("shape", &err);
    values_make(&c, 1, 0, &values);
    bool good = run_case(device, &c, &values, false, values.out);
    values_free(&values);
    device_close(device);
    return good;
}

int mode_support(const struct op_cases *cases)
{
    char text[64];
    const char *path[MAX_PATHS];
    int n = 0, failed = 0;
    snprintf(text, sizeof(text), "%s", device_paths());
    for (char *at = strtok(text, " "); at && n < MAX_PATHS; at = strtok(NULL, " ")) path[n++] = at;
    printf("%-18s", "");
    for (int i = 0; i < n; i++) printf(" %8s", path[i]);
    printf("  in place  sums\n");
    for (int op = 0; op < RP_OP_COUNT; op++) {
        const struct op_case *first = cases->item;
        while (first->call.op != (enum rp_op)op) first++; /* main has seen that there is one */
        printf("%-18s", rp_op_info(op)->name);
        for (int i = 0; i < n; i++) {
            bool good = runs_on(first, path[i]);
            printf(" %8s", good ? "yes" : "FAILED");
            failed += !good;
        }
        printf("  %8s  %4d\n", rp_op_info(op)->in_place ? "yes" : "-", rp_op_info(op)->n_sums);
    }
    return failed != 0;
}
