/* pack_image.c - one image file to the bytes that are packed: decoded, turned as its camera was
 * held, laid on black where it is transparent, made grey or colour, cut, resized. All in integers.
 */
#include "data/pack_int.h"

#include "base/sys.h"

#include <stdio.h>
#include <string.h>

static const uint64_t file_most = UINT64_C(1) << 30, pixels_most = UINT64_C(1) << 28;

void pack_image_size(const struct rp_image_info *info, int64_t *height, int64_t *width)
{
    bool turned = info->orientation >= 5;
    *height = turned ? info->width : info->height;
    *width = turned ? info->height : info->width;
}

static bool read_file(struct pack_image *image, char **bytes, size_t *n)
{
    struct rp_error *err = RP_NEW(struct rp_error);
    enum rp_status status = rp_sys_read_file(image->path, file_most, RP_STATUS_DATA, bytes, n, err);
    if (status != RP_STATUS_OK)
        snprintf(image->why, sizeof image->why, "%.*s", RP_IMAGES_WHY_BYTES - 1, err->text);
    rp_mem_free(err);
    return status == RP_STATUS_OK;
}

static void set_reason(struct pack_image *image, const char *why)
{
    snprintf(image->why, sizeof image->why, "%s", why && why[0] ? why : "it does not decode");
}

static bool probe(const struct pack_form *form, struct pack_image *image, const char *bytes,
                  size_t n)
{
    char why[RP_IMAGES_WHY_BYTES] = "";
    if (!form->module->probe((const uint8_t *)bytes, n, &image->info, why)) {
        set_reason(image, why);
        return false;
    }
    uint64_t pixels = (uint64_t)image->info.height * image->info.width;
    if (pixels > 0 && pixels <= pixels_most && image->info.height <= 65535 &&
        image->info.width <= 65535)
        return true;
    set_reason(image, "more pixels than are taken (2^28, and 65535 along a side)");
    return false;
}

void pack_image_probe(const struct pack_form *form, struct pack_image *image)
{
    char *bytes = NULL;
    size_t n = 0;
    if (!read_file(image, &bytes, &n)) return;
    probe(form, image, bytes, n);
    rp_mem_free(bytes);
}

/* Where pixel (y, x) of the image as seen lies in the file: EXIF's eight ways. */
static int64_t stored_at(const struct rp_image_info *info, int64_t y, int64_t x)
{
    int64_t bottom = info->height - 1, right = info->width - 1, row = info->width;
    switch (info->orientation) {
    case 2:
        return y * row + right - x;
    case 3:
        return (bottom - y) * row + right - x;
    case 4:
        return (bottom - y) * row + x;
    case 5:
        return x * row + y;
    case 6:
        return (bottom - x) * row + y;
    case 7:
        return (bottom - x) * row + right - y;
    case 8:
        return x * row + right - y;
    default:
        return y * row + x;
    }
}

/* One pixel of 1 to 4 channels as grey or colour on black. */
static void convert_pixel(const uint8_t *in, uint32_t in_channels, int64_t channels, uint8_t *out)
{
    bool colour = in_channels >= 3;
    uint32_t alpha = in_channels % 2 == 0 ? in[in_channels - 1] : 255, v[3];
    for (int c = 0; c < 3; c++) v[c] = ((uint32_t)in[colour ? c : 0] * alpha + 127) / 255;
    if (channels == 3)
        for (int c = 0; c < 3; c++) out[c] = (uint8_t)v[c];
    else /* the weights of ITU-R BT.601 */
        out[0] = (uint8_t)(colour ? (299 * v[0] + 587 * v[1] + 114 * v[2] + 500) / 1000 : v[0]);
}

/* The window of the decoded image, turned, in `channels` channels. */
static void cut(const struct pack_form *form, const struct rp_image_info *info,
                const struct packed_window *window, const uint8_t *decoded, uint8_t *out)
{
    for (int64_t y = 0; y < window->height; y++)
        for (int64_t x = 0; x < window->width; x++, out += form->channels)
            convert_pixel(decoded +
                              stored_at(info, window->top + y, window->left + x) * info->channels,
                          info->channels, form->channels, out);
}

static bool decode(const struct pack_form *form, struct pack_image *image, const char *bytes,
                   size_t n, uint8_t **decoded)
{
    char why[RP_IMAGES_WHY_BYTES] = "";
    const struct rp_image_info *info = &image->info;
    *decoded = rp_mem_try((size_t)info->height * info->width * info->channels);
    if (*decoded && form->module->decode((const uint8_t *)bytes, n, info, *decoded, why))
        return true;
    set_reason(image, *decoded ? why : "no memory to decode it");
    return false;
}

void pack_image_make(const struct pack_form *form, struct pack_image *image, uint8_t *out)
{
    char *bytes = NULL;
    uint8_t *decoded = NULL, *window_pixels = NULL;
    size_t n = 0;
    int64_t height, width;
    if (!read_file(image, &bytes, &n)) return;
    if (!probe(form, image, bytes, n) || !decode(form, image, bytes, n, &decoded)) goto out;
    pack_image_size(&image->info, &height, &width);
    struct packed_window window = {.height = height, .width = width};
    if (!form->stretch) window = packed_crop(height, width, form->height, form->width);
    window_pixels = rp_mem_try((size_t)(window.height * window.width * form->channels));
    if (!window_pixels) {
        set_reason(image, "no memory to decode it");
        goto out;
    }
    cut(form, &image->info, &window, decoded, window_pixels);
    packed_resize(window_pixels, window.height, window.width, form->channels, form->height,
                  form->width, out);
out:
    rp_mem_free(window_pixels);
    rp_mem_free(decoded);
    rp_mem_free(bytes);
}
