/* jpeg_raw.c - raw pixels to JPEG and back, for tests/cli/test_pack.py: the decoder's twin.
 *
 *   jpeg_raw encode HEIGHT WIDTH CHANNELS QUALITY <raw >jpeg      jpeg_raw decode <jpeg >raw */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

static int encode(char **argument)
{
    struct jpeg_compress_struct jpeg = {0};
    struct jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_stdio_dest(&jpeg, stdout);
    jpeg.image_height = (JDIMENSION)atoi(argument[0]);
    jpeg.image_width = (JDIMENSION)atoi(argument[1]);
    jpeg.input_components = atoi(argument[2]);
    jpeg.in_color_space = jpeg.input_components == 1   ? JCS_GRAYSCALE
                          : jpeg.input_components == 3 ? JCS_RGB
                                                       : JCS_CMYK;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, atoi(argument[3]), TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    size_t n = (size_t)jpeg.image_width * (size_t)jpeg.input_components;
    JSAMPLE *row = malloc(n);
    while (row && jpeg.next_scanline < jpeg.image_height && fread(row, 1, n, stdin) == n)
        jpeg_write_scanlines(&jpeg, &row, 1);
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    free(row);
    return 0;
}

static int decode(void)
{
    struct jpeg_decompress_struct jpeg = {0};
    struct jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&jpeg);
    jpeg_stdio_src(&jpeg, stdin);
    jpeg_read_header(&jpeg, TRUE);
    jpeg.dct_method = JDCT_ISLOW;
    jpeg_start_decompress(&jpeg);
    size_t n = (size_t)jpeg.output_width * (size_t)jpeg.output_components;
    JSAMPLE *row = malloc(n);
    while (row && jpeg.output_scanline < jpeg.output_height) {
        jpeg_read_scanlines(&jpeg, &row, 1);
        fwrite(row, 1, n, stdout);
    }
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
    free(row);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "encode") == 0) return encode(argv + 2);
    if (argc == 2 && strcmp(argv[1], "decode") == 0) return decode();
    return 2;
}
