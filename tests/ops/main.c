/* main.c - rp_test_ops [--module FILE] MODE [NAME]: the op cases in several modes. NAME is part of
 * an op's name. With a module, its device takes the place of the CPU's paths. */
#include "module.h"
#include "ops_test.h"

static const struct rp_device_module *module;

void die(const char *what, const struct rp_error *err)
{
    printf("%s failed: %s\n", what, err->text);
    exit(1);
}

bool case_matches(const struct op_case *c, const char *filter)
{
    return !filter || strstr(rp_op_info(c->call.op)->name, filter);
}

const char *device_paths(void)
{
    return module ? module->extension.name : rp_cpu_paths();
}

bool device_is_cpu(void)
{
    return !module;
}

struct rp_device *device_open(const char *path, int threads)
{
    const struct rp_device_table *table = module ? module->device : &rp_device_cpu;
    struct rp_device_config config = {.threads = threads, .path = path, .poison = true};
    struct rp_device *device = NULL;
    struct rp_error err = {0};
    enum rp_status status = table->open(&config, &device, &err);
    if (status == RP_STATUS_ENVIRONMENT && module) {
        printf("skipped: %s\n", err.text);
        exit(77);
    }
    if (status != RP_STATUS_OK) die(path, &err);
    return device;
}

void device_close(struct rp_device *device)
{
    if (device) device->table->close(device);
}

/* Modules are found by folder. */
static void module_open(char *path)
{
    struct rp_error err = {0};
    const struct rp_extension *extension = NULL;
    char *slash = strrchr(path, '/');
    if (slash) *slash = '\0';
    setenv("REPRISE_MODULES", slash ? path : ".", 1);
    if (rp_extension_open(RP_CUDA_MODULE, "build it", &extension, &err) != RP_STATUS_OK)
        die("module", &err);
    module = (const struct rp_device_module *)extension;
    if (module->abi != rp_module_abi()) {
        printf("the module is of another build\n");
        exit(1);
    }
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

/* "1/2": of the ops every second, from number 1 on; so the slow builds use two processors. */
static void keep_part(struct op_cases *cases, const char *part)
{
    int number, parts, kept = 0;
    if (!part || sscanf(part, "%d/%d", &number, &parts) != 2 || parts < 1) return;
    for (int i = 0; i < cases->n; i++)
        if ((int)cases->item[i].call.op % parts == number) cases->item[kept++] = cases->item[i];
    cases->n = kept;
}

int main(int argc, char **argv)
{
    struct op_cases cases;
    int failed = 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 2 && strcmp(argv[1], "--module") == 0) {
        module_open(argv[2]);
        argv += 2, argc -= 2;
    }
    int replays = getenv("RP_REPLAYS") ? atoi(getenv("RP_REPLAYS")) : 10;
    const char *mode = argc > 1 ? argv[1] : "", *filter = argc > 2 ? argv[2] : NULL;
    cases_make(&cases);
    int missing = check_all_ops_have_cases(&cases);
    keep_part(&cases, getenv("RP_PART"));
    if (missing > 0)
        failed = 1;
    else if (strcmp(mode, "compare") == 0)
        failed = mode_compare(&cases, filter);
    else if (strcmp(mode, "grad") == 0)
        failed = mode_grad(&cases, filter);
    else if (strcmp(mode, "perf") == 0)
        failed = mode_perf(&cases, filter);
    else if (strcmp(mode, "support") == 0)
        failed = mode_support(&cases);
    else if (strcmp(mode, "replay") == 0)
        failed = mode_replay(&cases, filter, replays);
    else if (module && strncmp(mode, "elementary", 10) == 0)
        failed = mode_elementary(module->checks, strcmp(mode, "elementary-all") == 0);
    else
        printf("usage: rp_test_ops [--module FILE] compare|grad|perf|support|replay [part of an "
               "op's name]\n       rp_test_ops --module FILE elementary|elementary-all\n"
               "RP_REPLAYS is how often `replay` runs each case (10), RP_PART (0/2, 1/2) takes "
               "every second op\n");
    cases_free(&cases);
    return failed;
}
