/* pack_int.h - private to runner/data: the images of a folder on their way into one file. */
#ifndef RP_DATA_PACK_INT_H
#define RP_DATA_PACK_INT_H

#include "data/images/images.h"
#include "data/packed.h"

/* One image file. */
struct pack_image {
    char *path;
    int32_t label;
    struct rp_image_info info;
    char why[RP_IMAGES_WHY_BYTES]; /* it is broken; "" while it is not */
};
struct pack_list {
    struct pack_image *image; /* (n) classes in bytewise order, within one the names */
    int64_t n, capacity, n_other;
    char **class_names; /* (n_classes) */
    int64_t n_classes;
};
/* The subfolders that hold images, and the images in them. */
RP_NODISCARD enum rp_status pack_list_read(const char *folder, struct pack_list *list,
                                           struct rp_error *err);
void pack_list_release(struct pack_list *list);

/* Height and width as it is to be seen, after EXIF's turn. */
void pack_image_size(const struct rp_image_info *info, int64_t *height, int64_t *width);

/* What every image becomes. */
struct pack_form {
    const struct rp_images_module *module;
    int64_t height, width, channels;
    bool stretch;
};
/* Reads the header of an image; on failure `why` is set. */
void pack_image_probe(const struct pack_form *form, struct pack_image *image);
/* Decodes, turns, mixes the channels, cuts, resizes: out (height, width, channels). */
void pack_image_make(const struct pack_form *form, struct pack_image *image, uint8_t *out);

#endif
