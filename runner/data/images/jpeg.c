/* jpeg.c - JPEG through libjpeg: grey, colour, or CMYK turned into colour. Data that ends early or
 * does not decode is a damaged image, not a grey half. */
#include "data/images/images_int.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

/* libjpeg's error struct first: its address is ours. */
struct decoder {
    struct jpeg_error_mgr errors;
    jmp_buf jump;
    char *why;
    bool damaged;
};

static void stop(j_common_ptr common)
{
    struct decoder *decoder = (struct decoder *)common->err;
    char text[JMSG_LENGTH_MAX];
    common->err->format_message(common, text);
    snprintf(decoder->why, RP_IMAGES_WHY_BYTES, "%.150s", text);
    longjmp(decoder->jump, 1);
}

/* Of the warnings, those that mean lost pixels. */
static void note_message(j_common_ptr common, int level)
{
    struct decoder *decoder = (struct decoder *)common->err;
    int code = common->err->msg_code;
    if (level >= 0 || decoder->damaged) return;
    if (code != JWRN_HIT_MARKER && code != JWRN_JPEG_EOF && code != JWRN_HUFF_BAD_CODE &&
        code != JWRN_MUST_RESYNC && code != JWRN_ARITH_BAD_CODE)
        return;
    char text[JMSG_LENGTH_MAX];
    common->err->format_message(common, text);
    snprintf(decoder->why, RP_IMAGES_WHY_BYTES, "%.150s", text);
    decoder->damaged = true;
}

static void begin(struct jpeg_decompress_struct *jpeg, struct decoder *decoder, char *why)
{
    *decoder = (struct decoder){.why = why};
    memset(jpeg, 0, sizeof *jpeg);
    jpeg->err = jpeg_std_error(&decoder->errors);
    decoder->errors.error_exit = stop;
    decoder->errors.emit_message = note_message;
}

static void read_header(struct jpeg_decompress_struct *jpeg, const uint8_t *bytes, size_t n,
                        struct rp_image_info *info)
{
    jpeg_create_decompress(jpeg);
    jpeg_mem_src(jpeg, bytes, (unsigned long)n);
    jpeg_save_markers(jpeg, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(jpeg, TRUE);
    bool grey = jpeg->jpeg_color_space == JCS_GRAYSCALE;
    *info = (struct rp_image_info){.height = jpeg->image_height,
                                   .width = jpeg->image_width,
                                   .channels = grey ? 1 : 3,
                                   .orientation = 1};
    for (jpeg_saved_marker_ptr marker = jpeg->marker_list; marker; marker = marker->next)
        if (marker->marker == JPEG_APP0 + 1 && info->orientation == 1)
            info->orientation = exif_orientation(marker->data, marker->data_length);
}

bool jpeg_probe(const uint8_t *bytes, size_t n, struct rp_image_info *info, char *why)
{
    struct jpeg_decompress_struct jpeg;
    struct decoder decoder;
    volatile bool good = false;
    begin(&jpeg, &decoder, why);
    if (setjmp(decoder.jump) == 0) {
        read_header(&jpeg, bytes, n, info);
        good = true;
    }
    jpeg_destroy_decompress(&jpeg);
    return good;
}

/* One row of CMYK to colour: c k / 255. Adobe stores the complements, which is what that takes. */
static void from_cmyk(const uint8_t *in, uint32_t width, bool complements, uint8_t *out)
{
    for (uint32_t x = 0; x < width; x++, in += 4, out += 3) {
        for (int c = 0; c < 3; c++) {
            uint32_t ink = complements ? in[c] : 255u - in[c];
            uint32_t key = complements ? in[3] : 255u - in[3];
            out[c] = (uint8_t)((ink * key + 127) / 255);
        }
    }
}

static void read_rows(struct jpeg_decompress_struct *jpeg, const struct rp_image_info *info,
                      uint8_t *row, uint8_t *pixels)
{
    bool cmyk = jpeg->num_components == 4;
    jpeg->out_color_space = cmyk ? JCS_CMYK : info->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW; /* integers */
    jpeg_start_decompress(jpeg);
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *out = pixels + (size_t)jpeg->output_scanline * info->width * info->channels;
        JSAMPROW target = cmyk ? row : out;
        jpeg_read_scanlines(jpeg, &target, 1);
        if (cmyk) from_cmyk(row, info->width, jpeg->saw_Adobe_marker, out);
    }
    jpeg_finish_decompress(jpeg);
}

bool jpeg_decode(const uint8_t *bytes, size_t n, const struct rp_image_info *info, uint8_t *pixels,
                 char *why)
{
    struct jpeg_decompress_struct jpeg;
    struct decoder decoder;
    struct rp_image_info again;
    volatile bool good = false;
    uint8_t *row = images_host->allocate((size_t)info->width * 4);
    begin(&jpeg, &decoder, why);
    if (!row) {
        snprintf(why, RP_IMAGES_WHY_BYTES, "no memory to decode it");
    } else if (setjmp(decoder.jump) == 0) {
        read_header(&jpeg, bytes, n, &again);
        read_rows(&jpeg, info, row, pixels);
        good = !decoder.damaged;
    }
    jpeg_destroy_decompress(&jpeg);
    images_host->release(row);
    return good;
}
