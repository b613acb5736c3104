/* compare_tensors.c - the first element that differs between checkpoints of two runs at the same
 * step. */
#include "cli/compare_int.h"

#include "train/train.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The bits of a float as a whole number that grows with the float. */
static int64_t ordered(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits >> 31 ? -1 - (int64_t)(bits & 0x7fffffff) : (int64_t)bits;
}

uint64_t rp_compare_ulps(float a, float b)
{
    if (memcmp(&a, &b, sizeof a) == 0) return 0;
    if (isnan(a) || isnan(b)) return UINT64_MAX;
    int64_t distance = ordered(a) - ordered(b);
    return (uint64_t)(distance < 0 ? -distance : distance);
}

static bool same_shape(const struct rp_tensor *a, const struct rp_tensor *b)
{
    return a->n_dims == b->n_dims &&
           memcmp(a->dims, b->dims, (size_t)a->n_dims * sizeof a->dims[0]) == 0;
}

static void note_element(struct rp_compare_element *element, const struct rp_st_tensor *a,
                         const struct rp_st_tensor *b, const char *file, int64_t at)
{
    element->found = true;
    element->file = file;
    snprintf(element->tensor, sizeof element->tensor, "%s", a->name);
    element->n_dims = a->shape.n_dims;
    int64_t rest = at;
    for (int d = a->shape.n_dims - 1; d >= 0; d--) {
        element->index[d] = rest % a->shape.dims[d];
        rest /= a->shape.dims[d];
    }
    element->a = ((const float *)a->shape.data)[at];
    element->b = ((const float *)b->shape.data)[at];
    element->ulps = rp_compare_ulps(element->a, element->b);
    element->n_elements = rp_tensor_elements(&a->shape);
}

static void compare_tensor(struct rp_compare_element *element, const struct rp_st_tensor *a,
                           const struct rp_st_tensor *b, const char *file)
{
    const float *x = a->shape.data, *y = b->shape.data;
    bool first = !element->found;
    if (memcmp(x, y, rp_tensor_bytes(&a->shape)) == 0) return;
    element->n_tensors++;
    if (!first) return;
    for (int64_t i = 0; i < rp_tensor_elements(&a->shape); i++) {
        if (memcmp(&x[i], &y[i], sizeof x[i]) == 0) continue;
        if (!element->found) note_element(element, a, b, file, i);
        element->n_differ++;
    }
}

static void note_only(struct rp_compare_element *element, const char *side, const char *name)
{
    if (!element->only[0])
        snprintf(element->only, sizeof element->only,
                 "%s has a tensor %.100s that the other has not", side, name);
}

static void compare_files(struct rp_compare_element *element, const struct rp_st_file *a,
                          const struct rp_st_file *b, const char *file)
{
    for (int i = 0; i < a->n; i++) {
        const struct rp_st_tensor *other = rp_st_find(b, a->tensor[i].name);
        if (!other)
            note_only(element, "A", a->tensor[i].name);
        else if (same_shape(&a->tensor[i].shape, &other->shape))
            compare_tensor(element, &a->tensor[i], other, file);
        else if (!element->only[0])
            snprintf(element->only, sizeof element->only, "tensor %.100s has another shape",
                     other->name);
    }
    for (int i = 0; i < b->n; i++)
        if (!rp_st_find(a, b->tensor[i].name)) note_only(element, "B", b->tensor[i].name);
}

/* The earliest step that both kept at or after `from`, or UINT64_MAX. */
static enum rp_status find_common(const char *a, const char *b, uint64_t from, uint64_t *step,
                                  struct rp_error *err)
{
    uint64_t *x = NULL, *y = NULL;
    int nx = 0, ny = 0;
    *step = UINT64_MAX;
    enum rp_status status = rp_checkpoint_list(a, &x, &nx, err);
    if (status == RP_STATUS_OK) status = rp_checkpoint_list(b, &y, &ny, err);
    for (int i = 0; i < nx && *step == UINT64_MAX; i++)
        for (int k = 0; k < ny; k++)
            if (x[i] == y[k] && x[i] >= from) *step = x[i];
    rp_mem_free(y);
    rp_mem_free(x);
    return status;
}

static void compare_states(struct rp_compare_element *element, const struct rp_checkpoint *a,
                           const struct rp_checkpoint *b)
{
    element->has_checkpoint = true;
    compare_files(element, &a->model, &b->model, "model");
    compare_files(element, &a->optimizer, &b->optimizer, "optimizer");
}

static enum rp_status recompute(const struct rp_compare_side *side, uint64_t step,
                                struct rp_checkpoint *state, struct rp_error *err)
{
    struct rp_spec *spec = NULL;
    enum rp_status status = rp_train_load_spec(side->run, &side->manifest, NULL, NULL, &spec, err);
    if (status == RP_STATUS_OK) status = rp_train_recompute(spec, side->run, step, state, err);
    rp_spec_free(spec);
    return status;
}

enum rp_status rp_compare_replayed(const struct rp_compare_side *a, const struct rp_compare_side *b,
                                   uint64_t step, struct rp_compare_element *element,
                                   struct rp_error *err)
{
    struct rp_checkpoint x = {0}, y = {0};
    *element = (struct rp_compare_element){.step = step, .replayed = true};
    enum rp_status status = recompute(a, step, &x, err);
    if (status == RP_STATUS_OK) status = recompute(b, step, &y, err);
    if (status == RP_STATUS_OK) compare_states(element, &x, &y);
    rp_checkpoint_release(&y);
    rp_checkpoint_release(&x);
    return status;
}

enum rp_status rp_compare_checkpoints(const char *a, const char *b, uint64_t step,
                                      struct rp_compare_element *element, struct rp_error *err)
{
    struct rp_checkpoint x = {0}, y = {0};
    bool found = false;
    enum rp_status status = RP_STATUS_OK;
    *element = (struct rp_compare_element){0};
    RP_TRY_GOTO(status, find_common(a, b, step, &element->step, err), out);
    if (element->step == UINT64_MAX) goto out;
    RP_TRY_GOTO(status, rp_checkpoint_load(a, element->step, &found, &x, err), out);
    RP_TRY_GOTO(status, rp_checkpoint_load(b, element->step, &found, &y, err), out);
    compare_states(element, &x, &y);
out:
    rp_checkpoint_release(&y);
    rp_checkpoint_release(&x);
    return status;
}
