/* packed.h - private to runner/data: the file that `reprise pack` writes (README.md has the page),
 * and the resizing of one image. */
#ifndef RP_DATA_PACKED_H
#define RP_DATA_PACKED_H

#include "data/stream.h"

#define PACKED_MAGIC "RPPACKED"
enum {
    PACKED_VERSION = 1,
    PACKED_HEADER_BYTES = 96,
    PACKED_HASHED_BYTES = 64, /* of the header: what lies before the hash */
    PACKED_ALIGN = 4096,      /* of the pixels: pages */
    PACKED_SIDE_MOST = 8192,
    PACKED_NAME_MOST = 4096
};

struct packed_header {
    uint32_t version, n_classes;
    uint64_t n;
    uint32_t height, width, channels;
    uint64_t labels_at, pixels_at; /* offsets in the file; the names lie behind the header */
    struct rp_sha256 content;      /* of all of the file but itself */
};
void packed_header_write(const struct packed_header *header, uint8_t out[PACKED_HEADER_BYTES]);
/* False when it is none of this version; the numbers are checked by whoever reads on. */
bool packed_header_read(const uint8_t bytes[PACKED_HEADER_BYTES], struct packed_header *header);

/* in (in_height, in_width, channels) to out (height, width, channels), each side by itself: where
 * it shrinks the mean over the area, where it grows linear between pixel centres. One exact
 * fraction, rounded once, halves up. */
void packed_resize(const uint8_t *in, int64_t in_height, int64_t in_width, int64_t channels,
                   int64_t height, int64_t width, uint8_t *out);

/* The largest window of the shape height : width in the middle of an image. */
struct packed_window {
    int64_t top, left, height, width;
};
struct packed_window packed_crop(int64_t in_height, int64_t in_width, int64_t height,
                                 int64_t width);

#endif
