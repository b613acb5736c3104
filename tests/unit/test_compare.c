/* Distances between floats, and the first element that differs between two checkpoints. */
#include "test.h"

#include "cli/compare_int.h"
#include "run_folder.h"

#include <float.h>
#include <math.h>

static void test_ulps(void)
{
    CHECK_INT(rp_compare_ulps(1.0f, 1.0f), 0);
    CHECK_INT(rp_compare_ulps(1.0f, nextafterf(1.0f, 2.0f)), 1);
    CHECK_INT(rp_compare_ulps(nextafterf(1.0f, 0.0f), nextafterf(1.0f, 2.0f)), 2);
    CHECK_INT(rp_compare_ulps(-1.0f, nextafterf(-1.0f, 0.0f)), 1);
    CHECK_INT(rp_compare_ulps(0.0f, -0.0f), 1);
    CHECK_INT(rp_compare_ulps(0.0f, 1e-45f), 1);
    CHECK_INT(rp_compare_ulps(-1e-45f, 1e-45f), 3);
    CHECK_INT(rp_compare_ulps(FLT_MAX, HUGE_VALF), 1);
    CHECK_INT(rp_compare_ulps(1.0f, 2.0f), 1 << 23);
    CHECK_HEX(rp_compare_ulps(NAN, 1.0f), UINT64_MAX);
    CHECK_INT(rp_compare_ulps(NAN, NAN), 0);
    CHECK_HEX(rp_compare_ulps(-HUGE_VALF, HUGE_VALF), 0xff000001u);
}

static void save(const char *run, uint64_t step, const float *weight, const float *moment)
{
    struct rp_error err = {0};
    struct rp_st_tensor tensors[] = {
        {.name = "w",
         .shape = {.data = (void *)weight, .dtype = RP_DTYPE_F32, .n_dims = 2, .dims = {2, 3}}},
        {.name = "m",
         .shape = {.data = (void *)moment, .dtype = RP_DTYPE_F32, .n_dims = 1, .dims = {6}}}};
    struct rp_checkpoint_content content = {.state = {.step = step},
                                            .model = tensors,
                                            .n_model = 1,
                                            .optimizer = tensors + 1,
                                            .n_optimizer = 1};
    CHECK_OK(rp_checkpoint_save(run, &content, NULL, &err), &err);
}

static void test_checkpoints(void)
{
    char *folder = new_folder(), *a = rp_sys_join(folder, "a"), *b = rp_sys_join(folder, "b");
    const float w[6] = {0, 1, 2, 3, 4, 5};
    float other[6] = {0, 1, 2, 3, 4, 5};
    struct rp_compare_element element;
    struct rp_error err = {0};
    save(a, 10, w, w);
    save(a, 20, w, w);
    save(b, 15, w, w);
    CHECK_OK(rp_compare_checkpoints(a, b, 0, &element, &err), &err);
    CHECK(!element.has_checkpoint);
    save(b, 20, w, w);
    CHECK_OK(rp_compare_checkpoints(a, b, 5, &element, &err), &err);
    CHECK(element.has_checkpoint && !element.found && element.step == 20);
    CHECK_OK(rp_compare_checkpoints(a, b, 21, &element, &err), &err);
    CHECK(!element.has_checkpoint);
    other[4] = nextafterf(4.0f, 5.0f);
    other[5] = 6;
    save(b, 20, w, other); /* the optimizer's state only */
    CHECK_OK(rp_compare_checkpoints(a, b, 0, &element, &err), &err);
    CHECK(element.found && element.n_tensors == 1);
    CHECK_TEXT(element.file, "optimizer");
    save(b, 20, other, other);
    CHECK_OK(rp_compare_checkpoints(a, b, 0, &element, &err), &err);
    CHECK_TEXT(element.tensor, "w");
    CHECK_TEXT(element.file, "model");
    CHECK_INT(element.n_dims, 2);
    CHECK_INT(element.index[0], 1);
    CHECK_INT(element.index[1], 1);
    CHECK(element.a == 4.0f && element.b == other[4]);
    CHECK_INT(element.ulps, 1);
    CHECK_INT(element.n_differ, 2);
    CHECK_INT(element.n_elements, 6);
    CHECK_INT(element.n_tensors, 2);
    rp_mem_free(b);
    rp_mem_free(a);
    remove_folder(folder);
}

int main(void)
{
    test_ulps();
    test_checkpoints();
    return test_result();
}
