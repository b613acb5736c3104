/* images_int.h - private to the module: one decoder for each format. */
#ifndef RP_IMAGES_INT_H
#define RP_IMAGES_INT_H

#include "data/images/images.h"

bool png_probe(const uint8_t *bytes, size_t n, struct rp_image_info *info, char *why);
bool png_decode(const uint8_t *bytes, size_t n, const struct rp_image_info *info, uint8_t *pixels,
                char *why);
bool jpeg_probe(const uint8_t *bytes, size_t n, struct rp_image_info *info, char *why);
bool jpeg_decode(const uint8_t *bytes, size_t n, const struct rp_image_info *info, uint8_t *pixels,
                 char *why);
/* The orientation in an APP1 marker; 1 when it has none. */
uint32_t exif_orientation(const uint8_t *bytes, size_t n);

extern const struct rp_extension_host *images_host;

#endif
