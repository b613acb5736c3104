/* png.c - PNG through libpng: every kind becomes 8 bits of grey or colour, with or without alpha.
 * Colour profiles and gamma are left as they are. */
#include "data/images/images_int.h"

#include <png.h>
#include <stdio.h>
#include <string.h>

enum { SIDE_MOST = 65535 };

struct input {
    const uint8_t *at;
    size_t left;
    char *why;
};

static void read_bytes(png_structp png, png_bytep out, size_t n)
{
    struct input *input = png_get_io_ptr(png);
    if (n > input->left) png_error(png, "the file ends early");
    memcpy(out, input->at, n);
    input->at += n;
    input->left -= n;
}

static void note_error(png_structp png, png_const_charp text)
{
    struct input *input = png_get_error_ptr(png);
    snprintf(input->why, RP_IMAGES_WHY_BYTES, "%s", text);
    png_longjmp(png, 1);
}

static void ignore_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

/* Reads the header and asks for 8 bits. */
static void read_header(png_structp png, png_infop png_info, struct input *input,
                        struct rp_image_info *info)
{
    png_set_read_fn(png, input, read_bytes);
    png_set_user_limits(png, SIDE_MOST, SIDE_MOST);
    png_read_info(png, png_info);
    png_set_expand(png);
    png_set_scale_16(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, png_info);
    *info = (struct rp_image_info){.height = png_get_image_height(png, png_info),
                                   .width = png_get_image_width(png, png_info),
                                   .channels = png_get_channels(png, png_info),
                                   .orientation = 1};
}

bool png_probe(const uint8_t *bytes, size_t n, struct rp_image_info *info, char *why)
{
    struct input input = {bytes, n, why};
    png_structp png =
        png_create_read_struct(PNG_LIBPNG_VER_STRING, &input, note_error, ignore_warning);
    png_infop png_info = png ? png_create_info_struct(png) : NULL;
    volatile bool good = false;
    if (png_info && setjmp(png_jmpbuf(png)) == 0) {
        read_header(png, png_info, &input, info);
        good = true;
    }
    png_destroy_read_struct(&png, &png_info, NULL);
    return good;
}

bool png_decode(const uint8_t *bytes, size_t n, const struct rp_image_info *info, uint8_t *pixels,
                char *why)
{
    struct input input = {bytes, n, why};
    struct rp_image_info again;
    png_bytep *rows = images_host->allocate(info->height * sizeof *rows);
    png_structp png =
        png_create_read_struct(PNG_LIBPNG_VER_STRING, &input, note_error, ignore_warning);
    png_infop png_info = png ? png_create_info_struct(png) : NULL;
    volatile bool good = false;
    size_t row_bytes = (size_t)info->width * info->channels;
    for (uint32_t y = 0; rows && y < info->height; y++) rows[y] = pixels + y * row_bytes;
    if (!rows || !png_info) {
        snprintf(why, RP_IMAGES_WHY_BYTES, "no memory to decode it");
    } else if (setjmp(png_jmpbuf(png)) == 0) {
        read_header(png, png_info, &input, &again);
        png_read_image(png, rows);
        png_read_end(png, NULL);
        good = true;
    }
    png_destroy_read_struct(&png, &png_info, NULL);
    images_host->release(rows);
    return good;
}
