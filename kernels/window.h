/* window.h - private to kernels/: the window that convolutions and poolings move over an image. */
#ifndef RP_WINDOW_H
#define RP_WINDOW_H

#include "op_int.h"

/* One axis: a window of `kernel` positions, moved by `stride`, over `size` positions with `pad`
 * more on either side. 0 or less where the window does not fit. */
static inline int64_t rp_window_positions(int64_t size, int kernel, int stride, int pad)
{
    return size + 2 * (int64_t)pad < kernel ? 0 : (size + 2 * (int64_t)pad - kernel) / stride + 1;
}

/* x (N, H, W, C) must be fp32 of 4 dimensions, and a window of that size must fit it: *oh, *ow. */
RP_NODISCARD enum rp_status rp_window_check(const char *what, const struct rp_tensor *x,
                                            const struct rp_pool2d_params *window, int64_t *oh,
                                            int64_t *ow, struct rp_error *err);
/* A gradient: dims of `dx` are given (N, H, W, C) and `dy` must be (N, OH, OW, C or `channels`). */
RP_NODISCARD enum rp_status rp_window_check_dx(const char *what, const struct rp_tensor *dy,
                                               const struct rp_tensor *dx,
                                               const struct rp_pool2d_params *window,
                                               int64_t channels, struct rp_error *err);
struct rp_pool2d_params rp_window_of_conv2d(const struct rp_conv2d_params *params);
void rp_window_set_dims(struct rp_tensor *tensor, enum rp_dtype dtype, int64_t n, int64_t h,
                        int64_t w, int64_t c);

#endif
