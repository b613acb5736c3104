/* manifest.json: whole or not at all, and written only by the newest segment. */
#include "test.h"

#include "record/record_int.h"
#include "run_folder.h"

#include <jansson.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_round_trip(void)
{
    char *run = new_folder();
    struct rp_manifest manifest;
    struct rp_error err = {0};
    bool found = true;
    CHECK_OK(rp_manifest_read(run, &found, &manifest, &err), &err);
    CHECK(!found);
    rp_manifest_begin(run, &manifest);
    json_object_set_new(manifest.root, "name", json_string("mnist"));
    json_object_set_new(manifest.root, "status", json_string("running"));
    CHECK_STATUS(rp_manifest_write(&manifest, &err), RP_STATUS_INTERNAL, &err); /* no segment yet */
    rp_manifest_add_segment(&manifest, json_pack("{s:i, s:[]}", "step_first", 0, "drift"));
    CHECK_INT(manifest.segment, 0);
    CHECK_OK(rp_manifest_write(&manifest, &err), &err);
    CHECK_TEXT(rp_manifest_status(&manifest, run), "lost"); /* it says running, nobody holds it */
    struct rp_hold *hold = NULL;
    CHECK_OK(rp_hold_take(run, &hold, &err), &err);
    CHECK_TEXT(rp_manifest_status(&manifest, run), "running");
    rp_hold_release(hold);
    rp_manifest_end_segment(&manifest, "signal", 77);
    json_object_set_new(manifest.root, "status", json_string("stopped"));
    CHECK_OK(rp_manifest_write(&manifest, &err), &err);
    rp_manifest_release(&manifest);

    CHECK_OK(rp_manifest_read(run, &found, &manifest, &err), &err);
    CHECK(found);
    CHECK_TEXT(rp_manifest_status(&manifest, run), "stopped");
    const json_t *segment = json_array_get(json_object_get(manifest.root, "segments"), 0);
    CHECK_INT(json_integer_value(json_object_get(segment, "step_last")), 77);
    CHECK_INT(json_integer_value(json_object_get(segment, "pid")), getpid());
    CHECK_TEXT(json_string_value(json_object_get(segment, "why")), "signal");
    CHECK(json_real_value(json_object_get(segment, "stop")) >=
          json_real_value(json_object_get(segment, "start")));
    CHECK_STATUS(rp_manifest_write(&manifest, &err), RP_STATUS_INTERNAL, &err); /* reading only */
    rp_manifest_release(&manifest);
    remove_folder(run);
}

/* Two processes believe that they have the folder; the one that started first finds out. */
static void test_newest_wins(void)
{
    char *run = new_folder();
    struct rp_manifest first, second, third;
    struct rp_error err = {0};
    bool found;
    rp_manifest_begin(run, &first);
    rp_manifest_add_segment(&first, NULL);
    CHECK_OK(rp_manifest_write(&first, &err), &err);
    CHECK_OK(rp_manifest_check(&first, &err), &err);

    CHECK_OK(rp_manifest_read(run, &found, &second, &err), &err);
    rp_manifest_add_segment(&second, NULL);
    CHECK_INT(second.segment, 1);
    CHECK_OK(rp_manifest_check(&first, &err), &err); /* control: not written yet, nothing to see */
    CHECK_OK(rp_manifest_write(&second, &err), &err);

    size_t length = 0;
    char *before = get_file(run, "manifest.json", &length);
    CHECK_INT(rp_manifest_check(&first, &err), RP_STATUS_BUSY);
    CHECK(strstr(err.text, "took this run over"));
    rp_error_clear(&err);
    json_object_set_new(first.root, "status", json_string("finished"));
    CHECK_STATUS(rp_manifest_write(&first, &err), RP_STATUS_BUSY, &err);
    char *after = get_file(run, "manifest.json", &length);
    CHECK_TEXT(after, before);

    /* Two newcomers with the same number: the id tells them apart. */
    CHECK_OK(rp_manifest_read(run, &found, &third, &err), &err);
    json_array_remove(json_object_get(third.root, "segments"), 1);
    rp_manifest_add_segment(&third, NULL);
    CHECK_INT(third.segment, 1);
    CHECK_STATUS(rp_manifest_write(&third, &err), RP_STATUS_BUSY, &err);
    CHECK_OK(rp_manifest_write(&second, &err), &err);
    rp_mem_free(after);
    rp_mem_free(before);
    rp_manifest_release(&third);
    rp_manifest_release(&second);
    rp_manifest_release(&first);
    remove_folder(run);
}

static void test_damaged(void)
{
    static const struct {
        const char *text;
        enum rp_status status;
    } cases[] = {{"", RP_STATUS_DATA},
                 {"{\"format\": 1", RP_STATUS_DATA},
                 {"[1]", RP_STATUS_DATA},
                 {"{\"format\": 2}", RP_STATUS_USAGE},
                 {"{\"format\": 1, \"format\": 1}", RP_STATUS_DATA},
                 {"{\"format\": 1}", RP_STATUS_OK}};
    char *run = new_folder();
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        struct rp_manifest manifest;
        struct rp_error err = {0};
        bool found = false;
        put_text(run, "manifest.json", cases[i].text);
        CHECK_STATUS(rp_manifest_read(run, &found, &manifest, &err), cases[i].status, &err);
        CHECK_INT(found, cases[i].status == RP_STATUS_OK);
        rp_manifest_release(&manifest);
        rp_manifest_release(&manifest);
    }
    remove_folder(run);
}

/* A writer killed at any instant leaves a manifest that reads. */
static void test_kill(void)
{
    char *run = new_folder();
    struct rp_manifest manifest;
    struct rp_error err = {0};
    bool found = false;
    int64_t most = 0;
    rp_manifest_begin(run, &manifest);
    rp_manifest_add_segment(&manifest, NULL);
    CHECK_OK(rp_manifest_write(&manifest, &err), &err);
    for (int round = 0; round < 8 || (most < 1 && round < 100); round++) {
        pid_t child = fork();
        if (child == 0) {
            for (int i = 1;; i++) {
                json_object_set_new(manifest.root, "step", json_integer(i));
                json_object_set_new(manifest.root, "filler", json_stringn("", 0));
                if (rp_manifest_write(&manifest, &err) != RP_STATUS_OK) _exit(1);
            }
        }
        rp_sys_sleep(0.02 + 0.013 * round);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        struct rp_manifest again;
        CHECK_OK(rp_manifest_read(run, &found, &again, &err), &err);
        CHECK(found);
        int64_t step = json_integer_value(json_object_get(again.root, "step"));
        if (step > most) most = step;
        rp_manifest_release(&again);
    }
    CHECK(most >= 1); /* control: the child did write */
    rp_manifest_release(&manifest);
    remove_folder(run);
}

int main(void)
{
    test_round_trip();
    test_newest_wins();
    test_damaged();
    test_kill();
    return test_result();
}
