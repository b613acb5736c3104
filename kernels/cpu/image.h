/* image.h - private to kernels/cpu: images with a margin of zeros, so that a window never asks
 * whether it is inside. */
#ifndef RP_IMAGE_H
#define RP_IMAGE_H

#include "cpu/cpu_int.h"

/* n images (h, w, c) at `from`, dense; copied to `to` as (high, wide, c) with the image's corner at
 * (top, left). Where no margin is wanted nothing is copied and `to` is `from`. */
struct rp_image {
    const float *from;
    int64_t n, h, w, c;
    int64_t top, left, high, wide;
};

static inline bool rp_image_is_plain(const struct rp_image *image)
{
    return image->high == image->h && image->wide == image->w;
}

/* The margins of a convolution's input. */
static inline struct rp_image rp_image_of_input(const struct rp_tensor *x,
                                                const struct rp_conv2d_params *params)
{
    return (struct rp_image){.from = x->data,
                             .n = x->dims[0],
                             .h = x->dims[1],
                             .w = x->dims[2],
                             .c = x->dims[3],
                             .top = params->pad_h,
                             .left = params->pad_w,
                             .high = x->dims[1] + 2 * params->pad_h,
                             .wide = x->dims[2] + 2 * params->pad_w};
}

#ifdef RP_ISA
size_t RP_ISA_NAME(rp_image_scratch)(const struct rp_image *image);
/* Returns the images with their margin: in `scratch`, or where they were. */
const float *RP_ISA_NAME(rp_image_frame)(struct rp_cpu *cpu, const struct rp_image *image,
                                         unsigned char *scratch);
#endif

#endif
