/* images.c - the entry of the module, and which decoder a file takes. */
#include "data/images/images_int.h"

#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <png.h>

const struct rp_extension_host *images_host;

static bool is_png(const uint8_t *bytes, size_t n)
{
    return n >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0;
}

static bool is_jpeg(const uint8_t *bytes, size_t n)
{
    return n >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0;
}

static bool probe(const uint8_t *bytes, size_t n, struct rp_image_info *info, char *why)
{
    if (is_png(bytes, n)) return png_probe(bytes, n, info, why);
    if (is_jpeg(bytes, n)) return jpeg_probe(bytes, n, info, why);
    snprintf(why, RP_IMAGES_WHY_BYTES, "its first bytes are neither those of PNG nor of JPEG");
    return false;
}

static bool decode(const uint8_t *bytes, size_t n, const struct rp_image_info *info,
                   uint8_t *pixels, char *why)
{
    if (is_png(bytes, n)) return png_decode(bytes, n, info, pixels, why);
    return jpeg_decode(bytes, n, info, pixels, why);
}

static char libraries[64];
static struct rp_images_module table = {
    .module = {.version = RP_EXTENSION_VERSION, .name = RP_IMAGES_MODULE, .libraries = libraries},
    .probe = probe,
    .decode = decode};

const struct rp_extension *rp_module_v1(const struct rp_extension_host *host)
{
    if (host->version != RP_EXTENSION_VERSION) return NULL;
    images_host = host;
    snprintf(libraries, sizeof libraries, "libpng %s, libjpeg (API %d)", PNG_LIBPNG_VER_STRING,
             JPEG_LIB_VERSION);
    return &table.module;
}
