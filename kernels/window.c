/* window.c - what convolutions and poolings check alike. */
#include "window.h"

#include <inttypes.h>

struct rp_pool2d_params rp_window_of_conv2d(const struct rp_conv2d_params *params)
{
    return (struct rp_pool2d_params){.kernel_h = params->kernel_h,
                                     .kernel_w = params->kernel_w,
                                     .stride_h = params->stride_h,
                                     .stride_w = params->stride_w,
                                     .pad_h = params->pad_h,
                                     .pad_w = params->pad_w};
}

void rp_window_set_dims(struct rp_tensor *tensor, enum rp_dtype dtype, int64_t n, int64_t h,
                        int64_t w, int64_t c)
{
    tensor->dtype = dtype;
    tensor->n_dims = 4;
    tensor->dims[0] = n;
    tensor->dims[1] = h;
    tensor->dims[2] = w;
    tensor->dims[3] = c;
}

static enum rp_status check_numbers(const char *what, const struct rp_pool2d_params *window,
                                    struct rp_error *err)
{
    if (window->kernel_h < 1 || window->kernel_w < 1 || window->stride_h < 1 ||
        window->stride_w < 1 || window->pad_h < 0 || window->pad_w < 0)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: kernel %dx%d, stride %dx%d, padding %dx%d; kernel and stride are "
                            "at least 1, padding at least 0",
                            what, window->kernel_h, window->kernel_w, window->stride_h,
                            window->stride_w, window->pad_h, window->pad_w);
    return RP_STATUS_OK;
}

enum rp_status rp_window_check(const char *what, const struct rp_tensor *x,
                               const struct rp_pool2d_params *window, int64_t *oh, int64_t *ow,
                               struct rp_error *err)
{
    if (x->dtype != RP_DTYPE_F32 || x->n_dims != 4)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s takes images (height, width, channels), but here each sample has "
                            "%d dimension%s",
                            what, x->n_dims - 1, x->n_dims == 2 ? "" : "s");
    RP_TRY(check_numbers(what, window, err));
    *oh = rp_window_positions(x->dims[1], window->kernel_h, window->stride_h, window->pad_h);
    *ow = rp_window_positions(x->dims[2], window->kernel_w, window->stride_w, window->pad_w);
    if (*oh < 1 || *ow < 1)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: a %dx%d kernel does not fit an image of %" PRId64 "x%" PRId64
                            " with padding %dx%d",
                            what, window->kernel_h, window->kernel_w, x->dims[1], x->dims[2],
                            window->pad_h, window->pad_w);
    return RP_STATUS_OK;
}

enum rp_status rp_window_check_dx(const char *what, const struct rp_tensor *dy,
                                  const struct rp_tensor *dx, const struct rp_pool2d_params *window,
                                  int64_t channels, struct rp_error *err)
{
    int64_t oh = 0, ow = 0;
    RP_TRY(rp_window_check(what, dx, window, &oh, &ow, err));
    if (dy->dtype != RP_DTYPE_F32 || dy->n_dims != 4 || dy->dims[0] != dx->dims[0] ||
        dy->dims[1] != oh || dy->dims[2] != ow || dy->dims[3] != channels)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: the gradient of the output is not (%" PRId64 ", %" PRId64
                            ", %" PRId64 ", %" PRId64 ")",
                            what, dx->dims[0], oh, ow, channels);
    return RP_STATUS_OK;
}
