/* test_spec_fuzz.c - tests/fuzz/fuzz_spec.c for a moment: every spec of specs/, damaged a few
 * times. The sanitizer builds are where it counts. */
#define RP_FUZZ_ALONE
#define main fuzz_main
int fuzz_main(int argc, char **argv);
#include "../fuzz/fuzz_spec.c"
#undef main

#include "base/sys.h"
#include "test.h"

static int run_folder(const char *folder, const char *rounds)
{
    struct rp_error *err = RP_NEW(struct rp_error);
    char **names = NULL;
    int n = 0;
    CHECK_OK(rp_sys_list(folder, &names, err), err);
    for (int i = 0; names && names[i]; i++) {
        if (!strstr(names[i], ".yaml")) continue;
        char *path = rp_mem_text("%s/%s", folder, names[i]);
        char *words[] = {"fuzz_spec", "--rounds", (char *)rounds, path, NULL};
        CHECK_INT(fuzz_main(4, words), 0);
        rp_mem_free(path);
        n++;
    }
    rp_sys_free_names(names);
    rp_mem_free(err);
    return n;
}

int main(void)
{
    CHECK(run_folder(RP_SOURCE_DIR "/specs", "100") >= 7);
    CHECK(run_folder(RP_SOURCE_DIR "/specs/good", "100") >= 20);
    CHECK(run_folder(RP_SOURCE_DIR "/specs/bad", "10") >= 60);
    return test_result();
}
