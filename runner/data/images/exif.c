/* exif.c - the one tag of EXIF that changes what a picture shows: how the camera was held. */
#include "data/images/images_int.h"

#include <string.h>

enum { HEADER = 6, TIFF = 8, ENTRY = 12, TAG_ORIENTATION = 0x0112 };

/* `n` bytes of a number, the highest first or last. */
static uint32_t number(const uint8_t *at, int n, bool big)
{
    uint32_t value = 0;
    for (int i = 0; i < n; i++) value = value << 8 | at[big ? i : n - 1 - i];
    return value;
}

uint32_t exif_orientation(const uint8_t *bytes, size_t n)
{
    if (n < HEADER + TIFF || memcmp(bytes, "Exif\0\0", HEADER) != 0) return 1;
    bytes += HEADER;
    n -= HEADER;
    bool big = bytes[0] == 'M';
    uint32_t at = number(bytes + 4, 4, big);
    if ((size_t)at + 2 > n) return 1;
    uint32_t entries = number(bytes + at, 2, big);
    for (uint32_t i = 0; i < entries; i++) {
        size_t entry = (size_t)at + 2 + (size_t)i * ENTRY;
        if (entry + ENTRY > n) break;
        if (number(bytes + entry, 2, big) != TAG_ORIENTATION) continue;
        uint32_t value = number(bytes + entry + 8, 2, big);
        return value >= 1 && value <= 8 ? value : 1;
    }
    return 1;
}
