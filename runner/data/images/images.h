/* images.h - the table of the module reprise_images: PNG and JPEG to bytes. */
#ifndef RP_IMAGES_H
#define RP_IMAGES_H

#include "base/extension.h"

#define RP_IMAGES_MODULE "reprise_images"
#define RP_IMAGES_ADVICE                                                                           \
    "it decodes PNG and JPEG; install libpng-dev and libjpeg-dev (scripts/setup) and build again"

enum { RP_IMAGES_WHY_BYTES = 160 };

/* As the file says, before it is turned. */
struct rp_image_info {
    uint32_t height, width, channels; /* 1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha */
    uint32_t orientation;             /* 1 to 8, of EXIF; 1: as stored */
};
/* Both give false with the reason in `why` for what is no image or a damaged one. Thread-safe. */
struct rp_images_module {
    struct rp_extension module;
    bool (*probe)(const uint8_t *bytes, size_t n, struct rp_image_info *info,
                  char why[RP_IMAGES_WHY_BYTES]);
    /* pixels (height, width, channels), as `info` of probe says. */
    bool (*decode)(const uint8_t *bytes, size_t n, const struct rp_image_info *info,
                   uint8_t *pixels, char why[RP_IMAGES_WHY_BYTES]);
};

#endif
