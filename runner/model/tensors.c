/* tensors.c - the tensors a model keeps: first values, file layout, names. */
#include "model/model_int.h"
#include "numerics.h"

#include <string.h>

/* ---- first values ---------------------------------------------------------------------------- */

/* Kaiming normal for relu (He et al. 2015): variance 2 / fan_in. Xavier normal (Glorot and Bengio
 * 2010): 2 / (fan_in + fan_out). Rounded once from fp64. */
static float deviation(const struct rp_model_tensor *tensor)
{
    switch (tensor->init.kind) {
    case RP_INIT_KAIMING:
        return (float)rp_sqrt64(2.0 / (double)tensor->fan_in);
    case RP_INIT_XAVIER:
        return (float)rp_sqrt64(2.0 / ((double)tensor->fan_in + (double)tensor->fan_out));
    case RP_INIT_NORMAL:
        return tensor->init.std;
    case RP_INIT_ZEROS:
        break;
    }
    return 0.0f;
}

void rp_model_init_part(const struct rp_model *model, uint64_t seed, int i, int64_t first,
                        int64_t n, float *values)
{
    const struct rp_model_tensor *tensor = &model->kept[i];
    if (!tensor->drawn) {
        for (int64_t e = 0; e < n; e++) values[e] = tensor->fill;
        return;
    }
    float std = deviation(tensor);
    for (int64_t e = 0; e < n; e += 4) {
        struct rp_draw draw =
            rp_draw_block(seed, RP_PURPOSE_INIT, (uint32_t)i, 0, (uint32_t)((first + e) / 4));
        float normal[4];
        rp_normal_pair(draw.u[0], draw.u[1], &normal[0]);
        rp_normal_pair(draw.u[2], draw.u[3], &normal[2]);
        for (int j = 0; j < 4 && e + j < n; j++) values[e + j] = normal[j] * std;
    }
}

/* ---- layout ---------------------------------------------------------------------------------- */

/* Both layouts are (outer, middle, inner) in memory and (outer, inner, middle) in the file: OHWI
 * and OIHW, a row of (H, W, C) and one of (C, H, W). */
static void split_dims(const struct rp_model_tensor *tensor, int64_t *outer, int64_t *middle,
                       int64_t *inner)
{
    const int64_t *dims = tensor->shape.dims;
    *outer = rp_tensor_elements(&tensor->shape);
    *middle = *inner = 1;
    if (tensor->layout == RP_LAYOUT_CONV_OHWI) {
        *middle = dims[1] * dims[2];
        *inner = dims[3];
    } else if (tensor->layout == RP_LAYOUT_LINEAR_HWC) {
        *middle = tensor->hwc[0] * tensor->hwc[1];
        *inner = tensor->hwc[2];
    }
    *outer /= *middle * *inner;
}

int64_t rp_model_file_row(const struct rp_model_tensor *tensor)
{
    int64_t outer, middle, inner;
    split_dims(tensor, &outer, &middle, &inner);
    return middle > 1 && inner > 1 ? middle * inner : 1;
}

void rp_model_to_file(const struct rp_model_tensor *tensor, const float *memory, float *file)
{
    int64_t outer, middle, inner;
    split_dims(tensor, &outer, &middle, &inner);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t m = 0; m < middle; m++)
            for (int64_t i = 0; i < inner; i++)
                file[(o * inner + i) * middle + m] = memory[(o * middle + m) * inner + i];
}

void rp_model_from_file(const struct rp_model_tensor *tensor, const float *file, float *memory)
{
    int64_t outer, middle, inner;
    split_dims(tensor, &outer, &middle, &inner);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t m = 0; m < middle; m++)
            for (int64_t i = 0; i < inner; i++)
                memory[(o * middle + m) * inner + i] = file[(o * inner + i) * middle + m];
}

int rp_model_file_dims(const struct rp_model_tensor *tensor, int64_t dims[RP_MAX_DIMS])
{
    const struct rp_tensor *shape = &tensor->shape;
    memcpy(dims, shape->dims, sizeof shape->dims);
    if (tensor->layout == RP_LAYOUT_CONV_OHWI) {
        dims[1] = shape->dims[3];
        dims[2] = shape->dims[1];
        dims[3] = shape->dims[2];
    }
    return shape->n_dims;
}

/* ---- names ----------------------------------------------------------------------------------- */

bool rp_model_name_matches(const char *pattern, const char *name)
{
    const char *star = strchr(pattern, '*');
    if (!star) return strcmp(pattern, name) == 0;
    return strncmp(pattern, name, (size_t)(star - pattern)) == 0;
}
